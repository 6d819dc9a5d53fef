"""What is taken down of one program while it works, whatever language it speaks."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any, Final

from fanfold.agents.backends.base import Answer, Call, Said
from fanfold.agents.backends.forms import fitted
from fanfold.agents.backends.providers import LONGEST_REASON, detailed, masked, name_of
from fanfold.agents.backends.telling import Tell
from fanfold.agents.transcripts import tell_from
from fanfold.errors import (
    AgentError,
    AgentLostError,
    ModelKeyError,
    ModelOverloadedError,
    ModelRateError,
    ModelRequestError,
    ModelUnavailableError,
)
from fanfold.events import ToolCalled
from fanfold.frame import clock
from fanfold.limits.desk import Asking

MOST_TOKENS: Final = 2**53
"""What a program says that it has used is not believed above this; nobody could count so far."""

LARGEST_TRANSCRIPT: Final = 1_000_000
"""Characters of a transcript that are kept."""

_NOTHING: Final = object()


class Minutes:
    """What one program has told so far: its answer, what it took, and what went wrong."""

    def __init__(self, call: Call, tell: Tell, asking: Asking, model: str = "") -> None:
        self.call = call
        self.tell = tell
        self.model = model
        self.tokens = [0, 0]
        self.free = call.model is not None and not isinstance(call.model, str)  # a server that stands in for a provider
        self.usd: float | None = 0.0 if self.free else None
        self.calls = 0
        self.tools = 0
        self.retries = 0
        self.failure: AgentError | None = None
        self._asking = asking
        self._output: Any = _NOTHING
        self._transcript: list[Mapping[str, Any]] = []
        tell_from(lambda: self._transcript)
        self._room = LARGEST_TRANSCRIPT
        self._left_out = 0

    @property
    def who(self) -> str:
        """How every message about the agent begins."""
        return f"agent {self.call.definition.name!r}"

    @property
    def answered(self) -> bool:
        """Whether the program has named its answer."""
        return self._output is not _NOTHING

    def keep(self, said: Mapping[str, Any]) -> None:
        """Put something into the transcript, as long as there is room."""
        self._room -= len(json.dumps(said, ensure_ascii=False, default=str))
        if self._room < 0:
            self._left_out += 1
        else:
            self._transcript.append(said)

    def said(self, text: str, message: str) -> None:
        """It says a piece of a message."""
        if self.call.heard and text:
            self.tell(Said(text, message))

    def tool(self, name: str, detail: Any = "") -> None:
        """It uses a tool."""
        self.tools += 1
        text = detail if isinstance(detail, str) else json.dumps(detail, ensure_ascii=False, default=str)
        self.tell(ToolCalled(clock(), self.call.task, name, detailed(text)))

    def usage(self, input_tokens: Any, output_tokens: Any, usd: Any = None, calls: int = 1) -> None:
        """A model has answered it, which took so much."""
        taken = [_count(input_tokens), _count(output_tokens)]
        self.tokens = [before + now for before, now in zip(self.tokens, taken, strict=True)]
        self.calls += calls
        cost = 0.0 if self.free else _amount(usd)
        if cost is not None:
            self.usd = (self.usd or 0.0) + cost
        self._asking.heard(self.model, taken[0], taken[1], cost, calls)

    def result(self, output: Any) -> None:
        """That is its answer, unless it names another one."""
        self._output = output
        self.failure = None

    def retried(self, status: Any, seconds: float, text: str = "") -> None:
        """It was refused by its model and tries again by itself. Those that ask the same model wait as well."""
        self.retries += 1
        error = self.refusal(status, text, seconds)
        if isinstance(error, ModelRateError | ModelOverloadedError):
            self._asking.refused(seconds)
        self.call.desk.retried(self.model or name_of(self.call.model), error, seconds)

    def refusal(self, status: Any, text: str = "", retry_after: Any = None) -> AgentError:
        """The error that an answer of the model's server with this status means."""
        code, wait = _count(status), _amount(retry_after)
        told = f"{self.who}: its model's server" if code else f"{self.who}: its program"
        reason = f": {masked(text)[:LONGEST_REASON]}" if text else ""
        if code in (401, 403):
            return ModelKeyError(f"{told} refused the key ({code})", hint="may this key use the model?")
        if code == 429:
            return ModelRateError(f"{told} is asked too often ({code}){reason}", retry_after=wait)
        if code == 529:
            return ModelOverloadedError(f"{told} is overloaded ({code}){reason}", retry_after=wait)
        if code >= 500:
            return ModelUnavailableError(f"{told} failed on its own side ({code}){reason}", hint="try again later")
        if code >= 400:
            return ModelRequestError(f"{told} does not accept what was asked ({code}){reason}")
        return AgentError(f"{told} says that it failed{reason}")

    def answer(self) -> Answer:
        """The program's answer, after it has ended well. Raises what went wrong, or `AgentLostError` for no answer."""
        if self.failure is not None:
            raise self.failure
        if not self.answered:
            raise AgentLostError(f"{self.who}: its program ended without an answer: it wrote none of type 'result'")
        self.settle()
        left_out = [{"type": "left out", "lines": self._left_out}] if self._left_out else []
        usage = dict(zip(("input_tokens", "output_tokens"), self.tokens, strict=True)) if self.calls else {}
        return Answer(
            output=fitted(self._output, self.call.schema, self.who),
            model=self.model,
            usage={**usage, "requests": self.calls} if self.calls else {},
            cost_usd=self.usd,
            tool_uses=self.tools,
            transcript=(*self._transcript, *left_out),
        )

    def settle(self) -> None:
        """Tell the run's budget what the program took, as far as it has said. One that says nothing counts as a call.

        Of one that was refused before it had any answer of its model, nothing is told: then it took nothing.
        """
        if self.calls or self.answered:
            self._asking.took(self.tokens[0], self.tokens[1], self.usd, max(1, self.calls))


def _count(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MOST_TOKENS else 0


def _amount(value: Any) -> float | None:
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < sys.float_info.max:
        return None
    return float(value)
