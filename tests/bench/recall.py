"""What is recalled of facts in three languages, and how soon and how truly it is among a million memories.

Questions to the million are those about the facts, each with some words of the million's. How truly: which share of the
vectors that are really the nearest is among those that the index finds.
"""

import random
from collections.abc import Sequence
from contextlib import closing, suppress
from pathlib import Path
from statistics import fmean, quantiles
from tempfile import TemporaryDirectory
from time import perf_counter

import anyio
import psutil

from consumers.postgres.database import Database
from consumers.postgres.memories import CANDIDATES, Memories
from consumers.postgres.migrate import migrate
from llm.embedding import Bundled
from tests.bench.million import LARGE, LONG, MIDDLE, SMALL, fill, zipf
from tests.bench.report import Promise, Section
from tests.databases import database_server
from tests.memories import WAYS, Once, facts, keep_all, recall_at_5
