"""Bits by which what was made once is told from all else.

The operating system's own lie behind a call that gives Python's lock away, and whoever does that in the middle of a
step gets it back when the thread that writes is through with what it does. So these come from a generator of this
process, which begins with bits of the operating system's, and again in a process that was forked.
"""

from __future__ import annotations

import os
import random
from typing import Final

_generator: Final = random.Random(os.urandom(32))  # noqa: S311 - they are to be unique; nobody is kept from guessing them


def unique() -> str:
    """64 bits, as 16 hexadecimal digits."""
    return f"{_generator.getrandbits(64):016x}"


os.register_at_fork(after_in_child=lambda: _generator.seed(os.urandom(32)))
