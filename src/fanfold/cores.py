"""What the system says of cores: for how long a thread could have gone on while others had them."""

from __future__ import annotations


def waited_for_one(thread: int) -> float:
    """Seconds for which a thread of this process, by its native id, has waited for a core so far.

    Linux counts them. They are 0.0 elsewhere, for a thread that has ended, and for what the host of a virtual machine
    takes away.
    """
    try:
        with open(f"/proc/self/task/{thread}/schedstat", "rb") as file:
            return int(file.read().split()[1]) / 1e9
    except (OSError, IndexError):
        return 0.0
