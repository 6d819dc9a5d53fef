"""fanfold, by its own functions."""

from fanfold.bench.engine import WORKLOADS

__all__ = ["WORKLOADS"]
