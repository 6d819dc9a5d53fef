"""The page: self-contained, with a policy that forbids every request, and with text of agents that stays text."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from typing import Any

from fanfold.events import Event
from fanfold.exports.report import FIELDS, report
from fanfold.exports.timeline import timeline
from fanfold.receipt import receipt
from fanfold.receipt.values import LIMIT, PARTS
from tests.exports.runs import HOSTILE, crowd, everything


class Page(HTMLParser):
    """The elements of a page, each with its attributes, and the text within scripts, styles and list items."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self._open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if self._open:
            self.texts.append((self._open[-1], data))

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    def text(self, tag: str) -> list[str]:
        return [text for name, text in self.texts if name == tag]


def page(events: list[Event]) -> Page:
    return Page(report(timeline(events)))


def drawn(found: Page) -> Any:
    return json.loads(found.text("script")[0])


def test_the_page_names_no_other_place() -> None:
    text = report(timeline(everything()))
    found = Page(text)
    links = [value for _, attributes in found.elements for name, value in attributes.items() if name in ("src", "href")]
    assert links == ["data:,"]
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", text)
    assert not re.search(r"@import|url\((?!#)", text)


def test_the_policy_allows_the_pages_own_script_and_style_alone() -> None:
    found = page(everything())
    (policy,) = [tag["content"] for tag in found.of("meta") if tag.get("http-equiv") == "Content-Security-Policy"]
    assert policy is not None
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))

    def digest(text: str) -> str:
        return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

    assert rules["default-src"] == "'none'"
    assert rules["script-src"] == digest(found.text("script")[1])
    assert rules["style-src"] == digest(found.text("style")[0])
    assert "connect-src" not in rules
    assert not any(name.startswith("on") or name == "style" for _, given in found.elements for name in given)


def test_what_an_agent_says_opens_no_element_and_closes_none() -> None:
    said, honest = page(everything()), page(everything("nothing of interest"))
    assert said.of("img") == []
    assert [tag for tag, _ in said.elements] == [tag for tag, _ in honest.elements]
    assert not set("<>&") & set(said.text("script")[0])
    (critic,) = [row for row in drawn(said)["tasks"] if row[FIELDS.index("name")] == "critic"]
    assert critic[FIELDS.index("label")].startswith("</script><img src=x onerror=alert(1)><!--{{data}}")


def test_a_hostile_name_of_a_graph_is_only_text() -> None:
    events = everything()
    events[0] = type(events[0])(0.0, HOSTILE, HOSTILE, HOSTILE, 1e9)  # type: ignore[call-arg]
    events = [events[0]]
    found = page(events)
    assert found.of("img") == []
    assert found.text("h1")[0].startswith("</script><img")
    assert len(found.of("script")) == 2


def test_the_words_of_the_receipt_are_in_the_page_without_a_script() -> None:
    told = receipt(everything())
    assert page(everything()).text("li")[: len(told.lines())] == told.lines()
    assert told.verdict in page(everything()).text("p")


def test_the_limits_of_the_run_are_in_the_page() -> None:
    found = page(everything())
    assert "tasks at once" in found.text("th")
    assert "critic 0.500 s" in found.text("td")


def test_the_data_has_what_is_drawn() -> None:
    data = drawn(page(everything()))
    rows = {row[FIELDS.index("name")]: dict(zip(FIELDS, row, strict=True)) for row in data["tasks"]}
    assert [(name, row["depth"]) for name, row in rows.items()] == [
        ("plan", 0),
        ("writer", 1),
        ("critic", 1),
        ("side", 0),
        ("end", 0),
    ]
    assert {name for name, row in rows.items() if row["critical"]} == {"plan", "critic", "end"}
    assert rows["side"]["blocks"] == [[0.2, 0.6, ""]]
    waits = rows["critic"]["stretches"][:4]
    assert (waits[:2], PARTS[waits[2]], data["says"][waits[3]]) == ([0.2, 0.7], LIMIT, "waits for limit 2")
    assert data["steps"] == [[1, 0, 2.2], [2, 2.2, 2.5]]
    assert max(number for _, number in data["working"]) == data["peak"] == 2


def test_the_size_of_a_page_grows_with_the_tasks_and_not_faster() -> None:
    sizes = [len(report(timeline(events))) for events in (crowd(500), crowd(2_000))]
    assert sizes[1] < 4 * sizes[0]
    assert sizes[1] < 1_000_000
