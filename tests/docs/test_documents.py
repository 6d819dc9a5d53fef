"""What the documents say is true: snippets run, commands exist, links lead somewhere."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest

from fanfold.cli import COMMANDS, cli, exit_code
from fanfold.cli.common import DEFAULT_STORE
from fanfold.cli.graph import FORMATS
from fanfold.errors import BudgetError, FanfoldError, ModelKeyError, UsageError

ROOT = Path(__file__).parents[2]
DOCUMENTS = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]
names = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)


def blocks(document: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", document.read_text(), re.MULTILINE | re.DOTALL)


@names
def test_the_python_of_a_document_runs_from_top_to_bottom(
    document: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "README.md").write_text("# A project\n\nThis project has the purpose of being studied by agents.\n")
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {"__name__": "document"}
    for block in blocks(document, "python"):
        exec(compile(block, document.name, "exec", dont_inherit=True), namespace)
    if document.name == "README.md":
        assert capsys.readouterr().out.endswith("PARALLEL\n")


def test_the_example_of_the_readme_is_a_file_that_runs(tmp_path: Path) -> None:
    example = ROOT / "examples" / "four_agents.py"
    assert blocks(ROOT / "README.md", "python")[0] in example.read_text()
    (tmp_path / "README.md").write_text("# A project\n\nThis project has the purpose of being studied by agents.\n")
    done = subprocess.run(
        [sys.executable, "-W", "error", str(example)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout


@names
def test_every_command_that_a_document_names_exists(document: Path) -> None:
    for block in blocks(document, "console"):
        for line in re.findall(r"^\$ (.*)$", block, re.MULTILINE):
            program, *words = shlex.split(line)
            assert program in ("fanfold", "make", "pip", "git"), line
            if program == "fanfold":
                options = parsed(cli, words)
                assert options, line
            if program == "make":
                assert f"\n{words[0]}:" in (ROOT / "Makefile").read_text(), line


def parsed(command: click.Command, words: list[str]) -> bool:
    """Whether the words parse, down to the options of the last sub-command."""
    with command.make_context("fanfold", list(words), resilient_parsing=False) as context:
        if isinstance(command, click.Group):
            _, found, rest = command.resolve_command(context, context._protected_args + context.args)
            assert found is not None
            return parsed(found, rest)
        return True


@names
def test_links_to_files_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", document.read_text()):
        assert (document.parent / target).exists(), target


def test_the_command_page_lists_every_command() -> None:
    page = (ROOT / "docs" / "command.md").read_text()
    assert set(COMMANDS) == set(re.findall(r"^\| `fanfold (\w+)", page, re.MULTILINE))


def test_the_example_of_the_readme_stores_where_the_command_looks() -> None:
    (store,) = re.findall(r'graph\.compile\("(.*?)"\)', (ROOT / "README.md").read_text())
    assert store == DEFAULT_STORE


def test_the_formats_of_the_command_page_are_those_of_graph_show() -> None:
    (row,) = re.findall(r"^\| `fanfold graph show.*$", (ROOT / "docs" / "command.md").read_text(), re.MULTILINE)
    assert set(FORMATS) == set(re.findall(r"`(?:--format )?(\w+)`", row))


def test_the_exit_codes_of_the_command_page_are_those_of_the_command() -> None:
    page = (ROOT / "docs" / "command.md").read_text()
    assert {exit_code(error("x")) for error in (FanfoldError, UsageError, BudgetError, ModelKeyError)} == {1, 2, 5, 6}
    for code in (0, 1, 2, 3, 4, 5, 6):
        assert f"\n| {code} | " in page


def test_nothing_in_the_root_is_unexpected() -> None:
    assert {path.name for path in ROOT.glob("*.md")} == {
        "README.md",
        "ARCHITECTURE.md",
        "CONTRIBUTING.md",
        "CHANGELOG.md",
    }
