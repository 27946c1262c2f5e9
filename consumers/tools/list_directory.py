"""`list_directory`: the names in one folder."""

from typing import ClassVar

from anyio import to_thread

from consumers.tools.plain import plain
from consumers.tools.tool import Look, PathName, Site, ToolArguments
from consumers.tools.workspace import Entry, Listing


class ListDirectory(ToolArguments, frozen=True, tag="list_directory"):
    """List one folder; `path` is relative to the project's folder, "." that folder itself."""

    description: ClassVar[str] = "the names in one folder; names of folders end with /"
    capability: ClassVar[str] = "file_operations"
    again: ClassVar[bool] = True
    commands: ClassVar[tuple[str, ...]] = ("/list PATH",)
    look: ClassVar[Look] = Look("List", "listing")

    path: PathName = "."

    async def run(self, site: Site) -> str:
        """One name a line, folders with a `/` behind; "(empty)" if none. Raises ToolRefused with a `path.*` code."""
        return _lines(await to_thread.run_sync(site.workspace.list, self.path))


def _lines(listing: Listing) -> str:
    lines = [_line(entry) for entry in listing.entries]
    if listing.left_out:
        lines.append(f"(at least {listing.left_out:,} more are left out)")
    return "\n".join(lines) or "(empty)"


def _line(entry: Entry) -> str:
    name = plain(entry.name)
    return name + "/" if entry.kind == "folder" else name
