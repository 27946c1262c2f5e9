"""Replays are tested on runs of a whole Victoria with a scripted model: see tests/rows/house.py."""

from tests.rows.conftest import house as house
