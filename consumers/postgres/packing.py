"""How what is archived is packed: with Zstandard, each row by itself, so that one run can be read without the others.

Alone an event is too small to be packed well. So there is a dictionary of what events and effects have in common, which
makes them about a quarter of their size, in some microseconds. What was packed with a dictionary needs that very one
for ever: it never changes; a better one has another number.
"""

from functools import cache
from importlib.resources import files

from zstandard import ZstdCompressionDict, ZstdCompressor, ZstdDecompressor

from schemas.errors import InvalidInput

PLAIN, PACKED = 0, 1
"""In column `packing`: as it was said; and packed with the dictionary of that number."""
LEVEL = 3


def packed(data: bytes) -> tuple[int, bytes]:
    """How data is packed, and that. What would not become smaller stays as it is."""
    smaller = _compressor().compress(data)
    return (PACKED, smaller) if len(smaller) < len(data) else (PLAIN, data)


def unpacked(packing: int, data: bytes) -> bytes:
    """What was packed. Raises InvalidInput `archive.packing` where a newer version has packed it."""
    match packing:
        case 0:
            return data
        case 1:
            return _decompressor().decompress(data)
        case _:
            raise InvalidInput("archive.packing", f"It is packed in a way ({packing}) unknown here.", "Upgrade this.")


@cache
def _dictionary() -> ZstdCompressionDict:
    return ZstdCompressionDict(files("consumers.postgres").joinpath(f"packing{PACKED}.dictionary").read_bytes())


@cache
def _compressor() -> ZstdCompressor:
    dictionary = _dictionary()
    dictionary.precompute_compress(LEVEL)  # pyright: ignore[reportUnknownMemberType] - its stub leaves a parameter open
    return ZstdCompressor(LEVEL, dict_data=dictionary, write_checksum=False, write_dict_id=False)


@cache
def _decompressor() -> ZstdDecompressor:
    return ZstdDecompressor(dict_data=_dictionary())
