"""The measurements. Each returns a section of the report; `quick` ones only show that everything runs."""

from statistics import median

from tests.bench.age import age
from tests.bench.observed import observed
from tests.bench.programs import Figures, draft, drain, runs, version, victoria
from tests.bench.recall import recall
from tests.bench.report import Promise, Section, number, ratios
from tests.bench.valkey import client_of, valkey

BATCH = 256
IN_FLIGHT = 256
PAIRS = 3
"""How often in a round ours and the draft take turns."""
PEERS = {
    "faststream": ("FastStream", "faststream"),
    "taskiq": ("taskiq-redis, streams", "taskiq-redis"),
    "arq": ("arq", "arq"),
    "dramatiq": ("dramatiq", "dramatiq"),
    "saq": ("saq", "saq"),
    "streaq": ("streaq", "streaq"),
    "docket": ("docket", "pydocket"),
}
"""Who drains no-op jobs: folder in peers/, name for people, package whose version counts."""
ENGINES = {
    "langgraph memory": ("LangGraph, in memory", "langgraph", "langgraph"),
    "langgraph postgres": ("LangGraph, Postgres", "langgraph", "langgraph"),
    "dbos postgres": ("DBOS, Postgres", "dbos", "dbos"),
}


def hop(quick: bool) -> Section:
    """Hops a second: ours, the draft's, the server's own, the peers'."""
    events, jobs, rounds = (2_000, 100, 1) if quick else (60_000, 5_000, 3)
    section = Section("hop", "Hops a second, one worker process", ("who", "hops/s", "how"), unit="hops/s")
    ours: list[Figures] = []
    drafts: list[Figures] = []
    peers: dict[str, list[Figures]] = {peer: [] for peer in PEERS}
    with valkey() as url:
        for _ in range(rounds):
            for _ in range(PAIRS):
                ours.append(victoria("bench", "hop", "--redis-url", url, "--events", events, "--batch", BATCH))
                drafts.append(draft(url, events, BATCH))
            for peer, found in peers.items():
                client_of(url).flushall()
                found.append(drain(peer, url, jobs))
    section.server = ours[0]["server"]

    mine = [each["hops_per_s"] for each in ours]
    theirs = [each["hops_per_s"] for each in drafts]
    bars = [
        ("server alone, draft", median(each["server_limit_per_s"] for each in drafts), "its own time, from INFO"),
        ("draft", median(theirs), f"a bare loop, reads of {BATCH}, settled in one script; {_cpu(drafts)}"),
        ("server alone, Victoria", median(each["server_limit_per_s"] for each in ours), "its own time, from INFO"),
        ("Victoria", median(mine), f"{BATCH} in hand, every hop settled atomically; {_cpu(ours)}"),
    ]
    for peer, found in peers.items():
        name, package = PEERS[peer]
        bars.append((f"{name} {version(peer, package)}", median(each["per_s"] for each in found), found[0]["how"]))
    for label, value, how in bars:
        section.add(label, number(value), how)
        section.bars.append((label, value))

    per_round = [median(mine[PAIRS * at : PAIRS * (at + 1)]) for at in range(rounds)]
    fastest = [max(found[at]["per_s"] for found in peers.values()) for at in range(rounds)]
    section.promise(
        Promise.at_least("of the draft's loop", ratios(mine, theirs), 0.60, "{:.0%}"),
        Promise.at_least("of the server's own limit", median(each["share_of_limit"] for each in ours), 0.30, "{:.0%}"),
        Promise.at_least("times the fastest peer", ratios(per_round, fastest), 20, "{:.1f}"),
    )
    return section


def _cpu(found: list[Figures]) -> str:
    return f"{median(each['cpu_us_per_hop'] for each in found):.1f} µs of its processor a hop"


def run(quick: bool) -> Section:
    """Runs of five stages with a recorded effect each: alone, and many at once."""
    count, theirs, rounds = (50, 20, 1) if quick else (4_000, 400, 3)
    section = Section(
        "run",
        "Runs of five stages, one process",
        ("who", "p50 alone, ms", f"runs/s, {IN_FLIGHT} at once", "how"),
        unit="runs/s",
    )
    ours: list[Figures] = []
    peers: dict[str, list[Figures]] = {engine: [] for engine in ENGINES}
    with valkey() as url:
        for _ in range(rounds):
            ours.append(victoria("bench", "run", "--redis-url", url, "--runs", count, "--in-flight", IN_FLIGHT))
            for engine, found in peers.items():
                peer, kind = engine.split()
                found.append(runs(peer, kind, theirs, IN_FLIGHT))
    section.server = ours[0]["server"]
    p50, per_s = (median(each[what] for each in ours) for what in ("p50_ms", "runs_per_s"))
    p99 = median(each["p99_ms"] for each in ours)
    section.add("Victoria", f"{p50:.2f} (p99 {p99:.2f})", number(per_s), "every effect recorded, append-only file")
    section.bars.append(("Victoria", per_s))
    for engine, found in peers.items():
        name, peer, package = ENGINES[engine]
        label = f"{name} {version(peer, package)}"
        alone, many = (median(each[what] for each in found) for what in ("p50_ms", "runs_per_s"))
        section.add(label, f"{alone:.2f}", number(many), found[0]["how"])
        section.bars.append((label, many))

    mine = [each["runs_per_s"] for each in ours]
    memory, postgres = ([each["runs_per_s"] for each in peers[f"langgraph {kind}"]] for kind in ("memory", "postgres"))
    section.promise(
        Promise.at_most("ms for a run alone", p50, 2.5),
        Promise.at_least("runs/s", per_s, 1_000, "{:,.0f}"),
        Promise.at_least("times LangGraph with Postgres", ratios(mine, postgres), 5, "{:.1f}"),
        Promise.at_least("times LangGraph in memory", ratios(mine, memory), 1, "{:.2f}"),
    )
    return section


def fsync(quick: bool) -> Section:
    """The hop under each policy of writing the append-only file to disk."""
    events, rounds = (2_000, 1) if quick else (30_000, 3)
    section = Section("fsync", "The hop and `appendfsync`", ("appendfsync", "hops/s", "survives a power cut"))
    survives = {"no": "up to what the system wrote", "everysec": "all but the last second", "always": "all"}
    found: dict[str, list[Figures]] = {policy: [] for policy in survives}
    for _ in range(rounds):
        for policy, figures in found.items():
            with valkey(appendfsync=policy) as url:
                figures.append(victoria("bench", "hop", "--redis-url", url, "--events", events, "--batch", BATCH))
    for policy, figures in found.items():
        section.server = figures[0]["server"]
        section.add(policy, number(median(each["hops_per_s"] for each in figures)), survives[policy])
    return section


def batch(quick: bool) -> Section:
    """The hop by how many entries a worker may have in hand."""
    sizes = (1, 64) if quick else (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
    section = Section(
        "batch", "The hop by `Policy.concurrency`", ("in hand at once", "hops/s", "of the server's limit")
    )
    found: dict[int, list[Figures]] = {size: [] for size in sizes}
    with valkey() as url:
        for _ in range(1 if quick else 3):
            for size, figures in found.items():
                events = 500 if quick else min(2_000 + 500 * size, 30_000)
                figures.append(victoria("bench", "hop", "--redis-url", url, "--events", events, "--batch", size))
    for size, figures in found.items():
        section.server = figures[0]["server"]
        share = median(each["share_of_limit"] for each in figures)
        section.add(str(size), number(median(each["hops_per_s"] for each in figures)), f"{share:.0%}")
    return section


def infer(quick: bool) -> Section:
    """Asking a model through the streams, beside the same engine alone."""
    section = Section("infer", "Asking the local model, one process", ("what", "figure", "how"))
    rounds = 1 if quick else 3
    with valkey() as url:
        arguments = ["--quick"] if quick else []
        found = [victoria("bench", "infer", "--redis-url", url, *arguments) for _ in range(rounds)]
    section.server = f"{found[0]['model']}"

    def typical(what: str) -> float:
        return median(each[what] for each in found)

    section.add("through the streams", f"{typical('tokens_per_s'):.0f} tokens/s", "4 questions at once")
    section.add("the engine alone", f"{typical('raw_tokens_per_s'):.0f} tokens/s", "in turn with it")
    section.add("added to an answer", f"{typical('added_p50_ms'):.2f} ms", "median, one at a time")
    section.add("of prompts read before", f"{typical('cached_share'):.0%}", "20 like goals of one stage")
    section.add("of prompts read before", f"{typical('cached_share_two_stages'):.0%}", "two stages at once")
    scaling = {number: median(each["scaling"][number] for each in found) for number in found[0]["scaling"]}
    for number_of, share in scaling.items():
        section.add(f"{number_of} consumers", f"{share:.0%}", "of so many times one, a back end of 100 ms")
    section.promise(
        Promise.at_least("of the engine's tokens", typical("share_of_raw"), 0.9, "{:.0%}"),
        Promise.at_most("ms added", typical("added_p50_ms"), 5),
        Promise.at_least("of prompts read before", typical("cached_share"), 0.8, "{:.0%}"),
        Promise.at_least("of linear scaling", min(scaling.values()), 0.9, "{:.0%}"),
    )
    return section


def plan(quick: bool) -> Section:
    """A goal that rules are sure of on its way to its step, and steps side by side."""
    section = Section("plan", "Orchestration, one process", ("what", "figure", "how"))
    with valkey() as url:
        arguments = ("bench", "plan", "--redis-url", url, "--goals", 20 if quick else 200)
        found = [victoria(*arguments) for _ in range(1 if quick else 3)]
    section.server = found[0]["server"]
    p50, p99, times = (median(each[what] for each in found) for what in ("routed_p50_ms", "routed_p99_ms", "times_one"))
    section.add("a sure goal to its step", f"{p50:.2f} ms (p99 {p99:.2f})", "200 one after the other, no model")
    section.add("six steps side by side", f"{times:.2f} times one", "three at once, 0.2 s each")
    section.promise(
        Promise.at_most("ms to the step of a sure goal", p50, 2),
        Promise.at_most("times one step for six", times, 2.4),
    )
    return section


SECTIONS = {
    "hop": hop,
    "run": run,
    "plan": plan,
    "infer": infer,
    "recall": recall,
    "observed": observed,
    "age": age,
    "fsync": fsync,
    "batch": batch,
}
