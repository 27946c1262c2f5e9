#!/bin/sh
# Become the embedded PostgreSQL server, its data in ./data, made first where there are none.
#
# $1 the folder of PostgreSQL's programs   $2 the socket   $3+ options of the server
#
# Who runs this holds server.lock (see embedded.py), and all that is started here inherits it: no other server, and no
# other initdb, lives in this folder. So lock files found here are a dead server's, and their numbers may be anybody's.
set -eu
bin=$1 socket=$2
shift 2

# PostgreSQL refuses to run as root. As nobody, with one right of root's left, it can still enter root's own folders; who
# else runs as nobody can't.
as=
if [ "$(id -u)" = 0 ]; then
  command -v setpriv >/dev/null || { echo "PostgreSQL does not run as root, and there is no setpriv to change that" >&2; exit 1; }
  right=-all,+dac_override
  as="setpriv --reuid $(id -u nobody) --regid $(id -g nobody) --clear-groups --no-new-privs
    --inh-caps=$right --ambient-caps=$right --bounding-set=$right"
fi

if [ ! -d data ]; then
  rm -rf data.new
  mkdir -m 700 data.new
  [ -z "$as" ] || chown nobody data.new
  $as "$bin/initdb" -D data.new -U victoria --auth=trust --encoding=UTF8 --no-locale >/dev/null
  mv data.new data
fi
rm -f data/postmaster.pid "$socket.lock"
exec $as "$bin/postgres" -D data "$@"
