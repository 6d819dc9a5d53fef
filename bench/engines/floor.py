"""Bare asyncio, and bare databases."""

from fanfold.bench.floor import WORKLOADS

__all__ = ["WORKLOADS"]
