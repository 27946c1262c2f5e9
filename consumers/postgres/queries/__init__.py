"""Statements, a file each with a header that names the tables; typed functions beside this folder call them."""

from functools import cache
from importlib.resources import files


@cache
def query(name: str) -> str:
    """The text of a statement by its file's name."""
    return (files(__name__) / f"{name}.sql").read_text(encoding="utf-8")
