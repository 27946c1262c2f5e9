"""`read_file`: the text of one file."""

from typing import ClassVar

from anyio import to_thread

from consumers.tools.tool import Look, PathName, Site, ToolArguments


class ReadFile(ToolArguments, frozen=True, tag="read_file"):
    """Read one file; `path` is relative to the project's folder."""

    description: ClassVar[str] = "the text of one file"
    capability: ClassVar[str] = "file_operations"
    again: ClassVar[bool] = True
    commands: ClassVar[tuple[str, ...]] = ("/read PATH",)
    look: ClassVar[Look] = Look("Read")

    path: PathName

    async def run(self, site: Site) -> str:
        """The file's text. Raises ToolRefused with a `path.*` code."""
        return await to_thread.run_sync(site.workspace.read, self.path)
