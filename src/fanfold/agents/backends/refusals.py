"""What a vendor's errors mean: ours, with what happened, to which agent, and what to do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from httpx2 import ConnectError, ConnectTimeout, TransportError
from pydantic_ai import exceptions as vendor
from pydantic_ai.messages import ModelMessage, ModelResponse

from fanfold.agents.backends.answers import Form
from fanfold.agents.backends.base import Call
from fanfold.agents.backends.providers import LONGEST_REASON, address_variable, key_variable, masked, name_of, shortened
from fanfold.agents.causes import raise_from
from fanfold.errors import (
    AgentError,
    ModelAnswerError,
    ModelCutError,
    ModelError,
    ModelKeyError,
    ModelOverloadedError,
    ModelRateError,
    ModelRequestError,
    ModelUnavailableError,
)


def who(call: Call) -> str:
    """How every message about a model begins."""
    return f"agent {call.definition.name!r} asked model {name_of(call.model)!r}"


@contextmanager
def requesting(call: Call) -> Iterator[None]:
    """Around one attempt of one request."""
    try:
        yield
    except vendor.ModelHTTPError as error:
        raise_from(_refusal(call, error), error, masked)
    except vendor.ModelConnectionError as error:
        never = error.phase in ("connect", "pool") or _never_connected(error.__cause__)
        raise_from(_broken(call, error, never), error, masked)
    except TransportError as error:  # a stream that breaks off is not always wrapped
        raise_from(_broken(call, error, _never_connected(error)), error, masked)
    except vendor.ModelAPIError as error:
        failed = ModelUnavailableError(
            f"{who(call)}, which failed on its own side{_quoted(error.body or error.message)}", hint="try again later"
        )
        raise_from(failed, error, masked)


@contextmanager
def conversing(call: Call, form: Form, said: Sequence[ModelMessage] = ()) -> Iterator[None]:
    """Around the whole conversation of an agent with its model, of which `said` is what was said by now."""
    try:
        yield
    except vendor.UsageLimitExceeded as error:
        raise AgentError(f"{who(call)} and was stopped: {error}", hint="raise maxTurns in the agent's file") from error
    except vendor.AgentRunError as error:
        cause = f"it does not fit the schema: {form.misfit}" if form.misfit else f"{error}{_last_words(form, said)}"
        raise ModelAnswerError(f"{who(call)}, and the answer cannot be used: {cause}") from error


def _last_words(form: Form, said: Sequence[ModelMessage]) -> str:
    """What the model wrote last where a form was wanted: mostly why there is nothing in that form."""
    texts = [message.text for message in said if isinstance(message, ModelResponse) and message.text]
    return f"; it wrote {shortened(texts[-1], LONGEST_REASON)!r}" if form.wanted is not None and texts else ""


def cut(call: Call) -> ModelCutError:
    """The error of an answer that has no end."""
    return ModelCutError(
        f"{who(call)}, and the answer was cut off before its end", hint="try again; is the connection a good one?"
    )


def _broken(call: Call, error: Exception, never_connected: bool) -> ModelUnavailableError:
    if never_connected:
        return ModelUnavailableError(
            f"{who(call)}, and its server cannot be reached: {error}",
            hint=f"is it running, and is {address_variable(call.model)} right?",
        )
    return cut(call)


def _never_connected(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, ConnectError | ConnectTimeout):
            return True
        error = error.__cause__
    return False


def _refusal(call: Call, error: vendor.ModelHTTPError) -> ModelError:
    status, said = error.status_code, _quoted(error.body)
    if status in (401, 403):
        return ModelKeyError(
            f"{who(call)}, and the key was refused ({status})", hint=f"check {key_variable(call.model)}"
        )
    if isinstance(error, vendor.ModelQuotaExceededError):
        return ModelRequestError(
            f"{who(call)}, and the account has nothing left ({status}){said}",
            hint=f"look at the account of {key_variable(call.model)}: waiting does not help",
        )
    if status == 429:
        return _final(
            error,
            ModelRateError(
                f"{who(call)} too often ({status}){said}",
                hint="ask fewer at once: --max-concurrency",
                retry_after=_asked_to_wait(error),
            ),
        )
    if status == 529 or isinstance(error, vendor.ModelOverloadedError):
        return _final(
            error,
            ModelOverloadedError(
                f"{who(call)}, which is overloaded ({status}){said}",
                hint="try again later, or ask fewer at once",
                retry_after=_asked_to_wait(error),
            ),
        )
    if status >= 500:
        return _final(
            error,
            ModelUnavailableError(
                f"{who(call)}, which failed on its own side ({status}){said}", hint="try again later"
            ),
        )
    return ModelRequestError(
        f"{who(call)}, which refused the request ({status}){said}",
        hint="does the provider have a model of that name, and may this key use it?",
    )


def _asked_to_wait(error: vendor.ModelHTTPError) -> float | None:
    """Seconds after which to try again, as the server says; pydantic-ai reads whole ones only."""
    if error.retry_after is not None:
        return error.retry_after
    try:
        seconds = float((error.headers or {}).get("retry-after", ""))
    except ValueError:  # nothing is said, or a date
        return None
    return seconds if 0 <= seconds < float("inf") else None


def _final(said: vendor.ModelHTTPError, error: ModelError) -> ModelError:
    """The error, which knows when the server says itself that it is not to be asked again."""
    if (said.headers or {}).get("x-should-retry") == "false":
        error.final = True  # type: ignore[attr-defined]  # read by `asking.wait_after`, and by nobody else
    return error


def _quoted(body: object) -> str:
    """What the server said about it: the message inside the vendors' JSON, or what there is."""
    inner = body.get("error", body) if isinstance(body, dict) else body
    message = inner.get("message", inner) if isinstance(inner, dict) else inner
    return f": {shortened(masked(str(message)), LONGEST_REASON)}" if message else ""
