"""A debate in a process of its own, for tests that kill it: `python -m tests.teams.killed STORE FOLDER URL`."""

from __future__ import annotations

import sys
from types import SimpleNamespace

from fanfold import Debate


def main(store: str, folder: str, url: str) -> None:
    """Hold the debate in the thread "t", or go on with it; the model's server is somebody else's."""
    debate = Debate("Should we pin?", sources=folder, advocates=3, challengers=3, samples=0)
    outcome = debate.invoke(store, thread_id="t", model=SimpleNamespace(url=url))
    print(outcome.verdict.decision)


if __name__ == "__main__":
    main(*sys.argv[1:])
