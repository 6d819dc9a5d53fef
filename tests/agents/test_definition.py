from __future__ import annotations

import os
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fanfold.agents.definition import KEYS, PACKAGED, AgentDefinition, Catalogue, Problem, agents_in, folded, parse
from fanfold.errors import AgentFileError, AgentNotFoundError, UsageError

COMING = sorted(path.stem for path in PACKAGED.glob("*.md"))
"""The names of the agents that come with fanfold."""
ROLES = ["sydney-coder", "sydney-monitor", "sydney-research", "sydney-validator"]


def page(head: str, body: str = "You are an agent.") -> str:
    return f"---\n{head}\n---\n{body}\n"


def write(folder: Path, name: str, head: str, body: str = "You are an agent.") -> Path:
    path = folder / ".claude" / "agents" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page(head, body))
    return path


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


@pytest.fixture
def cwd(tmp_path: Path) -> Path:
    (tmp_path / "work" / "deep").mkdir(parents=True)
    return tmp_path / "work" / "deep"


# Files as public collections have them: (front matter, what the description begins with, tools, notices).
COLLECTION: dict[str, tuple[str, str, tuple[str, ...] | None, int]] = {
    "plain": ("name: a\ndescription: Writes APIs.\nmodel: sonnet", "Writes", None, 0),
    "comma tools": ("name: a\ndescription: d\ntools: Read, Grep, Bash", "d", ("Read", "Grep", "Bash"), 0),
    "spaced tools": ("name: a\ndescription: d\ntools: Read Grep", "d", ("Read", "Grep"), 0),
    "flow list": ("name: a\ndescription: d\ntools: [Read, Grep]", "d", ("Read", "Grep"), 0),
    "block list": ("name: a\ndescription: d\ntools:\n  - Read\n  - Grep", "d", ("Read", "Grep"), 0),
    "flush list": ("name: a\ndescription: d\ntools:\n- Read\n- Grep", "d", ("Read", "Grep"), 0),
    "no tools": ("name: a\ndescription: d\ntools: []", "d", (), 0),
    "empty tools": ("name: a\ndescription: d\ntools:", "d", (), 1),
    "star": ('name: a\ndescription: d\ntools: "*"', "d", None, 0),
    "bare star": ("name: a\ndescription: d\ntools: *", "d", None, 1),
    "trailing comma": ("name: a\ndescription: d\ntools: Read, Grep,", "d", ("Read", "Grep"), 0),
    "mcp tools": ("name: a\ndescription: d\ntools: mcp__docs__find, Read", "d", ("mcp__docs__find", "Read"), 0),
    "spawning": ("name: a\ndescription: d\ntools: Agent(x, y), Task(z)", "d", ("Agent(x, y)", "Task(z)"), 0),
    "shell rules": ("name: a\ndescription: d\ntools: Bash(git add:*), Read", "d", ("Bash(git add:*)", "Read"), 0),
    "shell rules with a colon": (
        "name: a\ndescription: d\ntools: Read, Bash(git: *)",
        "d",
        ("Read", "Bash(git: *)"),
        1,
    ),
    "colon": ("name: a\ndescription: Use this agent when: you must\nmodel: opus", "Use this agent when: you", None, 1),
    "colon, then list": ("name: a\ndescription: Use when: x\ntools:\n  - Read", "Use when: x", ("Read",), 1),
    "colon, then unknown key": ("name: a\ndescription: Use when: x\ncategory: web", "Use when: x", None, 2),
    "colon, then blank and unknown key": (
        "name: a\ndescription: Use when: x\ntools: Read\n\nauthor: me",
        "Use when: x",
        ("Read",),
        2,
    ),
    "examples in one line": (
        r"name: a" "\n" r"description: Use it.\n\n<example>\nContext: x\nuser: 'Go'\nassistant: \"Yes\"</example>",
        "Use it.",
        None,
        1,
    ),
    "examples unindented": (
        "name: a\ndescription: Use it. Examples:\n\n<example>\nContext: New code\nuser: 'Go: now'\n"
        "<commentary>\nIt fits: surely.\n</commentary>\n</example>\ncolor: red\ntools: Read",
        "Use it. Examples:\n\n<example>\nContext: New code",
        ("Read",),
        1,
    ),
    "continuation with a colon": ("name: a\ndescription: Use when\n  the user asks: now", "Use when", None, 1),
    "inner quotes": ('name: a\ndescription: "Says "hello" to you"', 'Says "hello" to you', None, 1),
    "apostrophe": ("name: a\ndescription: 'It's for you'", "It's for you", None, 1),
    "at sign": ("name: a\ndescription: @everyone may use it", "@everyone", None, 1),
    "bold": ("name: a\ndescription: **Expert** in tests", "**Expert**", None, 1),
    "bracket": ("name: a\ndescription: [beta] Finds bugs", "[beta]", None, 1),
    "backtick": ("name: a\ndescription: `grep` for you", "`grep`", None, 1),
    "folded": ("name: a\ndescription: >\n  Use it\n  often: yes", "Use it often: yes", None, 0),
    "literal": ("name: a\ndescription: |\n  Use it:\n  often", "Use it:\noften", None, 0),
    "literal unindented": ("name: a\ndescription: |\nUse it <often>\ntools: Read", "Use it <often>", ("Read",), 1),
    "unknown keys": ("name: a\ndescription: d\nversion: 1.0.0\ntags: [x]\nauthor: me", "d", None, 3),
    "dates": ("name: a\ndescription: d\nupdated: 2024-99-99", "d", None, 1),
    "comments": ("# mine\nname: a # short\n\ndescription: d", "d", None, 0),
    "colour code": ("name: a\ndescription: d\ncolor: #ff0000", "d", None, 0),
    "no as a word": ("name: no\ndescription: yes", "yes", None, 0),
    "twice": ("name: a\ndescription: d\ndescription: e", "e", None, 1),
    "emphasis": ("name: a\ndescription: MUST BE USED! Proactively (always) -> now & *then*", "MUST BE", None, 0),
    "tab": ("name:\ta\ndescription:\td", "d", None, 0),
}


@pytest.mark.parametrize("name", COLLECTION)
def test_files_as_collections_have_them_load(name: str) -> None:
    head, begins, tools, notices = COLLECTION[name]
    definition = parse(page(head), Path("a.md"))
    assert definition.description.startswith(begins)
    assert definition.tools == tools
    assert len(definition.notices) == notices, definition.notices


def test_line_ends_a_byte_order_mark_and_blank_lines_do_not_matter() -> None:
    text = page("name: a\ndescription: Use when: x", "One.\n\n---\n\nTwo.")
    plain = parse(text)
    assert plain.prompt == "One.\n\n---\n\nTwo."
    for other in ("\ufeff" + text, text.replace("\n", "\r\n"), "\n\n" + text, "\ufeff" + text.replace("\n", "\r")):
        assert parse(other).digest == plain.digest


def test_every_key_of_the_format_is_read() -> None:
    head = """name: Code Reviewer
description: Reviews
tools: Read
disallowedTools: Bash, Edit
model: opus
effort: high
permissionMode: plan
maxTurns: 7
skills: [a, b]
mcpServers: {docs: {command: x}}
hooks: {Stop: []}
memory: project
background: true
isolation: worktree
color: red
initialPrompt: Go
omitClaudeMd: false
autoCompactWindow: 1000
observer: x
observerMessage: y
backend: process
command: [run, it]
output: {type: object, additionalProperties: false, minimum: 1.5, items: null}
timeout: 2.5
budget_usd: 0.5
memory_mb: 200
max_concurrent: 3"""
    definition = parse(page(head))
    assert definition.notices == ()
    assert definition.disallowed_tools == ("Bash", "Edit")
    assert (definition.model, definition.max_turns, definition.backend) == ("opus", 7, "process")
    assert definition.output == {
        "type": "object",
        "additionalProperties": False,
        "minimum": 1.5,
        "items": None,
    }
    assert definition.extra["hooks"] == {"Stop": []}
    assert definition.budget_usd == 0.5
    assert {line.split(":")[0] for line in head.splitlines()} == set(KEYS)


@pytest.mark.parametrize(
    ("head", "says"),
    [
        ("description: d", "no `name`"),
        ("name: a", "no `description`"),
        ("name: a\ndescription:", "x.md:3: no `description`"),
        ("Name: a\ndescription: d", "found instead: 'Name'"),
        ("name: 12\ndescription: d", "x.md:2: `name` must be text (put it in quotes); found 12"),
        ("name: '---'\ndescription: d", "`name` must be one line with a letter"),
        ('name: "a\\nb"\ndescription: d', "`name` must be one line"),
        (
            "name: a\ndescription: d\nmaxTurns: ten",
            'x.md:4: `maxTurns` must be a whole number of 1 or more; found "ten"',
        ),
        ("name: a\ndescription: d\nmaxTurns: true", "`maxTurns`"),
        ("name: a\ndescription: d\nmaxTurns: 0", "`maxTurns`"),
        ("name: a\ndescription: d\ntools: {Read: true}", "x.md:4: `tools` must be names"),
        ("name: a\ndescription: d\ntools: [1]", "`tools` must be names"),
        ("name: a\ndescription: d\nbackend: pyhton", "did you mean 'python'?"),
        ("name: a\ndescription: d\noutput: text", "`output` must be a mapping"),
        ("name: a\ndescription: d\ntimeout: -1", "`timeout` must be a number above 0"),
        ("name: a\ndescription: d\nbudget_usd: 1e999", "`budget_usd` must be a number above 0"),
        ("name: a\ndescription: d\npermissionMode: acceptEdit", "did you mean 'acceptEdits'?"),
        ("name: a\ndescription: d\npermissionMode: yolo", "`permissionMode` must be one of default, manual"),
        ("name: a\ndescription: d\nisolation: remote", '`isolation` must be one of worktree, sandbox; found "remote"'),
        ("name: a\ndescription: d\nmcpServers: docs", "`mcpServers` must be servers by name"),
        ("name: a\ndescription: d\nmcpServers: [docs, [x]]", "`mcpServers` must be servers by name"),
        ("name: a\ndescription: d\nmcpServers: {docs: x}", "`mcpServers` must be servers by name"),
        ("name: a\ndescription: d\nhooks: {Stop: x}", "`hooks` must be lists of hooks by event"),
        ("name: a\ndescription: d\ncommand: []", "`command` must be a command"),
        ("name: a\ndescription: d\ncommand: ''", "`command` must be a command"),
        ("name: a\ndescription: Use when: x\nmaxTurns: ten", "x.md:4: `maxTurns`"),
        ("name: a\ndescription: d\nhooks: {a: [b", "no valid YAML"),
        ("name: a\n\tdescription: d", "x.md:3: the front matter is no valid YAML"),
        ("name: a\ndescription: d\nhooks: &x [*x]", "no valid YAML: an alias is not read here"),
        ("name: a\ndescription: d\nhooks: !!python/name:os.system {}", "a tag is not read here"),
        ("name: a\ndescription: d\nhooks: " + "[" * 50 + "]" * 50, "nesting this deep is not read here"),
        ("name: a\ndescription: d\nhooks: " + "[" * 100_000, "nesting"),
        ("- a\n- b", "not a list of `key: value` lines"),
        ("words", "not a list of `key: value` lines"),
        ("", "no `name`"),
    ],
)
def test_a_file_that_cannot_be_used_says_where_and_why(head: str, says: str) -> None:
    with pytest.raises(AgentFileError) as caught:
        parse(page(head), Path("x.md"))
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "x.md:1: no front matter"),
        ("# Agents\n", "x.md:1: no front matter"),
        ("---\nname: a\n", "x.md:1: the front matter has no closing `---`"),
    ],
)
def test_a_file_without_a_whole_front_matter_is_refused(text: str, says: str) -> None:
    with pytest.raises(AgentFileError, match=says):
        parse(text, Path("x.md"))


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("background: maybe", '`background` must be true or false; found "maybe", and is left out'),
        ("color: teal", "`color` must be one of red, blue, green"),
        ("effort: hihg", "and is left out; did you mean 'high'?"),
        ("effort: 0", "`effort` must be one of low, medium, high, xhigh, max, or a whole number; found 0"),
        ("memory: projct", "`memory` must be one of user, project, local"),
        ("model: the best one", "`model` must be the name of a model, which is one word"),
        ("model: 4", "`model` must be the name of a model"),
        ("skills: {a: b}", "`skills` must be names with commas"),
        ("omitClaudeMd: 'yes'", "`omitClaudeMd` must be true or false"),
        ("autoCompactWindow: -1", "`autoCompactWindow` must be a whole number of 1 or more"),
        ("initialPrompt: [x]", "`initialPrompt` must be text"),
        ("observer: 3", "`observer` must be text"),
        ("observerMessage: 3", "`observerMessage` must be text"),
    ],
)
def test_a_wrong_value_that_gives_the_agent_nothing_is_left_out_and_said(line: str, says: str) -> None:
    definition = parse(page(f"name: a\ndescription: d\n{line}"))
    (notice,) = definition.notices
    assert notice.startswith("line 4: ")
    assert says in notice
    assert definition.extra == {}
    assert definition.model is None


@pytest.mark.parametrize(
    "line",
    [
        *(f"effort: {value}" for value in ("low", "medium", "high", "xhigh", "max", "40000")),
        *(f"memory: {value}" for value in ("user", "project", "local")),
        *(f"permissionMode: {value}" for value in ("default", "manual", "acceptEdits", "plan", "auto")),
        *(f"permissionMode: {value}" for value in ("dontAsk", "bypassPermissions")),
        *(f"color: {value}" for value in ("red", "blue", "green", "yellow", "purple", "orange", "pink", "cyan")),
        "mcpServers: [docs, {tickets: {command: serve, args: [--fast]}}]",
        "mcpServers: {docs: {type: http, url: 'http://localhost:1'}}",
        "hooks: {PreToolUse: [{matcher: Bash, hooks: [{type: command, command: ./check}]}]}",
    ],
)
def test_a_value_that_the_format_has_is_kept_as_it_is(line: str) -> None:
    definition = parse(page(f"name: a\ndescription: d\n{line}"))
    assert definition.notices == ()
    assert list(definition.extra) == [line.split(":")[0]]


@pytest.mark.parametrize("word", ["inherit", "Inherit", "''"])
def test_a_model_that_is_inherited_is_none_of_its_own(word: str) -> None:
    assert parse(page(f"name: a\ndescription: d\nmodel: {word}")).model is None


def test_an_unknown_key_is_a_notice_with_a_suggestion() -> None:
    assert parse(page("name: a\ndescription: d\nmax_turns: 3")).notices == (
        "unknown key 'max_turns'; did you mean 'maxTurns'?",
    )


def test_plain_text_in_place_of_yaml_is_said_with_its_line() -> None:
    (notice,) = parse(page("name: a\ndescription: Use when: x")).notices
    assert notice.startswith("line 3: `description` is no valid YAML (mapping values are not allowed")


@pytest.mark.parametrize(
    "change",
    ["prompt", "name", "description", "model", "backend"],
)
def test_the_digest_changes_with_what_the_agent_is_made_of(change: str) -> None:
    plain, other = AgentDefinition("a", "d"), dict[str, Any]({change: "other"})
    assert replace(plain, **other).digest != plain.digest
    assert len(plain.digest) == 32


def test_the_digest_tells_all_tools_from_none_and_sees_keys_that_nothing_honours_yet() -> None:
    digests = {
        parse(page("name: a\ndescription: d" + more)).digest
        for more in ("", "\ntools: []", "\ntools: Read", "\ncolor: red", "\nmaxTurns: 2", "\noutput: {}")
    }
    assert len(digests) == 6


def test_the_digest_does_not_depend_on_the_place() -> None:
    text = page("name: a\ndescription: d")
    assert parse(text, Path("x.md"), origin="user").digest == parse(text).digest


def test_an_object_with_a_text_for_its_tools_is_refused() -> None:
    with pytest.raises(UsageError, match="tuple of names"):
        AgentDefinition("a", "d", tools="Read")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="no letter or digit"):
        AgentDefinition("--", "d")


PIECES = st.sampled_from(
    [
        "---",
        "\n",
        ": ",
        "name",
        "description",
        "tools",
        "hooks",
        "- ",
        "[",
        "]",
        "{",
        "}",
        '"',
        "'",
        "&a",
        "*a",
        "!!int",
    ]
    + [
        "|",
        ">",
        "#",
        "\t",
        "  ",
        ",",
        "<<",
        "?",
        "%",
        "@",
        "0x_",
        "2024-99-99",
        "!!timestamp x",
        "...",
        "\ufeff",
        "\0",
        "(",
    ]
)
SOUP = st.lists(PIECES | st.text(max_size=5), max_size=30).map("".join)


@settings(deadline=None)
@given(SOUP | st.text(alphabet=st.characters(), max_size=200), st.booleans())
def test_no_text_makes_the_reader_raise_anything_but_its_own_error(text: str, framed: bool) -> None:
    with suppress(AgentFileError):
        definition = parse(page(f"name: a\ndescription: d\n{text}") if framed else text, Path("x.md"))
        assert folded(definition.name)
        assert definition.description


# `key: |` and the like are outside: a block scalar eats the lines below it.
LINE = st.text(st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp")), min_size=1, max_size=60)


@settings(deadline=None)
@given(LINE.map(lambda text: f"Use this agent when: {text} it is time"))
def test_a_description_of_one_line_is_kept_with_all_its_colons(text: str) -> None:
    definition = parse(page(f"name: a\ndescription: {text}\ntools: Read"))
    assert definition.tools == ("Read",)
    assert definition.description == text.strip()


# Which definition a name means.


def test_the_packaged_agents_load_without_a_problem(home: Path, cwd: Path) -> None:
    catalogue = Catalogue.load(cwd, home)
    packaged = [definition for definition in catalogue if definition.origin == "packaged"]
    assert [definition.name for definition in packaged] == COMING
    assert set(ROLES) < set(COMING)
    assert not [problem for problem in catalogue.problems if problem.path and PACKAGED in problem.path.parents]


@pytest.mark.parametrize("role", ROLES)
def test_a_packaged_agent_states_the_form_of_its_answer_and_its_words(role: str) -> None:
    definition = parse((PACKAGED / f"{role}.md").read_text(), PACKAGED / f"{role}.md")
    assert definition.tools == ("Read", "Glob", "Grep")
    assert definition.model is None
    assert (
        "```\n- <what you found, in one sentence>\n"
        "  > <the whole text of one line of a file, verbatim>\n"
        "  — <relative/path>:<line number>\n```\n"
    ) in definition.prompt
    (words,) = [line for line in definition.prompt.split("\n") if "`" in line and "```" not in line]
    assert 6 <= words.count("`") // 2 <= 10


def test_the_nearest_definition_is_meant(home: Path, cwd: Path) -> None:
    user = write(home, "a.md", "name: sydney-coder\ndescription: the user's")
    assert Catalogue.load(cwd, home).get("sydney-coder").source == user
    above = write(cwd.parent, "sub/b.md", "name: sydney-coder\ndescription: above")
    assert Catalogue.load(cwd, home).get("sydney-coder").source == above
    here = write(cwd, "c.md", "name: sydney-coder\ndescription: here")
    assert Catalogue.load(cwd, home).get("sydney-coder").source == here
    run = AgentDefinition("Sydney Coder", "an object")
    catalogue = Catalogue.load(cwd, home, [run])
    assert catalogue.get("sydney-coder") is run
    shadowed = [problem for problem in catalogue.problems if "shadowed by" in problem.message]
    assert [problem.path for problem in shadowed][:3] == [here, above, user]
    assert "shadowed by an object of this run" in str(shadowed[0])


@pytest.mark.parametrize("name", ["sydney research", "SYDNEY_RESEARCH", "SydneyResearch", " sydney-research "])
def test_case_and_separators_do_not_matter(name: str, home: Path, cwd: Path) -> None:
    assert Catalogue.load(cwd, home).get(name).name == "sydney-research"


def test_an_unknown_name_says_where_it_was_looked_for_and_what_there_is(home: Path, cwd: Path) -> None:
    with pytest.raises(AgentNotFoundError) as caught:
        Catalogue.load(cwd, home).get("sydney-reserch")
    assert str(caught.value).split("\n") == [
        'agent "sydney-reserch" not found',
        "  searched: .claude/agents, ~/.claude/agents, packaged",
        f"  there are: {listed(COMING)}",
        '  did you mean "sydney-research"?     fanfold agents ls',
    ]


def listed(names: list[str]) -> str:
    more = f" and {len(names) - 12} more" if len(names) > 12 else ""
    return ", ".join(names[:12]) + more


def test_the_list_of_what_there_is_is_bounded(home: Path, cwd: Path) -> None:
    objects = [AgentDefinition(f"agent {number}", "d") for number in range(50)]
    more = 50 + len(COMING) - 12
    with pytest.raises(AgentNotFoundError, match=rf"searched: this run, \.claude/agents.*\n.*and {more} more"):
        Catalogue.load(cwd, home, objects).get("zzz")


def test_a_broken_file_is_reported_and_the_rest_loads(home: Path, cwd: Path) -> None:
    broken = write(cwd, "broken.md", "name: Sydney Coder\ndescription: d\nmaxTurns: ten")
    write(cwd, "good.md", "name: good\ndescription: d")
    catalogue = Catalogue.load(cwd, home)
    assert catalogue.get("good").description == "d"
    (problem,) = [problem for problem in catalogue.problems if problem.path == broken]
    assert problem.message.startswith("4: `maxTurns` must be")
    for name in ("broken", "sydney-coder"):  # the packaged one is not meant any more
        with pytest.raises(AgentFileError, match="`maxTurns`"):
            catalogue.get(name)
    assert "sydney-coder" not in [definition.name for definition in catalogue]


def test_a_broken_file_does_not_take_a_name_from_a_sound_one_beside_it(home: Path, cwd: Path) -> None:
    write(cwd, "a.md", "description: no name")
    sound = write(cwd, "b.md", "name: a\ndescription: d")
    assert Catalogue.load(cwd, home).get("a").source == sound


def test_a_duplicate_in_one_place_is_a_problem_and_the_first_path_counts(home: Path, cwd: Path) -> None:
    first = write(cwd, "a.md", "name: same\ndescription: d")
    second = write(cwd, "b.md", "name: Same\ndescription: d")
    catalogue = Catalogue.load(cwd, home)
    assert catalogue.get("same").source == first
    assert Problem(second, f"agent 'Same' is a duplicate of {first}", "duplicate") in catalogue.problems


def test_the_home_directory_above_the_working_directory_is_the_users_place(tmp_path: Path) -> None:
    (tmp_path / "project").mkdir()
    write(tmp_path, "a.md", "name: mine\ndescription: d")
    catalogue = Catalogue.load(tmp_path / "project", tmp_path)
    assert catalogue.get("mine").origin == "user"
    assert not [problem for problem in catalogue.problems if "mine" in problem.message]


def test_the_home_directory_is_the_one_of_the_environment(
    home: Path, cwd: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(home, "a.md", "name: mine\ndescription: d")
    monkeypatch.setenv("HOME", str(home))
    assert Catalogue.load(cwd).get("mine").origin == "user"


def test_what_is_no_readable_file_is_a_problem_and_is_not_waited_for(home: Path, cwd: Path) -> None:
    folder = write(cwd, "latin.md", "x").parent
    (folder / "latin.md").write_bytes(b"---\nname: caf\xe9\n---\n")
    (folder / "large.md").write_bytes(b" " * 300_000)
    (folder / "gone.md").symlink_to("nowhere")
    (folder / "linked").symlink_to(cwd)
    (folder / "folder.md").mkdir()
    os.mkfifo(folder / "pipe.md")
    messages = [str(problem) for problem in Catalogue.load(cwd, home).problems]
    for path, cause in [
        ("latin.md", "not UTF-8 text (byte 13)"),
        ("large.md", "300000 bytes"),
        ("gone.md", "cannot be read: No such file"),
        ("linked", "is a link to a folder, and is not followed"),
        ("pipe.md", "not a file"),
    ]:
        assert any(path in message and cause in message for message in messages), (path, messages)
    assert len(messages) == 5


@pytest.mark.parametrize(
    ("tools", "peers"),
    [
        (None, ()),
        ((), ()),
        (("Read", "mcp__agent__x", "Agents(x)"), ()),
        (("Agent(x, y)", "Read", "task( z ,x)"), ("x", "y", "z")),
        (("Agent(x)", "Task"), None),
        (("agent()",), None),
    ],
)
def test_who_an_agent_may_call_is_said_by_its_tools(
    tools: tuple[str, ...] | None, peers: tuple[str, ...] | None
) -> None:
    assert AgentDefinition("a", "d", tools=tools).peers() == peers


def test_the_files_of_a_folder_can_be_handed_to_a_run(tmp_path: Path) -> None:
    for path, name in [("b.md", "beta"), ("deep/a.md", "alpha"), ("deep/er/z.md", "Alpha")]:
        write(tmp_path, path, f"name: {name}\ndescription: d")
    found = agents_in(tmp_path / ".claude" / "agents")
    assert [(definition.name, definition.origin) for definition in found] == [("alpha", "run"), ("beta", "run")]
    write(tmp_path, "c.md", "name: c")
    with pytest.raises(AgentFileError, match="no `description`"):
        agents_in(tmp_path / ".claude" / "agents")
    with pytest.raises(UsageError, match="there is no folder"):
        agents_in(tmp_path / "nowhere")


def test_two_hundred_files_load_within_150_ms(home: Path, cwd: Path) -> None:
    for number in range(200):
        head = f"name: agent-{number}\ndescription: Use it when: {number}\nmodel: sonnet"
        write(cwd, f"group-{number % 7}/agent-{number}.md", head, "You are an expert.\n" * 100)
    best = 1.0
    for _ in range(5):  # the best of a few, in time of the processor: others share this machine
        start = time.process_time()
        catalogue = Catalogue.load(cwd, home)
        best = min(best, time.process_time() - start)
    assert len(list(catalogue)) == 200 + len(COMING)
    assert best < 0.15
