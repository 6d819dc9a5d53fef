"""Which model answers an agent, by its name. The rule about money is decided here and nowhere else.

**A model is asked only when a user named one**: in the call, for the run, or in the environment's `FANFOLD_MODEL` and
`FANFOLD_MODELS`. A key that lies in the environment names nothing, and neither does an agent file, since files come in
collections that other people wrote. But a file may say of which kind the model should be (`model: haiku`), and a user
may say what is meant by that (`models={"haiku": "anthropic:..."}`). Then that model answers::

    the call's own          Task(model=...)
    the file's alias        as the run's `models` have it, else FANFOLD_MODELS
    the run's own           invoke(model=...), else FANFOLD_MODEL
    nobody                  the rehearsal model, which asks no language model

Wherever a user writes a model's name, an alias of theirs will do. A run whose own model is the rehearsal, or a server,
is to ask nothing else: then the environment's aliases mean nothing, and only those count that were given with it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from fanfold.agents.backends.model import check_name
from fanfold.agents.definition import AgentDefinition
from fanfold.errors import UsageError, did_you_mean

REHEARSAL: Final = "rehearsal"

MODEL: Final = "FANFOLD_MODEL"
MODELS: Final = "FANFOLD_MODELS"

SIZES: Final = frozenset({"inherit", "sonnet", "opus", "haiku"})
"""Names of sizes in agent files. They mean the run's own model, and are no wish for another, until a user says so."""

_FORM: Final = "sonnet=anthropic:NAME"


@dataclass(frozen=True, slots=True)
class Models:
    """What a user has named for one run: a model, and what aliases mean."""

    model: Any = None
    aliases: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, model: Any, aliases: Any) -> Models:
        """What was given to the run. Raises `UsageError` for an alias that can mean nothing."""
        if not isinstance(aliases or {}, Mapping):
            raise UsageError(
                f"models= is {aliases!r:.80}, which is no mapping of aliases to models",
                hint='give it as models={"sonnet": "anthropic:..."}',
            )
        return cls(model, checked((aliases or {}).items(), "models="))

    def named(self, definition: AgentDefinition, own: Any = None) -> Any:
        """The model that is to answer: a whole name, "rehearsal", or a server; None when nobody named any.

        `own` is the call's. Raises `UsageError` for a name that can mean nothing.
        """
        for wanted in (own, self._alias(definition), self.model, os.environ.get(MODEL)):
            if wanted:
                return meant(wanted, self._known())
        return None

    def ignored(self, definition: AgentDefinition, answering: Any) -> str | None:
        """The model that an agent's file asks for in vain, when a real one was named and it is another."""
        wish = definition.model
        if wish is None or not isinstance(answering, str) or self._alias(definition) == answering:
            return None
        return wish if _folded(wish) not in SIZES and wish != answering else None

    def _alias(self, definition: AgentDefinition) -> Any:
        """What a user has said that the file's word for its model means, if anything."""
        return self._known().get(_folded(definition.model)) if definition.model else None

    def _known(self) -> Mapping[str, Any]:
        alone = self.model is not None and (self.model == REHEARSAL or not isinstance(self.model, str))
        return self.aliases if alone else {**from_environment(), **self.aliases}


def meant(wanted: Any, aliases: Mapping[str, Any]) -> Any:
    """The model that a user's word means. Raises `UsageError` for one that can mean nothing."""
    if wanted == REHEARSAL:
        return REHEARSAL
    if not isinstance(wanted, str):
        return _server(wanted, "model=")
    if _folded(wanted) in aliases:
        return aliases[_folded(wanted)]
    if ":" not in wanted and aliases:
        raise UsageError(
            f"model {wanted!r} is neither provider:model nor an alias{did_you_mean(wanted, aliases)}",
            hint=f"the aliases are: {', '.join(sorted(aliases))}",
        )
    check_name(wanted)
    return wanted


def from_environment() -> dict[str, Any]:
    """The aliases of `FANFOLD_MODELS`. Raises `UsageError` where it cannot be read."""
    entries = [entry.strip() for entry in os.environ.get(MODELS, "").split(",")]
    return checked((pair(entry, MODELS) for entry in entries if entry), MODELS)


def pair(text: str, where: str) -> tuple[str, str]:
    """The alias and the model of `alias=provider:model`. Raises `UsageError`, which names `where` it stood."""
    alias, equals, model = text.partition("=")
    if not equals or not alias.strip() or not model.strip():
        raise UsageError(f"{where}: {text!r} does not say which alias means which model", hint=f"write it as {_FORM}")
    return alias.strip(), model.strip()


def checked(pairs: Iterable[tuple[Any, Any]], where: str) -> dict[str, Any]:
    """Aliases as they are compared, with what they mean. Raises `UsageError`, which names `where` they stood."""
    aliases: dict[str, Any] = {}
    for alias, model in pairs:
        if not isinstance(alias, str) or not alias.strip() or _folded(alias) in ("inherit", REHEARSAL):
            raise UsageError(f"{where}: {alias!r:.80} cannot be an alias of a model", hint=f"such as {_FORM}")
        if _folded(alias) in aliases:
            raise UsageError(f"{where}: the alias {alias!r} is given twice", hint="leave one of them out")
        aliases[_folded(alias)] = _checked(model, f"{where}: alias {alias!r}")
    return aliases


def _checked(model: Any, where: str) -> Any:
    if not isinstance(model, str):
        return _server(model, where)
    if model != REHEARSAL:
        try:
            check_name(model)
        except UsageError as error:
            raise UsageError(f"{where}: {error.args[0]}", hint=error.hint) from None
    return model


def _server(model: Any, where: str) -> Any:
    if not isinstance(getattr(model, "url", None), str):
        raise UsageError(
            f"{where} is {model!r:.80}, which is neither a name nor a server",
            hint="name it as provider:model, or give a server that has a url, such as fanfold.testing.ModelServer",
        )
    return model


def _folded(alias: str) -> str:
    return alias.strip().casefold()
