"""The names under which OpenTelemetry knows what agents do, in one place, since they move.

Those of `gen_ai` are the GenAI conventions as they stood in semantic conventions 1.41.0 (status: development; they are
kept in the repository `open-telemetry/semantic-conventions-genai` since). Whoever brings them up to date changes this
module, `SCHEMA` and the changelog, and nothing else: a test compares them with the packages of OpenTelemetry that are
installed. Those of `fanfold` are ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

SCHEMA: Final = "https://opentelemetry.io/schemas/1.41.0"

OPERATION: Final = "gen_ai.operation.name"
PROVIDER: Final = "gen_ai.provider.name"
WORKFLOW_NAME: Final = "gen_ai.workflow.name"
CONVERSATION: Final = "gen_ai.conversation.id"
AGENT_NAME: Final = "gen_ai.agent.name"
AGENT_DESCRIPTION: Final = "gen_ai.agent.description"
REQUEST_MODEL: Final = "gen_ai.request.model"
RESPONSE_MODEL: Final = "gen_ai.response.model"
INPUT_TOKENS: Final = "gen_ai.usage.input_tokens"
OUTPUT_TOKENS: Final = "gen_ai.usage.output_tokens"
TOKEN_TYPE: Final = "gen_ai.token.type"  # noqa: S105 - of a model, not a secret
TOOL_NAME: Final = "gen_ai.tool.name"
TOOL_ARGUMENTS: Final = "gen_ai.tool.call.arguments"
ERROR_TYPE: Final = "error.type"
CODE_FILE: Final = "code.file.path"
CODE_LINE: Final = "code.line.number"
CODE_FUNCTION: Final = "code.function.name"

INVOKE_WORKFLOW: Final = "invoke_workflow"
INVOKE_AGENT: Final = "invoke_agent"
EXECUTE_TOOL: Final = "execute_tool"
CHAT: Final = "chat"
INPUT: Final = "input"
OUTPUT: Final = "output"
OTHER: Final = "_OTHER"

TOKEN_USAGE: Final = "gen_ai.client.token.usage"  # noqa: S105 - as above
OPERATION_DURATION: Final = "gen_ai.client.operation.duration"
TOKEN_BUCKETS: Final = tuple(4**power for power in range(14))
DURATION_BUCKETS: Final = tuple(0.01 * 2**power for power in range(14))
"""Those that the conventions ask for."""

RUN_ID: Final = "fanfold.run_id"
TASK_ID: Final = "fanfold.task_id"
NODE: Final = "fanfold.node"
LABEL: Final = "fanfold.label"
STEP: Final = "fanfold.step"
STATUS: Final = "fanfold.status"
RESUMED: Final = "fanfold.resumed"
ATTEMPT: Final = "fanfold.attempt"
LIMIT: Final = "fanfold.limit"
PEAK: Final = "fanfold.peak"
VERDICT: Final = "fanfold.verdict"
SPEEDUP: Final = "fanfold.speedup"
WORK: Final = "fanfold.work_ms"
SPAN: Final = "fanfold.span_ms"
WAITED: Final = "fanfold.waited_ms"
BLOCKED: Final = "fanfold.blocked_ms"
CPU: Final = "fanfold.cpu_ms"
WAITED_FOR: Final = "fanfold.waited_for"
SECONDS: Final = "fanfold.seconds"
COST: Final = "fanfold.cost_usd"
ERROR: Final = "fanfold.error"
MESSAGE: Final = "fanfold.message"
GRAPH: Final = "fanfold.graph"
UNTIL: Final = "fanfold.tool.until"
"""What the end of a tool's span is: its `answer`, its agent's `next_request`, or `unknown`; then it has no length."""

RUN_DURATION: Final = "fanfold.run.duration"
RUN_CONCURRENCY: Final = "fanfold.run.concurrency"
RUN_PEAK: Final = "fanfold.run.peak_concurrency"
RUN_SPEEDUP: Final = "fanfold.run.speedup"
TASK_WAIT: Final = "fanfold.task.wait"
LOOP_HELD: Final = "fanfold.loop.held"

_PROVIDERS: Final[Mapping[str, str]] = {
    "openai-chat": "openai",
    "openai-responses": "openai",
    "azure": "azure.ai.openai",
    "bedrock": "aws.bedrock",
    "google": "gcp.gemini",
    "google-gla": "gcp.gemini",
    "google-vertex": "gcp.vertex_ai",
    "grok": "x_ai",
    "mistral": "mistral_ai",
}


def model_parts(model: str) -> tuple[str, str]:
    """Who provides a model and what it is called there, of a name such as `openai:gpt-x`."""
    provider, colon, name = model.partition(":")
    return (_PROVIDERS.get(provider, provider), name) if colon else (OTHER, model)
