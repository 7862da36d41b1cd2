"""The requests of a client: one thread sends those of all threads over one connection."""

from __future__ import annotations

import collections
import concurrent.futures
import heapq
import itertools
import json
import logging
import math
import selectors
import threading
import time
from typing import Any, Callable, Deque, Dict, Iterator, List, Optional, Tuple, Union

from .errors import Refused, Reply, UnknownOutcome, Unreachable
from .line import named, with_id
from .link import Backoff, Link, Server, Wake, refusal

log = logging.getLogger("posta")

# WINDOW is how many requests without an answer a connection may have; a server allows as many waits.
WINDOW = 1000

# Requests that did not reach a server are tried again for PATIENCE seconds.
PATIENCE = 15.0

# A request that may have been carried out is sent again RESENDS times, if that does no harm.
RESENDS = 10

# The states in which a task is finished.
FINISHED = ("done", "failed", "cancelled")


class Request:
    """One request with one reply.

    rest is its line without the id, or a function that returns it each time it is sent. harmless says that it may be
    carried out twice. deadline is when to give up if no server answers.
    """

    __slots__ = ("rest", "harmless", "deadline", "future", "resends", "start")

    def __init__(self, rest: Union[bytes, Callable[[], bytes]], harmless: bool, deadline: float) -> None:
        self.rest = rest
        self.harmless = harmless
        self.deadline = deadline
        self.future: concurrent.futures.Future[Reply] = concurrent.futures.Future()
        self.resends = 0
        self.start = 0  # where its line begins in the connection's stream

    def line(self, number: int) -> bytes:
        return with_id(number, self.rest if isinstance(self.rest, bytes) else self.rest())

    def resolve(self, reply: Reply) -> None:
        if self.future.set_running_or_notify_cancel():
            self.future.set_result(reply)

    def reject(self, error: Exception) -> None:
        if self.future.set_running_or_notify_cancel():
            self.future.set_exception(error)


class _Conversation:
    """A link with the requests that wait for a reply on it."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self.waiting: Dict[int, Request] = {}
        self.ready = False  # the server has answered, so that it may get requests
        self.retiring = False  # it gets no more requests


class Channel:
    """Carries requests to the servers. It is safe for several threads, and starts its own with the first request."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._inbox: Deque[Request] = collections.deque()
        self._wake = Wake()
        self._lock = threading.Lock()
        self._thread: Optional[threading.Thread] = None
        self._closed = False
        # What follows belongs to the thread.
        self._selector = selectors.DefaultSelector()
        self._queue: Deque[Request] = collections.deque()
        self._later: List[Tuple[float, int, Request]] = []
        self._numbers = itertools.count(1)
        self._current: Optional[_Conversation] = None
        self._all: List[_Conversation] = []
        self._backoff = Backoff()
        self._connect_at = 0.0
        self._problem = ""

    def submit(self, request: Request) -> concurrent.futures.Future[Reply]:
        """Send a request. The future always gets a reply or an exception."""
        with self._lock:
            if self._closed:
                raise RuntimeError("the client is closed")
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="posta-client", daemon=True)
                self._thread.start()
            self._inbox.append(request)
        self._wake.set()
        return request.future

    def close(self) -> None:
        """End the connection. Requests without a reply are rejected."""
        with self._lock:
            self._closed = True
            thread = self._thread
        if thread is not None:
            self._wake.set()
            thread.join()
        self._wake.close()

    # The thread.

    def _run(self) -> None:
        self._selector.register(self._wake, selectors.EVENT_READ)
        try:
            while not self._closed:
                self._turn()
        except Exception as error:  # a fault of this module: nobody may wait for ever
            log.exception("the client has failed")
            self._end(error)
        else:
            self._end(Unreachable("the client is closed"))

    def _end(self, error: Exception) -> None:
        with self._lock:
            self._closed = True
        for conversation in self._all:
            conversation.link.close()
            for request in conversation.waiting.values():
                request.reject(error)
        for request in (*self._inbox, *self._queue, *(entry[2] for entry in self._later)):
            request.reject(error)
        self._selector.close()

    def _turn(self) -> None:
        """Wait for something to happen, and do what is to be done."""
        now = time.monotonic()
        until = self._prepare(now)
        for key, _ in self._selector.select(None if until == math.inf else max(0.0, until - now)):
            if key.data is None:
                self._wake.clear()
            else:
                self._read(key.data)
        while self._inbox:
            self._queue.append(self._inbox.popleft())

    def _prepare(self, now: float) -> float:
        """Send what can be sent, and return when to do so again."""
        until = math.inf
        while self._later and self._later[0][0] <= now:
            self._queue.append(heapq.heappop(self._later)[2])
        if self._later:
            until = self._later[0][0]
        if self._queue and self._current is None and now >= self._connect_at:
            self._connect()
        if self._queue and self._current is None:
            self._expire(now)
            until = min([until, self._connect_at] + [request.deadline for request in self._queue])
        if self._current is not None and self._current.ready:
            self._send(self._current)
        for conversation in list(self._all):
            until = min(until, self._tend(conversation, now))
        return until

    def _connect(self) -> None:
        try:
            link = Link(self._server.connect())
        except OSError as error:
            self._put_off(str(error))
            return
        self._current = _Conversation(link)
        self._all.append(self._current)
        self._selector.register(link, link.events, self._current)
        if self._server.token:
            link.write(named("auth", op="auth", token=self._server.token))
        # A balancer may accept connections while no node lives: nothing is sent before the first reply.
        link.write(b'{"id":"hello","op":"ping"}\n')

    def _put_off(self, problem: str) -> None:
        self._problem = problem
        self._connect_at = time.monotonic() + self._backoff.next()

    def _expire(self, now: float) -> None:
        for request in [request for request in self._queue if request.deadline <= now]:
            self._queue.remove(request)
            request.reject(Unreachable("no answer from %s: %s" % (self._server, self._problem)))

    def _send(self, conversation: _Conversation) -> None:
        link = conversation.link
        while self._queue and len(conversation.waiting) < WINDOW:
            request = self._queue.popleft()
            if request.future.cancelled():
                continue
            number = next(self._numbers)
            conversation.waiting[number] = request
            request.start = link.queued
            link.write(request.line(number))

    def _tend(self, conversation: _Conversation, now: float) -> float:
        link = conversation.link
        try:
            until = link.check(now) if conversation.waiting or not conversation.ready else math.inf
            link.flush()
        except OSError as error:
            self._lose(conversation, error)
            return now
        if conversation.retiring and not conversation.waiting:
            self._drop(conversation)
        else:
            self._selector.modify(link, link.events, conversation)
        return until

    def _read(self, conversation: _Conversation) -> None:
        try:
            for line in conversation.link.read():
                self._line(conversation, json.loads(line))
        except (OSError, EOFError) as error:
            self._lose(conversation, error)

    def _line(self, conversation: _Conversation, reply: Reply) -> None:
        number = reply.get("id")
        if number == "hello":
            conversation.ready = True
            self._backoff.reset()
        elif reply.get("status") == "goaway":
            self._retire(conversation)
        elif isinstance(number, int) and number in conversation.waiting:
            self._reply(conversation.waiting.pop(number), reply)
        elif reply.get("status") == "error":
            self._problem = refusal(reply)  # of auth, or of the whole connection
            if reply.get("code") in ("unauthenticated", "forbidden"):
                self._reject_all(conversation, Refused(reply))

    def _reply(self, request: Request, reply: Reply) -> None:
        if reply.get("status") != "error":
            request.resolve(reply)
            return
        now = time.monotonic()
        again = now + max(float(reply.get("retry_after", 0)), 0.05)
        if reply.get("code") in ("draining", "overloaded") and again < request.deadline:
            heapq.heappush(self._later, (again, next(self._numbers), request))
        else:
            request.reject(Refused(reply))

    def _reject_all(self, conversation: _Conversation, error: Refused) -> None:
        for request in (*conversation.waiting.values(), *self._queue):
            request.reject(error)
        conversation.waiting.clear()
        self._queue.clear()

    def _retire(self, conversation: _Conversation) -> None:
        """Send no more on this connection, but read the replies that are due."""
        conversation.retiring = True
        if self._current is conversation:
            self._current = None
        conversation.link.half_close()

    def _lose(self, conversation: _Conversation, error: Exception) -> None:
        """Send what was under way again, where that does no harm."""
        self._drop(conversation)
        if not conversation.ready:
            self._put_off(self._problem or str(error))
        for request in conversation.waiting.values():
            if request.start >= conversation.link.sent:
                self._queue.append(request)
            elif request.harmless and request.resends < RESENDS:
                request.resends += 1
                self._queue.append(request)
            else:
                request.reject(UnknownOutcome("the connection ended before the reply: %s" % error))

    def _drop(self, conversation: _Conversation) -> None:
        if conversation in self._all:
            self._all.remove(conversation)
            self._selector.unregister(conversation.link)
            conversation.link.close()
        if self._current is conversation:
            self._current = None


def watch(server: Server, task: str, after: int) -> Iterator[Reply]:
    """Yield the lines of the op watch until the task is finished, over a connection of its own."""
    backoff = Backoff()
    last = time.monotonic()
    while True:
        try:
            with server.connect() as conn:
                conn.settimeout(None)
                if server.token:
                    conn.sendall(named("auth", op="auth", token=server.token))
                conn.sendall(named("watch", op="watch", task=task, after=after))
                for line in conn.makefile("rb"):
                    reply: Reply = json.loads(line)
                    if reply.get("id") is None and reply.get("status") != "error":
                        continue
                    if reply.get("status") == "error":
                        if reply.get("code") in ("draining", "overloaded"):
                            break
                        raise Refused(reply)
                    if reply.get("id") != "watch":
                        continue
                    last = time.monotonic()
                    backoff.reset()
                    after = int(reply.get("seq", after))
                    yield {name: value for name, value in reply.items() if name != "id"}
                    if reply["status"] in FINISHED and not reply.get("retried"):
                        return
        except OSError as error:
            if time.monotonic() - last > PATIENCE:
                raise Unreachable("no answer from %s: %s" % (server, error)) from error
        time.sleep(backoff.next())

