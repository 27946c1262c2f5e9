"""`victoria doctor`: whether everything Victoria needs is there, and what to do where it isn't."""

import platform
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Literal

import msgspec
import typer
from rich.console import Console

from deploy.embedded import find
from deploy.settings import Loaded
from deploy.wiring import Victoria, opened
from gateway.options import Json, Model, RedisUrl, Set, event_loop, loaded_settings
from llm.fetch import SMOLLM2
from schemas.errors import VictoriaError
from streams.connection import masked

Verdict = Literal["ok", "warning", "failed"]
MARKS: dict[Verdict, str] = {"ok": "✓", "warning": "!", "failed": "✗"}


class Check(msgspec.Struct, frozen=True):
    """One thing looked at. `hint` says what to do."""

    name: str
    verdict: Verdict
    found: str
    hint: str = ""


def doctor(as_json: Json = False, redis_url: RedisUrl = None, model: Model = None, more: Set = None) -> None:
    """Check server, workers, model and project; starts and changes nothing.

    Exit code 1 if a check failed, 5 if the configured server does not answer.

    Example: victoria doctor --json
    """
    loaded = loaded_settings(redis_url, model, more)
    checks, exit_code = event_loop(_all_checks, loaded)
    if as_json:
        typer.echo(msgspec.json.encode(checks).decode())
    else:
        console = Console(highlight=False)
        for check in checks:
            hint = f" — {check.hint}" if check.hint else ""
            console.print(f"{MARKS[check.verdict]} {check.name:<10} {check.found}{hint}", markup=False, soft_wrap=True)
    if exit_code:
        raise typer.Exit(exit_code)


async def _all_checks(loaded: Loaded) -> tuple[list[Check], int]:
    settings = loaded.settings
    checks = [Check("python", "ok", platform.python_version()), _model(loaded)]
    url = settings.redis_url or find(settings.state_dir)
    if url is None:
        found = f"the embedded one, not running now ({settings.state_dir})"
        return [*checks, Check("server", "ok", found, "It starts with the first command that needs it.")], 0
    try:
        async with opened(loaded, url) as victoria:
            checks += [check async for check in _server(victoria)]
    except VictoriaError as problem:
        return [*checks, Check("server", "failed", problem.message, problem.hint)], problem.exit_code
    return checks, 1 if any(check.verdict == "failed" for check in checks) else 0


def _model(loaded: Loaded) -> Check:
    settings = loaded.settings
    if settings.model == "none":
        return Check("model", "warning", "none: rules alone answer", "Unset VICTORIA_MODEL to use a model.")
    bundled = settings.cache_dir / "models" / SMOLLM2.filename
    path = Path(settings.local_model).expanduser() if settings.local_model else bundled
    if path.exists():
        return Check("model", "ok", str(path))
    if settings.local_model:
        return Check("model", "failed", f"{path} does not exist", "Correct VICTORIA_LOCAL_MODEL, or unset it.")
    return Check("model", "ok", "the embedded one, not fetched yet", "The first run fetches it (93 MB), once.")


async def _server(victoria: Victoria) -> AsyncIterator[Check]:
    info: dict[str, Any] = await victoria.client.info()  # pyright: ignore[reportUnknownMemberType] - untyped there
    version = info.get("valkey_version") or info.get("redis_version")
    kind = "Valkey" if "valkey_version" in info else "Redis"
    yield Check("server", "ok", f"{kind} {version} at {masked(victoria.url)}")
    policy = str(info.get("maxmemory_policy", "noeviction"))
    if policy == "noeviction":
        yield Check("memory", "ok", f"{info.get('used_memory_human')} used, nothing is evicted")
    else:
        yield Check("memory", "failed", f"maxmemory-policy is {policy}: streams can vanish", "Set it to noeviction.")
    if not info.get("aof_enabled"):
        yield Check("durability", "warning", "no append-only file: a crash loses events", "Set appendonly yes.")
    else:
        yield Check("durability", "ok", "append-only file is on")
    live = await victoria.live()
    for stage in victoria.stages:
        workers = f"{live[stage]} worker{'' if live[stage] == 1 else 's'}"
        hint = "" if live[stage] else f"Start one: victoria worker {stage}"
        yield Check("stage", "ok" if live[stage] else "warning", f"{stage}: {workers}", hint)
    names = [f"{name} ({folder or 'no folder'})" for name, folder in victoria.projects.folders.items()]
    yield Check("projects", "ok", ", ".join(names))
    dead = sum([await victoria.client.xlen(victoria.keys.dead(p)) for p in victoria.keys.of_stream("intake")])
    if dead:
        yield Check("dead", "warning", f"{dead} dead letters", "Look at them: victoria tail dead")
