"""`list_directory`: the names in one folder."""

from typing import ClassVar

from anyio import to_thread

from consumers.tools.tool import PathName, ToolArguments
from consumers.tools.workspace import Entry, Listing, Workspace


class ListDirectory(ToolArguments, frozen=True, tag="list_directory"):
    """List one folder; `path` is relative to the project's folder, "." that folder itself."""

    description: ClassVar[str] = "the names in one folder; names of folders end with /"

    path: PathName = "."

    async def run(self, workspace: Workspace) -> str:
        """One name a line, folders with a `/` behind; "(empty)" if none. Raises ToolRefused with a `path.*` code."""
        return _lines(await to_thread.run_sync(workspace.list, self.path))


def _lines(listing: Listing) -> str:
    lines = [_line(entry) for entry in listing.entries]
    if listing.left_out:
        lines.append(f"(at least {listing.left_out:,} more are left out)")
    return "\n".join(lines) or "(empty)"


def _line(entry: Entry) -> str:
    # A name may hold a newline or a terminal's escape codes: shown as escapes, one name stays one line.
    name = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in entry.name)
    return name + "/" if entry.kind == "folder" else name
