"""The live test holds on a door started for it, with all stages and the embedded model."""

import os
import subprocess
import sys
from pathlib import Path

import platformdirs
import pytest

from deploy.embedded import embedded
from tests.gateway.conftest import Cli
from tests.gateway.door import lasting

CHAIN = Path(__file__).with_name("test_chain.py")


@pytest.mark.heavy
def test_the_chain_holds_on_one_machine_with_the_embedded_model(tmp_path: Path, model_file: Path) -> None:
    assert model_file.is_file()
    (tmp_path / "victoria.toml").touch()
    (tmp_path / "sales.csv").write_text("month,sales\n1,10\n2,14\n3,19\n")
    with embedded(tmp_path / "state"):
        cli = Cli(tmp_path, tmp_path / "state")
        cli.environ |= {"VICTORIA_MODEL": "local", "VICTORIA_CACHE_DIR": str(platformdirs.user_cache_path("victoria"))}
        with lasting(cli) as door:
            done = chain(door.url)
    assert done.returncode == 0, done.stdout
    assert "3 passed" in done.stdout


def test_where_nothing_runs_it_is_skipped_and_says_why() -> None:
    done = chain("http://127.0.0.1:9")
    assert done.returncode == 0, done.stdout
    assert "3 skipped" in done.stdout
    assert "nothing runs at http://127.0.0.1:9" in done.stdout


def chain(url: str) -> "subprocess.CompletedProcess[str]":
    """Run the live test against a door."""
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-m", "live", "-n", "0", "-p", "no:cacheprovider", str(CHAIN)],
        env={**os.environ, "VICTORIA_URL": url},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
