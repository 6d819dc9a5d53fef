"""The command as people run it: a process of its own, an emptied environment, a fresh home and folder.

Of the environment only PYTHONPATH is passed on, so that the command tested is the one of this checkout.
"""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from fanfold.testing import ModelServer

PATIENCE = 60.0


@dataclass
class Command:
    """Runs `fanfold` in one folder. `env` is all that it gets besides a PATH and a HOME."""

    folder: Path
    home: Path
    env: dict[str, str] = field(default_factory=dict)
    program: Sequence[str] = (sys.executable, "-m", "fanfold")

    def start(self, *words: str, **env: str) -> subprocess.Popen[str]:
        """The process, running."""
        given = {"PATH": os.environ["PATH"], "HOME": str(self.home), "LANG": "C.UTF-8", **self.env, **env}
        if "PYTHONPATH" in os.environ:  # relative parts of it are meant from here, and the command runs elsewhere
            parts = os.environ["PYTHONPATH"].split(os.pathsep)
            given["PYTHONPATH"] = os.pathsep.join(str(Path(part).resolve()) for part in parts)
        return subprocess.Popen(
            [*self.program, *words],
            cwd=self.folder,
            env=given,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __call__(self, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
        """What the process printed, and its exit code."""
        process = self.start(*words, **env)
        out, err = process.communicate(timeout=PATIENCE)
        return subprocess.CompletedProcess(words, process.returncode, out, err)

    def json(self, *words: str, **env: str) -> Any:
        """The only line of standard output, as data; the command must have succeeded."""
        done = self(*words, **env)
        assert done.returncode == 0, done.stderr
        (line,) = done.stdout.splitlines()
        return json.loads(line)

    def newest(self) -> str:
        """The id of the newest run."""
        lines = self("runs", "ls", "--json").stdout.splitlines()
        run: str = json.loads(lines[0])["run_id"]
        return run

    def kept(self, *, agents: bool) -> set[str]:
        """The names of the agents, or of the nodes, whose result is on disk, read as any other process may."""
        path = self.folder / ".fanfold" / "runs.db"
        if not path.exists():
            return set()
        connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
        try:
            rows = connection.execute(
                "select name from task_result where kind in ('result', 'child') and (parent is not null) = ?", (agents,)
            )
            return {name for (name,) in rows}
        except sqlite3.OperationalError:  # the tables are not there yet
            return set()
        finally:
            connection.close()


@pytest.fixture
def fanfold(tmp_path: Path) -> Command:
    """The command in an empty folder, with an empty home."""
    folder, home = tmp_path / "work", tmp_path / "home"
    folder.mkdir()
    home.mkdir()
    return Command(folder, home)


@pytest.fixture
def project(fanfold: Command) -> Path:
    """A small project to study, in the command's folder."""
    files: Mapping[str, str] = {
        "README.md": "# Ferry\n\nFerry moves files between two machines, and its purpose is to never lose one.\n",
        "ferry/main.py": "import sys\n\n\ndef main() -> None:\n    timeout = 30  # until a retry\n    print(sys.argv)",
        "tests/test_main.py": "from ferry.main import main\n\n\ndef test_main() -> None:\n    assert main() is None\n",
        "setup.cfg": "[tool]\nlog_level = warning\nlimit = 4\ninstall = wheel\n",
    }
    for name, text in files.items():
        path = fanfold.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return fanfold.folder


@pytest.fixture
def server() -> Iterator[ModelServer]:
    """A model server in this process, which outlives the commands that ask it."""
    with ModelServer() as server:
        yield server


def kill(process: subprocess.Popen[str]) -> None:
    """kill -9, and wait until it is gone."""
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=PATIENCE)


def until(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    """Look again and again until `condition` holds, at most `PATIENCE` seconds and while the process lives."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline, "the condition was not reached"
        time.sleep(0.01)  # between two looks, not instead of one
