"""Asking an agent for an answer of a given form, when it is no reason to stop that there is none.

A team whose members are many goes on without one of them. So what an agent fails with is a value here: of a kind, and
in words. What is no failure of the agent but of whoever set things up (no such agent, a file that cannot be used, a key
that was refused) is raised as ever, and so is whatever goes wrong with the run itself.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias

from fanfold import (
    AgentError,
    AgentFileError,
    AgentNotFoundError,
    BudgetError,
    FanfoldError,
    ModelAnswerError,
    ModelKeyError,
    Task,
    TaskResult,
)

Failure: TypeAlias = Literal["timed out", "refused", "misfit", "failed", "over budget"]

ATTEMPTS: Final = 2
"""How often an agent is asked whose answer does not fit. A model was given it back twice by then, each time."""

_REFUSAL: Final = re.compile(
    r"refus|content[ _]filter|\b(?:can ?not|can't|won't|unable to|not able to) (?:\w+ )?"
    r"(?:help|assist|answer|comply|continue|discuss|do|engage|take)\b",
    re.IGNORECASE,
)
_LONGEST_REASON: Final = 600


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why there is no answer, how long the agent was at it before that was known, and what it used."""

    kind: Failure
    text: str
    seconds: float
    usage: Mapping[str, int] = field(default_factory=dict)
    cost_usd: float | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    """What came of asking: the last result, unless there was none, and what went wrong before, or instead."""

    result: TaskResult | None
    troubles: tuple[Trouble, ...]

    @property
    def output(self) -> Any:
        """The answer; None when there is none."""
        return None if self.result is None else self.result.output


async def asked(
    task: Callable[[str], Task], prompt: str, *, attempts: int = ATTEMPTS, admit: Callable[[Any], Any] = lambda it: it
) -> Asked:
    """Await `task(prompt)`, again with what was wrong when the answer does not fit, and `attempts` times at most.

    `admit` raises `ValueError` for an answer that has the form and is none all the same.
    """
    troubles: list[Trouble] = []
    for _ in range(attempts):
        wanted, began = task(prompt if not troubles else f"{prompt}\n\n{_again(troubles[-1])}"), time.monotonic()
        try:
            result = await wanted
            _admit(admit, result)
            return Asked(result, tuple(troubles))
        except (AgentNotFoundError, AgentFileError, ModelKeyError):
            raise
        except AgentError as error:
            took = time.monotonic() - began
            troubles.append(Trouble(_kind(error), _reason(error), took, error.usage, error.cost_usd))
        except FanfoldError:
            raise
        except Exception as error:  # noqa: BLE001 - an agent that is a function may raise anything; the others go on
            troubles.append(Trouble("failed", _reason(error), time.monotonic() - began))
        if troubles[-1].kind not in ("misfit", "refused"):
            break
    return Asked(None, tuple(troubles))


def _admit(admit: Callable[[Any], Any], result: TaskResult) -> None:
    try:
        admit(result.output)
    except ValueError as error:
        refused = ModelAnswerError(str(error))
        refused.usage, refused.cost_usd = result.usage, result.cost_usd
        raise refused from error


def _again(trouble: Trouble) -> str:
    return (
        f"You were asked this before, and your answer could not be used: {trouble.text}\nAnswer in the form asked for."
    )


def _kind(error: AgentError) -> Failure:
    if isinstance(error, BudgetError):
        return "over budget"
    if isinstance(error, TimeoutError):
        return "timed out"
    if isinstance(error, ModelAnswerError):
        return "refused" if _REFUSAL.search(str(error)) else "misfit"
    return "failed"


def _reason(error: Exception) -> str:
    """The error in a few words, as other prompts and reports can hold it."""
    # Without the hint of a budget, which is to go on with more: who was counted out is not asked again.
    said = str(error.args[0]) if isinstance(error, BudgetError) and error.args else str(error)
    text = " ".join(f"{type(error).__name__}: {said}".split())
    return text if len(text) <= _LONGEST_REASON else text[: _LONGEST_REASON - 4] + " ..."
