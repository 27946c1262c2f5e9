"""`python -m tests.chaos.matrix`: crash every stage at every record boundary, recover, count, and write MATRIX.md.

Which boundaries there are is learnt from runs without a crash.
"""

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

import anyio

from tests.chaos.bench import Bench, Cell, Crash, boundaries, trouble
from tests.chaos.report import markdown
from tests.chaos.server import Server
from tests.chaos.stages import STAGES
from tests.chaos.worker import log_to


async def matrix(folder: Path, at_once: int, every: int) -> tuple[list[Crash], str]:
    """All crashes (or every n-th), and the server's name and version."""
    server = Server(folder / "server", fsync="no")
    await server.start()
    bench, crashes = Bench(server, folder), list[Crash]()
    try:
        version = server.version()
        # One after the other, so that what they come by is not disturbed; the first loads the scripts.
        await bench.crash(Cell(0, STAGES[0], None))
        cells: list[Cell] = []
        for place, stage in enumerate(STAGES):
            dry = [await bench.crash(Cell(1 + 2 * place + n, stage, None)) for n in range(2)]
            if not all(run.verdict.holds for run in dry):
                raise RuntimeError(f"{stage} does not even hold without a crash: {dry[0].verdict.faults}")
            cells += [Cell(100 + len(cells) + n, stage, at) for n, at in enumerate(boundaries(*dry))]
        limit = anyio.CapacityLimiter(at_once)

        async def carry_out(cell: Cell) -> None:
            async with limit:
                crashes.append(await bench.crash(cell))

        async with anyio.create_task_group() as tasks:
            for cell in cells[::every]:
                tasks.start_soon(carry_out, cell)
    finally:
        with anyio.CancelScope(shield=True):
            await server.kill()
    return sorted(crashes, key=lambda crash: crash.cell.number), version


def main() -> int:
    """Carry out all cells and write the table; 0 if every one held."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.matrix", description=__doc__)
    parser.add_argument("--at-once", type=int, default=6, help="cells at a time (default 6)")
    parser.add_argument("--every", type=int, default=1, help="only every n-th crash, and no file is written")
    asked = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="victoria-matrix-"))
    with (folder / "workers.log").open("a", buffering=1) as log:
        log_to(log)
        crashes, version = anyio.run(matrix, folder, asked.at_once, asked.every)
    table = markdown(crashes, version)
    print(table)
    if asked.every == 1:
        Path(__file__).with_name("MATRIX.md").write_text(table)
    wrong = [line for crash in crashes for line in trouble(crash)]
    if not wrong:
        shutil.rmtree(folder)
        return 0
    print("\n".join([*wrong, f"Streams, ledgers and logs are kept in {folder}"]), file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
