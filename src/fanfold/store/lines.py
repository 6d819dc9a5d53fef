"""The checkpoints of another engine: what it stores with us, in tables of its own.

A *line* is a namespace of a thread. Its checkpoints are stored as what differs from their parents (`standing`), their
values and the writes of tasks as nodes (`pieces`), and pieces are stored once a thread. All of it goes through the
store's writer, as many writes as are waiting in one go.

Two things must not happen: that something is stored as the difference to a checkpoint that is not there, or points to a
piece that is not. So who writes shares a lock of the thread and looks whether the parent is as it was known; who
deletes has that lock alone, makes children whole before their parent goes, and then deletes the pieces that nothing
points to any more.
"""

from __future__ import annotations

import hashlib
import re
import threading
import uuid
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from fanfold.errors import CorruptRecordError, StoreError
from fanfold.store.base import Lease
from fanfold.store.pieces import Leaf, Node, digests
from fanfold.store.serde import Codec
from fanfold.store.sql import SqlStore, Work
from fanfold.store.standing import EMPTY, Folding, Held, Standing, difference, nodes
from fanfold.store.ticket import Ticket, settle
from fanfold.store.writer import LARGEST_BATCH, Session

KNOWN: Final = 256
"""Lines whose last checkpoint is remembered."""
TRIES: Final = 3
"""How often a checkpoint is read again whose pieces have gone meanwhile."""


_ALL: Final = 2**62
_UUID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_UUID_BYTES: Final = 16
_OTHER: Final = b"\xff"
"""What ids begin with that are no UUIDs."""


class Line(NamedTuple):
    """A namespace of a thread."""

    thread: str
    namespace: str


class Row(NamedTuple):
    """A checkpoint as its row has it."""

    checkpoint_id: str
    parent_id: str | None
    run_id: str | None
    full: bool
    data: bytes


@dataclass(frozen=True, slots=True)
class Written:
    """One write of a task, to a channel; `idx` is its place among them, negative for one that a later one replaces."""

    checkpoint_id: str
    task_id: str
    idx: int
    path: str
    channel: str
    node: Node


@dataclass(slots=True)
class Way:
    """How one comes to the value of a channel: from a `seed`, if there is one, by what was written since `path`.

    `path` are checkpoints, the oldest first: the last one that has a value for the channel, and those after it. `there`
    says whether the checkpoint itself has one.
    """

    seed: Node = None
    path: list[str] = field(default_factory=list)
    there: bool = False


@dataclass(slots=True, eq=False)
class _Waiting:
    """Writes that are to be written, and who waits for that."""

    line: Line
    rows: list[dict[str, Any]]
    pieces: list[dict[str, Any]]
    lease: Lease | None
    done: Ticket[None] = field(default_factory=Ticket)

    @property
    def size(self) -> int:
        """The bytes of what it holds."""
        return sum(len(row["data"]) for row in (*self.rows, *self.pieces))


class Lines:
    """The checkpoints that another engine keeps in a store. Used from any thread."""

    def __init__(self, store: SqlStore) -> None:
        self.store = store
        self._codec = Codec(compress=store.compress, encryption=store.encryption)
        self._known: OrderedDict[Line, Held] = OrderedDict()
        self._waiting: deque[_Waiting] = deque()
        self._queued = False
        self._lock = threading.Lock()

    def digest(self, data: bytes) -> bytes:
        """What a piece is known by."""
        encryption = self.store.encryption
        return hashlib.blake2b(data, digest_size=16).digest() if encryption is None else encryption.fingerprint(data)

    # Reading

    def newest(self, line: Line) -> str | None:
        """The id of a line's newest checkpoint."""
        rows = self.store.ask("saver_newest", _place(line))
        return named(rows[0][0]) if rows else None

    def held(self, line: Line, checkpoint_id: str) -> Held | None:
        """A checkpoint, with all that it has from its parents."""
        rows = self.store.ask("saver_chain", _place(line, checkpoint_id))
        if not rows:
            return None
        held = self._folded(line, rows)
        self._remember(line, held)
        return held

    def known(self, line: Line, checkpoint_id: str) -> Held | None:
        """The same, without asking if it is the one that was last read or written here."""
        with self._lock:
            held = self._known.get(line)
        return held if held is not None and held.checkpoint_id == checkpoint_id else self.held(line, checkpoint_id)

    def rows(self, line: Line) -> list[Row]:
        """All checkpoints of a line."""
        return [_row(row) for row in self.store.ask("saver_line", _place(line))]

    def keys(
        self,
        thread: str | None,
        namespace: str | None,
        checkpoint_id: str | None,
        *,
        before: str | None,
        limit: int | None,
    ) -> list[tuple[Line, str, bytes]]:
        """Line, id and record of these checkpoints, the newest first; what is None does not narrow it down."""
        values = {
            "limit": _ALL if limit is None else limit,
            "thread": thread,
            "namespace": namespace,
            "checkpoint": None if checkpoint_id is None else packed(checkpoint_id),
            "before": None if before is None else packed(before),
        }
        rows = self.store.ask("saver_keys", values)
        return [(Line(thread, space), named(name), data) for thread, space, name, data in rows]

    def record(self, line: Line, checkpoint_id: str, data: bytes) -> dict[int, Any]:
        """What the row of a checkpoint says."""
        record: dict[int, Any] = self._codec.decode(data, _where(line, checkpoint_id))
        return record

    def ways(self, line: Line, rows: Iterable[Row], checkpoint_id: str, channels: Iterable[str]) -> dict[str, Way]:
        """How one comes to the values of channels at a checkpoint, of which these are the rows of its line."""
        by_id = {row.checkpoint_id: row for row in rows}
        path: list[Row] = []
        while (row := by_id.pop(checkpoint_id, None)) is not None:
            path.append(row)
            checkpoint_id = row.parent_id or ""
        ways = {name: Way() for name in channels}
        folding = Folding()
        for row in reversed(path):
            if row is not path[0]:
                for way in ways.values():
                    way.path.append(row.checkpoint_id)
            folding = Folding() if row.full else folding
            self._fold(folding, line, row)
            for name, way in ways.items():
                way.there = name in folding.values
                if way.there and row is not path[0]:
                    node = folding.values[name]
                    way.seed, way.path = list(node) if isinstance(node, list) else node, [row.checkpoint_id]
        return ways

    def writes(self, line: Line, checkpoint_ids: Sequence[str]) -> dict[str, list[Written]]:
        """What tasks have written since these checkpoints, in the order in which it counts."""
        found: dict[str, list[Written]] = {each: [] for each in checkpoint_ids}
        ids = sorted(map(packed, checkpoint_ids))
        if not ids:
            return found
        values = {**_place(line), "first": ids[0], "last": ids[-1]}
        for *names, idx, path, channel, data in self.store.ask("saver_writes", values):
            checkpoint_id, task_id = map(named, names)
            if checkpoint_id not in found:
                continue
            where = f"what task {task_id!r} has written, {_where(line, checkpoint_id)}"
            node = self._codec.decode(data, where)
            found[checkpoint_id].append(Written(checkpoint_id, task_id, idx, path, channel, node))
        for each in found.values():
            each.sort(key=lambda written: (written.path, written.task_id, written.idx))
        return found

    def pieces(self, line: Line, nodes: Iterable[Node], have: dict[bytes, Leaf]) -> bool:
        """Add the pieces that these nodes are made of to those one has; whether all of them are there."""
        wanted = {digest for digest in digests(nodes) if digest not in have}
        if wanted:
            values = {"thread": line.thread, "digests": b"".join(wanted)}
            for digest, data in self.store.ask("saver_pieces", values):
                have[digest] = self._codec.decode(data, f"piece {digest.hex()}, thread {line.thread!r}")
        return wanted <= have.keys()

    # Writing

    def keep(
        self,
        line: Line,
        checkpoint_id: str,
        parent: str | Held | None,
        standing: Standing,
        pieces: Mapping[bytes, Leaf],
        *,
        run_id: str | None,
        lease: Lease | None,
    ) -> Ticket[bool]:
        """Keep a checkpoint. False when its parent has changed since it was read: then nothing is kept."""
        base = parent if isinstance(parent, Held) else None
        parent_id = parent.checkpoint_id if isinstance(parent, Held) else parent
        new = self._stored(line, checkpoint_id, parent_id, run_id, standing, base)
        rows = self._piece_rows(line, pieces)
        place = _place(line, checkpoint_id)
        values = {
            "parent": None if new.parent_id is None else packed(new.parent_id),
            "run": run_id,
            "full": new.full,
            "data": new.data,
        }

        def work(session: Session) -> bool:
            self._fence(session, lease)
            no = _numbers(session, [line.thread])[line.thread]
            if base is not None and not _is(session, line, base):  # what has not changed is in the parent's pieces
                return False
            if rows:
                session.many("saver_keep_pieces", [{"no": no, **row} for row in rows])
            if not session.rows("saver_keep", {"no": no, **place, **values}) and not _is(session, line, new):
                _hold(session, line.thread)
                rows_there = [_row(row) for row in session.rows("saver_line", _place(line))]
                self._make_whole(session, line, rows_there, {checkpoint_id})
                session.rows("saver_replace", {**place, **values})
            return True

        done = self.store.write(work)
        done.add_done_callback(lambda done: self._remember(line, new) if _came_true(done) else self._forget(line))
        return done

    def write(
        self, line: Line, written: Sequence[Written], pieces: Mapping[bytes, Leaf], lease: Lease | None
    ) -> Ticket[None]:
        """Keep what a task has written, together with whatever else waits to be written."""
        rows = [{"namespace": line.namespace, **self._written_row(each)} for each in written]
        waiting = _Waiting(line, rows, self._piece_rows(line, pieces), lease)
        waiting.done.set_running_or_notify_cancel()
        with self._lock:
            self._waiting.append(waiting)
            queued, self._queued = self._queued, True
        if not queued:
            self._queue_waiting()
        return waiting.done

    def cut(self, thread: str, drop: Callable[[Line, Sequence[Row]], set[str]], lease: Lease | None) -> Ticket[None]:
        """Delete the checkpoints that `drop` names of each line, with what was written since them."""

        def work(session: Session) -> None:
            self._fence(session, lease)
            no = _hold(session, thread)
            for (namespace,) in session.rows("saver_namespaces", {"thread": thread}):
                line = Line(thread, namespace)
                rows = [_row(row) for row in session.rows("saver_line", _place(line))]
                self._drop(session, no, line, rows, drop(line, rows))
            self._sweep(session, no, thread)

        return self._forgetting(thread, work)

    def forget(self, thread: str, lease: Lease | None) -> Ticket[None]:
        """Delete all that there is of a thread."""

        def work(session: Session) -> None:
            self._fence(session, lease)
            _hold(session, thread)
            for what in ("checkpoints", "writes", "pieces", "thread"):
                session.rows(f"forget_saver_{what}", {"thread": thread})

        return self._forgetting(thread, work)

    def copy(self, source: str, target: str, lease: Lease | None) -> Ticket[None]:
        """Copy a thread to one that is not there yet."""

        def work(session: Session) -> None:
            self._fence(session, lease)
            session.many("saver_touch", [{"thread": target}])
            no = _hold(session, target)
            if session.rows("saver_namespaces", {"thread": target}):
                raise StoreError(
                    f"cannot copy thread {source!r} to {target!r}, which has checkpoints of its own",
                    hint="name a new thread, or delete that one first",
                )
            _numbers(session, [source])
            for what in ("checkpoints", "writes", "pieces"):
                session.rows(f"saver_copy_{what}", {"thread": source, "no": no})

        return self._forgetting(target, work)

    def threads_of_runs(self, run_ids: Sequence[str]) -> list[str]:
        """The threads in which these runs have left checkpoints."""
        return [thread for (thread,) in self.store.ask("saver_threads_of_runs", {"runs": list(run_ids)})]

    # In the writer's session

    def _fence(self, session: Session, lease: Lease | None) -> None:
        if lease is not None:
            for refusal in self.store.fence(session, [lease]).values():
                raise refusal

    def _drop(self, session: Session, no: int | None, line: Line, rows: Iterable[Row], gone: set[str]) -> None:
        if gone:
            self._make_whole(session, line, rows, gone)
            keys = [{"no": no, "namespace": line.namespace, "checkpoint": packed(each)} for each in sorted(gone)]
            session.many("saver_drop", keys)
            session.many("saver_drop_writes", keys)

    def _make_whole(self, session: Session, line: Line, rows: Iterable[Row], parents: set[str]) -> None:
        """Store the children of these checkpoints as they are, and not as what differs."""
        for row in rows:
            if row.parent_id in parents and row.checkpoint_id not in parents and not row.full:
                place = _place(line, row.checkpoint_id)
                held = self._folded(line, session.rows("saver_chain", place))
                data = self._stored(line, row.checkpoint_id, row.parent_id, row.run_id, held.standing, None).data
                values = {"parent": packed(row.parent_id), "run": row.run_id, "full": True, "data": data}
                session.rows("saver_replace", {**place, **values})

    def _sweep(self, session: Session, no: int | None, thread: str) -> None:
        """Delete the pieces of a thread that nothing points to."""
        used: set[bytes] = set()
        for (namespace,) in session.rows("saver_namespaces", {"thread": thread}):
            line = Line(thread, namespace)
            for row in map(_row, session.rows("saver_line", _place(line))):
                used.update(digests(nodes(self.record(line, row.checkpoint_id, row.data))))
        where = f"what a task has written, thread {thread!r}"
        for (data,) in session.rows("saver_writes_of_thread", {"thread": thread}):
            used.update(digests([self._codec.decode(data, where)]))
        there = {digest for (digest,) in session.rows("saver_digests", {"thread": thread})}
        if unused := sorted(there - used):
            session.many("saver_drop_pieces", [{"no": no, "digest": digest} for digest in unused])

    # Writes, as many as are waiting

    def _queue_waiting(self) -> None:
        taken: list[_Waiting] = []

        def work(session: Session) -> list[StoreError | None]:
            if not taken:  # done again, it is the same batch
                self._take(taken)
            return self._write_all(session, taken)

        def settle(done: Future[list[StoreError | None]]) -> None:
            failure = done.exception()
            if not taken:  # it was not even begun
                self._take(taken)
            _tell(taken, [failure] * len(taken) if failure is not None else done.result())

        try:
            self.store.write(work).add_done_callback(settle)
        except StoreError as closed:
            self._take(taken)
            _tell(taken, [closed] * len(taken))

    def _take(self, taken: list[_Waiting]) -> None:
        """Take what is waiting, up to what a statement may hold; whatever is left is queued anew."""
        with self._lock:
            size = 0
            while self._waiting and size < LARGEST_BATCH:
                taken.append(self._waiting.popleft())
                size += taken[-1].size
            self._queued = bool(self._waiting)
        if self._queued:
            self._queue_waiting()

    def _write_all(self, session: Session, waiting: Sequence[_Waiting]) -> list[StoreError | None]:
        leases = {each.lease for each in waiting if each.lease is not None}
        lost = self.store.fence(session, leases) if leases else {}
        good = [each for each in waiting if each.lease not in lost]
        numbers = _numbers(session, sorted({each.line.thread for each in good}))
        rows = [{"no": numbers[each.line.thread], **row} for each in good for row in each.rows]
        if pieces := [{"no": numbers[each.line.thread], **piece} for each in good for piece in each.pieces]:
            session.many("saver_keep_pieces", pieces)
        if first := [row for row in rows if row["idx"] >= 0]:
            session.many("saver_keep_writes", first)
        if latest := {_key(row): row for row in rows if row["idx"] < 0}:
            session.many("saver_keep_latest_writes", list(latest.values()))
        return [lost.get(each.lease) if each.lease is not None else None for each in waiting]

    # What is known

    def _remember(self, line: Line, held: Held) -> None:
        with self._lock:
            self._known[line] = held
            self._known.move_to_end(line)
            while len(self._known) > KNOWN:
                self._known.popitem(last=False)

    def _forget(self, line: Line) -> None:
        with self._lock:
            self._known.pop(line, None)

    def _forgetting(self, thread: str, work: Work[None]) -> Ticket[None]:
        done = self.store.write(work)

        def forget(_: object) -> None:
            with self._lock:
                for line in [line for line in self._known if line.thread == thread]:
                    del self._known[line]

        done.add_done_callback(forget)
        return done

    # Records

    def _stored(
        self,
        line: Line,
        checkpoint_id: str,
        parent_id: str | None,
        run_id: str | None,
        standing: Standing,
        base: Held | None,
    ) -> Held:
        """A checkpoint as it is stored: as what differs from `base`, if it is not whole anyway."""
        where = _where(line, checkpoint_id)
        if base is not None:
            data = self._codec.encode(difference(base.standing, standing), where)
            if base.bears(len(data)):
                behind = base.behind + len(data)
                return Held(checkpoint_id, parent_id, run_id, False, data, standing, base.whole, behind)
        data = self._codec.encode(difference(EMPTY, standing), where)
        return Held(checkpoint_id, parent_id, run_id, True, data, standing, len(data), 0)

    def _folded(self, line: Line, chain: Sequence[Any]) -> Held:
        rows = [_row(row) for row in chain]
        folding = Folding()
        for row in rows:
            self._fold(folding, line, row)
        first, last = rows[0], rows[-1]
        if not first.full:
            raise CorruptRecordError(
                f"{_where(line, first.checkpoint_id)} is stored as what differs from one that is not there,"
                f" {first.parent_id!r}"
            )
        behind = sum(len(row.data) for row in rows[1:])
        return Held(*last, standing=folding.standing(), whole=len(first.data), behind=behind)

    def _fold(self, folding: Folding, line: Line, row: Row) -> None:
        record = self.record(line, row.checkpoint_id, row.data)
        try:
            folding.add(record)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            where = _where(line, row.checkpoint_id)
            raise CorruptRecordError(f"{where} is not what was written there: {error!r}") from error

    def _piece_rows(self, line: Line, pieces: Mapping[bytes, Leaf]) -> list[dict[str, Any]]:
        where = f"a value of thread {line.thread!r}"
        return [{"digest": digest, "data": self._codec.encode(leaf, where)} for digest, leaf in pieces.items()]

    def _written_row(self, written: Written) -> dict[str, Any]:
        return {
            "checkpoint": packed(written.checkpoint_id),
            "task": packed(written.task_id),
            "idx": written.idx,
            "path": written.path,
            "channel": written.channel,
            "data": self._codec.encode(written.node, f"what task {written.task_id!r} has written"),
        }


def _where(line: Line, checkpoint_id: str) -> str:
    return f"checkpoint {checkpoint_id!r} of thread {line.thread!r}, namespace {line.namespace!r}"


def _numbers(session: Session, threads: Sequence[str]) -> dict[str, int]:
    """The numbers of these threads, of which nobody deletes anything until the transaction ends."""
    found: dict[str, int] = dict(session.rows("saver_share", {"threads": list(threads)}))
    if missing := [{"thread": thread} for thread in threads if thread not in found]:
        session.many("saver_touch", missing)
        found = dict(session.rows("saver_share", {"threads": list(threads)}))
    return found


def _hold(session: Session, thread: str) -> int | None:
    """The number of a thread that nobody else writes to until the transaction ends; None if there is nothing of it."""
    rows = session.rows("saver_hold", {"thread": thread})
    return rows[0][0] if rows else None


def packed(name: str) -> bytes:
    """An id as it is stored: a UUID as its 16 bytes, and of any other length what is none. UUIDs keep their order."""
    if _UUID.fullmatch(name):
        return bytes.fromhex(name.replace("-", ""))
    other = _OTHER + name.encode()
    return other + b"\0" if len(other) == _UUID_BYTES else other


def named(stored: bytes) -> str:
    """The id of which these are the bytes."""
    if len(stored) == _UUID_BYTES:
        return str(uuid.UUID(bytes=stored))
    return stored[len(_OTHER) :].rstrip(b"\0").decode()


def _row(row: Sequence[Any]) -> Row:
    checkpoint_id, parent_id, run_id, full, data = row
    return Row(named(checkpoint_id), None if parent_id is None else named(parent_id), run_id, bool(full), data)


def _place(line: Line, checkpoint_id: str | None = None) -> dict[str, Any]:
    place: dict[str, Any] = {"thread": line.thread, "namespace": line.namespace}
    return place if checkpoint_id is None else {**place, "checkpoint": packed(checkpoint_id)}


def _key(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(row[name] for name in ("no", "namespace", "checkpoint", "task", "idx"))


def _is(session: Session, line: Line, held: Held) -> bool:
    """Whether a checkpoint is stored as it is known."""
    rows = session.rows("saver_is", _place(line, held.checkpoint_id))
    return rows == [(None if held.parent_id is None else packed(held.parent_id), held.data)]


def _came_true(done: Future[bool]) -> bool:
    return done.exception() is None and done.result()


def _tell(waiting: Sequence[_Waiting], outcomes: Iterable[BaseException | None]) -> None:
    settle([each.done for each in waiting], outcomes)
