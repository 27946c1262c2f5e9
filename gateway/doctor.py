"""`victoria doctor`: whether everything Victoria needs is there, and what to do where it isn't."""

import platform
from collections.abc import AsyncIterator, Container
from typing import Any, Literal

import msgspec
import typer

from consumers.postgres.database import Database
from consumers.postgres.migrate import standing
from consumers.postgres.projector import AT_ONCE
from deploy.embedded import find
from deploy.engines import Engines
from deploy.loading import Loaded
from deploy.postgres import POSTGRES
from deploy.projects import Projects
from deploy.settings import Settings
from deploy.valkey import server_binary
from deploy.victoria import Victoria, foreground, no_such_model
from deploy.wiring import engines_alone
from gateway.complain import leaves
from gateway.options import Json, configured, connected, event_loop
from gateway.screen import OUT, emit, styled
from llm.fetch import SMOLLM2
from llm.models import Backend
from schemas.errors import VictoriaError
from streams.connection import evicting, masked, server_info, version_of
from streams.groups import FOLLOWER

Verdict = Literal["ok", "warning", "failed"]
MARKS: dict[Verdict, tuple[str, str]] = {"ok": ("✓", "green"), "warning": ("!", "yellow"), "failed": ("✗", "red")}

NOEVICTION = "Set it to noeviction."


class Check(msgspec.Struct, frozen=True):
    """One thing looked at. `hint` says what to do."""

    name: str
    verdict: Verdict
    found: str
    hint: str = ""

    def print(self) -> None:
        """One line; its hint below it."""
        OUT.print(styled(MARKS[self.verdict], f" {self.name:<10} {self.found}"), soft_wrap=True)
        if self.hint:
            OUT.print(styled((" " * 13 + self.hint, "dim")), soft_wrap=True)


@configured
def doctor(loaded: Loaded, as_json: Json = False) -> None:
    """Check server, workers, model and project; starts and changes nothing.

    Exit code 1 if a check failed, 5 if the configured server does not answer.

    Example: victoria doctor --json
    """
    checks, exit_code = event_loop(lambda: _all(loaded))
    if as_json:
        emit(checks)
    else:
        for check in checks:
            check.print()
    if exit_code:
        raise typer.Exit(exit_code)


async def _all(loaded: Loaded) -> tuple[list[Check], int]:
    settings = loaded.settings
    checks = [Check("python", "ok", platform.python_version())]
    checks += [check async for check in _models(settings)]
    checks.append(_projects(loaded))
    exit_code = 0
    if url := settings.redis_url or find(settings.state_dir):
        try:
            async with connected(loaded, url) as victoria:
                checks += [check async for check in _server(victoria)]
        except* VictoriaError as problems:
            problem = next(leaves(problems, VictoriaError))
            checks.append(Check("server", "failed", problem.message, problem.hint))
            exit_code = problem.exit_code
    else:
        checks.append(_embedded(settings))
    try:
        checks.append(await _database(settings))
    except VictoriaError as problem:
        checks.append(Check("database", "failed", problem.message, problem.hint))
        exit_code = exit_code or problem.exit_code
    return checks, exit_code or any(check.verdict == "failed" for check in checks)


async def _models(settings: Settings) -> AsyncIterator[Check]:
    """Each back end that is wanted, and whether it can be reached."""
    engines = engines_alone(settings)
    wanted = await engines.wanted()
    if not wanted:
        yield Check("model", "warning", "none: rules alone answer", "Unset VICTORIA_MODEL to use a model.")
    try:
        for engine in wanted:
            try:
                engines.check([engine])
                checks = await _ollama(engines) if engine == "ollama" else [_in_process(engines, engine, settings)]
            except VictoriaError as problem:
                checks = [Check("model", "failed", problem.message, problem.hint)]
            for check in checks:
                yield check
    finally:
        await engines.close()


def _in_process(engines: Engines, engine: Backend, settings: Settings) -> Check:
    bundled = settings.cache_dir / "models" / SMOLLM2.filename
    path = engines.path(engine) or bundled
    if path == bundled and not bundled.exists():
        found = f"{engine}: the embedded one, not fetched yet"
        return Check("model", "ok", found, "The first run fetches it (93 MB), once.")
    return Check("model", "ok", f"{engine}: {path}")


async def _ollama(engines: Engines) -> list[Check]:
    """Raises InvalidInput."""
    pool, wish = engines.consumers["ollama"].pool, engines.wish
    await pool.scan()
    models, faults = [offer.model for offer in pool.offers()], pool.faults()
    nodes = {node: [model.name for model in models if model.node == node] for node in (m.node for m in models)}
    checks = [Check("model", "ok", f"ollama: {node} has {', '.join(names)}") for node, names in nodes.items()]
    for fault in faults:
        silent = "failed" if wish.engine == "ollama" and not models else "warning"
        checks.append(Check("model", silent, f"ollama: {fault.error.message}", fault.error.hint))
    if not (models or faults):
        checks.append(Check("model", "warning", "ollama: no node has a model", "victoria models pull llama3.2:1b"))
    elif models and wish.engine == "ollama" and not any(map(wish.accepts, models)):
        problem = no_such_model(wish, models, ())
        checks.append(Check("model", "failed", problem.message, problem.hint))
    return checks


def _projects(loaded: Loaded) -> Check:
    folders = Projects.from_settings(loaded.settings, loaded.root).folders
    names = ", ".join(f"{name} ({folder or 'no folder here'})" for name, folder in folders.items())
    if None in folders.values():
        return Check("projects", "warning", names, "Name the missing folder: ALLOWED_PROJECTS=name=/path/to/folder.")
    return Check("projects", "ok", names)


def _embedded(settings: Settings) -> Check:
    """The embedded server, where it is not running."""
    try:
        server_binary()
    except OSError as problem:
        return Check("server", "failed", f"No embedded server: {problem.strerror}", "Set VICTORIA_REDIS_URL to yours.")
    found = f"the embedded one, not running now ({settings.state_dir})"
    return Check("server", "ok", found, "It starts with the first command that needs it.")


async def _database(settings: Settings) -> Check:
    """The database and its tables. Raises NotReachable, CouldNotStart."""
    url = settings.database_url or find(settings.state_dir / "postgres", POSTGRES)
    if not url:
        hint = "It starts with `victoria up`." if settings.history else "VICTORIA_HISTORY is false: no history is kept."
        return Check("database", "ok", "the embedded one, not running now", hint)
    database = Database(url, settings.prefix)
    try:
        async with database.connection() as connection:
            version = connection.get_server_version()
        stand = await standing(database)
    finally:
        await database.close()
    found = f"PostgreSQL {version.major}.{version.micro} at {masked(url)}"
    if changed := [each.name for each in stand if each.state == "changed"]:
        return Check("database", "failed", f"{found}; altered: {', '.join(changed)}", "Install an unaltered version.")
    if lacks := [each.name for each in stand if each.state == "pending"]:
        return Check("database", "warning", f"{found} lacks {', '.join(lacks)}", "Run `victoria migrate`.")
    found = f"{found}, {sum(each.state == 'applied' for each in stand)} migrations applied"
    if newer := sum(each.state == "unknown" for each in stand):
        return Check(
            "database", "warning", f"{found}, and {newer} of a newer version", "Install that version here too."
        )
    return Check("database", "ok", found)


def _memory(info: dict[str, Any]) -> Check:
    used, policy = f"{info.get('used_memory_human')} used", info.get("maxmemory_policy")
    if policy == "noeviction":
        return Check("memory", "ok", f"{used}, nothing is evicted")
    if policy is None:
        return Check("memory", "warning", f"{used}; the server does not tell its maxmemory-policy", NOEVICTION)
    if evicting(info):
        return Check("memory", "failed", f"maxmemory-policy is {policy}: streams can vanish", NOEVICTION)
    return Check("memory", "warning", f"{used} without a limit; with one, {policy} would evict streams", NOEVICTION)


async def _misused(victoria: Victoria) -> dict[str, str]:
    """Victoria's keys that hold something else, whoever put it there: what is wrong, by key."""
    keys, topology = victoria.keys, victoria.topology
    kinds = {keys.leases(p, stage.name): "zset" for stage in topology.stages for p in keys.of_stream(stage.reads)}
    for stream in topology.streams():
        for p in keys.of_stream(stream):
            kinds |= {keys.stream(p, stream): "stream", keys.dead(p): "stream", keys.retaining(p): "string"}
            kinds |= {keys.delayed(p, stream): "zset", keys.counted(p, stream): "hash"}
    pipeline: Any = victoria.client.pipeline(transaction=False)
    for key in kinds:
        pipeline.type(key)
    found = [kind.decode() for kind in await pipeline.execute()]
    return {
        key: f"{key} should be a {wanted}, and is a {kind}"
        for (key, wanted), kind in zip(kinds.items(), found, strict=True)
        if kind not in (wanted, "none")
    }


async def _workers(victoria: Victoria) -> AsyncIterator[Check]:
    live = await victoria.live()
    for stage in foreground(await victoria.needed()):
        workers = f"{live[stage]} worker{'' if live[stage] == 1 else 's'}"
        hint = "" if live[stage] else f"Start one: victoria worker {stage}; `victoria run` needs none."
        yield Check("stage", "ok" if live[stage] else "warning", f"{stage}: {workers}", hint)


async def _backlogs(victoria: Victoria, misused: Container[str]) -> AsyncIterator[Check]:
    """Stages that so much waits for that new goals are refused, or will soon be."""
    keys, client = victoria.keys, victoria.client
    worrying = 0.8 * (victoria.settings.backlog or victoria.settings.keep_entries)
    for stage in victoria.topology.stages:
        for partition in keys.of_stream(stage.reads):
            stream = keys.stream(partition, stage.reads)
            if stream in misused:
                continue
            length = await client.xlen(stream)
            if length < worrying:
                continue
            groups: Any = await client.xinfo_groups(stream)
            group = next(
                (each for each in groups if each["name"].decode() == stage.name), {"pending": 0, "lag": length}
            )
            known = group["lag"] is not None
            waiting = min(length, group["pending"] + (group["lag"] if known else length))
            if waiting >= worrying:
                found = f"{stage.name}: {'' if known else 'up to '}{waiting:,} entries wait (partition {partition})"
                yield Check("backlog", "warning", found, f"Start more workers: victoria worker {stage.name}")


async def _server(victoria: Victoria) -> AsyncIterator[Check]:
    infos = await server_info(victoria.client)
    kind = "Valkey" if "valkey_version" in infos[0] else "Redis"
    of = f", a cluster of {len(infos)}," if infos[0].get("cluster_enabled") else ""
    versions = " and ".join(dict.fromkeys(map(version_of, infos)))
    yield Check("server", "ok", f"{kind} {versions}{of} at {masked(victoria.url)}")
    for info in infos:
        yield _memory(info)
    if not all(info.get("aof_enabled") for info in infos):
        yield Check("durability", "warning", "no append-only file: a crash loses events", "Set appendonly yes.")
    else:
        yield Check("durability", "ok", "append-only file is on")
    partitions = victoria.keys.of_stream("intake")
    used_servers = {id(await victoria.client.owner(victoria.keys.dead(p))) for p in partitions}
    if len(used_servers) < len(infos):
        found = f"{len(partitions)} use {len(used_servers)} of {len(infos)} servers"
        yield Check("partitions", "warning", found, "Set VICTORIA_PARTITIONS to two or three for each server.")
    misused = await _misused(victoria)
    for found in misused.values():
        yield Check("keys", "failed", found, "Delete it, or have other keys: set VICTORIA_PREFIX.")
    if any(key.endswith(":leases") for key in misused):
        yield Check("stage", "warning", "its workers can't be counted", "Put the keys above right first.")
    else:
        async for check in _workers(victoria):
            yield check
    async for check in _backlogs(victoria, misused):
        yield check
    if not misused and (behind := (await victoria.lags()).get(FOLLOWER)):
        known = "an unknown number of" if behind.undelivered is None else f"{behind.undelivered + behind.pending:,}"
        late = behind.undelivered is None or behind.undelivered > AT_ONCE
        hint = "What is not written to the database stays on the streams: victoria worker project."
        yield Check("history", "warning" if late else "ok", f"{known} entries wait to be written", hint if late else "")
    letters = {victoria.keys.dead(p) for p in victoria.keys.everywhere()}.difference(misused)
    dead = sum([await victoria.client.xlen(stream) for stream in letters])
    if dead:
        yield Check("dead", "warning", f"{dead} dead letters", "Look at them: victoria dead list")
