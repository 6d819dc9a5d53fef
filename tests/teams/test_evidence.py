"""Quotes: which of them stand in their source, whatever their authors say."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fanfold.teams.debating.evidence import Folder, Sources, Texts, evidence_in, places, verify
from fanfold.teams.debating.objects import Challenge, Claim, Evidence, Opening, Rebuttal, Response

TEXT = """\
# Dependencies

Versions are pinned, “every one of them”,
and    a bot raises them.

It is unsafe to use, by 0.5 % of users; it is non-compliant at -20 degrees.
--------------------
依赖项必须固定版本以便重现构建结果。
Nothing is said here
In winter nobody can\u2019t be asked, \u2018of all people\u2019. It costs \u22124 percent less.
"""


def quoted(quote: str, source: str = "a.md") -> Evidence:
    return Evidence(source=source, quote=quote)


def stands(quote: str, source: str = "a.md", sources: Sources | None = None) -> bool:
    return verify(quoted(quote, source), sources or Texts({"a.md": TEXT})).verified


@pytest.mark.parametrize(
    "quote",
    [
        "Versions are pinned",
        "every one of them”, and a bot raises them.",
        'pinned, "every one of them",\nand a bot',
        "  and a\tbot raises  them.  ",
        "It is unsafe to use, by 0.5 % of users",
        "Versions are pinned, “every one of th ...",
        "Nothing is said here",
        "nobody can't be asked",
        "be asked, 'of all people'",
        "必须固定版本以便重现构建",
    ],
)
def test_a_quote_stands_where_its_words_do(quote: str) -> None:
    assert stands(quote)


@pytest.mark.parametrize(
    ("quote", "why"),
    [
        ("Versions are not pinned", "other words"),
        ("versions are pinned", "another case"),
        ("Versions are pinned ... a bot raises them", "something left out"),
        ("safe to use, by 0.5 %", "it begins within a word"),
        ("Nothing is sai", "it ends within a word"),
        ("compliant at -20 degrees", "it begins within a word with a hyphen"),
        ("5 % of users; it is", "it begins within a number"),
        ("20 degrees. -----", "it leaves out the sign"),
        ("nobody can", "it ends within a word with an apostrophe"),
        ("4 percent less", "it leaves out the sign"),
        ("a bot r", "it is short"),
        ("a bot", "it is short"),
        ("--------------", "it says nothing"),
        ("Nothing is said here, or anywhere", "it goes on after the end"),
    ],
)
def test_other_words_are_no_quote(quote: str, why: str) -> None:
    assert not stands(quote), why


def test_a_quote_that_is_torn_in_one_place_may_stand_in_another() -> None:
    assert stands("safe to use", sources=Texts({"a.md": "It is unsafe to use here, and safe to use there."}))


def test_the_line_is_the_one_where_the_quote_begins() -> None:
    found = places(
        [quoted("every one of them”, and a bot"), quoted("Nothing is said"), quoted("nowhere at all")],
        Texts({"a.md": TEXT}),
    )
    assert list(found.values()) == [3, 9]


def test_the_check_alone_decides_and_a_later_one_anew() -> None:
    evidence = verify(quoted("Versions are pinned"), Texts({"a.md": TEXT}))
    assert evidence.verified
    assert not verify(evidence, Texts({})).verified
    assert not verify(evidence, None).verified


def test_evidence_is_checked_wherever_it_stands_and_nothing_else_changes() -> None:
    good, bad = quoted("Versions are pinned"), quoted("Versions are free")
    claim = Claim(id="c", text="t", gap="meta-gap", confidence=0.5, evidence=(good, bad))
    opening = Opening(stance="pro", answer="innovate", confidence=0.5, claims=(claim,))
    rebuttal = Rebuttal(
        answer="concede",
        confidence=1,
        challenges=(Challenge(claim="c", kind="rebut", severity=1, text="t", evidence=(bad,)),),
        responses=(Response(challenge="x", action="concede", text="t", evidence=(good,)),),
    )
    said = {"a": [opening], "b": (rebuttal, None, "words")}
    checked = verify(said, Texts({"a.md": TEXT}))
    assert [evidence.verified for evidence in evidence_in(checked)] == [True, False, False, True]
    assert verify(checked, None) == said
    assert not any(evidence.verified for evidence in evidence_in(said))


def test_each_source_is_read_once() -> None:
    read: list[str] = []

    class Counting:
        def text(self, source: str) -> str | None:
            read.append(source)
            return TEXT

    said = [quoted("Versions are pinned"), quoted("a bot raises", "b.md"), quoted("Nothing is said"), quoted("x")]
    assert len(places(said, Counting())) == 3
    assert read == ["a.md", "b.md"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "sources"
    (root / "docs").mkdir(parents=True)
    (root / "docs" / "a.md").write_text(TEXT, encoding="utf-8")
    (tmp_path / "secret.md").write_text("The password is swordfish.\n", encoding="utf-8")
    return root


@pytest.mark.parametrize("source", ["docs/a.md", "./docs/a.md", "docs/a.md:3", "docs/a.md:3-4", "docs/a.md#L3-L4"])
def test_a_file_may_be_named_with_its_lines(folder: Path, source: str) -> None:
    assert stands("Versions are pinned", source, Folder(folder))


def test_a_name_that_ends_like_lines_is_a_name(folder: Path) -> None:
    (folder / "docs" / "a.md:7").write_text("It is another file.\n", encoding="utf-8")
    assert stands("It is another file", "docs/a.md:7", Folder(folder))


def test_nothing_outside_of_the_folder_is_a_source(folder: Path) -> None:
    os.symlink(folder.parent / "secret.md", folder / "link.md")
    for source in ("../secret.md", str(folder.parent / "secret.md"), "link.md", "docs/../../secret.md", "docs/\0"):
        assert not stands("The password is swordfish.", source, Folder(folder)), source


def test_what_cannot_be_read_verifies_nothing(folder: Path) -> None:
    (folder / "large.md").write_text("Versions are pinned. " * 600_000, encoding="utf-8")
    os.mkfifo(folder / "pipe.md")
    for source in ("large.md", "pipe.md", "docs", "docs/b.md"):
        assert not stands("Versions are pinned", source, Folder(folder)), source


@pytest.mark.parametrize(
    "source",
    [
        "notes.md:2",
        "notes.md:2-3",
        "notes.md:2:1",
        "notes.md#L2",
        "notes.md#L2-L3",
        "notes.md#L2-3",
        "notes.md, line 2",
        "notes.md (lines 2-3)",
        "`notes.md`",
        "`notes.md`:2",
        "`notes.md:2`",
        "{folder}/notes.md",
        "{folder}/notes.md:2",
    ],
)
def test_a_source_may_be_written_as_models_write_it(source: str, tmp_path: Path) -> None:
    (tmp_path / "notes.md").write_text("Nothing.\nVersions are pinned.\n")
    named, folder = source.format(folder=tmp_path), Folder(tmp_path)
    assert stands("Versions are pinned", named, folder)
    assert folder.path(named) == "notes.md"


def test_a_file_that_is_really_called_so_is_the_one_that_is_meant(tmp_path: Path) -> None:
    (tmp_path / "notes:2").write_text("Versions are pinned.\n")
    assert stands("Versions are pinned", "notes:2", Folder(tmp_path))
