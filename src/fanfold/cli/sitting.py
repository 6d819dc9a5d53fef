"""One sitting of a run, as a command shows it: the live view, what is said when it fails, and its receipt."""

from __future__ import annotations

import sys
import uuid
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fanfold.agents.scope import RehearsalWarning
from fanfold.cli.common import say, short, suggested
from fanfold.events import Event, ModelAnswered, Noticed
from fanfold.family import UnknownKeyWarning
from fanfold.graph import CompiledGraph
from fanfold.live import view_for
from fanfold.receipt import Receipt, audit, receipt
from fanfold.store.base import Store


@dataclass(slots=True)
class Sitting:
    """Runs a graph and keeps its events. `settings` are stored with the run, for a resume.

    Unless it is `lasting`, its store ends with it, and there is nothing to go on with.
    """

    graph: CompiledGraph
    settings: Mapping[str, Any] = field(default_factory=dict)
    plain: bool = False
    quiet: bool = False
    run_id: str = field(default_factory=lambda: uuid.uuid4().hex[:12])
    events: list[Event] = field(default_factory=list)
    on_event: Any = None
    lasting: bool = True

    def invoke(self, input: Any, **options: Any) -> Any:
        """The run's output. When it fails or is stopped, says how to go on, and raises."""
        view = view_for(sys.stderr, plain=self.plain, quiet=self.quiet)
        try:
            with view, warnings.catch_warnings():
                for said in (UnknownKeyWarning, RehearsalWarning):  # by the command itself, as notes
                    warnings.simplefilter("ignore", said)
                return self.graph.invoke(
                    input, run_id=self.run_id, settings=self.settings, on_event=self._fed(view), **options
                )
        except KeyboardInterrupt:
            say(f"stopped; what had finished is kept. Go on with: {self._resuming}" if self.lasting else "stopped")
            raise
        except BaseException as error:
            if self._began and self.lasting and self.graph.kept_in is not None:
                error.add_note(f"what had finished is kept; go on with: {self._resuming}")
            raise

    @property
    def receipt(self) -> Receipt:
        """The receipt of what has happened in this sitting."""
        return receipt(self.events)

    @property
    def notices(self) -> list[str]:
        """What a person should know that was no error."""
        return [event.message for event in self.events if isinstance(event, Noticed)]

    @property
    def asked_models(self) -> bool:
        """Whether a model has answered, be it the rehearsal."""
        return any(isinstance(event, ModelAnswered) for event in self.events)

    @property
    def _resuming(self) -> str:
        return suggested("resume", short(self.run_id))

    @property
    def _began(self) -> bool:
        return bool(self.events)

    def _fed(self, view: Any) -> Any:
        def feed(event: Event) -> None:
            self.events.append(event)
            if self.on_event is not None:
                self.on_event(event)
            view(event)

        return feed


def whole_receipt(store: Store, run_id: str, **how: Any) -> Receipt:
    """The receipt over all sittings of a stored run; `how` it is judged is as for `fanfold.audit`."""
    return audit(run_id, store=store, **how)
