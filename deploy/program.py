"""What the embedded servers have in common: how one is started, asked whether it is there, and told to go."""

from pathlib import Path
from typing import Protocol


class Program(Protocol):
    """One kind of embedded server. It runs in its state folder, listens on one unix socket there, and nowhere else."""

    @property
    def name(self) -> str:
        """By this the keeper is told which one to keep."""
        ...

    @property
    def socket(self) -> str:
        """Its socket's file name."""
        ...

    @property
    def code(self) -> str:
        """The code of the error that it could not be started."""
        ...

    @property
    def hint(self) -> str:
        """What to do then."""
        ...

    def binary(self) -> Path:
        """Its program. Raises FileNotFoundError where there is none for this platform."""
        ...

    def command(self, socket: Path) -> list[str | Path]:
        """The words that start it, in its state folder. What it is started as must pass on the files it has open."""
        ...

    def answers(self, socket: Path) -> bool:
        """Whether it is there and has loaded its data."""
        ...

    def stop(self, socket: Path) -> None:
        """Tell it to end soon, with its data on disk. Raises OSError where it is not there."""
        ...

    def url(self, socket: Path) -> str:
        """How clients reach it."""
        ...
