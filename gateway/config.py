"""`victoria config`: every setting, its value, and where that comes from."""

from rich.padding import Padding

from deploy.loading import Loaded
from deploy.settings import describe
from gateway.options import Json, configured
from gateway.screen import OUT, emit, styled


@configured
def config(loaded: Loaded, as_json: Json = False) -> None:
    """Show every setting, its value and where that comes from; passwords are masked.

    Example: VICTORIA_MODEL=none victoria config
    """
    values = loaded.settings.shown()
    if as_json:
        emit({key: {"value": value, "origin": loaded.origins[key]} for key, value in values.items()})
        return
    for setting in describe():
        value, origin = values[setting.key], loaded.origins[setting.key]
        given = "" if origin == "default" else "bold"
        OUT.print(styled((f"{setting.key} = {value}".rstrip(), given), (f"  ({origin})", "dim")), soft_wrap=True)
        OUT.print(
            Padding(styled((f"{setting.description} {setting.environment[0]}", "dim")), (0, 0, 0, 4), expand=False)
        )
