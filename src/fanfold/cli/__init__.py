"""The `fanfold` command.

Each sub-command is a module that is imported when it is called, so that `fanfold --help` is quick. What a command
raises ends here: as one clear message and an exit code, or with `--traceback` as the whole story.
"""

from __future__ import annotations

import os
import signal
import sys
from importlib import import_module
from typing import Any, Final, NoReturn

import click

from fanfold import __version__
from fanfold.cli.program import as_called, program
from fanfold.errors import (
    AgentFileError,
    AgentNotFoundError,
    BudgetError,
    EmptyInputError,
    ExportError,
    GraphError,
    MissingExtraError,
    ModelKeyError,
    ModelUnavailableError,
    RunNotFoundError,
    StoreError,
    UsageError,
    WorkspaceError,
    did_you_mean,
)

FAILED: Final = 1
USAGE: Final = 2
PAUSED: Final = 3
GATE: Final = 4
SPENT: Final = 5
ENVIRONMENT: Final = 6
INTERRUPTED: Final = 130
TERMINATED: Final = 143

COMMANDS: Final = {
    "demo": ("fanfold.cli.demo:demo", "Let four agents study a folder in parallel, and prove that they did."),
    "debate": ("fanfold.cli.debate:debate", "Let two sides argue a question with evidence from a folder, and decide."),
    "research": (
        "fanfold.cli.research:research",
        "Debate a topic, and let specialists look into what that leaves open.",
    ),
    "run": ("fanfold.cli.run:run", "Run a graph."),
    "resume": ("fanfold.cli.run:resume", "Go on with a run that was stopped, without repeating what had finished."),
    "task": ("fanfold.cli.task:task", "Ask one agent."),
    "agents": ("fanfold.cli.agents:agents", "See which agents there are."),
    "runs": ("fanfold.cli.runs:runs", "See what has been run."),
    "graph": ("fanfold.cli.graph:graph", "See what a graph looks like."),
    "audit": (
        "fanfold.cli.audit:audit",
        "Print a run's receipt, or run a graph and judge it; fail when it falls short.",
    ),
    "bench": ("fanfold.cli.bench:bench", "Measure what fanfold costs on this machine."),
    "mcp": ("fanfold.cli.mcp:mcp", "Serve runs, memory and a read-only database to agents of other programs."),
    "store": ("fanfold.cli.store:store", "Keep what is kept in order: prune, check, migrate, count."),
}


class _Commands(click.Group):
    """Sub-commands that are imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(import_module(module), attribute)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            raise UsageError(
                f"fanfold has no command {args[0]!r}{did_you_mean(args[0], COMMANDS)}", hint="see: fanfold --help"
            )
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="fanfold")
@click.option("--traceback", is_flag=True, help="On an error, print where in the code it was raised.")
def cli(traceback: bool) -> None:
    """Fan out the agents, fold in the results, and prove that they really ran side by side."""


def main() -> NoReturn:
    """Run the command that the process was started with, and end the process with its exit code.

    This is click's own `main` without the meaning that it gives to exceptions: a node can raise each of them, too.
    """
    asked: list[int] = []

    def interrupted(number: int, _: Any) -> NoReturn:
        asked.append(number)
        raise KeyboardInterrupt  # not every event loop lets an error of another class through

    signal.signal(signal.SIGTERM, interrupted)
    try:
        with cli.make_context(program(), sys.argv[1:]) as context:
            cli.invoke(context)
        sys.stdout.flush()
    except click.exceptions.Exit as end:
        sys.exit(end.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        sys.exit(TERMINATED if asked else INTERRUPTED)
    except BaseException as error:  # noqa: BLE001 - the edge of the program: every error becomes a message and a code
        sys.exit(_reported(error))
    sys.exit(0)


def exit_code(error: BaseException) -> int:
    """What the process ends with when a command raised `error`."""
    usage = (
        UsageError,
        EmptyInputError,
        GraphError,
        AgentFileError,
        AgentNotFoundError,
        WorkspaceError,
        RunNotFoundError,
    )
    environment = (MissingExtraError, ExportError, ModelKeyError, ModelUnavailableError, StoreError)
    if isinstance(error, usage):
        return USAGE
    if isinstance(error, BudgetError):
        return SPENT
    return ENVIRONMENT if isinstance(error, environment) else FAILED


def _reported(error: BaseException) -> int:
    if isinstance(error, BrokenPipeError) and not hasattr(error, "__notes__"):  # ours: nobody reads on, so we are done
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    elif "--traceback" in sys.argv:
        import traceback

        traceback.print_exception(error)
    else:
        print(message(error), file=sys.stderr)
    return exit_code(error)


def message(error: BaseException) -> str:
    """An error for a person: what, where and what to do; never a trace."""
    from fanfold.errors import FanfoldError
    from fanfold.live import clean

    text = str(error) if isinstance(error, FanfoldError) else brief(error)
    if isinstance(error, FanfoldError) and error.hint:
        text = text.replace(error.hint, as_called(error.hint, COMMANDS))
    notes = [f"  {note}" for note in getattr(error, "__notes__", ())]
    return clean("\n".join([f"error: {text}", *notes]))


def brief(error: BaseException) -> str:
    """An exception that is not ours: its class, and what it says where it says something."""
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
