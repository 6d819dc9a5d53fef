"""A network that can fail: a TCP server on the loopback address that hands all on to a PostgreSQL, or does not."""

from __future__ import annotations

import os
import socket
import struct
import threading
from contextlib import suppress
from typing import Self
from urllib.parse import quote

from psycopg.conninfo import conninfo_to_dict

IDLE = b"Z\0\0\0\5I"
"""What a server says last when no transaction is open: before "commit" is said, the driver may have it prepared."""


class Proxy:
    """The way to the server that `url` names. Its own `url` leads there through this."""

    def __init__(self, url: str) -> None:
        self._to = conninfo_to_dict(url)
        self._door = socket.create_server(("127.0.0.1", 0))
        self._lock = threading.Lock()
        self._lines: list[_Line] = []
        self._open = True
        self.losing = b""
        """When a message says this, the answer that its transaction has ended gets lost, and the connection with it."""
        self.swallowing = b""
        """The next message that says this gets lost itself, and the connection with it."""
        self.closing = False
        """Whether all ways to the server are lost with it."""
        self.lost = threading.Event()
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        options = quote(str(self._to.get("options") or ""), safe="")
        return (
            f"postgresql://{self._to['user']}@127.0.0.1:{self._door.getsockname()[1]}/{self._to['dbname']}"
            f"?sslmode=disable&gssencmode=disable&options={options}"
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.refuse()
        self._door.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._door.close()

    def refuse(self) -> None:
        """Cut all connections, and every new one."""
        self._open = False
        self.cut()

    def accept(self) -> None:
        """Let new ones through."""
        self._open = True

    def cut(self) -> None:
        """End the connections that there are."""
        for line in self._taken():
            line.end()

    def reset(self) -> None:
        """End them as a machine does that knows nothing of them."""
        for line in self._taken():
            for end in line.ends:
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            line.end()

    def stall(self) -> None:
        """Let nothing more through on the connections that there are, and end none."""
        with self._lock:
            for line in self._lines:
                line.stalled = True

    def _taken(self) -> list[_Line]:
        with self._lock:
            taken, self._lines = self._lines, []
        return taken

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._door.accept()
                try:
                    server = self._server()
                except OSError:  # it is down
                    client.close()
                    continue
                line = _Line(self, client, server)
                with self._lock:
                    self._lines.append(line)
                if not self._open:
                    self.cut()
                line.start()

    def _server(self) -> socket.socket:
        host, port = str(self._to["host"]), int(self._to.get("port") or 5432)
        if not host.startswith("/"):
            return socket.create_connection((host, port))
        server = socket.socket(socket.AF_UNIX)
        try:
            server.connect(os.path.join(host, f".s.PGSQL.{port}"))
        except OSError:
            server.close()
            raise
        return server


class _Line:
    """One connection through the proxy. It is ended once, and closed by the last of its two threads."""

    def __init__(self, proxy: Proxy, client: socket.socket, server: socket.socket) -> None:
        self.ends = (client, server)
        self.stalled = False
        self._proxy = proxy
        self._losing = False
        self._left = 2
        self._lock = threading.Lock()

    def start(self) -> None:
        client, server = self.ends
        threading.Thread(target=self._carry, args=(client, server, self._say), daemon=True).start()
        threading.Thread(target=self._carry, args=(server, client, self._answer), daemon=True).start()

    def end(self) -> None:
        for each in self.ends:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def _carry(self, source: socket.socket, target: socket.socket, look: object) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                if self.stalled:
                    continue
                if not look(data):  # type: ignore[operator]
                    break
                target.sendall(data)
        self.end()
        with self._lock:
            self._left -= 1
            last = self._left == 0
        if last:
            for each in self.ends:
                each.close()

    def _say(self, data: bytes) -> bool:
        proxy = self._proxy
        if proxy.swallowing and proxy.swallowing in data:
            proxy.swallowing = b""
            self._lost()
            return False
        if proxy.losing and proxy.losing in data:
            proxy.losing, self._losing = b"", True
        return True

    def _answer(self, data: bytes) -> bool:
        if self._losing and IDLE in data:
            self._lost()
            return False
        return True

    def _lost(self) -> None:
        if self._proxy.closing:
            self._proxy.refuse()
        self._proxy.lost.set()
