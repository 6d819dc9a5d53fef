"""What an import costs: milliseconds over a bare interpreter, and how many packages come along."""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, requires
from typing import Final

from fanfold.bench.timing import Figures

TURNS: Final = 5


def imported(statement: str, package: str = "") -> Figures:
    """Medians of a few starts that take turns with bare ones, the first of each not counted."""

    async def find() -> Mapping[str, float]:
        bare, full = [], []
        for _ in range(TURNS + 1):
            bare.append(_seconds("pass"))
            full.append(_seconds(statement))
        over = statistics.median(full[1:]) - statistics.median(bare[1:])
        return {"tasks": 1, "ms": over * 1000, **({"packages": len(_needed(package))} if package else {})}

    return Figures(find)


def _seconds(statement: str) -> float:
    """Of an interpreter that may write its byte code, as it may where people install us."""
    env = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", statement], check=True, env=env)
    return time.perf_counter() - began


def _needed(package: str, seen: frozenset[str] = frozenset()) -> frozenset[str]:
    """The package and all that it requires here, without extras."""
    seen |= {package}
    try:
        requirements = requires(package) or []
    except PackageNotFoundError:  # for another system, or another Python
        return seen - {package}
    for requirement in requirements:
        name = re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0].lower().replace("_", "-").replace(".", "-")
        if "extra ==" not in requirement and name not in seen:
            seen = _needed(name, seen)
    return seen
