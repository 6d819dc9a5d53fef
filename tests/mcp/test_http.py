"""The server over HTTP: who gets in, and what is left when they have gone."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import Coroutine, Mapping
from pathlib import Path
from typing import Any

import httpx2
import pytest
from mcp import Client

from fanfold.errors import UsageError
from fanfold.mcp import http
from tests.mcp.served import (
    PATIENCE,
    TOKEN,
    asking,
    called,
    environment,
    http_client,
    offered,
    over_http,
    server,
    until,
    waiting,
)

INIT = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}},
}
SPEAKS = {"Accept": "application/json, text/event-stream", "Content-Type": "application/json"}
LETS_IN = {"Authorization": f"Bearer {TOKEN}"}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(test, 60))


async def answer(url: str, headers: Mapping[str, str], method: str = "POST", path: str | None = None) -> int:
    """The status of a request that begins a session."""
    async with httpx2.AsyncClient(timeout=PATIENCE) as client:
        place = url if path is None else url.replace("/mcp", path)
        body = INIT if method == "POST" else None
        return (await client.request(method, place, json=body, headers={**SPEAKS, **headers})).status_code


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"Authorization": "Bearer"}, 401),
        ({"Authorization": "Bearer wet-ink-on-dry-pape"}, 401),
        ({"Authorization": f"Bearer {TOKEN}x"}, 401),
        ({"Authorization": f"Basic {TOKEN}"}, 401),
        ({"Authorization": TOKEN}, 401),
        ({**LETS_IN, "Host": "evil.example"}, 421),
        ({**LETS_IN, "Host": "127.0.0.1"}, 421),
        ({**LETS_IN, "Host": "127.0.0.1.evil.example:80"}, 421),
        ({**LETS_IN, "Origin": "https://evil.example"}, 403),
        ({**LETS_IN, "Origin": "http://localhost:3000"}, 403),
        ({**LETS_IN, "Origin": "null"}, 403),
        ({"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13"}, 401),
    ],
)
@pytest.mark.parametrize(
    ("method", "path"), [("POST", None), ("GET", None), ("DELETE", None), ("OPTIONS", None), ("GET", "/other")]
)
def test_nobody_gets_in_without_the_token_by_another_name_or_from_a_page(
    folder: Path, headers: Mapping[str, str], status: int, method: str, path: str | None
) -> None:
    async def main() -> None:
        async with server(folder) as made, over_http(made) as url:
            assert await answer(url, headers, method, path) == status

    run(main())


def test_who_has_the_token_gets_in_by_any_name_of_this_machine(folder: Path) -> None:
    async def main() -> None:
        async with server(folder) as made, over_http(made) as url:
            port = httpx2.URL(url).port
            for host in ("127.0.0.1", "localhost", "LOCALHOST", "[::1]"):
                assert await answer(url, {**LETS_IN, "Host": f"{host}:{port}"}) == 200

    run(main())


def test_a_proxys_name_is_known_with_and_without_a_port_and_however_it_is_written(folder: Path) -> None:
    async def main() -> None:
        hosts = ("Tools.example", "other.example:444")
        async with server(folder) as made, over_http(made, hosts=hosts) as url:
            port = httpx2.URL(url).port
            for host in ("tools.example", "TOOLS.example", f"tools.example:{port}", "other.example:444"):
                assert await answer(url, {**LETS_IN, "Host": host}) == 200, host
            for host in ("tools.example:444", "example", "other.example"):
                assert await answer(url, {**LETS_IN, "Host": host}) == 421, host

    run(main())


def test_names_without_a_port_are_those_that_clients_leave_it_out_of() -> None:
    assert {"localhost", "localhost:80", "[::1]"} <= {*http.names("127.0.0.1", 80, ())}
    assert "localhost" not in http.names("127.0.0.1", 81, ())
    assert {"0.0.0.0:81", "localhost:81"} <= {*http.names("0.0.0.0", 81, ())}
    assert "localhost:81" not in http.names("10.0.0.1", 81, ())


def test_a_page_that_was_allowed_is_told_so_before_it_has_said_its_token_and_no_other_is(folder: Path) -> None:
    ours, asks = "https://mine.example", {"Access-Control-Request-Method": "POST"}
    asks |= {"Access-Control-Request-Headers": "authorization, content-type"}

    async def main() -> None:
        async with (
            server(folder) as made,
            over_http(made, origins=["https://Mine.example/"]) as url,
            httpx2.AsyncClient(timeout=PATIENCE) as client,
        ):
            told = await client.options(url, headers={"Origin": ours, **asks})
            assert (told.status_code, told.headers["access-control-allow-origin"]) == (200, ours)
            assert "authorization" in told.headers["access-control-allow-headers"]
            begun = await client.post(url, json=INIT, headers={**SPEAKS, **LETS_IN, "Origin": ours})
            assert (begun.status_code, begun.headers["access-control-allow-origin"]) == (200, ours)
            assert "Mcp-Session-Id" in begun.headers["access-control-expose-headers"]
            assert (await client.post(url, json=INIT, headers={**SPEAKS, "Origin": ours})).status_code == 401
            other = await client.options(url, headers={"Origin": "https://evil.example", **asks})
            assert "access-control-allow-origin" not in other.headers
            assert await answer(url, {**LETS_IN, "Origin": "https://evil.example"}) == 403

    run(main())


def test_a_page_that_was_allowed_gets_in(folder: Path) -> None:
    guard = http.Guard(lambda *_: None, TOKEN, ["h:1"], ["https://mine.example"])  # type: ignore[arg-type,return-value]
    known = [(b"host", b"h:1"), (b"authorization", f"bearer {TOKEN}".encode())]
    assert guard._refusal([*known, (b"origin", b"https://mine.example")]) is None
    assert guard._refusal([*known, (b"origin", b"https://mine.example.evil")]) is not None
    assert guard._refusal([*known, (b"host", b"h:1")]) is not None  # two names: which one is meant, others may decide


def test_the_token_is_in_a_file_that_only_its_owner_reads(folder: Path) -> None:
    file = folder / "token"
    file.write_text(TOKEN + "\n")
    file.chmod(0o644)
    with pytest.raises(UsageError, match="can be read by others"):
        http.token_from(str(file))
    file.chmod(0o600)
    assert http.token_from(str(file)) == (TOKEN, False)
    file.write_text("short")
    with pytest.raises(UsageError, match="at least 16"):
        http.token_from(str(file))
    (made, new), (other, _) = http.token_from(None), http.token_from(None)
    assert new
    assert made != other


def test_twenty_clients_at_once_get_their_own_answers_and_leave_no_session(folder: Path) -> None:
    async def one(url: str, number: int) -> None:
        async with http_client(url, mode="legacy") as client:
            await called(client, "memory_put", namespace=["a"], key=str(number), value={"n": number})
            for _ in range(5):
                item = (await called(client, "memory_get", namespace=["a"], key=str(number)))["item"]
                assert item["value"] == {"n": number}

    async def main() -> None:
        async with server(folder) as made, over_http(made) as url:
            await asyncio.gather(*(one(url, number) for number in range(20)))
            assert made.session_manager._server_instances == {}

    run(main())


@pytest.mark.parametrize("mode", ["legacy", "auto"])
def test_a_run_that_asks_is_answered_over_http(folder: Path, mode: Any) -> None:
    async def main() -> None:
        async with (
            server(folder, {"ask": offered(asking(), "ask")}) as made,
            over_http(made) as url,
            http_client(url, mode=mode) as client,
        ):
            begun = await called(client, "run_start", graph="ask", input={"text": "ducks"})
            done = await called(client, "run_resume", run_id=begun["run"]["run_id"], answer="they swim")
            assert done["output"]["answer"] == "they swim"

    run(main())


@pytest.mark.parametrize("progress", [True, False])
def test_an_answer_is_a_stream_or_where_nobody_hears_of_progress_one_body(folder: Path, progress: bool) -> None:
    async def main() -> None:
        async with server(folder) as made, over_http(made, progress=progress) as url, http_client(url) as client:
            assert (await called(client, "runs_list"))["runs"] == []
            async with httpx2.AsyncClient(timeout=PATIENCE) as other:
                told = await other.post(url, json=INIT, headers={**SPEAKS, **LETS_IN})
            assert told.headers["content-type"].startswith("text/event-stream" if progress else "application/json")

    run(main())


@pytest.mark.parametrize("progress", [True, False])
@pytest.mark.parametrize("mode", ["legacy", "auto"])
def test_cancelling_a_call_over_http_stops_the_run_that_it_waits_for(folder: Path, mode: Any, progress: bool) -> None:
    graphs = {"wait": offered(waiting(asyncio.Event()), "wait")}

    async def main() -> None:
        async with (
            server(folder, graphs) as made,
            over_http(made, progress=progress) as url,
            http_client(url) as other,
            http_client(url, mode=mode) as client,
        ):

            async def status() -> Any:
                runs = (await called(other, "runs_list"))["runs"]
                return runs and runs[0]["status"]

            async def stopped() -> bool:
                return bool(await status() == "cancelled")

            call = asyncio.create_task(called(client, "run_start", graph="wait", input={"text": "ducks"}))
            assert await until(status) == "running"
            call.cancel()
            await asyncio.wait([call])
            await until(stopped)
            assert (await called(client, "runs_list"))["runs"]

    run(main())


def test_the_command_serves_over_http_and_ends_when_it_is_told_to(folder: Path) -> None:
    words = [sys.executable, "-m", "fanfold", "mcp", "serve", "--http", "--port", "0", "--allow-write"]
    process = subprocess.Popen(words, cwd=folder, env=environment(folder), stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    url = re.fullmatch(r"serving .* at (http://127\.0\.0\.1:\d+/mcp)\n", process.stderr.readline())
    token = re.fullmatch(r"token: (\S{40,})\n", process.stderr.readline())
    assert url
    assert token

    async def main() -> None:
        async with http_client(url[1], token[1]) as client:
            await called(client, "memory_put", namespace=["a"], key="k", value={"n": 1})
            process.terminate()

    try:
        run(main())
        _, err = process.communicate(timeout=PATIENCE)
        assert (process.returncode, err) == (143, "")
    finally:
        process.kill()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--port", "9000"), "--port is for a server over HTTP"),
        (("--allow-origin", "https://mine.example"), "--origin is for a server over HTTP"),
        (("--graph", "nothing"), "is no NAME=GRAPH"),
        (("--graph", "a=gone.py:graph"), "there is no file 'gone.py'"),
        (("--workspace", "gone"), "does not exist"),
        (("--model", "anthropic:any"), "ANTHROPIC_API_KEY"),
    ],
)
def test_what_cannot_be_served_is_said_before_anything_is(folder: Path, words: tuple[str, ...], message: str) -> None:
    command = [sys.executable, "-m", "fanfold", "mcp", "serve", *words]
    done = subprocess.run(
        command, cwd=folder, env=environment(folder), stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    assert done.returncode in (2, 6), done.stderr
    assert message in done.stderr
    assert not (folder / "token").exists()


def test_a_client_in_this_process_needs_no_token(folder: Path) -> None:
    async def main() -> None:
        async with server(folder) as made, Client(made) as client:
            assert (await called(client, "runs_list"))["runs"] == []

    assert "FANFOLD_MCP_TOKEN" not in os.environ
    run(main())
