"""A run as OpenTelemetry knows it: spans and metrics, under the names of the GenAI conventions.

::

    invoke_workflow team                    the run: one sitting of it
    ├── node plan                           a node; links to the nodes whose end made it possible
    │   └── invoke_agent writer             an agent that it called
    │       ├── chat gpt-x                  a request to a model, from when it was made until it was answered
    │       ├── execute_tool read_file      a tool that it called
    │       └── chat gpt-x
    └── node end

`Telemetry` follows a run while it goes on: `graph.invoke(..., on_event=Telemetry())`. All that the run pays for it is
putting an event in a queue; a thread makes spans of them. `export` and `send` do the same with events that are stored,
with the times at which everything happened.

What was said never leaves the process unless `content=True` asks for it: neither the arguments of tools, nor labels,
nor the messages of errors. Prompts and answers are in no event, and so in no span.
"""

from __future__ import annotations

from fanfold.errors import MissingExtraError

try:
    import opentelemetry.trace as _needed  # noqa: F401 - so that whoever lacks it is told what to install
except ImportError:
    raise MissingExtraError(
        "spans and metrics need OpenTelemetry's packages", hint="pip install 'fanfold[otel]'"
    ) from None

from fanfold.otel.following import Telemetry
from fanfold.otel.sending import send
from fanfold.otel.spans import export

__all__ = ["Telemetry", "export", "send"]
