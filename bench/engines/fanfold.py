"""fanfold, by its own functions, and what its store does for LangGraph's savers."""

from __future__ import annotations

from functools import partial

from bench import saver
from fanfold.bench.engine import WORKLOADS as OWN
from fanfold.bench.timing import Workloads

WORKLOADS: Workloads = {
    **OWN,
    "results_64": partial(saver.agents, saver.store),
    "saver_64": partial(saver.agents, saver.ours),
}
