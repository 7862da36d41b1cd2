"""A fake node that plays the transcripts of sdk/conformance on a loopback port."""

from __future__ import annotations

import http.client
import json
import pathlib
import queue
import re
import socket
import struct
import threading
from typing import Any, Callable, Dict, List, Optional, Tuple

CONFORMANCE = pathlib.Path(__file__).resolve().parents[2] / "conformance"

# A step that waits longer than PATIENCE seconds fails.
PATIENCE = 20.0

OPS = json.loads((CONFORMANCE / "ops.json").read_text())

END = object()


class Mismatch(AssertionError):
    """The library wrote something that the transcript does not expect."""


class Connection:
    """One connection with lines. Its thread reads, so that pings are answered at any time."""

    def __init__(self, conn: socket.socket, first: bytes) -> None:
        self.conn = conn
        self._stream = conn.makefile("rb")
        self._first = first
        self.lines: "queue.Queue[Any]" = queue.Queue()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        try:
            while True:
                line = self._first + self._stream.readline()
                self._first = b""
                if not line:
                    break
                message = json.loads(line)
                if message.get("op") in ("ping", "info"):
                    reply = {"id": message.get("id"), "status": "done", "result": {"ok": True, "data": "pong"}}
                    self.conn.sendall(json.dumps(reply).encode() + b"\n")
                    continue
                self.lines.put(message)
        except ValueError as error:
            self.lines.put(Mismatch("the library wrote a line that is not JSON: %s" % error))
        except OSError:
            pass
        self.lines.put(END)

    def next(self) -> Any:
        line = self.lines.get(timeout=PATIENCE)
        if isinstance(line, Mismatch):
            raise line
        return line

    def send(self, message: Any) -> None:
        self.conn.sendall(json.dumps(message).encode() + b"\n")

    def reset(self) -> None:
        self.conn.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        # The socket is open until nobody reads it; SHUT_RD ends the reading without a FIN.
        self.conn.shutdown(socket.SHUT_RD)
        self._thread.join()
        self._stream.close()
        self.conn.close()

    def close(self) -> None:
        try:
            self.conn.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self._thread.join()
        self._stream.close()
        self.conn.close()


class FakeNode:
    """Listens on a free loopback port. Connections wait in accepted, HTTP requests in requests."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = "127.0.0.1:%d" % self._listener.getsockname()[1]
        self.accepted: "queue.Queue[Connection]" = queue.Queue()
        self.requests: "queue.Queue[Request]" = queue.Queue()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                conn, _ = self._listener.accept()
            except OSError:
                return
            conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._classify, args=(conn,), daemon=True).start()

    def _classify(self, conn: socket.socket) -> None:
        first = conn.recv(1)
        if first.isupper():
            self.requests.put(Request(conn, first))
        elif first:
            self.accepted.put(Connection(conn, first))
        else:
            conn.close()

    def close(self) -> None:
        # shutdown wakes the thread in accept; close alone does not.
        try:
            self._listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # closed before
        self._listener.close()


class Request:
    """One HTTP request."""

    def __init__(self, conn: socket.socket, first: bytes) -> None:
        self._conn = conn
        stream = conn.makefile("rb")
        self.method, self.path, _ = (first + stream.readline()).decode().split(" ", 2)
        headers = http.client.parse_headers(stream)
        self.headers = {name.lower(): value for name, value in headers.items()}
        self.body = stream.read(int(self.headers.get("content-length", 0)))

    def answer(self, status: int, value: Any) -> None:
        body = json.dumps(value).encode()
        head = "HTTP/1.1 %d Answer\r\nContent-Type: application/json\r\nContent-Length: %d\r\nConnection: close\r\n\r\n"
        self._conn.sendall((head % (status, len(body))).encode() + body)
        self._conn.close()


class Signals:
    """What the actions and the transcript tell each other, by name."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._events: Dict[Tuple[str, str], threading.Event] = {}

    def __call__(self, what: str, name: str) -> threading.Event:
        with self._lock:
            return self._events.setdefault((what, name), threading.Event())

    def wait(self, what: str, name: str) -> None:
        if not self(what, name).wait(PATIENCE):
            raise Mismatch("waited in vain for %s %s" % (what, name))


class Transcript:
    """One file, and the captures made while it is played."""

    def __init__(self, path: pathlib.Path) -> None:
        content = json.loads(path.read_text(encoding="utf-8"))
        self.about: str = content["about"]
        self.worker: Dict[str, Any] = content["worker"]
        self._steps: List[Dict[str, Any]] = content["steps"]
        self._captures: Dict[str, Any] = {}
        self._connections: Dict[str, Connection] = {}
        self._current: Optional[Connection] = None

    def play(
        self,
        node: FakeNode,
        signals: Signals,
        terminate: Callable[[], None],
        stopped: Callable[[float], Optional[BaseException]],
    ) -> None:
        """Play all steps. stopped waits for the end of the worker and returns its error."""
        for number, step in enumerate(self._steps, 1):
            try:
                self._step(step, node, signals, terminate, stopped)
            except (Mismatch, queue.Empty) as error:
                shown = json.dumps(step, ensure_ascii=False)[:300]
                raise Mismatch("step %d, %s: %s" % (number, shown, error or "waited in vain")) from None

    def close(self) -> None:
        for connection in self._connections.values():
            connection.close()

    def _step(self, step: Dict[str, Any], node: FakeNode, signals: Signals, terminate: Any, stopped: Any) -> None:
        verb = next(iter(step))
        value = step[verb]
        if verb == "accept":
            self._current = self._connections[value] = node.accepted.get(timeout=PATIENCE)
        elif verb == "http":
            self._http(node, value, step["answer"])
        elif verb == "entered" or verb == "interrupted":
            signals.wait(verb, value)
        elif verb == "finish":
            signals(verb, value).set()
        elif verb == "signal":
            terminate()
        elif verb == "stopped":
            self._stopped(stopped(PATIENCE), value)
        elif verb == "on":
            self._current = self._connections[value]
        else:
            assert self._current is not None
            self._with_connection(self._current, verb, value)

    def _with_connection(self, connection: Connection, verb: str, value: Any) -> None:
        if verb == "expect":
            self._expect_all(connection, [value])
        elif verb == "expect_all":
            self._expect_all(connection, value)
        elif verb == "expect_end":
            line = connection.next()
            if line is not END:
                raise Mismatch("the library wrote %s" % _shown(line))
        elif verb == "send":
            lines = value if isinstance(value, list) else [value]
            text = "".join(json.dumps(self._filled(line), ensure_ascii=False) + "\n" for line in lines)
            connection.conn.sendall(text.encode())
        elif verb == "send_raw":
            text = re.sub(r'"\$([^"\\]+)"', lambda match: json.dumps(self._captures[match[1]]), value)
            connection.conn.sendall(text.encode("latin-1"))
        elif verb == "close":
            connection.close()
        elif verb == "reset":
            connection.reset()
        else:
            raise AssertionError("unknown step " + verb)

    def _expect_all(self, connection: Connection, patterns: List[Any]) -> None:
        left = list(patterns)
        while left:
            line = connection.next()
            if line is END:
                raise Mismatch("the library closed the connection")
            _check_members(line)
            for pattern in left:
                if self._matches(pattern, line):
                    left.remove(pattern)
                    break
            else:
                raise Mismatch("the library wrote %s" % _shown(line))

    def _http(self, node: FakeNode, wanted: Dict[str, Any], answer: Dict[str, Any]) -> None:
        request = node.requests.get(timeout=PATIENCE)
        got: Dict[str, Any] = {"method": request.method, "path": request.path, "headers": request.headers}
        if request.body:
            got["body"] = json.loads(request.body)
        if not self._matches(wanted, got):
            raise Mismatch("the library sent %s" % _shown(got))
        request.answer(answer["status"], self._filled(answer["json"]))

    def _stopped(self, error: Optional[BaseException], wanted: Dict[str, Any]) -> None:
        if "error" not in wanted:
            if error is not None:
                raise Mismatch("the worker stopped with %r" % error)
        elif wanted["error"] not in str(error):
            raise Mismatch("the worker stopped with %r" % error)

    def _matches(self, pattern: Any, value: Any) -> bool:
        """Report whether value matches. Captures are kept only if it does."""
        before = dict(self._captures)
        if self._match(pattern, value):
            return True
        self._captures = before
        return False

    def _match(self, pattern: Any, value: Any) -> bool:
        if isinstance(pattern, str):
            if pattern == "*":
                return value is not None
            if pattern.startswith("$"):
                return bool(self._captures.setdefault(pattern[1:], value) == value)
            return bool(pattern == value)
        if isinstance(pattern, dict):
            return self._match_object(pattern, value)
        if isinstance(pattern, list):
            return (
                isinstance(value, list)
                and len(value) == len(pattern)
                and all(self._match(inner, element) for inner, element in zip(pattern, value))
            )
        return type(pattern) is type(value) and bool(pattern == value) or _both_numbers(pattern, value)

    def _match_object(self, pattern: Dict[str, Any], value: Any) -> bool:
        verb = next(iter(pattern), "")
        if verb == "$contains":
            return isinstance(value, str) and pattern[verb] in value
        if verb == "$either":
            return any(self._matches(inner, value) for inner in pattern[verb])
        if verb == "$repeat":
            text, count = pattern[verb]
            return bool(value == text * count)
        if verb == "$set":
            return isinstance(value, list) and _sorted(value) == _sorted(pattern[verb])
        return isinstance(value, dict) and all(self._match(inner, value.get(name)) for name, inner in pattern.items())

    def _filled(self, value: Any) -> Any:
        if isinstance(value, str) and value.startswith("$"):
            return self._captures[value[1:]]
        if isinstance(value, list):
            return [self._filled(inner) for inner in value]
        if isinstance(value, dict):
            if "$repeat" in value:
                text, count = value["$repeat"]
                return text * count
            return {name: self._filled(inner) for name, inner in value.items()}
        return value


def transcripts() -> List[pathlib.Path]:
    """Return the transcripts of all libraries, and those of this one."""
    own = pathlib.Path(__file__).with_name("transcripts").glob("*.json")
    return sorted([*(path for path in CONFORMANCE.glob("*.json") if path.name != "ops.json"), *own])


def _check_members(line: Dict[str, Any]) -> None:
    op = OPS.get(line.get("op", "run"))
    if op is None:
        raise Mismatch("the library wrote an op that ops.json does not list: %s" % _shown(line))
    members = line.keys() - {"id", "op"}
    if not members >= set(op["required"]) or not members <= set(op["required"] + op["optional"]):
        raise Mismatch("the library wrote members that ops.json does not list, or left one out: %s" % _shown(line))


def _both_numbers(a: Any, b: Any) -> bool:
    return all(isinstance(x, (int, float)) and not isinstance(x, bool) for x in (a, b)) and bool(a == b)


def _sorted(values: List[Any]) -> List[str]:
    return sorted(json.dumps(value) for value in values)


def _shown(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)[:500] if value is not END else "nothing more"
