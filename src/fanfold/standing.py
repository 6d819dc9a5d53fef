"""Threads that stand behind a lock of `threading`'s: the line on which one is says what it waits for.

Such a lock is taken in C and tells nobody. But a thread that waits for one is in the middle of an instruction, and that
is either the beginning of a `with` or a call of `acquire`: nothing else that these do takes any time.
"""

from __future__ import annotations

import dis
import os
import threading
from functools import lru_cache
from types import CodeType, FrameType
from typing import Final

_CALLED: Final = ("acquire", "__enter__")
_SEMAPHORE: Final = threading.Semaphore.acquire.__code__
_WITHIN: Final = threading.Condition.__enter__.__code__
_OURS: Final = os.path.dirname(__file__) + os.sep


def behind(frame: FrameType) -> str:
    """What kind of lock the thread whose innermost frame this is waits for; "" if for none.

    What waits for an event, a queue, or a thread waits by a lock of theirs, too, and that is none of the user's; nor is
    one of ours, as around an import.
    """
    code = frame.f_code
    if code.co_filename.startswith(_OURS):
        return ""
    if code.co_filename == threading.__file__:
        if code is _WITHIN:
            return "lock"
        return "semaphore" if frame.f_back is not None and frame.f_back.f_code is _SEMAPHORE else ""
    return "lock" if _takes_one(code, frame.f_lasti) else ""


@lru_cache(maxsize=4096)
def _takes_one(code: CodeType, at: int) -> bool:
    so_far = [each for each in dis.get_instructions(code) if each.offset <= at]
    if not so_far:
        return False
    if so_far[-1].opname == "BEFORE_WITH":  # until Python 3.13
        return True
    if not so_far[-1].opname.startswith(("CALL", "PRECALL")):
        return False
    named = (each for each in reversed(so_far) if each.opname in ("LOAD_METHOD", "LOAD_ATTR", "LOAD_SPECIAL"))
    nearest = next(named, None)
    return nearest is not None and any(name in str(nearest.argrepr) for name in _CALLED)
