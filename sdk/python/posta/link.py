"""Where a server is, and one connection to it."""

from __future__ import annotations

import errno
import http.client
import os
import random
import selectors
import socket
import ssl
import time
from typing import Any, Dict, List, Mapping, Optional, Tuple

from .line import Splitter

# CONNECT_TIMEOUT limits connecting, with the TLS handshake, in seconds.
CONNECT_TIMEOUT = 5.0

# HTTP_TIMEOUT limits each step of the transfer of a large body, in seconds.
HTTP_TIMEOUT = 60.0

# A connection on which nothing has arrived for PING_AFTER seconds is asked for a sign of life, and given up
# after as many seconds without one. Both together are less than the 15 seconds of a lease.
PING_AFTER = 5.0

_READ_SIZE = 256 << 10

_PING = b'{"id":"ping","op":"ping"}\n'


class HTTPRefusal(OSError):
    """A server answered an HTTP request with a refusal."""


class Server:
    """Where the servers are and how to talk to them. It is safe for several threads."""

    def __init__(self, address: Optional[str], token: Optional[str], tls: Optional[ssl.SSLContext]) -> None:
        address = address or os.environ.get("POSTA_TO") or "127.0.0.1:9000"
        self.addresses = [_parse(part.strip()) for part in address.split(",") if part.strip()]
        if not self.addresses:
            raise ValueError("the address is empty; it is HOST:PORT, or several with commas between them")
        self.token = token or os.environ.get("POSTA_TOKEN") or None
        self.tls = tls or _tls_of(os.environ)
        self._turn = random.randrange(len(self.addresses))

    def __str__(self) -> str:
        return ", ".join("%s:%d" % address for address in self.addresses)

    def connect(self) -> socket.socket:
        """Return a connection to one of the servers, in turn. It raises OSError if none answers."""
        failure: Optional[OSError] = None
        for _ in self.addresses:
            host, port = self.addresses[self._turn % len(self.addresses)]
            self._turn += 1
            try:
                return self._connect(host, port)
            except OSError as error:
                failure = error
        assert failure is not None
        raise failure

    def _connect(self, host: str, port: int) -> socket.socket:
        conn = socket.create_connection((host, port), timeout=CONNECT_TIMEOUT)
        try:
            conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self.tls is not None:
                conn = self.tls.wrap_socket(conn, server_hostname=host)
        except BaseException:
            conn.close()
            raise
        return conn

    def request(self, method: str, path: str, body: Optional[bytes] = None) -> bytes:
        """Send one HTTP request to a server that answers and return its body. It raises OSError, also for a refusal."""
        failure: Optional[OSError] = None
        for number in range(len(self.addresses)):
            host, port = self.addresses[(self._turn + number) % len(self.addresses)]
            try:
                return self._request(host, port, method, path, body)
            except HTTPRefusal:
                raise
            except OSError as error:
                failure = error
        assert failure is not None
        raise failure

    def _request(self, host: str, port: int, method: str, path: str, body: Optional[bytes]) -> bytes:
        conn: http.client.HTTPConnection
        if self.tls is not None:
            conn = http.client.HTTPSConnection(host, port, timeout=HTTP_TIMEOUT, context=self.tls)
        else:
            conn = http.client.HTTPConnection(host, port, timeout=HTTP_TIMEOUT)
        headers = {"Content-Type": "application/json"} if body is not None else {}
        if self.token:
            headers["Authorization"] = "Bearer " + self.token
        try:
            conn.request(method, path, body, headers)
            answer = conn.getresponse()
            content = answer.read()
        except http.client.HTTPException as error:
            raise OSError("%s %s: %r" % (method, path, error)) from error
        finally:
            conn.close()
        if answer.status // 100 != 2:
            text = content[:200].decode(errors="replace")
            raise HTTPRefusal("%s %s: status %d: %s" % (method, path, answer.status, text))
        return content


def _parse(address: str) -> Tuple[str, int]:
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdigit():
        raise ValueError("the address %r is not HOST:PORT" % address)
    return host.strip("[]") or "127.0.0.1", int(port)


def _tls_of(environment: Mapping[str, str]) -> Optional[ssl.SSLContext]:
    """Return what the variables of the command line say about TLS."""
    if environment.get("POSTA_TLS", "").lower() not in ("1", "t", "true"):
        return None
    context = ssl.create_default_context(cafile=environment.get("POSTA_TLS_CA") or None)
    if environment.get("POSTA_TLS_CERT"):
        context.load_cert_chain(environment["POSTA_TLS_CERT"], environment.get("POSTA_TLS_KEY") or None)
    return context


class Link:
    """One connection that never blocks. Only one thread may use it.

    Lines that are written between two flushes leave in one write.
    """

    def __init__(self, conn: socket.socket) -> None:
        self._conn = conn
        self._secure = isinstance(conn, ssl.SSLSocket)
        self._lines = Splitter()
        self._out = bytearray()
        self.queued = 0  # bytes written so far
        self.sent = 0  # bytes of them that the system has taken
        self.heard = time.monotonic()
        self._pinged = False
        self._half_closed = False
        conn.setblocking(False)

    def fileno(self) -> int:
        return self._conn.fileno()

    @property
    def events(self) -> int:
        """What to wait for with a selector."""
        return selectors.EVENT_READ | (selectors.EVENT_WRITE if self._out else 0)

    def write(self, data: bytes) -> None:
        self._out += data
        self.queued += len(data)

    def flush(self) -> None:
        """Send what the system takes now. It raises OSError."""
        while self._out:
            try:
                count = self._conn.send(self._out)
            except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                return
            self.sent += count
            del self._out[:count]
        if self._half_closed and not self._secure:
            try:
                self._conn.shutdown(socket.SHUT_WR)
            except OSError:
                pass  # read reports what happened

    def read(self) -> List[bytes]:
        """Return the lines that have arrived. It raises EOFError at the end, and OSError."""
        lines: List[bytes] = []
        while True:
            try:
                data = self._conn.recv(_READ_SIZE)
            except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                return lines
            if not data:
                if lines:
                    return lines  # the end is found again by the next read
                raise EOFError("the server closed the connection")
            self.heard = time.monotonic()
            self._pinged = False
            lines += self._lines.feed(data)
            if not self._secure:
                return lines

    def check(self, now: float) -> float:
        """Ask for a sign of life if it is time, and return when to check again. It raises OSError after a silence."""
        silent = now - self.heard
        if silent >= 2 * PING_AFTER:
            raise OSError(errno.ETIMEDOUT, "the server has not answered for %.0f seconds" % silent)
        if silent >= PING_AFTER and not self._pinged and not self._half_closed:
            self._pinged = True
            self.write(_PING)
        return self.heard + (2 if self._pinged or self._half_closed else 1) * PING_AFTER

    def half_close(self) -> None:
        """Send no more than what is written. A connection with TLS has no such state: it is closed later."""
        self._half_closed = True
        self.flush()

    def close(self) -> None:
        self._conn.close()


class Wake:
    """Wakes a thread that waits in a selector. Any thread may call set."""

    def __init__(self) -> None:
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)
        self._is_set = False

    def fileno(self) -> int:
        return self._reader.fileno()

    def set(self) -> None:
        # What the caller has put into a queue before is seen: clear comes before the queue is emptied.
        if not self._is_set:
            self._is_set = True
            try:
                self._writer.send(b"\0")
            except OSError:
                pass  # full, which wakes as well, or closed

    def clear(self) -> None:
        try:
            self._reader.recv(1024)
        except OSError:
            pass
        self._is_set = False

    def close(self) -> None:
        self._reader.close()
        self._writer.close()


class Backoff:
    """The pauses between attempts to connect: random, growing up to most seconds."""

    def __init__(self, first: float = 0.1, most: float = 1.0) -> None:
        self._first = first
        self._most = most
        self._limit = first

    def reset(self) -> None:
        self._limit = self._first

    def next(self) -> float:
        limit = self._limit
        self._limit = min(2 * limit, self._most)
        return random.uniform(limit / 2, limit)


def refusal(reply: Dict[str, Any]) -> str:
    """Return the text of a refusal for a log."""
    return "%s: %s" % (reply.get("code", "error"), reply.get("error", ""))
