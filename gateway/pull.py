"""`victoria models pull`: have an Ollama server fetch a model."""

from time import monotonic
from typing import TYPE_CHECKING, Annotated

import anyio
import msgspec
import typer

from deploy.engines import ollama_hosts, ollama_limits
from deploy.loading import Loaded
from deploy.settings import Settings
from gateway.complain import Interrupted
from gateway.interrupt import interruptible
from gateway.options import Json, configured, event_loop
from gateway.progress import Progress
from gateway.screen import answer, emit
from schemas.errors import InvalidInput, ModelFailed, NotReachable

if TYPE_CHECKING:
    from llm.ollama_node import Node

SILENT = ("model.unreachable", "model.timeout")
"""What a node says that does not answer."""


class Pulled(msgspec.Struct, frozen=True):
    """A model that a node has now. `bytes` is how large it is, 0 if the node did not tell."""

    model: str
    node: str
    bytes: int
    seconds: float


@configured
def pull(
    loaded: Loaded,
    name: Annotated[str, typer.Argument(metavar="NAME", help="A model in Ollama's library, such as llama3.2:1b.")],
    node: Annotated[
        str, typer.Option(metavar="HOST", help="The server that is to fetch it; by default the first that answers.")
    ] = "",
    as_json: Json = False,
) -> None:
    """Have an Ollama server fetch a model; what has come stays, should it be interrupted.

    The server is one of OLLAMA_HOSTS, or any that --node names. Exit code 5 if none answers.

    Example: victoria models pull llama3.2:1b --node gpu-1
    """
    if not name.strip():
        raise InvalidInput("model.name", "The model has no name.", "victoria models pull llama3.2:1b")

    async def work() -> Pulled:
        told = Interrupted("interrupted", "Interrupted; what has come is kept, and the next pull goes on from there.")
        with Progress() as progress:
            async with interruptible(lambda: told):
                return await pulled(
                    loaded.settings, name.strip(), [node] if node else ollama_hosts(loaded.settings), progress
                )

    done = event_loop(work)
    if as_json:
        emit(done)
    else:
        answer(f"{done.node} has {done.model}; inference consumers notice within two minutes")


async def pulled(settings: Settings, name: str, hosts: list[str], progress: Progress) -> Pulled:
    """Have the first of these hosts that answers fetch a model. Raises NotReachable, ModelFailed, InvalidInput."""
    from llm.ollama_node import Node  # late: httpx takes a third of a second

    silent: list[str] = []
    for host in hosts:
        node = Node(host, ollama_limits(settings))
        try:
            return await _pulled(node, name, progress)
        except ModelFailed as problem:
            if problem.code not in SILENT:
                raise
            silent.append(problem.message)
        finally:
            with anyio.CancelScope(shield=True):
                await node.close()
    hint = "Start it, or name another: OLLAMA_HOSTS=gpu-1,gpu-2 or --node gpu-1."
    raise NotReachable("model.unreachable", " ".join(silent), hint)


async def _pulled(node: "Node", name: str, progress: Progress) -> Pulled:
    started, size = monotonic(), 0

    def show(done: int, total: int) -> None:
        nonlocal size
        size = total
        progress.fetched(f"{name} at {node.name}", done, total)

    progress.waiting(f"asking {node.name}")
    await node.models(name)  # which answers soon, or never
    progress.waiting(f"asking {node.name} for {name}")
    await node.pull(name, show)
    return Pulled(name, node.name, size, round(monotonic() - started, 3))
