"""`web_search`: what a SearXNG server finds. Only that server is asked, and no redirect followed.

The form is that of SearXNG's documentation, "Search API": GET /search?q=...&format=json.
"""

from typing import Annotated, ClassVar

import anyio
import msgspec
from msgspec import Meta

from consumers.tools.allowed import Allowed
from consumers.tools.plain import plain
from consumers.tools.tool import Look, Site, ToolArguments
from schemas.errors import ToolRefused

RESULTS, TITLE, ADDRESS, CONTENT = 8, 200, 500, 500
"""How many results are given, and of each how many characters."""
MAX_BYTES = 2 << 20


class _Result(msgspec.Struct, frozen=True):
    url: str | None = None
    title: str | None = None
    content: str | None = None


class _Page(msgspec.Struct, frozen=True):
    results: list[_Result] = []


class WebSearch(ToolArguments, frozen=True, tag="web_search"):
    """Search the web; `query` is what you would type there."""

    description: ClassVar[str] = "titles, addresses and excerpts of what the web has about something"
    capability: ClassVar[str] = "research"
    commands: ClassVar[tuple[str, ...]] = ("/search QUERY",)
    look: ClassVar[Look] = Look("Search", "links")

    query: Annotated[str, Meta(min_length=1, max_length=300)]

    @classmethod
    def missing(cls, allowed: Allowed) -> str:
        """Without an address there is nobody to ask."""
        return "" if allowed.search else "The setting `search_url` names no SearXNG server."

    async def run(self, site: Site) -> str:
        """Results as paragraphs of title, address, excerpt. Raises ToolRefused `search.*`."""
        body = await _fetched(site.allowed.search, self.query, site.allowed.limits.seconds)
        try:
            page = msgspec.json.decode(body, type=_Page)
        except msgspec.DecodeError as problem:
            raise _unusable(f"What it answers is no result in JSON: {problem}") from problem
        found = [text for text in map(_shown, page.results) if text]
        return "\n\n".join(found[:RESULTS]) or "(nothing was found)"


async def _fetched(address: str, query: str, seconds: float) -> bytes:
    from importlib.metadata import version  # late, as httpx: importing them takes longer than most steps

    import httpx

    agent = {"User-Agent": f"victoria/{version('victoria-streams')}", "Accept": "application/json"}
    body = bytearray()
    try:
        with anyio.fail_after(seconds):
            async with (
                # trust_env: a proxy of the environment would be another host.
                httpx.AsyncClient(follow_redirects=False, trust_env=False, headers=agent, timeout=seconds) as client,
                client.stream("GET", f"{address}/search", params={"q": query, "format": "json"}) as response,
            ):
                if response.status_code != 200:
                    raise _refused(response.status_code)
                async for piece in response.aiter_bytes():
                    body += piece
                    if len(body) > MAX_BYTES:
                        raise _unusable(f"It answers more than {MAX_BYTES:,} bytes.")
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as problem:  # TimeoutError is an OSError
        raise ToolRefused(
            "search.away",
            f"The search server does not answer: {type(problem).__name__}.",
            "Go on without, or look after the server of `search_url`.",
        ) from problem
    return bytes(body)


def _refused(status: int) -> ToolRefused:
    match status:
        case 403:
            return _unusable("It does not answer in JSON; its settings.yml needs json among search.formats.")
        case 429:
            return ToolRefused("search.limited", "The search server was asked too often.", "Ask less often.")
        case _ if 300 <= status < 400:
            return _unusable("It sends us to another address, which is not followed.")
        case _:
            return _unusable(f"It answers with status {status}.")


def _unusable(message: str) -> ToolRefused:
    return ToolRefused(
        "search.unusable",
        f"The search server can't be used. {message}",
        "Go on without, or correct the server of `search_url`.",
    )


def _shown(result: _Result) -> str:
    """A result as text of at most three lines; "" for one that is no page of the web."""
    url = plain(result.url or "")
    if not url.startswith(("http://", "https://")) or len(url) > ADDRESS:
        return ""
    lines = (" ".join((result.title or "").split())[:TITLE], url, " ".join((result.content or "").split())[:CONTENT])
    return "\n".join(plain(line) for line in lines if line)
