"""Workers' names tell whether they can still be alive."""

import os
import socket
import subprocess
import sys

from streams.worker import is_gone


def test_a_worker_of_this_machine_whose_process_ended_is_gone_and_any_other_may_live() -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    host = socket.gethostname()
    assert is_gone(f"{host}-{ended.pid}-abcdef")
    assert not is_gone(f"{host}-{os.getpid()}-abcdef")
    assert not is_gone(f"elsewhere-{ended.pid}-abcdef")
    assert not is_gone("a name of somebody else's")
