"""A model as agents here ask it: each request under the run's limits, repeated where that helps, always streamed.

pydantic-ai's loop asks for a whole answer and knows nothing of this. What it asks goes through `asking.persist`, as a
stream, so that silence is noticed: `Call.patience` seconds without a byte are an `AgentStalledError`. The time for
which a listener keeps us waiting does not count.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from genai_prices import Usage, calc_price
from pydantic_ai.messages import (
    ModelMessage,
    ModelResponse,
    PartDeltaEvent,
    PartStartEvent,
    TextPart,
    TextPartDelta,
)
from pydantic_ai.models import Model, ModelRequestParameters
from pydantic_ai.models.wrapper import WrapperModel
from pydantic_ai.settings import ModelSettings

from fanfold.agents.asking import persist
from fanfold.agents.backends import refusals
from fanfold.agents.backends.base import Call, Progress, Said
from fanfold.agents.backends.connections import Pulse
from fanfold.agents.backends.providers import check_name, detailed, name_of
from fanfold.errors import AgentStalledError, BudgetError
from fanfold.events import ToolCalled
from fanfold.frame import clock
from fanfold.limits.desk import Asking

Tell: TypeAlias = Callable[[Progress | Said], Awaitable[None]]

HELD: Final = 0.1
"""Seconds by which the event loop may be late before what it has not heard says nothing."""

ANSWER_TOKENS: Final = 500
"""What an answer is expected to take before it is there."""


@dataclass(slots=True)
class Bill:
    """What the requests of one agent have taken. `usd` is None as soon as one has no known price."""

    requests: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    usd: float | None = 0.0
    tools: int = 0

    def add(self, response: ModelResponse, usd: float | None) -> None:
        """Count one answer."""
        self.requests += 1
        self.input_tokens += response.usage.input_tokens or 0
        self.output_tokens += response.usage.output_tokens or 0
        self.usd = None if usd is None or self.usd is None else self.usd + usd


def _nothing() -> None:
    """Nobody waits for it."""


@dataclass(slots=True)
class Line:
    """What one agent's requests share: whose they are, who hears and is told, their headers, and what they took."""

    call: Call
    pulse: Pulse
    tell: Tell
    headers: Mapping[str, str]
    bill: Bill = field(default_factory=Bill)
    ready: Callable[[], None] = _nothing
    """Called when the agent is ready to ask."""


class _Silence:
    """Ends a block when nothing was heard for `patience` seconds. Time in which nobody could listen does not count."""

    def __init__(self, timer: asyncio.Timeout, patience: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._timer = timer
        self._patience = patience
        self._look: asyncio.TimerHandle | None = None

    def __enter__(self) -> _Silence:
        self.ended()
        return self

    def __exit__(self, *_: object) -> None:
        self.meant()

    def ended(self) -> None:
        """Something was heard."""
        self.meant()
        self._look = self._loop.call_later(self._patience, self._enough, self._loop.time() + self._patience)

    def meant(self) -> None:
        """Nothing is expected until the silence has `ended`."""
        if self._look is not None:
            self._look.cancel()

    def _enough(self, due: float) -> None:
        if self._loop.time() - due > HELD:  # the loop was held: what was said meanwhile was not read yet
            self.ended()
        else:
            self._timer.reschedule(self._loop.time())


class Requesting(WrapperModel):
    """The model of one agent's call."""

    def __init__(self, wrapped: Model, line: Line) -> None:
        super().__init__(wrapped)
        self._line = line
        self._sent = 0

    async def request(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
    ) -> ModelResponse:
        """The whole answer to a request, however many attempts it took."""
        call, self._sent = self._line.call, self._sent + 1
        self._line.ready()
        settings: ModelSettings = {**(model_settings or {}), "extra_headers": self._headers(model_settings)}

        async def send(asking: Asking) -> ModelResponse:
            with refusals.requesting(call):
                response = await self._streamed(messages, settings, model_request_parameters)
            if _is_cut(response):
                raise refusals.cut(call)
            usd = self._price(response)
            asking.model = response.model_name or ""
            asking.answered(response.usage.input_tokens or 0, response.usage.output_tokens or 0, usd)
            self._line.bill.add(response, usd)
            return response

        tokens = _expected(messages, model_request_parameters)
        usd = self._affordable(tokens)
        response = await persist(call, name_of(call.model), send, tokens=tokens, usd=usd)
        for event in self._told(response, model_request_parameters):
            self._line.bill.tools += isinstance(event, ToolCalled)
            await self._line.tell(event)
        return response

    def _affordable(self, tokens: int) -> float:
        """What a request is expected to cost; 0 when nobody knows. Raises `BudgetError` when that is too much."""
        call, spent = self._line.call, self._line.bill.usd
        budget, usd = call.definition.budget_usd, self._estimate(tokens)
        if budget is not None and spent is not None and spent + usd > budget:
            raise BudgetError(
                f"agent {call.definition.name!r} has spent {spent:.4f} of {budget:g} USD, and its next request is "
                f"expected to cost {usd:.4f}",
                hint="give it a larger `budget_usd`",
            )
        return usd

    def _estimate(self, tokens: int) -> float:
        if not isinstance(self._line.call.model, str):
            return 0.0
        provider, model = check_name(self._line.call.model)
        usage = Usage(input_tokens=max(0, tokens - ANSWER_TOKENS), output_tokens=ANSWER_TOKENS)
        try:
            return float(calc_price(usage, model, provider_id=provider).total_price)
        except (LookupError, ValueError):  # no price is known
            return 0.0

    def _headers(self, settings: ModelSettings | None) -> dict[str, str]:
        """OpenAI's protocol has a key per request, which is the same when a run that was cut off sends it again."""
        given: dict[str, str] = dict((settings or {}).get("extra_headers") or {})
        key = {"Idempotency-Key": f"{self._line.call.task}-{self._sent}"} if self.system == "openai" else {}
        return {**self._line.headers, **key, **given}

    async def _streamed(
        self, messages: list[ModelMessage], settings: ModelSettings, parameters: ModelRequestParameters
    ) -> ModelResponse:
        call, pulse = self._line.call, self._line.pulse
        try:
            async with asyncio.timeout(None) as timer:
                with _Silence(timer, call.patience) as silence:
                    pulse.listen = silence.ended
                    async with self.wrapped.request_stream(messages, settings, parameters) as stream:
                        message = uuid.uuid4().hex
                        async for event in stream:
                            if call.heard and (text := _text(event)):
                                silence.meant()
                                await self._line.tell(Said(text, message))
                                silence.ended()
                        return stream.get()
        except TimeoutError as error:
            if not timer.expired():
                raise
            raise AgentStalledError(
                f"{refusals.who(call)}, and heard nothing for {call.patience:g} s",
                hint="the model's server is silent; try again, or allow for a longer silence",
            ) from error
        finally:
            pulse.listen = None

    def _price(self, response: ModelResponse) -> float | None:
        """What an answer cost, if that is known; a server that stands in for a provider costs nothing."""
        if not isinstance(self._line.call.model, str):
            return 0.0
        try:
            return float(response.cost().total_price)
        except (LookupError, ValueError, AssertionError):  # nobody knows such a model, or what was used of it
            return None

    def _told(self, response: ModelResponse, parameters: ModelRequestParameters) -> Iterator[Progress]:
        """The tools that an answer asks for."""
        task = self._line.call.task
        answers = {tool.name for tool in parameters.output_tools}
        for part in response.tool_calls:
            if part.tool_name not in answers:
                detail = detailed(part.args_as_json_str())
                yield ToolCalled(clock(), task, part.tool_name, detail)


def _is_cut(response: ModelResponse) -> bool:
    """Whether the stream of an answer ended before the answer did.

    pydantic-ai makes up a reason to end for servers that give none; those still say at the end what it took.
    """
    if (response.provider_details or {}).get("finish_reason"):
        return False
    made_up = response.finish_reason is not None and not response.usage.unmeasured_requests
    return not made_up


def _text(event: Any) -> str:
    if isinstance(event, PartStartEvent) and isinstance(event.part, TextPart):
        return event.part.content
    if isinstance(event, PartDeltaEvent) and isinstance(event.delta, TextPartDelta):
        return event.delta.content_delta
    return ""


def _expected(messages: list[ModelMessage], parameters: ModelRequestParameters) -> int:
    """Tokens that a request is expected to take: a quarter of its characters, and an answer."""
    tools = (*parameters.function_tools, *parameters.output_tools)
    size = sum(len(tool.description or "") + len(str(tool.parameters_json_schema)) for tool in tools)
    for message in messages:
        size += len(getattr(message, "instructions", None) or "")
        size += sum(len(str(getattr(part, "content", "") or getattr(part, "args", ""))) for part in message.parts)
    return size // 4 + ANSWER_TOKENS
