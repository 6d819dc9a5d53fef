"""The numbers of the stored form: extension codes, limits, and how ormsgpack is asked to write."""

from __future__ import annotations

from typing import Final

import ormsgpack

MAX_DEPTH: Final = 200

# The extension codes. They are stored: a number is never given to something else.
INT, TEXT, BYTEARRAY, COMPLEX, DECIMAL = 1, 2, 3, 4, 5
DATETIME, DATE, TIME, TIMEDELTA, UUID_, PATH = 10, 11, 12, 13, 14, 15
TUPLE, SET, FROZENSET, MAP = 20, 21, 22, 23
ENUM, OBJECT = 30, 31
ARRAY, NUMBER = 40, 41

CONTAINERS: Final = frozenset({TUPLE, SET, FROZENSET, MAP, OBJECT})
OF_CLASSES: Final = frozenset({ENUM, OBJECT})
NUMBERS: Final = frozenset({type(None), bool, int, float})

OPTIONS: Final = (
    ormsgpack.OPT_PASSTHROUGH_BIG_INT
    | ormsgpack.OPT_PASSTHROUGH_DATACLASS
    | ormsgpack.OPT_PASSTHROUGH_DATETIME
    | ormsgpack.OPT_PASSTHROUGH_ENUM
    | ormsgpack.OPT_PASSTHROUGH_SUBCLASS
    | ormsgpack.OPT_PASSTHROUGH_TUPLE
    | ormsgpack.OPT_PASSTHROUGH_UUID
)

# How many containers deep ormsgpack itself goes before it refuses. Wrapping a value in the difference to our limit
# makes it count for us, in C. A test fails when a new version counts otherwise.
PACK_LIMIT: Final = 255
UNPACK_LIMIT: Final = 1022
