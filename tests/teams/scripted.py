"""Members of a debate that say what a test wants, and remember what they were asked."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fanfold import python_agent
from fanfold.teams.debate import AGENTS

NOTES = "The build failed twice.\nVersion 2 broke the parser, and nobody noticed.\nPinning costs an hour a month.\n"
QUOTE = "Version 2 broke the parser, and nobody noticed."


def folder(path: Path) -> Path:
    """A folder with something to quote."""
    (path / "notes.md").write_text(NOTES)
    return path


def claim(text: str = "It broke before.", quote: str = QUOTE, source: str = "notes.md", **more: Any) -> dict[str, Any]:
    evidence = [{"source": source, "quote": quote}] if quote else []
    return {"id": "1", "text": text, "gap": "historical precedent", "confidence": 0.8, "evidence": evidence, **more}


def opening(answer: str, *claims: dict[str, Any], stance: str = "pro", confidence: float = 0.7) -> dict[str, Any]:
    return {"stance": stance, "answer": answer, "confidence": confidence, "claims": list(claims) or [claim()]}


def rebuttal(answer: str, confidence: float = 0.7, **more: Any) -> dict[str, Any]:
    return {"answer": answer, "confidence": confidence, "agrees": ["It broke before."], **more}


def questions() -> dict[str, Any]:
    texts = (f"What about case {number}?" for number in range(1, 16))
    return {"questions": [{"id": text, "text": text, "gap": "meta-gap"} for text in texts]}


USUAL: dict[str, Any] = {
    "questioner": questions(),
    "advocate": lambda prompt: opening("innovate") if is_opening(prompt) else rebuttal("innovate"),
    "challenger": lambda prompt: opening("stand pat", stance="con") if is_opening(prompt) else rebuttal("stand pat"),
    "judge": lambda prompt: {"winner": first_or_second(prompt, "pro"), "reasons": "It was shown."},
    "synthesizer": {"decision": "innovate", "confidence": 0.9},
    "validator": {"result": "accepted"},
    "sample": opening("innovate"),
}


def is_opening(prompt: str) -> bool:
    return "Give your opening" in prompt


def first_or_second(prompt: str, side: str) -> str:
    """Where a judge has read that side, by the stance of the first opening."""
    first = prompt.index('"stance": "pro"') < prompt.index('"stance": "con"')
    return "first" if first == (side == "pro") else "second"


@dataclass
class Members:
    """All roles, as functions; `asked` has what each of them was asked, in order."""

    asked: list[tuple[str, str]] = field(default_factory=list)
    agents: list[Any] = field(default_factory=list)

    def of(self, role: str) -> list[str]:
        """What that role was asked."""
        return [prompt for name, prompt in self.asked if name == role]


def members(timeout: dict[str, float] | None = None, **says: Any) -> Members:
    """Members who say the usual, but for the roles for which something else is given: an answer, or what makes one."""
    made = Members()
    for role, usual in {**USUAL, **says}.items():
        made.agents.append(_agent(made, role, usual, (timeout or {}).get(role)))
    return made


def _agent(made: Members, role: str, says: Any, timeout: float | None) -> Any:
    @python_agent(AGENTS[role], role, timeout=timeout)  # type: ignore[index]  # a role's name
    async def speak(prompt: str) -> Any:
        made.asked.append((role, prompt))
        said = says(prompt) if isinstance(says, Callable) else says  # type: ignore[arg-type]  # a function
        return await said if inspect.isawaitable(said) else said

    return speak
