"""Agents that are language models, through pydantic-ai (extra `llm`).

The vendor packages take a second or more to import, so they are imported when the first such agent runs, in a thread.
Their own retries are switched off: when to try again is the runtime's decision, which knows of all agents at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import os
import ssl
import threading
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from fanfold.agents.backends.base import Answer, Call, Progress, Said
from fanfold.agents.workspace import TOOLS, Workspace, permitted
from fanfold.errors import (
    AgentError,
    MissingExtraError,
    ModelAnswerError,
    ModelError,
    ModelKeyError,
    ModelRateError,
    ModelUnavailableError,
    UsageError,
    WorkspaceError,
    did_you_mean,
)
from fanfold.events import ModelAnswered, Noticed, ToolCalled
from fanfold.frame import clock

if TYPE_CHECKING:
    from pydantic_ai import Agent, Tool
    from pydantic_ai.models import Model

PROVIDERS: Final = {"anthropic": "ANTHROPIC", "openai": "OPENAI"}
"""What stands before the colon of a model's name, and how its environment variables begin."""

REHEARSAL_MODEL: Final = "rehearsal"
DEFAULT_MAX_TURNS: Final = 25
LONGEST_DETAIL: Final = 120
LONGEST_REASON: Final = 500

_importing = threading.Lock()
_loaded = threading.Event()


def load() -> None:
    """Import what model agents need. Raises `MissingExtraError` when it is not installed."""
    with _importing:
        # pydantic-ai greets people on the terminal when its first agent runs, in the middle of our display.
        os.environ.setdefault("PYDANTIC_AI_NO_BANNER", "1")
        try:
            import pydantic_ai.models.openai  # noqa: F401
        except ImportError as error:
            raise MissingExtraError(
                f"agents that are language models need a package that is missing: {error}",
                hint="install it with: pip install 'fanfold[llm]'",
            ) from error
        _loaded.set()


class ModelBackend:
    """Runs an agent as a conversation with its model, which may use the agent's tools."""

    async def prepare(self) -> None:
        """Import what it takes, in a thread."""
        if not _loaded.is_set():
            await asyncio.to_thread(load)

    async def run(self, call: Call) -> AsyncGenerator[Progress | Said | Answer, None]:
        """Each of the model's answers and each tool it calls, then what it said in the end."""
        choice = permitted(call.definition.tools, call.definition.disallowed_tools)
        if choice.unavailable:
            yield _unavailable(call, choice.unavailable)
        tools = 0
        async with _connection(call) as model:
            agent = _agent(call, model, choice.allowed)
            with _explained(call):
                async with agent.iter(call.prompt, usage_limits=_limits(call)) as steps:
                    async for step in steps:
                        async for piece in _pieces(call, step, steps.ctx):
                            yield piece
                        for event in _progress(call, step):
                            tools += isinstance(event, ToolCalled)
                            yield event
        if steps.result is None:
            raise ModelAnswerError(f"agent {call.definition.name!r} ended without an answer")
        yield _answer(call, steps.result, tools)


def check_name(name: str) -> tuple[str, str]:
    """The provider and the model of `provider:model`. Raises `UsageError` for anything else."""
    provider, colon, model = name.partition(":")
    if not colon or not model:
        raise UsageError(
            f"model {name!r} does not say whose it is",
            hint=f"name it as provider:model, with one of the providers {', '.join(PROVIDERS)}",
        )
    if provider not in PROVIDERS:
        raise UsageError(
            f"model {name!r} is of provider {provider!r}, which is not one of {', '.join(PROVIDERS)}"
            + did_you_mean(provider, PROVIDERS)
        )
    return provider, model


def check_key(name: str) -> None:
    """Raise `ModelKeyError` when the model's provider would be asked without any key."""
    provider, _ = check_name(name)
    prefix = PROVIDERS[provider]
    if not os.environ.get(f"{prefix}_API_KEY") and not os.environ.get(f"{prefix}_BASE_URL"):
        raise ModelKeyError(
            f"model {name!r} needs a key and there is none",
            hint=f"set {prefix}_API_KEY, or {prefix}_BASE_URL for a server of your own that asks for no key",
        )


def _agent(call: Call, model: Model, tools: tuple[str, ...]) -> Agent[object, str]:
    from pydantic_ai import Agent

    return Agent(
        model,
        name=call.definition.name,
        instructions=call.definition.prompt or None,
        tools=[_tool(call.workspace, name) for name in tools],
        retries=2,
    )


def _unavailable(call: Call, names: tuple[str, ...]) -> Noticed:
    text = f"agent {call.definition.name!r} asks for tools that it cannot have here: {', '.join(names)}"
    return Noticed(clock(), text, call.task)


def _tool(workspace: Workspace, name: str) -> Tool[object]:
    from pydantic_ai import ModelRetry, Tool

    method = getattr(workspace, name)

    @functools.wraps(method)
    def use(*args: Any, **kwargs: Any) -> str:
        try:
            text: str = method(*args, **kwargs)
        except WorkspaceError as error:  # the model is told, so that it can ask for something else
            raise ModelRetry(str(error)) from error
        return text

    return Tool(use, takes_ctx=False, name=name, description=TOOLS[name].description, max_retries=5)


def _limits(call: Call) -> Any:
    from pydantic_ai.usage import UsageLimits

    return UsageLimits(request_limit=call.definition.max_turns or DEFAULT_MAX_TURNS)


@asynccontextmanager
async def _connection(call: Call) -> AsyncIterator[Model]:
    """The call's model, with a connection to its provider that is closed afterwards."""
    if isinstance(call.model, str):
        provider, name = check_name(call.model)
        check_key(call.model)
        key = os.environ.get(f"{PROVIDERS[provider]}_API_KEY") or "none-needed"
        base_url = os.environ.get(f"{PROVIDERS[provider]}_BASE_URL")
    else:  # a server that stands in for a provider, such as the rehearsal's
        provider, name, key, base_url = "openai", REHEARSAL_MODEL, "none-needed", f"{call.model.url}/v1"
    make = _openai if provider == "openai" else _anthropic
    client, model = make(name, key, base_url, _who(call) if base_url and _is_loopback(base_url) else None)
    async with client:
        yield model


def _who(call: Call) -> dict[str, str]:
    """Headers that tell a server on this machine who is asking; no other server is told."""
    return {"x-fanfold-agent": call.definition.name, "x-fanfold-task": call.task}


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    return host in ("localhost", "::1") or host.startswith("127.")


def _transport(base_url: str | None) -> dict[str, Any]:
    """How a client connects. A proxy of the environment's is meant for the world outside, not for this machine."""
    plain = base_url is not None and urlsplit(base_url).scheme == "http"
    return {"trust_env": base_url is None or not _is_loopback(base_url), "verify": False if plain else _tls()}


@functools.cache
def _tls() -> ssl.SSLContext:
    """The certificates to trust, read once: reading them takes longer than a call, and holds up the event loop."""
    context = ssl.create_default_context()
    with contextlib.suppress(ImportError):
        import certifi

        context.load_verify_locations(certifi.where())
    return context


def _openai(name: str, key: str, base_url: str | None, headers: dict[str, str] | None) -> tuple[Any, Model]:
    from openai import AsyncOpenAI, DefaultAsyncHttpxClient
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers.openai import OpenAIProvider

    http = DefaultAsyncHttpxClient(**_transport(base_url))
    client = AsyncOpenAI(api_key=key, base_url=base_url, max_retries=0, default_headers=headers, http_client=http)
    return client, OpenAIChatModel(name, provider=OpenAIProvider(openai_client=client))


def _anthropic(name: str, key: str, base_url: str | None, headers: dict[str, str] | None) -> tuple[Any, Model]:
    from anthropic import AsyncAnthropic, DefaultAsyncHttpxClient
    from pydantic_ai.models.anthropic import AnthropicModel
    from pydantic_ai.providers.anthropic import AnthropicProvider

    http = DefaultAsyncHttpxClient(**_transport(base_url))
    client = AsyncAnthropic(api_key=key, base_url=base_url, max_retries=0, default_headers=headers, http_client=http)
    return client, AnthropicModel(name, provider=AnthropicProvider(anthropic_client=client))


async def _pieces(call: Call, step: Any, context: Any) -> AsyncGenerator[Said, None]:
    """What the model says in this step of the conversation, as it says it; nothing if nobody listens."""
    from pydantic_ai import Agent
    from pydantic_ai.messages import PartDeltaEvent, PartStartEvent, TextPart, TextPartDelta

    if not call.heard or not Agent.is_model_request_node(step):
        return
    message = uuid.uuid4().hex
    pieces: Any = step.stream(context)
    async with pieces as events:
        async for event in events:
            if isinstance(event, PartStartEvent) and isinstance(event.part, TextPart):
                text = event.part.content
            elif isinstance(event, PartDeltaEvent) and isinstance(event.delta, TextPartDelta):
                text = event.delta.content_delta
            else:
                continue
            if text:
                yield Said(text, message)


def _progress(call: Call, step: Any) -> Iterator[Progress]:
    """What one step of the conversation tells: the model's answer, and the tools it asks for."""
    response = getattr(step, "model_response", None)
    if response is None:
        return
    usage = response.usage
    yield ModelAnswered(
        clock(), call.task, response.model_name or "", usage.input_tokens or 0, usage.output_tokens or 0
    )
    for part in response.tool_calls:
        yield ToolCalled(clock(), call.task, part.tool_name, _shortened(part.args_as_json_str(), LONGEST_DETAIL))


def _answer(call: Call, result: Any, tools: int) -> Answer:
    messages = json.loads(result.all_messages_json())
    usage = result.usage
    return Answer(
        output=result.output,
        model=_name(call.model),
        usage={
            "input_tokens": usage.input_tokens or 0,
            "output_tokens": usage.output_tokens or 0,
            "requests": usage.requests,
        },
        cost_usd=None if isinstance(call.model, str) else 0.0,
        tool_uses=tools,
        transcript=tuple(messages),
    )


def _shortened(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[: longest - 4] + " ..."


@contextmanager
def _explained(call: Call) -> Iterator[None]:
    """Turn the vendor's errors into ours: what happened, to which agent, and what to do."""
    from pydantic_ai import exceptions as vendor

    who = f"agent {call.definition.name!r} asked model {_name(call.model)!r}"
    try:
        yield
    except vendor.ModelHTTPError as error:
        raise _refusal(who, call, error.status_code, _said(error.body)) from error
    except vendor.UsageLimitExceeded as error:
        raise AgentError(f"{who} and was stopped: {error}", hint="raise maxTurns in the agent's file") from error
    except vendor.ModelAPIError as error:
        raise ModelUnavailableError(
            f"{who}, and its server cannot be reached: {error}",
            hint=f"is it running, and is {_address_variable(call)} right?",
        ) from error
    except vendor.AgentRunError as error:
        raise ModelAnswerError(f"{who}, and the answer cannot be used: {error}") from error


def _refusal(who: str, call: Call, status: int, said: str) -> ModelError:
    if status in (401, 403):
        return ModelKeyError(f"{who}, and the key was refused ({status})", hint=f"check {_key_variable(call)}")
    if status == 429:
        return ModelRateError(f"{who} too often ({status}){said}", hint="ask fewer at once: --max-concurrency")
    if status >= 500:
        return ModelUnavailableError(f"{who}, which failed on its own side ({status}){said}", hint="try again later")
    return ModelError(
        f"{who}, which refused the request ({status}){said}",
        hint="does the provider have a model of that name, and may this key use it?",
    )


def _said(body: object) -> str:
    """What the server said about it: the message inside the vendors' JSON, or what there is."""
    inner = body.get("error", body) if isinstance(body, dict) else body
    message = inner.get("message", inner) if isinstance(inner, dict) else inner
    return f": {_shortened(_masked(str(message)), LONGEST_REASON)}" if message else ""


def _masked(text: str) -> str:
    """The text without any key of ours: a server may repeat what it was sent."""
    for prefix in PROVIDERS.values():
        key = os.environ.get(f"{prefix}_API_KEY")
        text = text.replace(key, "***") if key else text
    return text


def _name(model: Any) -> str:
    return model if isinstance(model, str) else REHEARSAL_MODEL


def _prefix(call: Call) -> str:
    return PROVIDERS[check_name(call.model)[0]] if isinstance(call.model, str) else "the server's"


def _key_variable(call: Call) -> str:
    return f"{_prefix(call)}_API_KEY" if isinstance(call.model, str) else "the server's key"


def _address_variable(call: Call) -> str:
    return f"{_prefix(call)}_BASE_URL" if isinstance(call.model, str) else "its address"
