"""`victoria token`: who may come in over HTTP, and what for."""

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import msgspec
import typer
from rich.table import Table

from deploy.loading import Loaded
from deploy.victoria import Victoria
from gateway.http.tokens import SCOPES, Scope, Token, Tokens, minted
from gateway.options import Json, configured, with_victoria
from gateway.screen import answer, emit, listed, note, styled
from schemas.errors import InvalidInput

UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
USUAL: tuple[Scope, ...] = ("read", "publish")
DAYS = 36_500
"""That a token may hold at most."""

Name = Annotated[str, typer.Argument(metavar="NAME", help="Who holds it: up to 40 small letters, digits and hyphens.")]

app = typer.Typer(
    name="token",
    help="Make, list or revoke the tokens by which the HTTP door knows who calls.",
    no_args_is_help=True,
    epilog="Example: victoria token create ci --scope publish --expires 30d",
)


class Row(msgspec.Struct, frozen=True):
    """What people may know of a token. `token` is its text, which only its making shows."""

    name: str
    scopes: tuple[Scope, ...]
    created: datetime
    expires: datetime | None
    expired: bool
    token: str | msgspec.UnsetType = msgspec.UNSET

    @classmethod
    def of(cls, token: Token, text: str | msgspec.UnsetType = msgspec.UNSET) -> "Row":
        """That of one."""
        return cls(token.name, token.scopes, token.created, token.expires, token.expired, text)


@app.command("create")
@configured
def create(
    loaded: Loaded,
    name: Name,
    scope: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SCOPE",
            help="What for: read, publish (submit, cancel, answer), admin (all); by default read and publish.",
            show_default=False,
        ),
    ] = None,
    expires: Annotated[str, typer.Option(metavar="TIME", help="For how long: 12h, 30d, 8w; by default for ever.")] = "",
    as_json: Json = False,
) -> None:
    """Make a token and print it: it is shown this once, what is kept is a hash.

    Example: victoria token create ci --scope publish --expires 30d
    """
    text, token = minted(name, _scopes(scope or USUAL), _end(expires))

    async def work(victoria: Victoria) -> None:
        await _tokens(victoria).add(token)

    with_victoria(loaded, work)
    if as_json:
        emit(Row.of(token, text))
    else:
        answer(text)
        note(f"{name} may {', '.join(token.scopes)}; this is shown once, keep it where secrets are kept", "dim")


@app.command("list")
@configured
def listing(loaded: Loaded, as_json: Json = False) -> None:
    """List all tokens, and what each is good for.

    Example: victoria token list
    """

    async def work(victoria: Victoria) -> list[Row]:
        return [Row.of(token) for token in (await _tokens(victoria).all()).values()]

    found = with_victoria(loaded, work)
    listed(found, _table, as_json=as_json, without="no tokens; `victoria token create NAME` makes one")


@app.command("revoke")
@configured
def revoke(loaded: Loaded, name: Name, as_json: Json = False) -> None:
    """Revoke a token: a second later it opens nothing any more.

    Example: victoria token revoke ci
    """

    async def work(victoria: Victoria) -> bool:
        await _tokens(victoria).revoke(name)
        return bool(await _tokens(victoria).all())

    left = with_victoria(loaded, work)
    if as_json:
        emit({"name": name, "revoked": True})
        return
    answer(f"{name} is revoked")
    if not left:
        note("it was the last one: doors on loopback that are started from now on need none, unless http_auth=always")


def _tokens(victoria: Victoria) -> Tokens:
    return Tokens(victoria.client, victoria.keys, victoria.url)


def _scopes(given: list[str] | tuple[Scope, ...]) -> tuple[Scope, ...]:
    for scope in given:
        if scope not in SCOPES:
            raise InvalidInput("token.scope", f"There is no scope {scope[:80]!r}.", f"Scopes: {', '.join(SCOPES)}.")
    return tuple(scope for scope in SCOPES if scope in given)


def _end(expires: str) -> datetime | None:
    """The moment that is `30d` away. Raises InvalidInput `token.expires`."""
    if not expires:
        return None
    found = re.fullmatch(rf"([1-9]\d{{0,5}})([{''.join(UNITS)}])", expires, re.ASCII)
    span = timedelta(**{UNITS[found[2]]: int(found[1])}) if found else timedelta()
    if not timedelta() < span <= timedelta(days=DAYS):
        raise InvalidInput("token.expires", f"{expires[:80]!r} is no time that can be.", "Write 90m, 12h, 30d or 8w.")
    return datetime.now(UTC) + span


def _table(rows: list[Row]) -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    cells: list[tuple[Any, ...]] = [tuple((name, "italic") for name in ("token", "may", "created", "holds until"))]
    for row in rows:
        until = "expired" if row.expired else _day(row.expires) if row.expires else "no end"
        cells.append((row.name, ", ".join(row.scopes), _day(row.created), until))
    for each in cells:
        table.add_row(*(styled(cell) for cell in each))
    return table


def _day(moment: datetime) -> str:
    return f"{moment.astimezone():%d %b %Y %H:%M}"
