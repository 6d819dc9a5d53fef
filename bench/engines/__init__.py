"""The engines that are compared, a module each; `WORKLOADS` in it says what it can do, by the names of the workloads.

The floor and fanfold are measured with the functions that `fanfold bench` has, the others with theirs here. An engine
does the work of a workload in the way that its own documentation shows.
"""

from __future__ import annotations

from typing import Final

ENGINES: Final = ("floor", "fanfold", "langgraph", "agent_framework", "burr", "pydantic_graph", "adk", "llamaindex")
