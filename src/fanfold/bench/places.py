"""Where the databases are that a process of measurements writes to."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from pathlib import Path
from typing import Final

from fanfold.bench.timing import AbsentError

POSTGRES: Final = "FANFOLD_BENCH_POSTGRES"
"""The variable that names the server, which whoever starts the processes has started for all of them."""


def file() -> Path:
    """A path for a database of one's own; it is deleted when the process ends."""
    folder = tempfile.mkdtemp(prefix="fanfold-bench-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder) / "bench.db"


def postgres() -> str:
    """The URL of the server. Raises `AbsentError` when there is none."""
    if POSTGRES not in os.environ:
        raise AbsentError("there is no PostgreSQL here")
    return os.environ[POSTGRES]


def size(database: Path) -> int:
    """Bytes of a database of SQLite, with what it has beside it."""
    return sum(part.stat().st_size for part in database.parent.glob(f"{database.name}*"))
