"""`victoria replay` and `victoria fork` as people use them."""

import hashlib
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from deploy.loading import Loaded, load
from deploy.victoria import Victoria
from deploy.wiring import catalogue_topology, opened
from gateway import whatif
from gateway.policies import with_policies
from gateway.tapes import as_taped
from schemas.errors import InvalidInput
from streams.tape import Tape
from tests.gateway.conftest import Call, Cli, server_of
from tests.replay.test_replay import GOAL, SAYS
from tests.rows.house import Model

FILES = "List the files in the folder docs, then read docs/alpha.txt"


@pytest.fixture
def run(call: Call, cli: Cli) -> str:
    """A run that has ended."""
    (cli.project / "docs").mkdir(exist_ok=True)
    (cli.project / "docs" / "alpha.txt").write_text("This is alpha.\n")
    return call("run", FILES, "--json").json()["run_id"]


def checksum(cli: Cli) -> str:
    """Of all keys of the server and what they hold, but for signs of life."""
    server, digest = server_of(Path(cli.environ["VICTORIA_STATE_DIR"])), hashlib.blake2b()
    for key in sorted(server.keys("*")):
        if not key.endswith((b":leases", b"offers", b"retaining")):
            digest.update(key + (server.dump(key) or b""))
    return digest.hexdigest()


def test_a_run_is_replayed_saved_and_replayed_from_its_file(call: Call, cli: Cli, run: str, tmp_path: Path) -> None:
    file, before = str(tmp_path / "run.jsonl"), checksum(cli)
    shown = call("replay", run, "--save", file)
    assert (shown.code, "✓ identical" in shown.out, "no model was asked" in shown.out) == (0, True, True)
    again = call("replay", file, "--json", VICTORIA_REDIS_URL="redis://127.0.0.1:1")
    assert (again.code, again.json()["verdict"], again.json()["events"]) == (0, "identical", 7)
    for since in ("-1h", "1h", "@-1h"):
        assert call("replay", "--all", "--since", since, "--json").json()["different"] == 0
    assert call("replay", "--stage", "plan", "--range", "-1", "--json").json()["identical"] == 1
    assert checksum(cli) == before

    lines = (tmp_path / "run.jsonl").read_text().replace("This is alpha.", "This is omega.", 1)
    (tmp_path / "run.jsonl").write_text(lines)
    shown = call("replay", file)
    assert shown.code == 4
    assert "This is omega." in shown.out, "as it is recorded"
    assert "This is alpha." in shown.out, "as it comes out now"


def test_a_changed_prompt_is_tried_out_and_others_are_refused(call: Call, run: str, tmp_path: Path) -> None:
    (tmp_path / "act.md").write_text("Be quick.\n---\n<goal>$goal</goal>\n")
    refused = call("replay", run, "--prompt", str(tmp_path / "act.md"), "--json")
    assert (refused.code, refused.json()["error"]["code"]) == (2, "prompt.malformed")
    for wrong in ((), (run, "--all"), ("--all", "--live"), ("--stage", "plan")):
        assert call("replay", *wrong, "--json").json()["error"]["code"] == "replay.which"
    assert call("replay", "nobody", "--json").json()["error"]["code"] == "run.unknown"
    assert call("replay", "--all", "--since", "yesterday", "--json").json()["error"]["code"] == "replay.since"
    for unused in ((run, "--since", "1h"), ("--all", "--save", "file"), (run, "--allow-effects")):
        assert call("replay", *unused, "--json").json()["error"]["code"] == "replay.usage"


def test_a_file_of_somebody_else_gives_no_rights_where_anything_is_done() -> None:
    tape = Tape("r", settings={"programs": "bash", "approved_tools": "ssh_run", "max_iterations": "3", "ssh_key": "x"})
    usual = load({})
    folded, live = as_taped(usual, tape, live=False).settings, as_taped(usual, tape, live=True).settings
    assert (folded.approved_tools, folded.max_iterations, folded.ssh_key) == ("ssh_run", 3, usual.settings.ssh_key)
    assert (live.programs, live.approved_tools) == (usual.settings.programs, usual.settings.approved_tools)
    assert live.max_iterations == 3


def test_other_policies_of_stages_are_tried_out_and_wrong_ones_refused(call: Call, cli: Cli, run: str) -> None:
    before = checksum(cli)
    tried = call("replay", run, "--set", "plan.timeout=20", "--set", "plan.attempts=1", "--json")
    assert (tried.code, tried.json()["different"]) == (0, [])
    assert checksum(cli) == before
    topology = catalogue_topology()
    assert with_policies(topology, ["plan.attempts=1"]).stage("plan").policy.attempts == 1
    for wrong in ("nope.attempts=1", "plan.colour=1", "plan.timeout=-1", "plan.timeout=nan", "plan.attempts=soon"):
        with pytest.raises(InvalidInput):
            with_policies(topology, [wrong])


def test_a_live_replay_shows_what_another_model_does_and_leaves_production_as_it_was(
    call: Call, cli: Cli, run: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = checksum(cli)
    same = call("replay", run, "--live", "--json").json()
    assert (same["different"], same["refused"], same["note"]) == ([], [], "")

    @asynccontextmanager
    async def scripted(loaded: Loaded, url: str) -> AsyncGenerator[Victoria]:
        async with opened(loaded, url) as victoria:
            victoria.engines.use("local", Model(SAYS).engine)
            yield victoria

    monkeypatch.setattr(whatif, "opened", scripted)
    asked = call("run", GOAL, "--json").json()["run_id"]
    before = checksum(cli)
    shown = call("replay", asked, "--model", "local", "--json")
    found = shown.json()
    assert shown.code == 4
    assert "answer" in found["different"]
    assert found["replayed"]["answer"] == "All in all: alpha."
    assert found["replayed"]["tokens_in"] > found["recorded"]["tokens_in"] == 0
    assert checksum(cli) == before


def test_a_run_is_forked_with_another_event(call: Call, cli: Cli, run: str, tmp_path: Path) -> None:
    events = [json.loads(line) for line in call("tail", "intake", "--run", run, "--json").out.splitlines()]
    at = next(each["event"]["id"] for each in events if each["event"]["run"] == run)
    (tmp_path / "edit.json").write_text('{"goal": "Read docs/alpha.txt"}')
    done = call("fork", run, "--at", at, "--edit", str(tmp_path / "edit.json"), "--json")
    found = done.json()
    assert (done.code, found["run"]["output"].strip(), found["forked_from"]) == (0, "This is alpha.", run)
    assert call("replay", found["run"]["run_id"]).code == 0
    refused = call("fork", run, "--at", "nothing", "--json")
    assert (refused.code, refused.json()["error"]["code"]) == (2, "fork.event")
