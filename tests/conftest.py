"""What holds for every test: nothing of this machine's user, and no connection beyond it.

Variables that name vendors, keys or proxies are gone and HOME is an empty folder, so that no test can find a key, an
agent file or a setting of whoever runs it. Whatever tries to leave the loopback address is stopped, and the test in
which that happened fails, also when the code under test has caught the error.
"""

from __future__ import annotations

import faulthandler
import ipaddress
import os
import random
import socket
import sys
import tempfile
import uuid
from collections.abc import Iterator
from typing import Any

import psycopg
import psycopg_pool.base
import pytest

from fanfold.store.cluster import Cluster
from tests import starved

FOREIGN = ("ANTHROPIC_", "CLAUDE", "OPENAI_", "FANFOLD_")
FOREIGN_ENDS = ("_API_KEY", "_PROXY")
OURS = ("FANFOLD_TEST_POSTGRES", "FANFOLD_POSTGRES_BIN")  # where the tests' database is: meant for them

LONGEST_END = 120.0
"""Seconds that a process may need to end when its tests have ended; then it says what it waits for, and is gone."""

_left: list[str] = []


class LeftTheMachineError(OSError):
    """A test tried to reach something that is not on the loopback address."""


def _is_foreign(name: str) -> bool:
    return name not in OURS and (name.upper().startswith(FOREIGN) or name.upper().endswith(FOREIGN_ENDS))


@pytest.hookimpl(trylast=True)
def pytest_unconfigure() -> None:
    assert sys.__stderr__ is not None
    if "PYTEST_XDIST_WORKER" in os.environ:
        return  # it waits for the others, and is ended with them
    faulthandler.dump_traceback_later(LONGEST_END, exit=True, file=sys.__stderr__)


def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
    timed = item.get_closest_marker("timed") is not None
    return starved.run(item, nextitem, rows=[]) if timed else None


def pytest_terminal_summary(terminalreporter: Any) -> None:
    starved.tell(terminalreporter)


@pytest.fixture(scope="session", autouse=True)
def _nobody_s_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name in list(filter(_is_foreign, os.environ)):
            patch.delenv(name)
        patch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
        yield


@pytest.fixture(autouse=True)
def _stays_on_this_machine() -> Iterator[None]:
    _left.clear()
    yield
    assert not _left, f"the test tried to leave this machine: {', '.join(_left)}"


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """A real PostgreSQL: the one that FANFOLD_TEST_POSTGRES names, or one of our own that ends with the tests.

    Not below pytest's folder, which is closed to the user that the server runs as when we are root.
    """
    named = os.environ.get("FANFOLD_TEST_POSTGRES")
    if named:
        yield named
        return
    with tempfile.TemporaryDirectory(prefix="fanfold-tests-") as folder, Cluster(folder) as cluster:
        yield cluster.url()


@pytest.fixture
def postgres(postgres_url: str) -> Iterator[str]:
    """The URL of an empty schema in it, which is where everything goes that names none. It is dropped afterwards."""
    schema = f"test_{uuid.uuid4().hex}"
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(f"create schema {schema}")
    yield f"{postgres_url}{'&' if '?' in postgres_url else '?'}options=-csearch_path%3D{schema}"
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute("set lock_timeout = '10s'")  # a test that left a transaction open fails, and says so
        connection.execute("set client_min_messages = warning")
        connection.execute(f"drop schema {schema} cascade")


def _guard(event: str, arguments: tuple[Any, ...]) -> None:
    if event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
        family, address = arguments[0].family, arguments[1]
        # Without an address it goes where the socket is connected to, which was looked at then.
        if family in (socket.AF_INET, socket.AF_INET6) and address is not None:
            _check(address[0])
    elif event == "socket.getaddrinfo":
        _check(arguments[0])


def _check(host: Any) -> None:
    name = host.decode() if isinstance(host, bytes) else host
    if not _is_loopback(name):
        _left.append(str(name))
        raise LeftTheMachineError(f"a test tried to reach {name!r}, which is not on the loopback address")


def _is_loopback(name: str | None) -> bool:
    if name is None or name in ("", "localhost"):
        return True
    try:
        address = ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


# An audit hook sees every way there is, in every thread, and cannot be patched away by what it watches.
sys.addaudithook(_guard)

# The pool's threads draw how long connections live whenever they make one. While hypothesis draws an example, it takes
# any use of the random numbers that all share for the example's.
psycopg_pool.base.random = random.Random().random  # type: ignore[attr-defined]  # imported there

_settrace = sys.settrace


def _trace_in_turn(function: Any) -> None:
    """Set a trace function, as coverage does in each thread that begins.

    CPython 3.11 refuses that while another thread is about it, and the hook above lets threads take turns in the middle
    of it. A thread that is refused dies before it has done anything, and whoever waits for it waits for ever.
    """
    while True:
        try:
            return _settrace(function)
        except RuntimeError as error:
            if "another trace function is being installed" not in str(error):
                raise


sys.settrace = _trace_in_turn
