"""Runs as OpenTelemetry knows them, as they arrive at a receiver that speaks OTLP over HTTP."""

from __future__ import annotations

import ast
import asyncio
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypedDict

import pytest
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, PeriodicExportingMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from fanfold import START, StateGraph, Task, asking, python_agent
from fanfold.errors import ExportError, UsageError
from fanfold.events import (
    WITHOUT_A_CORE,
    ClockJumped,
    LoopHeld,
    ModelAsked,
    ModelLost,
    ModelRetried,
    Noticed,
    RunStarted,
    ThreadUsed,
    ToolAnswered,
    ToolCalled,
)
from fanfold.exports import conventions as names
from fanfold.otel import Telemetry, export, send
from tests.exports.receiver import Receiver, receiving
from tests.exports.runs import BEGAN, HOSTILE, crowd, everything
from tests.exports.test_trace import resumed


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as found:
        yield found


class State(TypedDict, total=False):
    out: list[str]


@python_agent("worker")
async def worker(prompt: str) -> str:
    async with asking("openai:gpt-x") as request:
        await asyncio.sleep(0)
        request.answered(input_tokens=40, output_tokens=5, usd=0.01)
    return f"the answer to {prompt}"


async def team(state: State) -> State:
    tasks = [Task(subagent_type="worker", prompt=f"secret {word}") for word in "abc"]
    return {"out": [str(answer) for answer in await asyncio.gather(*tasks)]}


async def last(state: State) -> State:
    return state


def graph() -> Any:
    built = StateGraph(State).add_node("team", team).add_node("last", last)
    return built.add_edge(START, "team").add_edge("team", "last").compile()


def close(*providers: Any) -> None:
    for provider in providers:
        provider.shutdown()


# After the fact


def test_the_spans_of_a_stored_run_have_the_times_at_which_things_happened(receiver: Receiver) -> None:
    assert send(everything(), receiver.url) == len(receiver.spans) == 10
    began = round(BEGAN * 1e9)
    run = receiver.named("invoke_workflow team")
    assert (run.start, run.end) == (began, pytest.approx(began + 2.5e9, abs=1e3))
    writer = receiver.named("invoke_agent writer")
    assert [writer.start - began, writer.end - began] == pytest.approx([0.2e9, 2.0e9], abs=1e3)
    chats = sorted((span.start - began, span.end - began) for span in receiver.spans if span.name == "chat gpt-x")
    assert chats == [pytest.approx(pair, abs=1e3) for pair in [(0.8e9, 0.9e9), (1.1e9, 1.5e9), (1.6e9, 1.9e9)]]


def test_a_span_lies_under_what_called_it_and_links_to_what_it_follows(receiver: Receiver) -> None:
    send(everything(), receiver.url)
    run, plan, side = (receiver.named(name) for name in ("invoke_workflow team", "node plan", "node side"))
    assert run.parent == b""
    assert plan.parent == side.parent == receiver.named("node end").parent == run.id
    writer = receiver.named("invoke_agent writer")
    assert writer.parent == plan.id
    inside = [span for span in receiver.spans if span.name.startswith(("chat", "execute_tool"))]
    assert {span.parent for span in inside} == {writer.id}
    assert receiver.named("node end").links == [plan.id, side.id]
    assert {span.trace for span in receiver.spans} == {run.trace}


def test_the_names_are_those_of_the_conventions(receiver: Receiver) -> None:
    send(everything(), receiver.url)
    run = receiver.named("invoke_workflow team").attributes
    assert (run["gen_ai.operation.name"], run["gen_ai.workflow.name"]) == ("invoke_workflow", "team")
    writer = receiver.named("invoke_agent writer").attributes
    assert (writer["gen_ai.operation.name"], writer["gen_ai.agent.name"]) == ("invoke_agent", "writer")
    assert (writer["gen_ai.conversation.id"], writer["gen_ai.usage.input_tokens"]) == ("t1", 900)
    chat = next(span for span in receiver.spans if "gen_ai.usage.output_tokens" in span.attributes)
    assert chat.kind == 3  # a client
    assert chat.attributes["gen_ai.provider.name"] == "openai"
    assert chat.attributes["gen_ai.request.model"] == "gpt-x"
    tool = receiver.named("execute_tool read_file")
    assert (tool.attributes["gen_ai.operation.name"], tool.attributes["gen_ai.tool.name"]) == (
        "execute_tool",
        "read_file",
    )
    assert receiver.schemas == {names.SCHEMA}
    assert receiver.resources[0]["service.name"] == "fanfold"


def test_our_names_are_those_of_the_installed_conventions() -> None:
    from opentelemetry.semconv._incubating.attributes import code_attributes, error_attributes, gen_ai_attributes
    from opentelemetry.semconv._incubating.metrics import gen_ai_metrics

    known: set[str] = set()
    for module in (code_attributes, error_attributes, gen_ai_attributes, gen_ai_metrics):
        assert module.__file__ is not None
        for node in ast.walk(ast.parse(Path(module.__file__).read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                known.add(node.value)
    ours = {value for name, value in vars(names).items() if name.isupper() and isinstance(value, str)}
    ours -= {value for value in ours if value.startswith("fanfold.")} | {names.SCHEMA}
    assert ours - known == {"input", "output"} - known


def test_waits_and_blocks_are_told_where_they_were(receiver: Receiver) -> None:
    send(everything(), receiver.url)
    side = receiver.named("node side")
    assert side.attributes["fanfold.blocked_ms"] == pytest.approx(400)
    assert "held the event loop" in [name for name, _, _ in side.events]
    critic = receiver.named("invoke_agent critic")
    assert critic.attributes["fanfold.waited_ms"] == pytest.approx(500)
    assert ("started", "limit 2") in [(name, about.get("fanfold.waited_for")) for name, _, about in critic.events]
    assert receiver.named("invoke_workflow team").attributes["fanfold.verdict"] == "PARTLY SERIAL"


def test_what_was_said_is_sent_only_when_asked_for(receiver: Receiver) -> None:
    said = [HOSTILE[:20].encode(), b"secret.txt", b"the first", b"429 Too Many Requests"]
    send([*everything()[:-1], Noticed(102.4, "the first"), everything()[-1]], receiver.url)
    told = b"".join(receiver.bodies)
    assert [text for text in said if text in told] == []
    critic = receiver.named("invoke_agent critic")
    assert (critic.failed, critic.attributes["error.type"], critic.message) == (True, "ValueError", "ValueError")
    send(everything(), receiver.url, content=True)
    told = b"".join(receiver.bodies)
    assert [text for text in said if text in told] == said


def test_what_is_sent_twice_is_the_same_spans(receiver: Receiver) -> None:
    send(everything(), receiver.url)
    first = {span.id: span for span in receiver.spans}
    receiver.spans.clear()
    send(everything(), receiver.url)
    assert {span.id: span for span in receiver.spans} == first


def test_a_large_run_arrives_whole(receiver: Receiver) -> None:
    events = crowd(2_000)
    sent = send(events, receiver.url)
    assert sent == len({span.id for span in receiver.spans}) == 1 + 2_000 + 400
    assert len(receiver.bodies) == -(-sent // 512)


def test_each_sitting_is_a_trace_that_links_to_the_one_before(receiver: Receiver) -> None:
    send(resumed(), receiver.url)
    first, second = sorted(
        (span for span in receiver.spans if span.name == "invoke_workflow g"), key=lambda span: span.start
    )
    assert (first.start, first.end) == (round(1e18), round(1e18 + 1e9))
    assert (first.attributes["fanfold.status"], second.attributes["fanfold.status"]) == ("lost", "done")
    assert second.links == [first.id]
    assert first.trace != second.trace
    lost = [span for span in receiver.spans if span.name == "node b" and span.parent == first.id]
    assert [span.attributes["fanfold.status"] for span in lost] == ["lost"]


def test_a_run_that_goes_on_ends_for_now_where_its_events_do(receiver: Receiver) -> None:
    send(everything()[:10], receiver.url)
    run = receiver.named("invoke_workflow team")
    assert run.attributes["fanfold.status"] == "running"
    assert run.end - run.start == pytest.approx(0.6e9, abs=1e3)


def test_a_receiver_that_refuses_is_an_error_that_says_so(receiver: Receiver) -> None:
    receiver.refuses = 400
    with pytest.raises(ExportError, match=f"cannot send to {receiver.url}: .*400"):
        send(everything(), receiver.url)
    with pytest.raises(UsageError, match="no URL"):
        send(everything(), "collector:4318")


def test_a_tool_ends_where_it_answered_and_where_nobody_told_it_has_no_length(receiver: Receiver) -> None:
    begun = everything()[:19]
    calls = [ToolCalled(101.5, "a", "find"), ToolAnswered(101.55, "a", "find", 0.05), ToolCalled(101.7, "a", "late")]
    send([*begun, *calls, *everything()[22:24]], receiver.url)
    told = {
        span.attributes["gen_ai.tool.name"]: (span.attributes["fanfold.tool.until"], span.end - span.start)
        for span in receiver.spans
        if span.name.startswith("execute_tool")
    }
    assert told == {"find": ("answer", pytest.approx(0.05e9, abs=1e3)), "late": ("unknown", 0)}


def test_a_request_that_nobody_answered_is_one_span_that_failed(receiver: Receiver) -> None:
    lost = [
        ModelAsked(100.3, "b", "own:x"),
        ModelLost(100.5, "b", "own:x"),
        ModelRetried(100.5, "b", "own:x", "503", 1),
    ]
    send([*everything()[:8], *lost, *everything()[8:]], receiver.url)
    chat = receiver.named("chat x")
    assert (chat.failed, chat.end - chat.start) == (True, pytest.approx(0.2e9, abs=1e3))


def test_cores_that_a_task_used_and_jumps_of_the_clock_are_told(receiver: Receiver) -> None:
    seen = [ThreadUsed(102.3, "end", 0.1, 0.08), ClockJumped(102.3, 0.05)]
    send([*everything()[:-4], *seen, *everything()[-4:]], receiver.url)
    assert receiver.named("node end").attributes["fanfold.cpu_ms"] == pytest.approx(80)
    events = receiver.named("invoke_workflow team").events
    assert ("clock jumped", 0.05) in [(name, about.get("fanfold.seconds")) for name, _, about in events]


def test_what_others_had_the_cores_for_is_no_block_of_the_loop(receiver: Receiver) -> None:
    waits = LoopHeld(102.3, "end", 0.1, function=WITHOUT_A_CORE)
    send([*everything()[:-4], waits, *everything()[-4:]], receiver.url)
    node = receiver.named("node end")
    assert node.attributes["fanfold.blocked_ms"] == 0
    assert ("waited for a core", 0.1) in [(name, about.get("fanfold.seconds")) for name, _, about in node.events]


def test_models_have_the_names_of_their_providers() -> None:
    told = {model: names.model_parts(model) for model in ("anthropic:c", "google-gla:g", "openai-responses:o", "own")}
    assert told == {
        "anthropic:c": ("anthropic", "c"),
        "google-gla:g": ("gcp.gemini", "g"),
        "openai-responses:o": ("openai", "o"),
        "own": ("_OTHER", "own"),
    }


# While a run goes on


def test_a_run_is_followed_live_with_spans_and_metrics(receiver: Receiver) -> None:
    tracers, meters = (
        TracerProvider(),
        MeterProvider([PeriodicExportingMetricReader(OTLPMetricExporter(f"{receiver.url}/v1/metrics"), 3_600_000)]),
    )
    tracers.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(f"{receiver.url}/v1/traces")))
    before = time.time_ns()
    with Telemetry(tracer_provider=tracers, meter_provider=meters) as telemetry:
        graph().invoke({"out": []}, agents=[worker], on_event=telemetry)
    after = time.time_ns()
    close(tracers, meters)
    run = receiver.named("invoke_workflow graph")
    assert before - 1e6 <= run.start <= run.end <= after + 1e6
    node = receiver.named("node team")
    agents = [span for span in receiver.spans if span.name == "invoke_agent worker"]
    assert {span.parent for span in agents} == {node.id}
    assert {span.parent for span in receiver.spans if span.name == "chat gpt-x"} == {span.id for span in agents}
    assert receiver.named("node last").links == [node.id]
    assert b"secret" not in b"".join(receiver.bodies)
    assert b"the answer to" not in b"".join(receiver.bodies)
    tokens = receiver.points["gen_ai.client.token.usage"]
    assert {dict_of(point)["gen_ai.token.type"]: point.sum for point in tokens} == {"input": 120, "output": 15}
    operations = {
        dict_of(point)["gen_ai.operation.name"] for point in receiver.points["gen_ai.client.operation.duration"]
    }
    assert operations == {"chat", "invoke_agent"}
    assert [point.as_int for point in receiver.points["fanfold.run.concurrency"]] == [0]
    assert [point.max for point in receiver.points["fanfold.run.peak_concurrency"]] == [3]


def dict_of(point: Any) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in point.attributes}


def test_the_span_of_a_run_is_a_child_of_the_one_around_it(receiver: Receiver) -> None:
    tracers = TracerProvider()
    tracers.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(f"{receiver.url}/v1/traces")))
    tracer = tracers.get_tracer("test")
    with tracer.start_as_current_span("request") as around, Telemetry(tracer_provider=tracers) as telemetry:
        graph().invoke({"out": []}, agents=[worker], on_event=telemetry)
    close(tracers)
    run = receiver.named("invoke_workflow graph")
    assert run.parent == around.get_span_context().span_id.to_bytes(8, "big")


class Slow(SpanExporter):
    """Whoever exports through it waits until it is let go."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.threads: set[int] = set()

    def export(self, spans: Any) -> SpanExportResult:
        self.threads.add(threading.get_ident())
        assert self.go.wait(30)
        return SpanExportResult.SUCCESS


def test_an_exporter_that_waits_holds_up_no_run() -> None:
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor

    slow, tracers = Slow(), TracerProvider()
    tracers.add_span_processor(SimpleSpanProcessor(slow))
    telemetry = Telemetry(tracer_provider=tracers)
    done = graph().invoke({"out": []}, agents=[worker], on_event=telemetry)  # would never end if it waited
    assert len(done["out"]) == 3
    slow.go.set()
    assert telemetry.flush()
    assert threading.get_ident() not in slow.threads
    close(tracers)


def test_a_telemetry_that_breaks_is_removed_and_named_and_the_run_goes_on() -> None:
    class Broken(TracerProvider):
        def get_tracer(self, *args: Any, **options: Any) -> Any:
            return None

    telemetry = Telemetry(tracer_provider=Broken())
    telemetry(RunStarted(0.0, "r", "t", "g", 1e9))
    assert telemetry.flush()
    done = graph().invoke({"out": []}, agents=[worker], on_event=telemetry)
    notices = [event.message for event in done.run.events if isinstance(event, Noticed)]
    assert len(notices) == 1
    assert "subscriber Telemetry raised AttributeError" in notices[0]


def test_no_thread_is_left_of_a_run_that_is_over() -> None:
    telemetry = Telemetry(tracer_provider=TracerProvider())
    graph().invoke({"out": []}, agents=[worker], on_event=telemetry)
    for thread in threading.enumerate():
        if thread.name == "fanfold-telemetry":
            thread.join(30)
            assert not thread.is_alive()
    graph().invoke({"out": []}, agents=[worker], on_event=telemetry)  # and it follows the next one
    assert telemetry.flush()


def test_metrics_of_a_stored_run_are_counted_only_where_they_are_asked_for() -> None:
    reader, tracers = InMemoryMetricReader(), TracerProvider()
    meters = MeterProvider([reader])
    export(everything(), tracer_provider=tracers)
    assert reader.get_metrics_data() is None
    export(everything(), tracer_provider=tracers, meter_provider=meters)
    data = reader.get_metrics_data()
    assert data is not None
    found = {metric.name for metric in data.resource_metrics[0].scope_metrics[0].metrics}
    assert {"fanfold.loop.held", "fanfold.task.wait", "fanfold.run.speedup"} <= found
    close(meters, tracers)


def test_a_process_that_ends_waits_for_what_is_still_to_be_told(receiver: Receiver, tmp_path: Path) -> None:
    program = f"""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from fanfold.otel import Telemetry
    from tests.exports.runs import crowd

    tracers = TracerProvider()
    tracers.add_span_processor(BatchSpanProcessor(OTLPSpanExporter("{receiver.url}/v1/traces")))
    telemetry = Telemetry(tracer_provider=tracers)
    for event in crowd(500):
        telemetry(event)
    """
    file = tmp_path / "program.py"
    file.write_text(textwrap.dedent(program))
    done = subprocess.run([sys.executable, "-c", file.read_text()], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert len(receiver.spans) == 1 + 500 + 100


def test_without_opentelemetry_the_error_says_what_to_install() -> None:
    program = "import sys; sys.modules['opentelemetry'] = None; import fanfold.otel"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert "pip install 'fanfold[otel]'" in done.stderr
