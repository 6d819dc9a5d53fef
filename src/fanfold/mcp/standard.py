"""Serving over standard input and output, so that it can be ended.

The SDK reads standard input in a thread, which nothing can wake: whoever wants to end it waits until the client says
something more, or closes its end. So the SDK gets a pipe to read, which somebody else fills, and which can be cut off.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from mcp.server import MCPServer

_STDIN: Final = 0
_STDOUT: Final = 1
_STDERR: Final = 2
_AT_ONCE: Final = 65_536
_LONGEST_END: Final = 5.0


async def serve(made: MCPServer[Any]) -> None:
    """Serve until the client closes its end, or until this is cancelled."""
    with _input() as cut_off:
        serving = asyncio.create_task(made.run_stdio_async())
        try:
            await asyncio.shield(serving)
        except asyncio.CancelledError:
            cut_off()
            await asyncio.wait([serving], timeout=_LONGEST_END)
            raise


@contextmanager
def silent() -> Iterator[None]:
    """Whatever is written to standard output meanwhile, as by a file that is loaded, goes to standard error.

    The client reads there, and nobody speaks to it yet. While it is served, the SDK sees to that.
    """
    sys.stdout.flush()
    client = os.dup(_STDOUT)
    os.dup2(_STDERR, _STDOUT)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(client, _STDOUT)
        os.close(client)


@contextmanager
def _input() -> Iterator[Callable[[], None]]:
    """Standard input as a pipe, and what cuts it off: whoever reads it then sees its end."""
    theirs, (ours, filled) = os.dup(_STDIN), os.pipe()
    os.dup2(ours, _STDIN)
    os.close(ours)
    # It may wait for the client for ever, and is not waited for.
    threading.Thread(target=_fill, args=(theirs, filled), name="fanfold-stdin", daemon=True).start()
    try:
        yield lambda: _end(filled)
    finally:
        _end(filled)
        os.dup2(theirs, _STDIN)


def _fill(theirs: int, filled: int) -> None:
    try:
        while data := os.read(theirs, _AT_ONCE):
            while data:
                data = data[os.write(filled, data) :]
    except OSError:
        return  # nobody reads it any more
    finally:
        _end(filled)


def _end(filled: int) -> None:
    """The end of the pipe. Its number stays taken, as the thread may be writing there: what it writes goes nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, filled)
    os.close(nowhere)
