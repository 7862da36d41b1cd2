"""The worker: it takes tasks from a node, runs their actions, and sends back what became of them.

One thread owns the socket and all the state here, so that actions cannot block it and nothing needs a lock. Actions run
in other threads (see runner.py), which hand their outcomes over through a queue.
"""

from __future__ import annotations

import collections
import itertools
import json
import logging
import math
import os
import re
import secrets
import selectors
import signal
import socket
import threading
import time
from types import FrameType
from typing import TYPE_CHECKING, Any, Deque, Dict, List, Optional, Sequence, Set, Tuple

from .attempt import Attempt
from .errors import PostaError, Refused, Reply
from .line import has_duplicate_keys, named, with_id
from .link import Backoff, Link, Wake, refusal
from .runner import Lease, Runner, failure, released

if TYPE_CHECKING:
    from .app import Posta

log = logging.getLogger("posta")

# A worker whose first `work` is refused with one of these stops: trying again would not help.
_FATAL = frozenset(["unknown_op", "invalid_request", "unknown_field", "unauthenticated", "forbidden"])

# An outcome that is refused with one of these is sent again.
_FOR_NOW = frozenset(["unavailable", "overloaded", "draining", "internal", "unknown_outcome"])

# A done that is refused with one of these becomes a fail: its result cannot be recorded.
_BAD_RESULT = frozenset(["result_too_large", "payload_too_large", "invalid_request"])

# PROGRESS_EVERY is how often the progress of one task is sent, in seconds; the server passes on no more.
PROGRESS_EVERY = 0.1

# DUE_ANSWERS is how long a connection that ends is read for the answers to outcomes, in seconds.
DUE_ANSWERS = 5.0

# LAST_WORDS is how long after the drain time a worker tries to hand over what it holds, and how long it waits for the
# answer to its leave, in seconds.
LAST_WORDS = 5.0


class Worker:
    """Serves the actions of a Posta over one connection.

    slots is how many tasks may run at once (1 to 1024). queues limits it to tasks of these queues. name must be unique
    among workers and is made up by default. version is shown to people. grace is how many seconds the node waits for
    the worker after a lost connection. drain is how many seconds running tasks get to finish after stop: shortly
    before its end they are cancelled, then what still runs is released, so that another worker runs it.

    run serves until a signal; start, stop and join are for programs that do something else as well.
    """

    def __init__(
        self,
        app: Posta,
        *,
        slots: int = 1,
        queues: Optional[Sequence[str]] = None,
        name: Optional[str] = None,
        version: Optional[str] = None,
        grace: Optional[float] = None,
        drain: float = 60.0,
        backoff: Optional[Backoff] = None,
    ) -> None:
        if not app.actions:
            raise ValueError("the worker has no actions; decorate functions with @app.action")
        if not 1 <= slots <= 1024:
            raise ValueError("slots must be from 1 to 1024")
        self.name = name or _unique_name()
        self._app = app
        self._slots = slots
        self._drain = drain
        self._backoff = backoff or Backoff()
        self._offer: Dict[str, Any] = {"actions": list(app.actions), "slots": slots, "worker": self.name}
        idempotent = [action.name for action in app.actions.values() if action.idempotent]
        for member, value in (("queues", queues), ("version", version), ("grace", grace), ("idempotent", idempotent)):
            if value:
                self._offer[member] = value
        self._wake = Wake()
        self._inbox: Deque[Tuple[str, Any]] = collections.deque()
        self._runner = Runner(app, self._tell)
        self._thread = threading.Thread(target=self._main, name="posta-worker", daemon=True)
        self._ready = threading.Event()
        self._stopped = threading.Event()
        self._error: Optional[BaseException] = None
        # What follows belongs to the thread.
        self._leases: Dict[str, Lease] = {}
        self._progress: Set[Lease] = set()  # leases whose newest progress is not yet sent
        self._refused: Set[Lease] = set()  # leases whose outcome is to be sent again
        self._numbers = itertools.count(1)
        self._deadline = math.inf  # the end of the drain time, once the worker is told to stop
        self._idle_since = math.inf  # when a worker that stops had nothing left
        self._quiet = False
        self._was_ready = False
        self._is_away = False  # no connection could be made the last time
        self._link: Optional[_Stream] = None

    # For other threads.

    def start(self) -> None:
        """Begin to serve, in the background."""
        self._thread.start()

    def stop(self, drain: Optional[float] = None) -> None:
        """Take no more tasks, finish those that run, and leave. A second call may shorten the drain time."""
        self._tell("stop", self._drain if drain is None else drain)

    def wait_ready(self, timeout: Optional[float] = None) -> bool:
        """Wait until a node has accepted the worker for the first time, and report whether one has."""
        return self._ready.wait(timeout) and self._was_ready

    def join(self, timeout: Optional[float] = None) -> bool:
        """Wait until the worker has stopped and report whether it has. It raises what made it stop by itself."""
        if not self._stopped.wait(timeout):
            return False
        if self._error is not None:
            raise self._error
        return True

    def run(self) -> None:
        """Serve until SIGTERM or SIGINT. A second signal ends the drain time at once."""
        signals = []
        if threading.current_thread() is threading.main_thread():
            signals = [signal.SIGTERM, signal.SIGINT]
        before = [(number, signal.getsignal(number)) for number in signals]
        stopping = False

        def on_signal(number: int, frame: Optional[FrameType]) -> None:
            nonlocal stopping
            self.stop(0 if stopping else None)
            stopping = True

        for number in signals:
            signal.signal(number, on_signal)
        try:
            self.start()
            self.join()
        finally:
            for number, handler in before:
                signal.signal(number, handler)

    def _tell(self, what: str, value: Any) -> None:
        self._inbox.append((what, value))
        self._wake.set()

    # The thread.

    def _main(self) -> None:
        try:
            self._serve()
        except BaseException as error:
            self._error = error
        finally:
            self._runner.stop()
            self._wake.close()
            self._ready.set()
            self._stopped.set()

    def _serve(self) -> None:
        while not self._is_over():
            pause = 0.0
            if not self._quiet or self._leases:
                pause = self._connect_once()
            elif not self._is_stopping:
                pause = math.inf  # there is nothing to do but to wait for stop
            self._idle(pause)

    def _connect_once(self) -> float:
        """Serve over one connection, and return how long to wait before the next one."""
        try:
            stream = _Stream(Link(self._app.server.connect()))
        except OSError as error:
            level = logging.DEBUG if self._is_away else logging.WARNING  # once for each outage
            log.log(level, "no connection to %s: %s; trying again", self._app.server, error)
            self._is_away = True
            return self._backoff.next()
        self._link = stream
        try:
            self._open(stream)
            self._converse(stream)
        except (OSError, EOFError, ValueError) as error:
            log.warning("the connection has ended: %s", error)
        finally:
            stream.link.close()
            self._link = None
            self._refused.clear()
        return stream.pause + self._backoff.next()

    def _is_over(self) -> bool:
        return self._is_stopping and (not self._leases or time.monotonic() >= self._deadline + LAST_WORDS)

    @property
    def _is_stopping(self) -> bool:
        return self._deadline < math.inf

    def _idle(self, seconds: float) -> None:
        """Wait between two connections, while actions go on."""
        until = time.monotonic() + seconds
        with selectors.DefaultSelector() as selector:
            selector.register(self._wake, selectors.EVENT_READ)
            while not self._is_over():
                now = time.monotonic()
                if now >= until or (self._is_stopping and until == math.inf):
                    return
                if selector.select(_time_left(min(until, self._next_drain_step(now)), now)):
                    self._wake.clear()
                self._take()

    def _open(self, stream: _Stream) -> None:
        for lease in self._leases.values():
            lease.number = None
        if self._app.server.token:
            stream.link.write(named("auth", op="auth", token=self._app.server.token))
        offer = dict(self._offer)
        if self._is_stopping:
            offer["slots"] = max(1, min(len(self._leases), self._slots))
        if self._leases:
            offer["hold"] = list(self._leases)
        stream.link.write(named("work", op="work", **offer))

    def _converse(self, stream: _Stream) -> None:
        link = stream.link
        with selectors.DefaultSelector() as selector:
            selector.register(self._wake, selectors.EVENT_READ)
            selector.register(link, link.events)
            events = link.events
            while True:
                now = time.monotonic()
                until = self._do_what_is_due(stream, now)
                if self._is_done_with(stream, now):
                    link.flush()
                    return
                link.flush()
                if link.events != events:
                    events = link.events
                    selector.modify(link, events)
                for key, mask in selector.select(_time_left(until, now)):
                    if key.fileobj is self._wake:
                        self._wake.clear()
                    elif mask & selectors.EVENT_READ:
                        for line in link.read():
                            self._line(stream, json.loads(line))
                self._take()

    def _is_done_with(self, stream: _Stream, now: float) -> bool:
        if stream.left:
            return True
        if stream.retired_at is not None:
            return not stream.unanswered or now >= stream.retired_at + DUE_ANSWERS
        if self._quiet and not self._leases:
            return True
        return now >= min(self._deadline, self._idle_since) + LAST_WORDS

    def _do_what_is_due(self, stream: _Stream, now: float) -> float:
        """Do what the clock asks for, and return when to look at it again."""
        until = min(stream.link.check(now), self._next_drain_step(now))
        if stream.retired_at is not None:
            return min(until, stream.retired_at + DUE_ANSWERS)
        for lease in list(self._refused):
            if lease.again_at <= now:
                self._refused.discard(lease)
                self._send(lease)
            else:
                until = min(until, lease.again_at)
        for lease in list(self._progress):
            if lease.progress_at <= now:
                self._send_progress(lease, now)
            else:
                until = min(until, lease.progress_at)
        return min(until, self._leave(stream, now)) if self._is_stopping else until

    def _leave(self, stream: _Stream, now: float) -> float:
        """Leave once nothing is held, and return when to give up waiting for the node's word."""
        if self._leases:
            self._idle_since = math.inf
            return math.inf
        self._idle_since = min(self._idle_since, now)
        if stream.ready and not self._quiet and not stream.leaving:
            stream.leaving = True
            stream.link.write(named("leave", op="leave", work="work"))
        return self._idle_since + LAST_WORDS

    def _next_drain_step(self, now: float) -> float:
        """Cancel and release what has not finished in the drain time, and return when to look again."""
        if not self._is_stopping:
            return math.inf
        cancel_at = self._deadline - min(5.0, self._drain / 10)
        running = [lease for lease in self._leases.values() if lease.outcome is None]
        if now >= cancel_at:
            for lease in running:
                self._runner.cancel(lease, "stopping")
        if now >= self._deadline:
            for lease in running:
                self._settle(lease, released(lease))
            return self._deadline + LAST_WORDS
        return self._deadline if now >= cancel_at else cancel_at

    # What other threads say.

    def _take(self) -> None:
        inbox = self._inbox
        while inbox:
            what, value = inbox.popleft()
            if what == "outcome":
                lease, outcome = value
                self._runner.finished(lease)
                self._settle(lease, outcome)
            elif what == "progress":
                self._note_progress(value)
            elif what == "stop":
                self._stop(value)

    def _settle(self, lease: Lease, outcome: bytes) -> None:
        """Keep the outcome of a lease until it is answered."""
        if self._leases.get(lease.name) is not lease or lease.outcome is not None:
            return  # forgotten, or released already
        lease.outcome = outcome
        self._progress.discard(lease)
        self._send(lease)

    def _send(self, lease: Lease) -> None:
        stream = self._link
        if stream is None or not stream.accepts_outcomes or lease.outcome is None:
            return  # it is sent when there is a connection again
        number = next(self._numbers)
        lease.number = number
        stream.unanswered[number] = lease
        stream.link.write(with_id(number, lease.outcome))

    def _note_progress(self, attempt: Attempt) -> None:
        lease = self._leases.get(attempt.lease)
        if lease is None or lease.attempt is not attempt or lease.outcome is not None:
            return
        self._progress.add(lease)
        now = time.monotonic()
        if lease.progress_at <= now:
            self._send_progress(lease, now)

    def _send_progress(self, lease: Lease, now: float) -> None:
        stream = self._link
        if stream is None or not stream.accepts_outcomes:
            return
        self._progress.discard(lease)
        lease.progress_at = now + PROGRESS_EVERY
        stream.link.write(lease.attempt.newest_progress)

    def _stop(self, drain: float) -> None:
        if not self._is_stopping:
            log.info("stopping: %d tasks have %.0f s to finish", len(self._leases), drain)
            self._deadline = time.monotonic() + drain
            if self._link is not None and self._link.ready:
                self._take_no_more(self._link)
        else:
            self._deadline = min(self._deadline, time.monotonic() + drain)

    def _take_no_more(self, stream: _Stream) -> None:
        if stream.accepts_outcomes and not self._quiet:
            stream.link.write(named("slots", op="slots", work="work", slots=0))

    # What the node says.

    def _line(self, stream: _Stream, message: Reply) -> None:
        id, status = message.get("id"), message.get("status")
        if id == "work":
            if status == "running":
                self._push(stream, message)
            elif status == "cancelling":
                self._cancel(message)
            elif status == "ready":
                self._be_ready(stream, message)
            elif status == "error":
                self._end_of_work(stream, message)
            elif status == "done":
                stream.left = True
        elif isinstance(id, int):
            lease = stream.unanswered.pop(id, None)
            if lease is not None and lease.number == id:
                self._answer(lease, message)
        elif status == "goaway":
            stream.retire(message)
        elif status == "error" and id == "auth":
            self._end_of_work(stream, message)
        elif status == "error" and id is None:
            self._complaint(stream, message)

    def _push(self, stream: _Stream, message: Reply) -> None:
        name = message["lease"]
        if name in self._leases:
            return
        lease = self._leases[name] = Lease(Attempt(message, self._tell), message)
        if stream.retired_at is not None or self._is_stopping:
            self._settle(lease, released(lease))
        elif message["action"] not in self._app.actions:
            self._settle(lease, failure(name, "this worker has no action %s" % message["action"]))
        else:
            self._runner.start(lease, self._app.actions[message["action"]])

    def _cancel(self, message: Reply) -> None:
        lease = self._leases.get(message.get("lease", ""))
        if lease is not None and message.get("code") in ("cancelled", "timed_out", "lost"):
            self._runner.cancel(lease, message["code"])

    def _be_ready(self, stream: _Stream, message: Reply) -> None:
        stream.ready = stream.accepts_outcomes = True
        self._was_ready = True
        self._is_away = False
        self._backoff.reset()
        self._ready.set()
        log.info("worker %s is ready at node %s", self.name, message.get("node"))
        held = message.get("held") or []
        for lease in [lease for name, lease in self._leases.items() if name not in held]:
            self._forget(lease)
        for lease in self._leases.values():
            self._send(lease)
        if self._is_stopping:
            self._take_no_more(stream)

    def _forget(self, lease: Lease) -> None:
        """Give up a lease that the node does not know: the task is another's, or finished."""
        del self._leases[lease.name]
        self._progress.discard(lease)
        self._refused.discard(lease)
        if lease.outcome is None:
            log.warning("lease %s of action %s is lost", lease.name, lease.attempt.action)
            self._runner.cancel(lease, "lost")

    def _end_of_work(self, stream: _Stream, message: Reply) -> None:
        code = message.get("code")
        if code == "quiet":
            log.info("%s; waiting for the end", message.get("error", "quiet"))
            self._quiet = True
            stream.accepts_outcomes = True
            for lease in self._leases.values():
                if lease.number is None:
                    self._send(lease)
            return
        if code in _FATAL and not self._was_ready:
            raise Refused(message)
        log.warning("the node ends the work: %s", refusal(message))
        stream.retire(message)

    def _answer(self, lease: Lease, message: Reply) -> None:
        """Act on the answer to an outcome."""
        if self._leases.get(lease.name) is not lease:
            return
        code = message.get("code") if message.get("status") == "error" else None
        if code in _FOR_NOW:
            lease.again_at = time.monotonic() + float(message.get("retry_after", 1.0))
            lease.number = None
            self._refused.add(lease)
            return
        if code in _BAD_RESULT and lease.is_done:
            self._replace(lease, str(message.get("error", code)))
            return
        if code is not None:
            log.warning("the outcome of lease %s was refused: %s", lease.name, refusal(message))
        del self._leases[lease.name]

    def _replace(self, lease: Lease, error: str) -> None:
        """Send a fail instead of a result that cannot be recorded."""
        log.error("the result of lease %s of action %s cannot be recorded: %s", lease.name, lease.attempt.action, error)
        lease.outcome = failure(lease.name, error, retry=False)
        self._send(lease)

    def _complaint(self, stream: _Stream, message: Reply) -> None:
        """Find out which outcome a refusal without an id means: it would be sent again and refused for ever."""
        code = message.get("code")
        done = [lease for lease in stream.unanswered.values() if lease.is_done and lease.outcome is not None]
        if code == "invalid_json":
            done = [lease for lease in done if has_duplicate_keys(b"{" + (lease.outcome or b""))]
        elif code == "line_too_long":
            done = sorted(done, key=lambda lease: len(lease.outcome or b""))[-1:]
        else:
            done = []
            log.warning("the node says: %s", refusal(message))
        for lease in done:
            stream.unanswered.pop(lease.number or 0, None)
            self._replace(lease, "the result cannot be sent: %s" % message.get("detail", message.get("error", code)))


class _Stream:
    """One connection of a worker."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self.ready = False
        self.accepts_outcomes = False
        self.leaving = False
        self.left = False
        self.retired_at: Optional[float] = None  # since when it is only read
        self.pause = 0.0  # what the node asks to wait before the next connection
        self.unanswered: Dict[int, Lease] = {}

    def retire(self, reason: Reply) -> None:
        if self.retired_at is None:
            self.retired_at = time.monotonic()
            self.accepts_outcomes = False
            self.pause = float(reason.get("retry_after", 0))
            self.link.half_close()


def _time_left(until: float, now: float) -> Optional[float]:
    return None if until == math.inf else max(0.0, until - now)


def _unique_name() -> str:
    host = re.sub(r"[^A-Za-z0-9._-]+", "-", socket.gethostname())[:40]
    return "%s-%d-%s" % (host, os.getpid(), secrets.token_hex(3))
