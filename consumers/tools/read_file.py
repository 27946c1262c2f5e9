"""`read_file`: the text of one file."""

from typing import ClassVar

from anyio import to_thread

from consumers.tools.tool import PathName, ToolArguments
from consumers.tools.workspace import Workspace


class ReadFile(ToolArguments, frozen=True, tag="read_file"):
    """Read one file; `path` is relative to the project's folder."""

    description: ClassVar[str] = "the text of one file"

    path: PathName

    async def run(self, workspace: Workspace) -> str:
        """The file's text. Raises ToolRefused with a `path.*` code."""
        return await to_thread.run_sync(workspace.read, self.path)
