"""`victoria cancel` ends a run, once."""

from tests.gateway.conftest import Call, Cli

GOAL = "Read docs/beta.txt"


def test_a_run_that_waits_is_cancelled_and_stays_so(cli: Cli, call: Call) -> None:
    (run,) = call("publish", GOAL).out.split()
    cli.start("worker", "aggregate").until("ready")
    done = call("cancel", run, "--reason", "Not needed any more.")
    assert (done.code, done.out) == (0, f"{run} cancelled\n")
    said = call("status", run, "--json").json()
    assert said["run"]["status"] == "cancelled"
    assert said["error"] == {"code": "run.cancelled", "message": "Not needed any more."}
    assert call("cancel", run, "--json").json()["status"] == "cancelled", "again, nothing changes"

    cli.start("worker", "understand", "plan", "step-execute").until("ready")
    (other,) = call("publish", GOAL).out.split()
    waiter = cli.start("publish", "--wait", GOAL)
    assert waiter.ended()[0] == 0
    assert call("status", run, "--json").json()["run"]["status"] == "cancelled", "though its goal was handled later"
    assert call("cancel", other).out == f"{other} completed\n", "what has ended stays as it is"


def test_nobody_to_end_it_and_unknown_runs_are_said(call: Call) -> None:
    (run,) = call("publish", GOAL).out.split()
    done = call("cancel", run)
    assert done.code == 3
    assert "[run.not_ended]" in done.err
    assert call("cancel", "nope").code == 2
