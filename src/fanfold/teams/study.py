"""A team that studies a folder: four agents at once, each from its own angle, then one report.

::

    START ─┬─▶ sydney-research  ─┐
           ├─▶ sydney-coder     ─┤
           ├─▶ sydney-validator ─┼─▶ compile ─▶ END
           └─▶ sydney-monitor   ─┘

Agents quote; `compile` looks every quote up in the file that it names. A quote that stands there is printed with the
line where it was found, and one that does not is no quote: it is listed apart, as a claim that nothing supports.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Final, TypedDict

from fanfold import END, START, StateGraph, Task, Workspace

AGENTS: Final = ("sydney-research", "sydney-coder", "sydney-validator", "sydney-monitor")

DEFAULT_QUESTION: Final = "What does this project do, how is it built, how is it tested, and what could go wrong?"

PROMPT: Final = """\
Answer this from the angle of your role, with quotes from the folder that you were given:

{question}"""


class Finding(TypedDict):
    """One thing an agent found: a sentence, and the line of a file that shows it."""

    agent: str
    text: str
    quote: str
    file: str
    line: int


class Answer(TypedDict):
    """One agent's answer, as it gave it."""

    agent: str
    text: str


class Study(TypedDict):
    """The team's state. `unverified` are findings whose quote does not stand in the file that they name."""

    question: str
    folder: str
    answers: Annotated[list[Answer], operator.add]
    findings: list[Finding]
    unverified: list[Finding]
    report: str


class Question(TypedDict):
    """What the team is given: a question, and the folder to look at."""

    question: str
    folder: str


def studying(agent: str) -> Callable[[Question], Awaitable[dict[str, list[Answer]]]]:
    """The node in which `agent` studies the folder."""

    async def study(state: Question) -> dict[str, list[Answer]]:
        result = await Task(
            subagent_type=agent,
            prompt=PROMPT.format(question=state["question"]),
            description=f"study {Path(state['folder']).name}",
            workspace=state["folder"],
        )
        return {"answers": [{"agent": agent, "text": str(result.output)}]}

    return study


def compile_report(state: Study) -> dict[str, object]:
    """Check every quote, and fold the answers into one report in Markdown."""
    workspace = Workspace(Path(state["folder"]))
    findings: list[Finding] = []
    unverified: list[Finding] = []
    for answer in state["answers"]:
        for finding in findings_in(answer):
            line = _line_of(workspace, finding)
            if line is None:
                unverified.append(finding)
            else:
                findings.append({**finding, "line": line})
    report = "\n".join(_report(state, findings, unverified)) + "\n"
    return {"findings": findings, "unverified": unverified, "report": report}


SHORTEST_QUOTE: Final = 8
"""Characters below which a quote shows nothing, because it stands almost anywhere."""


def _line_of(workspace: Workspace, finding: Finding) -> int | None:
    """The line where the finding's quote stands, nearest to the one it names; None where it stands nowhere."""
    if len(finding["quote"]) < SHORTEST_QUOTE:
        return None
    return workspace.find_quote(finding["file"], finding["line"], finding["quote"])


_FINDING: Final = re.compile(
    r"^[-*]\s+(?P<text>\S.*)\n+"
    r"\s*>\s?(?P<quote>.*\S.*)\n+"
    r"\s*(?:\u2014|\u2013|--?)\s*`?(?P<file>[^`\n]+?):(?P<line>\d+)`?\s*$",
    re.MULTILINE,
)


def findings_in(answer: Answer) -> list[Finding]:
    """The findings in an agent's answer that have the form asked for: a sentence, a quote, and its source."""
    return [
        {
            "agent": answer["agent"],
            "text": match["text"].strip(),
            "quote": match["quote"].strip(),
            "file": match["file"].strip(),
            "line": int(match["line"]),
        }
        for match in _FINDING.finditer(answer["text"])
    ]


def _report(state: Study, findings: list[Finding], unverified: list[Finding]) -> list[str]:
    lines = [f"# {state['question']}", ""]
    for answer in state["answers"]:
        lines += [f"## {answer['agent']}", ""]
        own = [finding for finding in findings if finding["agent"] == answer["agent"]]
        for finding in own:
            lines += [
                f"- {finding['text']}",
                f"  > {finding['quote']}",
                f"  — `{finding['file']}:{finding['line']}`",
                "",
            ]
        if not own:
            lines += ["No finding with a quote that stands in the file it names. The answer was:", ""]
            lines += [f"    {line}" for line in answer["text"].splitlines()] + [""]
    if unverified:
        lines += ["## Not verified", "", "The quotes given for these do not stand in the files they name.", ""]
        lines += [f"- {finding['agent']}: {finding['text']} ({finding['file']})" for finding in unverified] + [""]
    return lines


def _team() -> StateGraph:
    team = StateGraph(Study, input_schema=Question)
    for agent in AGENTS:
        team.add_node(agent, studying(agent))
        team.add_edge(START, agent)
    team.add_node("compile", compile_report)
    team.add_edge(list(AGENTS), "compile")
    team.add_edge("compile", END)
    return team


graph: Final = _team()
