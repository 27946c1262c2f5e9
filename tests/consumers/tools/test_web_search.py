"""A search asks the configured SearXNG server, and nobody else, and takes no more than is good."""

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from consumers.tools.allowed import Allowed, Limits
from consumers.tools.tool import Site
from consumers.tools.web_search import RESULTS, WebSearch
from consumers.tools.workspace import Workspace
from schemas.errors import ToolRefused

Reply = Callable[[BaseHTTPRequestHandler], None]


class SearXNG:
    """A server that answers GET /search?q=...&format=json as SearXNG documents it; `reply` does it otherwise."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, list[str]], dict[str, str]]] = []
        self.results: list[dict[str, Any]] = []
        self.reply: Reply | None = None
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                parts = urlsplit(self.path)
                query = parse_qs(parts.query)
                outer.asked.append((parts.path, query, dict(self.headers)))
                if outer.reply:
                    outer.reply(self)
                    return
                body = {
                    "query": query["q"][0], "number_of_results": 0, "results": outer.results, "answers": [],
                    "corrections": [], "infoboxes": [], "suggestions": [], "unresponsive_engines": [["x", "timeout"]],
                }  # fmt: skip
                send(self, json.dumps(body).encode())

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"


def send(handler: BaseHTTPRequestHandler, body: bytes, status: int = 200, **headers: str) -> None:
    handler.send_response(status)
    for name, value in {"Content-Length": str(len(body)), **headers}.items():
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(body)


@pytest.fixture
def searxng() -> Iterator[SearXNG]:
    served = SearXNG()
    thread = threading.Thread(target=served.server.serve_forever, args=(0.01,))
    thread.start()
    yield served
    served.server.shutdown()
    served.server.server_close()
    thread.join()


async def found(url: str, query: str = "event streams", seconds: float = 5) -> str:
    allowed = Allowed(search=url, limits=Limits(seconds=seconds))
    return await WebSearch("", query).run(Site(Workspace(Path.cwd()), allowed))


def result(number: int, **fields: Any) -> dict[str, Any]:
    usual = {"title": f"Title {number}", "url": f"https://example.org/{number}", "content": f"About {number}."}
    return usual | {"engine": "x", "score": 1.0, "publishedDate": None} | fields


async def test_results_come_as_title_address_and_excerpt(searxng: SearXNG) -> None:
    searxng.results = [result(1), result(2, content=None)]
    text = "Title 1\nhttps://example.org/1\nAbout 1.\n\nTitle 2\nhttps://example.org/2"
    assert await found(searxng.url) == text
    path, query, headers = searxng.asked[0]
    assert (path, query) == ("/search", {"q": ["event streams"], "format": ["json"]})
    assert headers["User-Agent"].startswith("victoria/")


async def test_nothing_found_is_said(searxng: SearXNG) -> None:
    assert await found(searxng.url) == "(nothing was found)"


async def test_a_query_is_one_value_whatever_is_in_it(searxng: SearXNG) -> None:
    hostile = "a&format=html&q=b#c /../preferences?x=%00\r\nHost: evil"
    await found(searxng.url, hostile)
    path, query, headers = searxng.asked[0]
    assert (path, query["q"], query["format"]) == ("/search", [hostile], ["json"])
    assert headers["Host"] == searxng.url.removeprefix("http://")


async def test_results_are_bounded_and_hold_nothing_that_a_terminal_obeys(searxng: SearXNG) -> None:
    searxng.results = [
        result(0, url="javascript:alert(1)"),
        result(0, url="file:///etc/passwd"),
        result(0, url=None),
        result(1, title="\x1b[2J  x\n\n" + "t" * 9_000, content="c" * 9_000),
        *(result(number) for number in range(50)),
    ]
    text = await found(searxng.url)
    paragraphs = text.split("\n\n")
    assert len(paragraphs) == RESULTS
    assert paragraphs[0].startswith("\\x1b[2J x ttt")
    assert len(paragraphs[0]) < 1_000
    assert "javascript" not in text
    assert "file:" not in text


async def test_a_redirect_is_not_followed(searxng: SearXNG) -> None:
    other = SearXNG()
    with other.server:
        searxng.reply = lambda handler: send(handler, b"", 302, Location=f"{other.url}/search?q=x")
        with pytest.raises(ToolRefused, match="another address") as caught:
            await found(searxng.url)
    assert caught.value.code == "search.unusable"
    assert (len(searxng.asked), other.asked) == (1, [])


async def test_a_proxy_of_the_environment_is_not_asked(searxng: SearXNG, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert await found(searxng.url) == "(nothing was found)"


def _endless(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.end_headers()
    try:
        while True:
            handler.wfile.write(b"x" * 65_536)
    except OSError:
        pass


def _answering(body: bytes, status: int = 200) -> Reply:
    return lambda handler: send(handler, body, status)


def _closing(handler: BaseHTTPRequestHandler) -> None:
    handler.connection.close()


def _silent(handler: BaseHTTPRequestHandler) -> None:
    handler.rfile.read(1)  # until the client goes


@pytest.mark.parametrize(
    ("reply", "code", "message"),
    [
        (_answering(b"<html>"), "search.unusable", "no result in JSON"),
        (_answering(b'{"results": 1}'), "search.unusable", "no result in JSON"),
        (_answering(b"", 403), "search.unusable", "search.formats"),
        (_answering(b"", 429), "search.limited", "too often"),
        (_answering(b"", 500), "search.unusable", "status 500"),
        (_endless, "search.unusable", "bytes"),
        (_silent, "search.away", "Timeout"),
        (_closing, "search.away", "does not answer"),
    ],
)
async def test_whatever_else_it_answers_is_a_refusal_with_what_to_do(
    reply: Reply, code: str, message: str, searxng: SearXNG
) -> None:
    searxng.reply = reply
    with pytest.raises(ToolRefused, match=message) as caught:
        await found(searxng.url, seconds=0.5 if reply is _silent else 30)
    assert (caught.value.code, bool(caught.value.hint)) == (code, True)


async def test_a_server_that_is_not_there_is_a_refusal() -> None:
    with pytest.raises(ToolRefused, match=r"search\.away"):
        await found("http://127.0.0.1:1")
