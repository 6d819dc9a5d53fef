"""What a terminal shows of a run is what its events say, and nothing that an agent wrote can steer it."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable
from dataclasses import fields
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from fanfold import live
from fanfold.events import (
    KINDS,
    WITHOUT_A_CORE,
    Event,
    LoopHeld,
    ModelAnswered,
    Noticed,
    RunFinished,
    RunStarted,
    StepFinished,
    TaskCancelled,
    TaskContinued,
    TaskFailed,
    TaskFinished,
    TaskPaused,
    TaskQueued,
    TaskRemembered,
    TaskStarted,
    ToolCalled,
)
from fanfold.live import Board, LiveView, PlainView, Row, Span, clean, view_for

ANSI = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")


def started(limit: int | None = 4, at: float = 100.0) -> RunStarted:
    return RunStarted(at, "7f3a", "t-42", "team", 1.0, limit)


def node(at: float, task: str, name: str = "", after: tuple[str, ...] = ()) -> TaskQueued:
    return TaskQueued(at, task, name or task, 1, "node", after)


def agent(at: float, task: str, name: str, parent: str, label: str = "") -> TaskQueued:
    return TaskQueued(at, task, name, 1, "agent", (), parent, label)


def board(*events: Event) -> Board:
    made = Board()
    for event in events:
        made.apply(event)
    return made


def the_row(made: Board, now: float = 105.0) -> Row:
    (row,) = made.rows(now)
    return row


TEAM: tuple[Event, ...] = (
    started(),
    node(100.0, "q", "questioner"),
    TaskStarted(100.0, "q"),
    ModelAnswered(100.3, "q", "m", 812, 110),
    TaskFinished(100.4, "q"),
    StepFinished(100.4, 1),
    node(100.4, "n1"),
    TaskStarted(100.4, "n1"),
    agent(100.5, "a1", "sydney-research", "n1"),
    TaskPaused(100.5, "n1"),
    TaskStarted(100.6, "a1"),
    ToolCalled(100.7, "a1", "grep"),
    node(100.4, "bad"),
    TaskStarted(100.4, "bad", 1, "limit 4"),
    TaskFailed(101.0, "bad", "ValueError: no such file"),
    node(101.0, "s", "synthesizer", ("n1",)),
)
END: tuple[Event, ...] = (
    TaskFinished(101.5, "a1"),
    TaskContinued(101.5, "n1"),
    TaskFinished(102.0, "n1"),
    TaskCancelled(102.0, "s"),
    RunFinished(102.0, "failed", "ValueError: no such file", 2),
)


# -- the board -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("events", "state", "elapsed"),
    [
        ((), "queued", 0.0),
        ((TaskStarted(101, "t"),), "running", 4.0),
        ((TaskStarted(101, "t"), TaskPaused(102, "t")), "paused", 4.0),
        ((TaskStarted(101, "t"), TaskPaused(102, "t"), TaskContinued(103, "t")), "running", 4.0),
        ((TaskStarted(101, "t"), TaskFinished(103, "t")), "done", 2.0),
        ((TaskStarted(101, "t"), TaskFailed(103, "t", "E")), "failed", 2.0),
        ((TaskStarted(101, "t"), TaskCancelled(103, "t")), "cancelled", 2.0),
        ((TaskRemembered(101, "t"),), "remembered", 0.0),
        ((TaskStarted(101, "t"), TaskFailed(102, "t", "E"), TaskStarted(103, "t", 2)), "running", 4.0),
    ],
)
def test_a_row_has_the_state_and_the_time_that_its_events_say(
    events: tuple[Event, ...], state: str, elapsed: float
) -> None:
    row = the_row(board(started(), node(100, "t"), *events))
    assert (row.state, row.elapsed) == (state, elapsed)


def test_a_row_counts_tokens_and_tools() -> None:
    calls = [ModelAnswered(101, "t", "m", 10, 3), ModelAnswered(102, "t", "m", 5, 2), ToolCalled(102, "t", "grep")]
    row = the_row(board(started(), node(100, "t"), TaskStarted(100, "t"), *calls))
    assert (row.input_tokens, row.output_tokens, row.tools) == (15, 5, 1)


def test_a_row_keeps_its_stretches_of_running_and_of_waiting() -> None:
    row = the_row(
        board(started(), node(100, "t"), TaskStarted(101, "t"), TaskPaused(102, "t"), TaskContinued(104, "t"))
    )
    assert row.spans == (Span(101, 102, "running"), Span(102, 104, "paused"), Span(104, 105, "running"))


def test_a_queued_task_waits_for_the_tasks_before_it_then_for_the_limit() -> None:
    made = board(started(1), node(100, "a"), TaskStarted(100, "a"), node(100, "b", after=("a", "x")))
    assert made.rows(101)[1].waits_for == "a"
    made.apply(node(100, "c"))
    assert made.rows(101)[2].waits_for == "limit 1"
    made.apply(TaskFinished(101, "a"))
    assert [row.waits_for for row in made.rows(101)] == ["", "", ""]


def test_a_paused_task_waits_for_its_unfinished_children() -> None:
    made = board(
        started(),
        node(100, "n"),
        TaskStarted(100, "n"),
        agent(100, "a", "x", "n"),
        agent(100, "b", "y", "n"),
        TaskPaused(100, "n"),
        TaskFinished(101, "a"),
    )
    assert [(row.name, row.depth, row.waits_for) for row in made.rows(102)] == [
        ("n", 0, "y"),
        ("x", 1, ""),
        ("y", 1, ""),
    ]


def test_an_only_agent_takes_the_place_of_its_node() -> None:
    row = board(*TEAM).rows(101.2)[1]
    assert (row.name, row.state, row.depth, row.tools) == ("sydney-research", "running", 0, 1)
    assert row.elapsed == pytest.approx(0.8)


def test_a_node_that_goes_on_after_its_only_agent_is_still_running() -> None:
    made = board(*TEAM, *END[:2])
    assert made.rows(101.8)[1].state == "running"
    made.apply(TaskFailed(101.9, "n1", "KeyError: 'x'"))
    row = made.rows(103)[1]
    assert (row.name, row.state, row.error) == ("sydney-research", "failed", "KeyError: 'x'")


def test_a_second_agent_brings_the_node_s_row_back() -> None:
    made = board(*TEAM, agent(101, "a2", "perth", "n1"), agent(101, "deep", "deeper", "a2"))
    assert [(row.name, row.depth) for row in made.rows(102)][1:5] == [
        ("n1", 0),
        ("sydney-research", 1),
        ("perth", 1),
        ("deeper", 2),
    ]


def test_a_new_sitting_begins_with_an_empty_board() -> None:
    made = board(*TEAM, started(at=5.0), node(5.0, "q"), TaskRemembered(5.0, "q"))
    assert [row.state for row in made.rows(6.0)] == ["remembered"]


def test_after_the_end_the_clock_stands_still() -> None:
    made = board(started(), node(100, "t"), TaskStarted(100, "t"), RunFinished(101, "cancelled"))
    assert the_row(made, now=500).elapsed == 1.0


def test_a_view_that_came_late_shows_what_it_hears_of() -> None:
    assert the_row(board(TaskStarted(100, "t"), ToolCalled(101, "t", "grep"))).name == "t"


def test_the_peak_is_the_limiter_s_when_it_said_one() -> None:
    two = (started(), node(100, "a"), node(100, "b"), TaskStarted(100, "a"), TaskStarted(100, "b"))
    assert board(*two).peak == 2
    assert board(*two, RunFinished(101, "done", "", 3)).peak == 3


def test_time_spent_waiting_for_children_is_no_work() -> None:
    assert board(*TEAM, *END).work(200) == pytest.approx(0.4 + 0.6 + 0.1 + 0.9 + 0.5)


names = st.sampled_from(["a", "b", "c", "d"])
times = st.floats(0, 100)
some_events: st.SearchStrategy[Event] = st.one_of(
    st.builds(TaskQueued, times, names, st.text(max_size=8), st.just(1), st.sampled_from(["node", "agent"]),
              st.lists(names, max_size=2).map(tuple), st.none() | names, st.text(max_size=4)),
    *(st.builds(cls, times, names) for cls in (TaskStarted, TaskPaused, TaskContinued, TaskFinished, TaskRemembered)),
    st.builds(TaskCancelled, times, names),
    st.builds(TaskFailed, times, names, st.text(max_size=20)),
    st.builds(ModelAnswered, times, names, st.just("m"), st.integers(0, 10**7), st.integers(0, 10**7)),
    st.builds(ToolCalled, times, names, st.just("grep")),
    st.builds(RunStarted, times, st.just("r"), st.text(max_size=5), st.just("g"), st.just(0.0), st.none() | st.just(2)),
    st.builds(RunFinished, times, st.sampled_from(["done", "failed", "cancelled", "odd"]), st.text(max_size=5)),
    st.builds(Noticed, times, st.text(max_size=5)),
)  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(st.lists(some_events, max_size=25), times, st.integers(1, 120), st.integers(1, 20), st.booleans())
def test_whatever_is_heard_a_frame_fits_into_its_window(
    events: list[Event], now: float, width: int, height: int, utf: bool
) -> None:
    made = board(*events)
    rows = made.rows(now)
    assert len(rows) <= made.counts().total()
    assert all(row.elapsed >= 0 for row in rows)
    assert made.running == made.counts()["running"]
    lines = live._Frame(made, now, (width, height), live._UNICODE if utf else live._ASCII).lines()
    assert len(lines) <= max(height, 4)
    for line in lines:
        assert cell_len(line.plain) <= max(1, width - 1)
        assert clean(line.plain) == line.plain
        assert "\n" not in line.plain
        assert utf or line.plain.isascii()


# -- frames --------------------------------------------------------------------------------------------------------


def frame(events: Iterable[Event], now: float = 101.2, width: int = 110, height: int = 20) -> list[str]:
    return [line.plain for line in live._Frame(board(*events), now, (width, height), live._UNICODE).lines()]


def test_a_frame_shows_running_first_then_failed_then_waiting_then_done() -> None:
    lines = frame(TEAM)
    assert lines[0].split() == ["team", "·", "run", "7f3a", "·", "thread", "t-42", "step", "1", "00:01.2"]
    assert [line.split()[:3] for line in lines[1:5]] == [
        ["●", "running", "sydney-research"],
        ["✖", "failed", "bad"],
        ["◌", "waits", "synthesizer"],
        ["✔", "done", "questioner"],
    ]
    assert "0.80s" in lines[1]
    assert "1 tool" in lines[1]
    assert lines[2].endswith("ValueError: no such file")
    assert lines[3].rstrip().endswith("for sydney-research") or lines[3].rstrip().endswith("for n1")
    assert "812/110 tok" in lines[4]
    assert lines[5] == " running 1 · peak 2 · limit 4 · waiting 1 · 922 tok"


def test_bars_stand_on_one_time_axis() -> None:
    first, second = Span(0, 4, "running"), Span(4, 10, "running")
    assert live.bar([first], 0, 10, 10) == "████      "
    assert live.bar([second], 0, 10, 10) == "    ██████"


@pytest.mark.parametrize(
    ("spans", "drawn"),
    [
        ([Span(0, 1.5, "running")], "█▌    "),
        ([Span(1.5, 4.25, "running")], " ▐██▎ "),
        ([Span(6, 6, "running")], "     ▐"),
        ([Span(0, 0, "running")], "▏     "),
        ([Span(0, 1, "running"), Span(1, 3, "paused"), Span(3, 6, "running")], "█░░███"),
        ([], "      "),
    ],
)
def test_a_bar_is_drawn_to_an_eighth_of_a_cell_and_never_vanishes(spans: list[Span], drawn: str) -> None:
    assert live.bar(spans, 0, 6, 6) == drawn


def many(count: int) -> list[Event]:
    events: list[Event] = [started(None)]
    for number in range(count):
        events += [
            node(100, f"d{number}"),
            TaskStarted(100, f"d{number}"),
            TaskFinished(100 + number / 100, f"d{number}"),
        ]
    return events


def test_finished_rows_fold_and_the_last_to_finish_stay_longest() -> None:
    extra = [node(101, "r"), TaskStarted(101, "r"), node(101, "f"), TaskFailed(101, "f", "E"), node(101, "w")]
    lines = frame([*many(14), *extra], height=9)
    assert [line.split()[2] for line in lines[1:6]] == ["r", "f", "w", "d12", "d13"]
    assert lines[6] == "   +12 done"
    assert len(lines) <= 9


def test_failures_stay_when_even_the_running_do_not_fit() -> None:
    events = [started(None)]
    for number in range(30):
        events += [node(100, f"r{number}"), TaskStarted(100, f"r{number}")]
    events += [node(100, "f"), TaskFailed(101, "f", "E")]
    lines = frame(events, height=8)
    assert any("failed" in line for line in lines)
    assert lines[-2] == "   +27 running"


def test_a_narrow_window_gives_up_figures_and_keeps_state_and_name() -> None:
    for line in frame(TEAM, width=40)[1:5]:
        assert re.match(r" [●✖◌✔] (running|failed|waits|done) ", line)
        assert "tok" not in line


def test_the_last_line_says_how_many_how_long_and_how_that_compares() -> None:
    assert frame([*TEAM, *END], width=130)[-1] == (
        "✖ failed · 1 agent in 2.00 s · agent time 2.50 s · 1.25x faster than one by one · peak 2"
        " · ValueError: no such file"
    )


def test_a_label_tells_agents_of_one_name_apart() -> None:
    assert "scout · north" in frame([started(), node(100, "n"), agent(100, "a", "scout", "n", "north")])[1]


def test_wide_letters_do_not_move_the_columns() -> None:
    wide = [started(), node(100, "t", "研究員"), TaskStarted(100, "t"), node(100, "u", "plain"), TaskStarted(100, "u")]
    first, second = frame(wide)[1:3]
    assert cell_len(first[: first.index("1.20s")]) == cell_len(second[: second.index("1.20s")])


# -- what agents wrote -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("plain\ttext\n", "plain\ttext\n"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b[2J\x1b[1;1Hgone", "gone"),
        ("\x1b]0;title\x07after", "after"),
        ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1bP payload \x1b\\after", "after"),
        ("\x1b]never ended", "never ended"),
        ("\x9b31mred", "red"),
        ("\x9d0;title\x9cafter", "after"),
        ("\x1bcreset", "reset"),
        ("a\x00b\x07c\x08d\x7fe\x85f\rg", "abcdefg"),
        ("user\u202etxt.exe\u202c\u2066x\u2069", "usertxt.exex"),
        ("\ud800", "\N{REPLACEMENT CHARACTER}"),
        ("ünïcödé 研 ✔", "ünïcödé 研 ✔"),
        ("\x1b\x1b[31m", ""),
    ],
)
def test_clean_takes_out_what_a_terminal_would_obey(text: str, left: str) -> None:
    assert clean(text) == left


@given(st.text(st.characters() | st.sampled_from("\x1b[]m0;\x07\\\x9b")))
def test_cleaning_again_changes_nothing_and_no_control_is_left(text: str) -> None:
    once = clean(text)
    assert clean(once) == once
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]", once)
    once.encode()


HOSTILE = "\x1b[2J[red]\x1b]0;t\x07own\u202e[/]\nnext"


def hostile_events() -> list[Event]:
    return [
        RunStarted(100, HOSTILE, HOSTILE, HOSTILE, 0.0),
        node(100, "t", HOSTILE),
        TaskStarted(100, "t", 1, HOSTILE),
        agent(100, "a", HOSTILE, "t", HOSTILE),
        Noticed(100, HOSTILE),
        TaskFailed(101, "a", HOSTILE),
        TaskFailed(101, "t", HOSTILE),
        RunFinished(102, "failed", HOSTILE),
    ]


def test_hostile_text_reaches_neither_view_s_terminal() -> None:
    for output in (live_output(hostile_events(), color_system=None), plain_output(hostile_events())):
        assert "\x1b[2J" not in output
        assert "\x1b]" not in output
        assert "\u202e" not in output
        assert "[red]own[/] next" in output


# -- the live view ---------------------------------------------------------------------------------------------------


def console(**options: Any) -> Console:
    settings: dict[str, Any] = {"force_terminal": True, "width": 100, "height": 20, "file": io.StringIO()}
    return Console(**(settings | {"_environ": {"TERM": "xterm-256color"}} | options))


def live_output(events: Iterable[Event], **options: Any) -> str:
    made = console(**options)
    with LiveView(made, interval=60, clock=lambda: 101.2) as view:
        for event in events:
            view(event)
    return made.file.getvalue()  # type: ignore[attr-defined,no-any-return]


def test_the_last_frame_stays_on_the_screen() -> None:
    output = live_output([*TEAM, *END])
    last = ANSI.sub("", output)
    assert "✖ failed · 1 agent in 2.00 s" in last.splitlines()[-1]
    assert "✔ done       sydney-research" in last
    assert output.endswith("\n\x1b[?25h")  # and the cursor is there again


def test_frames_are_drawn_while_the_run_goes_on_by_another_thread() -> None:
    drawn = threading.Event()
    threads: set[int] = set()

    class Watched(io.StringIO):
        def write(self, text: str) -> int:
            if "questioner" in text:
                threads.add(threading.get_ident())
                drawn.set()
            return super().write(text)

    with LiveView(console(file=Watched()), interval=0.01, clock=lambda: 101.2) as view:
        for event in TEAM:
            view(event)
        assert drawn.wait(20)
        assert threading.get_ident() not in threads


def test_events_may_come_from_many_threads_at_once() -> None:
    made = console(height=60)
    with LiveView(made, interval=0.001, clock=lambda: 101.2) as view:
        view(started())

        def tell(number: int) -> None:
            for event in (node(100, f"t{number}"), TaskStarted(100, f"t{number}"), TaskFinished(101, f"t{number}")):
                view(event)

        threads = [threading.Thread(target=tell, args=(number,)) for number in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        view(RunFinished(101, "done"))
    assert "✔ done · 20 tasks in 1.00 s" in made.file.getvalue()  # type: ignore[attr-defined]


def test_without_colour_the_states_are_still_there() -> None:
    output = live_output(TEAM, _environ={"TERM": "xterm-256color", "NO_COLOR": "1"})
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]m", output)
    assert "✖ failed" in ANSI.sub("", output)
    assert re.search(r"\x1b\[[0-9;]*3[0-9]m", live_output(TEAM))


def test_a_terminal_without_unicode_gets_signs_that_it_can_show() -> None:
    raw = io.BytesIO()
    live_output_to = io.TextIOWrapper(raw, encoding="ascii")
    with LiveView(console(file=live_output_to), interval=60, clock=lambda: 101.2) as view:
        for event in TEAM:
            view(event)
    live_output_to.flush()
    written = ANSI.sub("", raw.getvalue().decode("ascii"))
    assert "x failed     bad" in written
    assert "#####" in written


def test_notices_stand_above_the_frame_once() -> None:
    output = ANSI.sub("", live_output([started(), Noticed(100, "subscriber 'x' was removed")]))
    assert output.count("note: subscriber 'x' was removed") == 1


class Breaking(io.StringIO):
    """A stream whose reader goes away."""

    def __init__(self) -> None:
        super().__init__()
        self.broke = threading.Event()

    def write(self, text: str) -> int:
        if "team" in text:
            self.broke.set()
            raise BrokenPipeError("nobody reads")
        return super().write(text)


@pytest.mark.parametrize(
    "make", [lambda stream: LiveView(console(file=stream), interval=0.001), lambda stream: PlainView(stream)]
)
def test_a_stream_that_breaks_is_told_at_the_next_event_and_ends_quietly(make: Callable[[Any], Any]) -> None:
    stream = Breaking()
    before = sys.stdout
    with make(stream) as view:
        view(started())
        assert stream.broke.wait(20)
        view._thread.join(20)
        with pytest.raises(BrokenPipeError):
            view(node(100, "t"))
    assert sys.stdout is before


# -- the plain view --------------------------------------------------------------------------------------------------


def plain_output(events: Iterable[Event]) -> str:
    stream = io.StringIO()
    with PlainView(stream) as view:
        for event in events:
            view(event)
    return stream.getvalue()


def test_the_plain_view_writes_a_line_a_transition() -> None:
    again = (TaskStarted(101.0, "s", 2, "limit 4"), Noticed(101.0, "hello"))
    assert plain_output([*TEAM, *again, *END]) == (
        "00:00.0  run       team · run 7f3a · thread t-42\n"
        "00:00.0  started   questioner\n"
        "00:00.4  done      questioner  0.40s  812/110 tok\n"
        "00:00.4  started   n1\n"
        "00:00.6  started   sydney-research\n"
        "00:00.4  started   bad  waited for limit 4\n"
        "00:01.0  failed    bad  0.60s  ValueError: no such file\n"
        "00:01.0  started   synthesizer  attempt 2  waited for limit 4\n"
        "00:01.0  note      hello\n"
        "00:01.5  done      sydney-research  0.90s  1 tool\n"
        "00:02.0  done      n1  1.60s\n"
        "00:02.0  cancelled synthesizer  1.00s\n"
        "00:02.0  failed    1 agent in 2.00 s · agent time 3.50 s · 1.75x faster than one by one · peak 2"
        " · ValueError: no such file\n"
    )


def test_a_run_above_an_hour_says_so() -> None:
    assert plain_output([started(), node(100, "t"), TaskStarted(100 + 3723.4, "t")]).splitlines()[1] == (
        "1:02:03.4  started   t"
    )


class Listened(io.StringIO):
    """A stream that can be waited for."""

    def __init__(self, word: str) -> None:
        super().__init__()
        self.word, self.heard = word, threading.Event()

    def write(self, text: str) -> int:
        written = super().write(text)
        if self.word in text:
            self.heard.set()
        return written


def test_silence_is_broken_by_a_line_that_says_what_runs() -> None:
    stream = Listened("still")
    with PlainView(stream, interval=0.01, clock=lambda: 131.2) as view:
        for event in TEAM:
            view(event)
        assert stream.heard.wait(20)
    line = next(line for line in stream.getvalue().splitlines() if "still" in line and "waiting" in line)
    assert line == "00:31.2  still     running 1 (sydney-research) · waiting 1"


def test_before_a_run_and_after_it_nothing_is_said() -> None:
    stream = Listened("failed    ")
    with PlainView(stream, interval=0.001) as view:
        for event in (*TEAM, *END):
            view(event)
        assert stream.heard.wait(20)
    assert stream.getvalue().splitlines()[-1].startswith("00:02.0  failed    1 agent")


def test_a_stream_that_cannot_encode_a_name_gets_it_spelled_out() -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    with PlainView(stream) as view:
        view(node(100, "t", "研"))
        view(TaskStarted(100, "t"))
    assert raw.getvalue() == b"00:00.0  started   \\u7814\n"


# -- choosing --------------------------------------------------------------------------------------------------------


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CI", "NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")


def test_a_terminal_gets_the_live_view() -> None:
    assert isinstance(view_for(Terminal(), plain=False, quiet=False), LiveView)


@pytest.mark.parametrize(("name", "value"), [("CI", "true"), ("TERM", "dumb"), ("TERM", "unknown")])
def test_ci_and_a_dumb_terminal_get_plain_lines(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    assert isinstance(view_for(Terminal(), plain=False, quiet=False), PlainView)


def test_a_pipe_gets_plain_lines_also_when_colour_is_forced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert isinstance(view_for(io.StringIO(), plain=False, quiet=False), PlainView)
    assert isinstance(view_for(Terminal(), plain=True, quiet=False), PlainView)


def test_the_window_s_width_may_be_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "44")
    monkeypatch.setenv("LINES", "9")
    stream = Terminal()
    with view_for(stream, plain=False, quiet=False) as view:
        for event in many(30):
            view(event)
    lines = ANSI.sub("", stream.getvalue()).splitlines()
    assert max(map(cell_len, lines)) <= 44
    assert "   +25 done" in lines


def test_quiet_writes_nothing() -> None:
    stream = Terminal()
    with view_for(stream, plain=False, quiet=True) as view:
        for event in (*TEAM, *END):
            view(event)
    assert stream.getvalue() == ""


def test_rich_is_imported_for_a_terminal_only() -> None:
    program = (
        "import sys, io, fanfold.live as live\n"
        "view = live.view_for(io.StringIO(), plain=False, quiet=False)\n"
        "assert 'rich' not in sys.modules\n"
        "class T(io.StringIO):\n"
        "    def isatty(self): return True\n"
        "live.view_for(T(), plain=False, quiet=False)\n"
        "assert 'rich' in sys.modules\n"
    )
    environment = {"TERM": "xterm", "PATH": os.environ.get("PATH", "")}
    subprocess.run([sys.executable, "-c", program], env=environment, check=True)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_board_takes_in_every_kind_of_event(kind: str) -> None:
    samples: dict[str, Any] = {"task": "q", "name": "q", "run_id": "r", "thread_id": "t", "graph": "g", "role": "node"}
    texts = {
        "model": "m",
        "tool": "read",
        "message": "note",
        "status": "done",
        "error": "oops",
        "waits_for": "room",
        "on": "lock",
    }
    numbers = {
        "at": 101.0,
        "wall": 1.0,
        "step": 1,
        "seconds": 0.5,
        "limit": 3.0,
        "peak": 2.0,
        "cpu": 0.25,
        "processes": 1,
    }
    wanted = {field.name for field in fields(KINDS[kind])}
    values = {name: value for name, value in {**samples, **texts, **numbers}.items() if name in wanted}
    made = board(started(), node(100.0, "q"), TaskStarted(100.0, "q"), KINDS[kind](**values))
    assert made.rows(102.0) is not None


def test_the_foot_tells_for_how_long_the_loop_was_blocked() -> None:
    others = LoopHeld(100.9, "q", 0.25, function=WITHOUT_A_CORE)
    told = frame([started(), node(100.0, "q"), TaskStarted(100.0, "q"), LoopHeld(100.5, "q", 0.25), others])
    assert "loop blocked 250 ms" in told[-1], "not by those who had the core"
