"""Classes that are found, not listed: in every file of a package, and in the files of a folder of the user's own."""

import importlib
import inspect
import pkgutil
import sys
import traceback
from collections.abc import Iterator
from hashlib import blake2b
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import TypeVar

from schemas.errors import CouldNotStart

T = TypeVar("T")


def in_package(package: ModuleType, base: type[T]) -> Iterator[type[T]]:
    """The concrete subclasses of `base` in a package, by the names of their files."""
    for found in pkgutil.iter_modules(package.__path__):
        yield from _defined(importlib.import_module(f"{package.__name__}.{found.name}"), base)


def in_folder(folder: Path, base: type[T], code: str) -> Iterator[type[T]]:
    """Those in a folder's Python files, by name; files that begin with _ are left out, and so is a missing folder.

    The files are run, as their owner's own. Raises CouldNotStart with this code, and with file and line.
    """
    for path in sorted(folder.glob("[!_]*.py")):
        yield from _defined(_loaded(path, code), base)


def broken(found: type, code: str, problem: str) -> CouldNotStart:
    """What to raise where a class does not keep to its contract."""
    line = inspect.getsourcelines(found)[1]
    return CouldNotStart(code, f"{source(found)}, line {line}: {found.__name__} {problem}.", "Correct it.")


def source(found: type) -> Path:
    """The file that a class stands in."""
    return Path(inspect.getfile(found))


def _loaded(path: Path, code: str) -> ModuleType:
    digest = blake2b(str(path).encode(), digest_size=6).hexdigest()
    spec = spec_from_file_location(f"victoria_{digest}.{path.stem}", path)
    if spec is None or spec.loader is None:
        raise CouldNotStart(code, f"{path} is no Python file.", "Remove it.")
    module = module_from_spec(spec)
    sys.modules[spec.name] = module  # msgspec looks there for what annotations mean
    try:
        spec.loader.exec_module(module)
    except Exception as problem:
        frames = [frame for frame in traceback.extract_tb(problem.__traceback__) if frame.filename == str(path)]
        line = problem.lineno if isinstance(problem, SyntaxError) else frames[-1].lineno if frames else 1
        raise CouldNotStart(
            code,
            f"{path}, line {line}: {type(problem).__name__}: {problem}",
            "Correct the file, or take it out of the folder.",
        ) from problem
    return module


def _defined(module: ModuleType, base: type[T]) -> Iterator[type[T]]:
    for value in list(vars(module).values()):
        own = isinstance(value, type) and value.__module__ == module.__name__  # not only imported there
        if own and issubclass(value, base) and not inspect.isabstract(value):
            yield value
