"""A folder of agent files as public collections have them, in our own words, and what each has to be read as.

The table is written by hand, beside the files. Whoever changes how files are read changes it by hand, too.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from fanfold.agents.definition import AgentDefinition, Catalogue, parse
from fanfold.agents.heeded import unheeded
from fanfold.agents.tools import permitted
from fanfold.errors import AgentFileError

CORPUS = Path(__file__).parent / "corpus"


@dataclass(frozen=True)
class Read:
    """What a file is read as. `says` and `body` are how its description and its body begin and end."""

    name: str
    says: tuple[str, str]
    tools: tuple[str, ...] | None = None
    model: str | None = None
    notices: tuple[str, ...] = ()
    extra: dict[str, Any] = field(default_factory=dict)
    more: dict[str, Any] = field(default_factory=dict)
    body: tuple[str, str] = ("You ", ".")


TEXT = "line 3: `description` is no valid YAML"
SONNET = "sonnet"

FILES: dict[str, Read] = {
    # Name, description and model, as nearly all files are.
    "core/backend-developer.md": Read(
        "backend-developer",
        ("Builds services behind an API, ", "background jobs."),
        model=SONNET,
        body=("You build the part", "3. Say what happens when the database is slow."),
    ),
    "core/frontend-developer.md": Read(
        "frontend-developer", ("Makes screens", "Use PROACTIVELY when a component changes."), model="opus"
    ),
    "core/api-designer.md": Read(
        "api-designer", ("Designs interfaces", "by accident.")[:1] + ("first.",), model="haiku"
    ),
    "core/fullstack-developer.md": Read("fullstack-developer", ("Takes a feature", "every layer.")),
    "core/mobile-developer.md": Read("mobile-developer", ("Builds apps", "in lifts.")),
    "core/ui-designer.md": Read(
        "ui-designer", ("Gives screens", "follow."), model="claude-sonnet-4-5", extra={"color": "purple"}
    ),
    "core/microservices-architect.md": Read(
        "microservices-architect", ("Decides where", "costs."), ("Read", "Grep", "Glob"), SONNET
    ),
    "core/graphql-architect.md": Read(
        "graphql-architect", ("Designs schemas", "by accident."), ("Read", "Write", "Edit", "Bash"), SONNET
    ),
    "core/websocket-engineer.md": Read(
        "websocket-engineer",
        ("Keeps connections open, notices", "never sends twice."),
        ("Read", "Write", "Edit", "Bash", "Glob", "Grep"),
        "opus",
    ),
    "core/electron-pro.md": Read("electron-pro", ("Puts web pages", "the house."), model=SONNET),
    # Tools and texts in each form of YAML.
    "languages/python-pro.md": Read(
        "python-pro", ("Writes Python", "packaging."), ("Read", "Write", "Edit", "Bash"), SONNET
    ),
    "languages/rust-engineer.md": Read(
        "rust-engineer", ("Writes Rust", "left to say."), ("Read", "Write", "Bash"), "opus"
    ),
    "languages/golang-pro.md": Read("golang-pro", ("Writes Go", "many tests."), ("Read", "Bash")),
    "languages/typescript-pro.md": Read(
        "typescript-pro", ("Writes TypeScript: strict, without any,", "from the data."), model=SONNET
    ),
    "languages/cpp-pro.md": Read("cpp-pro", ("Writes C++", "like; it's about lifetimes, mostly."), model=SONNET),
    "languages/csharp-developer.md": Read(
        "C# Developer",
        ("Writes C# for", "for desks."),
        model=SONNET,  # what follows is a comment
    ),
    "languages/sql-pro.md": Read("sql_pro", ("Writes SQL", "after."), ("Read", "Grep", "Bash"), "haiku"),
    "languages/php-pro.md": Read(
        "PHP Pro", ("Writes PHP of this decade. Knows which functions return false", "mean an error."), model=SONNET
    ),
    "languages/ruby-pro.md": Read(
        "ruby-pro", ("Writes Ruby that reads like a sentence.\n\nUse it", "became important."), model=SONNET
    ),
    "languages/elixir-expert.md": Read("elixir-expert", ("Lets it crash", "right place.")),
    "languages/java-architect.md": Read(
        "java-architect", ("Plans Java", "on a page."), None, "opus", ("line 4: `tools` is no valid YAML",)
    ),
    "languages/unicode-linguist.md": Read(
        "Übersetzer-für-日本語",
        ("Übersetzt Texte zwischen Deutsch und 日本語", "— sinngemäß."),
        model=SONNET,
        body=("Du übersetzt.", "しかし自然に。"),
    ),
    # Descriptions that are no YAML.
    "quality/code-reviewer.md": Read(
        "code-reviewer",
        ("Use this agent when: a change is ready", "It reads the diff: first the tests, then the rest."),
        ("Read", "Grep", "Glob", "Bash"),
        "opus",
        (TEXT,),
    ),
    "quality/test-automator.md": Read(
        "test-automator",
        ("Writes tests that fail first. Examples: <example>Context: a bug", "comes back.</commentary></example>"),
        model=SONNET,
        notices=(TEXT,),
    ),
    "quality/debugger.md": Read(
        "debugger",
        (r"Use this agent when something fails and nobody knows why. Examples:\n\n<example>", r"\n</example>"),
        model=SONNET,
        notices=(TEXT,),
        extra={"color": "red"},
    ),
    "quality/qa-expert.md": Read(
        "qa-expert",
        ("Use this agent to plan", "Risk first: then the plan.\n</commentary>\n</example>"),
        ("Read", "Grep"),
        notices=(TEXT,),
        extra={"color": "green"},
    ),
    "quality/performance-engineer.md": Read(
        "performance-engineer",
        ("Finds what is slow: measures, changes one thing, measures again", "by how much: with numbers"),
        ("Read", "Bash"),
        notices=(TEXT,),
    ),
    "quality/security-auditor.md": Read(
        "security-auditor", ("**MUST BE USED** before", "reaches a shell"), ("Read", "Grep", "Glob"), "opus", (TEXT,)
    ),
    "quality/accessibility-tester.md": Read(
        "accessibility-tester", ('Says "yes" only after', "has said it"), model=SONNET, notices=(TEXT,)
    ),
    "quality/chaos-engineer.md": Read(
        "chaos-engineer", ("[experimental] Breaks", "on a Saturday"), model=SONNET, notices=(TEXT,)
    ),
    "quality/compliance-auditor.md": Read(
        "compliance-auditor", ("@legal asks", "it answers"), model=SONNET, notices=(TEXT,)
    ),
    "quality/architect-reviewer.md": Read(
        "architect-reviewer", ("`layers` and", "crosses them"), model="opus", notices=(TEXT,)
    ),
    "quality/penetration-tester.md": Read(
        "penetration-tester", ("Tries doors, with permission -> writes", "open & why (always)"), model=SONNET
    ),
    "quality/linter.md": Read("linter", ("Runs the linters", "what they say."), ("Read", "Bash")),
    # Keys that decide what an agent may do.
    "infrastructure/devops-engineer.md": Read(
        "devops-engineer",
        ("Makes the way", "boring."),
        ("Read", "Write", "Edit", "Bash", "Glob", "Grep", "mcp__docker__ps", "mcp__github__create_issue"),
        SONNET,
    ),
    "infrastructure/kubernetes-specialist.md": Read(
        "kubernetes-specialist", ("Reads manifests", "make of them."), ("mcp__kubernetes__*", "Read"), SONNET
    ),
    "infrastructure/terraform-engineer.md": Read(
        "terraform-engineer",
        ("Plans first", "by itself."),
        ("Bash(terraform plan:*)", "Bash(terraform fmt:*)", "Read"),
        SONNET,
        more={"disallowed_tools": ("Write", "Edit")},
    ),
    "infrastructure/sre-engineer.md": Read(
        "sre-engineer",
        ("Decides which alarm", "wake somebody."),
        ("Read", "Grep", "Bash"),
        SONNET,
        more={"disallowed_tools": ("Bash(rm *)",), "max_turns": 30},
    ),
    "infrastructure/incident-responder.md": Read("incident-responder", ("Keeps the log", "repair it."), (), "haiku"),
    "infrastructure/cloud-architect.md": Read(
        "cloud-architect", ("Chooses among clouds", "would cost."), (), "opus", ("`tools` is empty",)
    ),
    "infrastructure/network-engineer.md": Read(
        "network-engineer",
        ("Follows a packet", "gets lost."),
        model=SONNET,
        extra={
            "permissionMode": "plan",
            "effort": "high",
            "memory": "project",
            "background": True,
            "isolation": "worktree",
            "color": "cyan",
        },
    ),
    "infrastructure/database-administrator.md": Read(
        "database-administrator",
        ("Keeps databases fast", "restored once."),
        model=SONNET,
        extra={
            "mcpServers": {
                "postgres": {"command": "run-postgres-mcp", "args": ["--read-only"], "env": {"PGHOST": "localhost"}},
                "docs": {"type": "http", "url": "http://localhost:8000/mcp"},
            }
        },
    ),
    "infrastructure/platform-engineer.md": Read(
        "platform-engineer",
        ("Builds the road", "drive on."),
        model=SONNET,
        extra={
            "mcpServers": ["github", {"tickets": {"command": "serve-tickets"}}],
            "skills": ["release-notes", "migrations"],
        },
    ),
    "infrastructure/deployment-engineer.md": Read(
        "deployment-engineer",
        ("Puts things live", "back."),
        extra={
            "hooks": {
                "PreToolUse": [{"matcher": "Bash", "hooks": [{"type": "command", "command": "./scripts/allowed.sh"}]}],
                "Stop": [{"hooks": [{"type": "command", "command": "echo done"}]}],
            },
            "permissionMode": "acceptEdits",
        },
    ),
    # The rest of the keys, and what is none.
    "data-ai/data-engineer.md": Read(
        "data-engineer",
        ("Moves data", "read, once."),
        model=SONNET,
        extra={
            "initialPrompt": "List the sources first.\nThen the sinks.\n",
            "omitClaudeMd": True,
            "autoCompactWindow": 150_000,
        },
    ),
    "data-ai/data-scientist.md": Read(
        "data-scientist",
        ("Asks what", "then looks."),
        model=SONNET,
        extra={"effort": 32_000, "observer": "note-taker", "observerMessage": "Write down each assumption."},
    ),
    "data-ai/ml-engineer.md": Read(
        "ml-engineer", ("Trains the smallest", "the job."), notices=("line 4: `model` must be the name of a model",)
    ),
    "data-ai/llm-architect.md": Read(
        "llm-architect", ("Decides which", "not be asked."), model="gpt-5", notices=("line 5: `color` must be one of",)
    ),
    "data-ai/prompt-engineer.md": Read(
        "prompt-engineer",
        ("Shortens prompts", "is needed."),
        model=SONNET,
        notices=tuple(f"unknown key {key!r}" for key in ("version", "author", "tags", "category")),
    ),
    "data-ai/nlp-engineer.md": Read(
        "nlp-engineer",
        ("Counts before", "classifies."),
        notices=(
            "unknown key 'tool'; did you mean 'tools'?",
            "unknown key 'Model'; did you mean 'model'?",
            "unknown key 'max_turns'; did you mean 'maxTurns'?",
        ),
    ),
    "data-ai/data-analyst.md": Read(
        "data-analyst",
        ("Answers with", "one sentence."),
        model="haiku",
        notices=("unknown key 'priority'", "unknown key 'updated'"),
        extra={"color": "blue"},
    ),
    "meta/team-lead.md": Read(
        "team-lead",
        ("Splits a task", "together."),
        ("Agent(code-reviewer, test-automator)", "Task(debugger)", "Read"),
        "opus",
    ),
    "meta/counter.md": Read(
        "counter",
        ("Counts the words", "is given."),
        notices=("no body",),
        more={"backend": "process", "command": "wc -w", "timeout": 10, "memory_mb": 200, "max_concurrent": 2},
        body=("", ""),
    ),
    "meta/classifier.md": Read(
        "classifier",
        ("Puts a ticket", "three boxes."),
        (),
        "haiku",
        more={
            "output": {
                "type": "object",
                "properties": {
                    "box": {"type": "string", "enum": ["bug", "wish", "question"]},
                    "sure": {"type": "number"},
                },
                "required": ["box"],
            },
            "budget_usd": 0.02,
            "max_turns": 3,
        },
    ),
    "meta/shell-words.md": Read(
        "shell-words",
        ("Says how a shell", "into words."),
        more={
            "backend": "process",
            "command": ("python3", "-c", "import shlex, sys; print(shlex.split(sys.stdin.read()))"),
        },
    ),
    "meta/deep/er/still/nested-agent.md": Read("nested-agent", ("Lies four folders", "all the same.")),
    # Line ends, marks, and odd bodies.
    "odd/windows.md": Read(
        "windows",
        ("Was written", "two characters: on purpose"),
        model=SONNET,
        notices=(TEXT,),
        body=("First line.\n\nSecond", "paragraph."),
    ),
    "odd/byte-order-mark.md": Read("byte-order-mark", ("Begins with", "nobody sees."), model=SONNET),
    "odd/bom-and-windows.md": Read("bom-and-windows", ("Has both.", "Has both."), ("Read", "Grep")),
    "odd/old-mac.md": Read("old-mac", ("Ends its lines", "for decades.")),
    "odd/blank-first.md": Read("blank-first", ("Begins with", "empty lines.")),
    "odd/rules-in-body.md": Read(
        "rules-in-body", ("Has lines", "in its body."), body=("# One\n\n---\n\nname: not-a-key", "---\n# Two")
    ),
    "odd/no-body.md": Read("no-body", ("Has nothing", "its model."), model=SONNET, notices=("no body",), body=("", "")),
    "odd/blank-body.md": Read("blank-body", ("Has a body", "of blanks."), notices=("no body",), body=("", "")),
    "odd/long-body.md": Read(
        "long-body",
        ("Has a body", "files of code."),
        model=SONNET,
        body=("You follow", "- point 1000: look at it once, and say in a word what you saw"),
    ),
    "odd/long-description.md": Read(
        "long-description", ("It knows about subject number 1,", "number 60, which matters sometimes."), model=SONNET
    ),
    "odd/comments.md": Read("comments", ("Has comments", "in its front matter"), model="haiku"),
    "odd/yes-and-no.md": Read("no", ("yes", "yes"), model=SONNET),
    "odd/twice.md": Read(
        "twice",
        ("The second description.", "."),
        model=SONNET,
        notices=("key 'description' stands twice", "key 'model' stands twice"),
    ),
    "odd/trailing.md": Read("trailing", ("Has blanks", "of its lines."), ("Read", "Grep")),
    "odd/escapes.md": Read(
        "escapes", ('Uses "escapes" in quotes: a tab\there, a line\nthere,', "a snowman \u2603."), model=SONNET
    ),
    "odd/windows-path.md": Read("windows-path", (r"Looks into C:\Users\you\notes", "it found"), model=SONNET),
    "odd/mode-word.md": Read(
        "mode-word",
        ("Has a model", "in capitals."),
        notices=("line 5: `memory` must be one of", "line 6: `skills` must be names"),
    ),
    # Three files with one name, as names are compared.
    "twins/a-release-manager.md": Read("release-manager", ("The first", "of two.")),
    "twins/b-release-manager.md": Read("Release Manager", ("The second", "spelled otherwise.")),
    "twins/c-release_manager.md": Read("release_manager", ("The third", "of two.")),
}

BROKEN: dict[str, str] = {
    "broken/no-front-matter.md": ":1: no front matter",
    "broken/never-closed.md": ":1: the front matter has no closing `---`",
    "broken/no-name.md": ": no `name`",
    "broken/no-description.md": ": no `description`",
    "broken/empty-description.md": ":3: no `description`",
    "broken/number-name.md": ":2: `name` must be text (put it in quotes); found 42",
    "broken/many-turns.md": ':4: `maxTurns` must be a whole number of 1 or more; found "unlimited"',
    "broken/yolo.md": "did you mean 'bypassPermissions'?",
    "broken/remote.md": ':4: `isolation` must be one of worktree, sandbox; found "remote"',
    "broken/unknown-backend.md": "did you mean 'model'?",
    "broken/tools-mapping.md": ":4: `tools` must be names",
    "broken/code.md": "a tag is not read here",
    "broken/laughing.md": "an alias is not read here",
    "broken/half-list.md": ":5: the front matter is no valid YAML",
    "broken/free-budget.md": ":4: `budget_usd` must be a number above 0; found -1",
    "broken/latin-1.md": "not UTF-8 text (byte 32)",
    "broken/empty.md": ":1: no front matter",
}


def load(path: str) -> AgentDefinition:
    return parse((CORPUS / path).read_bytes().decode(), CORPUS / path)


def test_every_file_is_in_the_table_and_there_are_many() -> None:
    files = {str(path.relative_to(CORPUS)) for path in CORPUS.rglob("*.md")}
    assert files == {*FILES, *BROKEN}
    assert len(files) >= 60


@pytest.mark.parametrize("path", FILES)
def test_a_file_of_the_corpus_is_read_as_it_was_meant(path: str) -> None:
    expected, found = FILES[path], load(path)
    assert found.name == expected.name
    assert found.description.startswith(expected.says[0])
    assert found.description.endswith(expected.says[1])
    assert found.tools == expected.tools
    assert found.model == expected.model
    assert found.prompt.startswith(expected.body[0])
    assert found.prompt.endswith(expected.body[1])
    assert bool(found.prompt) == bool(expected.body[0])
    assert found.extra == expected.extra
    assert len(found.notices) == len(expected.notices), found.notices
    for notice, begins in zip(found.notices, expected.notices, strict=True):
        assert notice.startswith(begins)
    plain = AgentDefinition(found.name, found.description)
    for key in ("disallowed_tools", "max_turns", "backend", "output", "command", "timeout", "budget_usd", "memory_mb"):
        assert getattr(found, key) == expected.more.get(key, getattr(plain, key)), key
    assert found.max_concurrent == expected.more.get("max_concurrent")


@pytest.mark.parametrize("path", BROKEN)
def test_a_file_of_the_corpus_that_cannot_be_used_says_why(path: str) -> None:
    catalogue = Catalogue.below(CORPUS / "broken")
    with pytest.raises(AgentFileError) as caught:
        catalogue.get(Path(path).stem)
    assert BROKEN[path] in str(caught.value)
    assert Path(path).name in str(caught.value)


def test_the_whole_corpus_loads_but_for_what_is_broken_and_says_what_is_odd(tmp_path: Path) -> None:
    (tmp_path / ".claude").mkdir()
    (tmp_path / ".claude" / "agents").symlink_to(CORPUS)
    catalogue = Catalogue.load(tmp_path, tmp_path / "home")
    names = [definition.name for definition in catalogue if definition.origin == "project"]
    assert len(names) == len(FILES) - 2
    assert len(catalogue.broken()) == len(BROKEN)
    kinds = [problem.kind for problem in catalogue.problems]
    assert kinds.count("unusable") == len(BROKEN)
    assert kinds.count("duplicate") == 2
    assert kinds.count("odd") == sum(len(expected.notices) for expected in FILES.values())
    assert set(kinds) == {"unusable", "duplicate", "odd"}


def test_the_first_of_twins_is_meant_by_each_spelling() -> None:
    catalogue = Catalogue.below(CORPUS)
    for name in ("release-manager", "Release Manager", "release_manager", "RELEASEMANAGER"):
        assert catalogue.get(name).description == "The first of two."


def test_an_agent_that_names_no_tools_has_all_and_one_that_names_some_has_those() -> None:
    assert permitted(load("core/mobile-developer.md").tools) == permitted(None)
    assert permitted(load("languages/elixir-expert.md").tools) == permitted(None)
    assert permitted(load("infrastructure/incident-responder.md").tools).allowed == ()
    assert set(permitted(load("core/microservices-architect.md").tools).allowed) == {"read", "grep", "glob"}


def test_what_a_backend_does_not_heed_of_a_file_is_known() -> None:
    assert {"isolation", "memory"} <= set(unheeded(load("infrastructure/network-engineer.md")))
    assert unheeded(load("meta/counter.md")) == []
