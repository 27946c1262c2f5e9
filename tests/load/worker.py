"""All stages with a scripted model, as a process: `python -m tests.load.worker URL PREFIX PACE`."""

import signal
import sys
import tempfile
from pathlib import Path

import anyio

from gateway import logs
from gateway.serve import settle_in
from tests.rows.house import at_work

ANSWER = "One two three four five six seven eight nine ten."


async def work(url: str, prefix: str, pace: float, folder: Path) -> None:
    """Work until SIGTERM. The model says a word each `pace` seconds."""
    async with at_work(url, prefix, folder, {"answer": ANSWER}, run_tokens=0) as home:
        home.model.engine.pace = pace
        settle_in()
        with anyio.open_signal_receiver(signal.SIGTERM) as signals:
            print("ready", flush=True)
            async for _ in signals:
                return


if __name__ == "__main__":
    logs.configure("warning")
    with tempfile.TemporaryDirectory() as made:
        Path(made, "project").mkdir()
        _, at, named, paced = sys.argv
        anyio.run(work, at, named, float(paced), Path(made, "project"), backend_options={"use_uvloop": True})
