"""The HTTP door in the test's own process, so that a test decides who works behind it."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import httpx

from deploy.victoria import Victoria
from gateway.http.app import app
from gateway.http.door import Door
from gateway.http.live import Live
from tests.workshop import eventually


@asynccontextmanager
async def indoors(victoria: Victoria, *, local: bool = True) -> AsyncGenerator[httpx.AsyncClient]:
    """A client of a door, which only this machine reaches if it is `local`."""
    live = Live(victoria)
    served: Any = app(Door(victoria, live, "victoria", local=local))
    async with anyio.create_task_group() as tasks:
        await tasks.start(live.follow)
        transport = httpx.ASGITransport(served, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost", timeout=30) as client:
            yield client
        tasks.cancel_scope.cancel()


async def ended(client: httpx.AsyncClient, url: str) -> Any:
    """Wait for a run's end; its status page."""
    found: Any = {}

    async def is_over() -> bool:
        found.update((await client.get(url)).raise_for_status().json())
        return found["status"] in ("completed", "failed", "cancelled")

    await eventually(is_over, 20)
    return found
