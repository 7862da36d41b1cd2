"""Runs actions: coroutines on one event loop, other functions in threads."""

from __future__ import annotations

import asyncio
import collections
import json
import logging
import queue
import threading
from typing import TYPE_CHECKING, Any, Callable, Deque, Optional, Tuple

from .attempt import Attempt
from .errors import Cancelled, Permanent, Reply, Retry
from .line import MAX_LINE, NotJSON, encode, members

if TYPE_CHECKING:
    from .app import Action, Posta

log = logging.getLogger("posta")

# MAX_ERROR is how many characters of an error are sent.
MAX_ERROR = 4096

# A result that would not leave room for the rest of its line is uploaded first.
_MAX_INLINE = MAX_LINE - 1024


class Lease:
    """A task that the worker holds: its action runs, or its outcome waits for an answer."""

    __slots__ = ("name", "attempt", "push", "outcome", "number", "again_at", "progress_at", "coroutine", "in_thread", "has_begun")

    def __init__(self, attempt: Attempt, push: Reply) -> None:
        self.name = attempt.lease
        self.attempt = attempt
        self.push = push
        self.outcome: Optional[bytes] = None  # its line without the id, once there is one
        self.number: Optional[int] = None  # the id with which the outcome was sent on this connection
        self.again_at = 0.0
        self.progress_at = 0.0
        self.coroutine: Optional[asyncio.Task[None]] = None
        self.in_thread = False
        self.has_begun = False

    @property
    def is_done(self) -> bool:
        return self.outcome is not None and self.outcome.startswith(_DONE)


_DONE = b'"op":"done"'


def done(lease: str, result: bytes) -> bytes:
    """Return the outcome of an action that returned. result is JSON."""
    return b'%b,"lease":%b,"data":%b}\n' % (_DONE, encode(lease), result)


def done_with_blob(lease: str, blob: Any) -> bytes:
    return b'%b,"lease":%b,"data_blob":%b}\n' % (_DONE, encode(lease), encode(blob))


def failure(lease: str, error: str, retry: bool = True, after: Optional[float] = None) -> bytes:
    """Return the outcome of an action that failed."""
    fields = {"op": "fail", "lease": lease, "error": error[:MAX_ERROR].encode(errors="replace").decode() or "failed"}
    return members({**fields, **({} if retry else {"retry": False}), **({} if after is None else {"retry_after": after})})


def released(lease: Lease) -> bytes:
    """Return the outcome of an attempt that does not count."""
    return members({"op": "release", "lease": lease.name})


class Runner:
    """Starts and cancels actions. Only the worker's thread calls it.

    Outcomes come through tell("outcome", (lease, line)).
    """

    def __init__(self, app: Posta, tell: Callable[[str, Any], None]) -> None:
        self._app = app
        self._tell = tell
        self._calls: queue.SimpleQueue[Optional[Tuple[Lease, Action[Any, Any]]]] = queue.SimpleQueue()
        self._threads = 0
        self._in_threads = 0  # calls that are queued or run
        self._loop: Optional[asyncio.AbstractEventLoop] = None
        self._coroutines: Deque[Tuple[Lease, Action[Any, Any]]] = collections.deque()

    def start(self, lease: Lease, action: Action[Any, Any]) -> None:
        if action.is_async:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                threading.Thread(target=_run_loop, args=(self._loop,), name="posta-loop", daemon=True).start()
            self._coroutines.append((lease, action))
            if len(self._coroutines) == 1:
                self._loop.call_soon_threadsafe(self._start_coroutines)
            return
        lease.in_thread = True
        self._in_threads += 1
        self._calls.put((lease, action))
        if self._threads < self._in_threads:
            self._threads += 1
            name = "posta-action-%d" % self._threads
            threading.Thread(target=self._run_calls, name=name, daemon=True).start()

    def finished(self, lease: Lease) -> None:
        """Note that the action of a lease has ended."""
        if lease.in_thread:
            self._in_threads -= 1

    def cancel(self, lease: Lease, code: str) -> None:
        """Ask the action of a lease to end."""
        if lease.attempt.code is not None:
            return
        lease.attempt.cancel(code)
        if self._loop is not None and not lease.in_thread:
            self._loop.call_soon_threadsafe(_cancel_coroutine, lease)

    def stop(self) -> None:
        """Start no more. What still runs ends with the process."""
        for _ in range(self._threads):
            self._calls.put(None)
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._loop.stop)

    # In threads.

    def _run_calls(self) -> None:
        while True:
            call = self._calls.get()
            if call is None:
                return
            lease, action = call
            self._tell("outcome", (lease, self._call(lease, action)))

    def _call(self, lease: Lease, action: Action[Any, Any]) -> bytes:
        try:
            lease.attempt.check()
            return self._result(lease, action.call(self._payload(lease), lease.attempt))
        except BaseException as error:
            return _failure_of(lease, error)

    # On the event loop.

    def _start_coroutines(self) -> None:
        loop = asyncio.get_running_loop()
        while self._coroutines:
            lease, action = self._coroutines.popleft()
            lease.coroutine = loop.create_task(self._run_coroutine(lease, action))

    async def _run_coroutine(self, lease: Lease, action: Action[Any, Any]) -> None:
        lease.has_begun = True
        try:
            lease.attempt.check()
            loop = asyncio.get_running_loop()
            if "payload_blob" in lease.push:
                payload = await loop.run_in_executor(None, self._payload, lease)
            else:
                payload = self._payload(lease)
            result = encode(await action.call(payload, lease.attempt))
            if len(result) > _MAX_INLINE:
                outcome = await loop.run_in_executor(None, self._large_result, lease, result)
            else:
                outcome = done(lease.name, result)
        except BaseException as error:
            outcome = _failure_of(lease, error)
        self._tell("outcome", (lease, outcome))

    # Both.

    def _payload(self, lease: Lease) -> Any:
        blob = lease.push.get("payload_blob")
        if blob is None:
            return lease.push.get("payload")
        return json.loads(self._app.server.request("GET", blob["href"]))

    def _result(self, lease: Lease, value: Any) -> bytes:
        result = encode(value)
        return done(lease.name, result) if len(result) <= _MAX_INLINE else self._large_result(lease, result)

    def _large_result(self, lease: Lease, result: bytes) -> bytes:
        if lease.attempt.id is None:
            raise NotJSON("the result has %d bytes; that of a direct run may have %d" % (len(result), _MAX_INLINE))
        return done_with_blob(lease.name, json.loads(self._app.server.request("PUT", "/v1/blobs", result))["blob"])


def _run_loop(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    loop.run_forever()
    # Let what still runs clean up. If it ignores the cancellation, it ends with the process.
    left = asyncio.all_tasks(loop)
    for task in left:
        task.cancel()
    if left:
        loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
    loop.close()


def _cancel_coroutine(lease: Lease) -> None:
    # A coroutine that is cancelled before it has begun would end without an outcome. It looks for itself then.
    if lease.coroutine is not None and lease.has_begun:
        lease.coroutine.cancel()


def _failure_of(lease: Lease, error: BaseException) -> bytes:
    """Return the outcome for what an action raised."""
    attempt = lease.attempt
    if isinstance(error, (Cancelled, asyncio.CancelledError)) and attempt.code is not None:
        return released(lease) if attempt.code == "stopping" else failure(lease.name, attempt.reason)
    if isinstance(error, Retry):
        return failure(lease.name, str(error) or "Retry", after=error.after)
    if isinstance(error, Permanent):
        return failure(lease.name, str(error) or "Permanent", retry=False)
    if isinstance(error, NotJSON):
        log.error("action %s, task %s: %s", attempt.action, attempt.id, error)
        return failure(lease.name, str(error), retry=False)
    log.warning("action %s, task %s, attempt %d failed", attempt.action, attempt.id, attempt.number, exc_info=error)
    text = str(error)
    return failure(lease.name, "%s: %s" % (type(error).__name__, text) if text else type(error).__name__)
