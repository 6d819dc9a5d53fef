"""fanfold, by its own functions, and what its store does for LangGraph's savers."""

from __future__ import annotations

from bench import saver
from fanfold.bench.engine import WORKLOADS as OWN
from fanfold.bench.timing import Workloads

WORKLOADS: Workloads = {
    **OWN,
    **saver.workloads("results_64", saver.store),
    **saver.workloads("saver_64", saver.ours),
}
