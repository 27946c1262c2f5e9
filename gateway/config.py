"""`victoria config`: every setting, its value, and where that comes from."""

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from deploy.settings import describe
from gateway.options import Json, Model, RedisUrl, Set, loaded_settings


def config(as_json: Json = False, redis_url: RedisUrl = None, model: Model = None, more: Set = None) -> None:
    """Show every setting, its value and where that comes from; passwords are masked.

    Example: VICTORIA_MODEL=none victoria config
    """
    loaded = loaded_settings(redis_url, model, more)
    values = loaded.settings.shown()
    if as_json:
        rows = {key: {"value": value, "origin": loaded.origins[key]} for key, value in values.items()}
        typer.echo(msgspec.json.encode(rows).decode())
        return
    table = Table("setting", "value", "from", "environment", "meaning", box=None, pad_edge=False)
    for setting in describe():
        origin = loaded.origins[setting.key]
        table.add_row(
            setting.key,
            values[setting.key],
            origin,
            setting.environment[0],
            setting.description,
            style="" if origin == "default" else "bold",
        )
    Console().print(table)
