"""The front door: Posta, the actions that it knows, and the tasks that it has enqueued."""

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
import inspect
import json
import math
import os
import ssl
import threading
import time
from typing import TYPE_CHECKING, Any, Callable, Dict, Generic, Iterator, List, Optional, Sequence, TypeVar, Union, overload

from .client import FINISHED, PATIENCE, Channel, Request, watch
from .errors import ActionFailed, Reply, TaskCancelled, TaskFailed, Unreachable
from .line import MAX_LINE, encode, members
from .link import Server

if TYPE_CHECKING:
    from typing_extensions import ParamSpec

    from .worker import Worker

    P = ParamSpec("P")
else:
    P = TypeVar("P")

R = TypeVar("R")
T = TypeVar("T")

# OPTIONS are the options of an enqueue, as docs/wire.md describes them.
OPTIONS = frozenset(
    "queue priority delay run_at expires timeout max_attempts backoff backoff_max key keep keep_failed meta".split()
)

# A payload that would not leave room for the rest of its line is uploaded first.
_MAX_INLINE = MAX_LINE - (32 << 10)


class Posta:
    """A client of Posta, and the actions that its workers serve.

    address is HOST:PORT, or several with commas between them; without it POSTA_TO counts, then 127.0.0.1:9000.
    token is sent to nodes that require one; without it POSTA_TOKEN counts. tls is needed where the nodes speak TLS;
    without it POSTA_TLS, POSTA_TLS_CA, POSTA_TLS_CERT and POSTA_TLS_KEY count.

    A Posta may be shared by threads, and survives a fork. It connects with the first request.
    """

    def __init__(
        self, address: Optional[str] = None, *, token: Optional[str] = None, tls: Optional[ssl.SSLContext] = None
    ) -> None:
        self.server = Server(address, token, tls)
        self.actions: Dict[str, Action[Any, Any]] = {}
        self._lock = threading.Lock()
        self._channel: Optional[Channel] = None
        self._process = os.getpid()
        self._fake: Optional[Callable[[Reply], Reply]] = None

    # Actions.

    @overload
    def action(self, function: Callable[P, R], /) -> Action[P, R]: ...

    @overload
    def action(
        self, *, name: Optional[str] = None, idempotent: bool = False, **options: Any
    ) -> Callable[[Callable[P, R]], Action[P, R]]: ...

    def action(
        self,
        function: Optional[Callable[..., Any]] = None,
        *,
        name: Optional[str] = None,
        idempotent: bool = False,
        **options: Any,
    ) -> Any:
        """Register a function as an action. It stays an ordinary function.

        name is the function's own unless given. idempotent says that a direct run may be repeated when its worker
        goes. The options (queue, timeout, max_attempts and so on) are defaults for enqueue.
        """
        _check(options)

        def register(function: Callable[..., Any]) -> Action[Any, Any]:
            action = Action[Any, Any](self, function, name or function.__name__, idempotent, options)
            if action.name in self.actions:
                raise ValueError("there already is an action %s" % action.name)
            self.actions[action.name] = action
            return action

        return register if function is None else register(function)

    # Requests.

    def run(self, action: str, payload: Any = None, *, timeout: Optional[float] = None) -> Any:
        """Run an action now and return its result. It raises ActionFailed. The action is never run twice."""
        return self._result_of_run(self._ask(_run_fields(action, timeout), encode(payload)))

    async def run_async(self, action: str, payload: Any = None, *, timeout: Optional[float] = None) -> Any:
        """Like run."""
        return self._result_of_run(await self._ask_async(_run_fields(action, timeout), encode(payload)))

    def enqueue(self, action: str, payload: Any = None, **options: Any) -> Task:
        """Store a task that runs later. When this returns, no crash loses the task.

        With a key, a second enqueue returns the first task, so that an enqueue is repeated safely. Without one, an
        enqueue whose reply was lost raises UnknownOutcome.
        """
        fields, body = _enqueue_fields(action, options), encode(payload)
        if self._must_upload(body):
            return Task(self, self._ask({**fields, "payload_blob": self._upload(body)}))
        return Task(self, self._ask(fields, body))

    async def enqueue_async(self, action: str, payload: Any = None, **options: Any) -> Task:
        """Like enqueue."""
        fields, body = _enqueue_fields(action, options), encode(payload)
        if self._must_upload(body):
            blob = await _in_thread(self._upload, body)
            return Task(self, await self._ask_async({**fields, "payload_blob": blob}))
        return Task(self, await self._ask_async(fields, body))

    def task(self, id: str) -> Task:
        """Return a handle to a task whose id is known."""
        return Task(self, {"task": id})

    def request(self, op: str, **fields: Any) -> Reply:
        """Send any op that has one reply, such as list, queues, pause or info, and return the reply."""
        return self._ask({"op": op, **fields})

    async def request_async(self, op: str, **fields: Any) -> Reply:
        """Like request."""
        return await self._ask_async({"op": op, **fields})

    def close(self) -> None:
        """End the connection. The next request opens another."""
        with self._lock:
            channel, self._channel = self._channel, None
        if channel is not None:
            channel.close()

    # Workers.

    def worker(self, **settings: Any) -> Worker:
        """Return a Worker for the registered actions, to start and stop it yourself. Its settings are those of work."""
        from .worker import Worker

        return Worker(self, **settings)

    def work(self, *, processes: int = 1, **settings: Any) -> None:
        """Serve the registered actions until SIGTERM or SIGINT.

        slots is how many tasks may run at once, in each of the processes. queues limits the worker to some queues.
        drain is how many seconds running tasks get to finish after the signal. See Worker for the others.
        """
        if processes > 1:
            from .processes import supervise

            supervise(processes, lambda: self.worker(**settings).run())
        else:
            self.worker(**settings).run()

    # Inside.

    def _ask(self, fields: Reply, payload: Optional[bytes] = None) -> Reply:
        if self._fake is not None:
            return self._fake(_with_payload(fields, payload))
        return self._submit(_rest(fields, payload), _is_harmless(fields)).result()

    async def _ask_async(self, fields: Reply, payload: Optional[bytes] = None) -> Reply:
        if self._fake is not None:
            return self._fake(_with_payload(fields, payload))
        return await asyncio.wrap_future(self._submit(_rest(fields, payload), _is_harmless(fields)))

    def _submit(
        self, rest: Union[bytes, Callable[[], bytes]], harmless: bool, deadline: Optional[float] = None
    ) -> concurrent.futures.Future[Reply]:
        if deadline is None:
            deadline = time.monotonic() + PATIENCE
        return self._own_channel().submit(Request(rest, harmless, deadline))

    def _own_channel(self) -> Channel:
        with self._lock:
            if self._channel is None or self._process != os.getpid():
                self._channel = Channel(self.server)
                self._process = os.getpid()
            return self._channel

    def _must_upload(self, body: bytes) -> bool:
        return len(body) > _MAX_INLINE and self._fake is None

    def _upload(self, body: bytes) -> Any:
        return json.loads(self.server.request("PUT", "/v1/blobs", body))["blob"]

    def _result_of_run(self, reply: Reply) -> Any:
        result = reply.get("result", {})
        if not result.get("ok"):
            raise ActionFailed(str(result.get("error", "the action failed")))
        return self._data(result)

    def _data(self, result: Reply) -> Any:
        """Return what an action returned, from the result of a reply."""
        if "blob" in result and "data" not in result:
            result = json.loads(self.server.request("GET", result["blob"]["href"]))
        if "data" in result:
            return result["data"]
        return {name: value for name, value in result.items() if name != "ok"} or None


class Task:
    """A durable task. id names it, status is what the server said last."""

    def __init__(self, app: Posta, reply: Reply) -> None:
        self._app = app
        self.id: str = reply["task"]
        self.status: Optional[str] = reply.get("status")
        self.duplicate: bool = reply.get("duplicate", False)
        self.warning: Optional[str] = reply.get("warning")

    def __repr__(self) -> str:
        return "<posta.Task %s %s>" % (self.id, self.status)

    def wait(self, timeout: Optional[float] = None) -> Any:
        """Wait until the task is finished and return its result, through any number of restarts of nodes.

        It raises TaskFailed with the task's record, TaskCancelled, or TimeoutError after timeout seconds.
        """
        if self._app._fake is not None:
            return self._outcome(self._app._fake(self._wait_fields(timeout)), timeout)
        try:
            return self._outcome(self._wait(timeout).result(), timeout)
        except Unreachable as error:
            raise self._too_late(timeout) from error

    async def wait_async(self, timeout: Optional[float] = None) -> Any:
        """Like wait."""
        if self._app._fake is not None:
            return self._outcome(self._app._fake(self._wait_fields(timeout)), timeout)
        try:
            reply = await asyncio.wrap_future(self._wait(timeout))
        except Unreachable as error:
            raise self._too_late(timeout) from error
        if "blob" in reply.get("result", {}):
            return await _in_thread(self._outcome, reply, timeout)
        return self._outcome(reply, timeout)

    def record(self, payload: bool = False) -> Reply:
        """Return the task's record: its state, attempts, times, and its result or error."""
        return self._seen(self._app._ask({"op": "get", "task": self.id, "payload": payload}))

    async def record_async(self, payload: bool = False) -> Reply:
        """Like record."""
        return self._seen(await self._app._ask_async({"op": "get", "task": self.id, "payload": payload}))

    def cancel(self) -> str:
        """Cancel the task and return cancelled, or cancelling if it runs. It raises Refused if it is finished."""
        return str(self._seen(self._app._ask({"op": "cancel", "task": self.id}))["status"])

    async def cancel_async(self) -> str:
        """Like cancel."""
        return str(self._seen(await self._app._ask_async({"op": "cancel", "task": self.id}))["status"])

    def retry(self) -> None:
        """Run a finished task again, or a scheduled one now."""
        self._seen(self._app._ask({"op": "retry", "task": self.id}))

    def watch(self, after: int = 0) -> Iterator[Reply]:
        """Yield the entries of the task's history, and its progress, until it is finished."""
        return watch(self._app.server, self.id, after)

    def _wait_fields(self, timeout: Optional[float]) -> Reply:
        fields: Reply = {"op": "wait", "task": self.id}
        if timeout is not None:
            fields["timeout"] = min(max(timeout, 0.0), 3600.0)
        return fields

    def _wait(self, timeout: Optional[float]) -> concurrent.futures.Future[Reply]:
        deadline = math.inf if timeout is None else time.monotonic() + timeout

        def rest() -> bytes:
            return members(self._wait_fields(None if timeout is None else deadline - time.monotonic()))

        return self._app._submit(rest, True, deadline)

    def _outcome(self, record: Reply, timeout: Optional[float]) -> Any:
        status = self._seen(record)["status"]
        if status == "done":
            return self._app._data(record["result"])
        if status == "cancelled":
            raise TaskCancelled(record)
        if status == "failed":
            raise TaskFailed(record)
        raise self._too_late(timeout)

    def _too_late(self, timeout: Optional[float]) -> TimeoutError:
        return TimeoutError("task %s has not finished within %s seconds" % (self.id, timeout))

    def _seen(self, reply: Reply) -> Reply:
        reply.pop("id", None)
        self.status = reply["status"]
        return reply


class Action(Generic[P, R]):
    """A function that is also an action. Calling it calls the function, here and now.

    The function's parameters are the members of the payload, which is an object. A payload that is no object is the first
    argument, and null is no argument. A function whose only parameter is positional-only, such as `def f(payload, /)`,
    gets any payload as it is. A keyword-only parameter named task gets the Attempt.
    """

    def __init__(
        self, app: Posta, function: Callable[..., Any], name: str, idempotent: bool, options: Dict[str, Any]
    ) -> None:
        self.__name__: str
        functools.update_wrapper(self, function)
        self.app = app
        self.name = name
        self.function = function
        self.idempotent = idempotent
        self.is_async = inspect.iscoroutinefunction(function)
        self._options = options
        parameters = list(inspect.signature(function).parameters.values())
        self.wants_task = any(p.name == "task" and p.kind is p.KEYWORD_ONLY for p in parameters)
        parameters = [p for p in parameters if not (p.name == "task" and p.kind is p.KEYWORD_ONLY)]
        positional_only = [p for p in parameters if p.kind is p.POSITIONAL_ONLY]
        if positional_only and len(parameters) > 1:
            raise TypeError("action %s: a positional-only parameter gets the whole payload, so it must be the only one" % name)
        self.takes_whole = bool(positional_only)
        self._signature = inspect.Signature(parameters)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        result: R = self.function(*args, **kwargs)
        return result

    def __repr__(self) -> str:
        return "<posta.Action %s>" % self.name

    def run(self, *args: Any, **kwargs: Any) -> Any:
        """Run the action with these arguments on a worker now, and return its result."""
        return self.options().run(*args, **kwargs)

    async def run_async(self, *args: Any, **kwargs: Any) -> Any:
        """Like run."""
        return await self.options().run_async(*args, **kwargs)

    def enqueue(self, *args: Any, **kwargs: Any) -> Task:
        """Store a task with these arguments that runs later."""
        return self.options().enqueue(*args, **kwargs)

    async def enqueue_async(self, *args: Any, **kwargs: Any) -> Task:
        """Like enqueue."""
        return await self.options().enqueue_async(*args, **kwargs)

    def options(self, **options: Any) -> Call:
        """Return the action with other options: `resize.options(key="a-100", delay=5).enqueue(url="a.png")`."""
        _check(options)
        return Call(self, {**self._options, **options})

    def payload(self, *args: Any, **kwargs: Any) -> Any:
        """Return the payload for these arguments. It raises TypeError if the function does not take them."""
        bound = self._signature.bind(*args, **kwargs)
        if self.takes_whole:
            return next(iter(bound.arguments.values()), None)
        payload: Dict[str, Any] = {}
        for name, value in bound.arguments.items():
            kind = self._signature.parameters[name].kind
            if kind is inspect.Parameter.VAR_KEYWORD:
                payload.update(value)
            elif kind is inspect.Parameter.VAR_POSITIONAL:
                raise TypeError("action %s: arguments of *%s have no name in a payload" % (self.name, name))
            else:
                payload[name] = value
        return payload or None

    def call(self, payload: Any, attempt: Any) -> Any:
        """Call the function with a payload, as a worker does."""
        kwargs = {"task": attempt} if self.wants_task else {}
        if self.takes_whole:
            return self.function(payload, **kwargs)
        if isinstance(payload, dict):
            return self.function(**payload, **kwargs)
        if payload is None:
            return self.function(**kwargs)
        return self.function(payload, **kwargs)


class Call:
    """An action with options, ready to be run or enqueued."""

    def __init__(self, action: Action[Any, Any], options: Dict[str, Any]) -> None:
        self._action = action
        self._options = options

    def run(self, *args: Any, **kwargs: Any) -> Any:
        action = self._action
        return action.app.run(action.name, action.payload(*args, **kwargs), timeout=self._options.get("timeout"))

    async def run_async(self, *args: Any, **kwargs: Any) -> Any:
        action = self._action
        payload = action.payload(*args, **kwargs)
        return await action.app.run_async(action.name, payload, timeout=self._options.get("timeout"))

    def enqueue(self, *args: Any, **kwargs: Any) -> Task:
        action = self._action
        return action.app.enqueue(action.name, action.payload(*args, **kwargs), **self._options)

    async def enqueue_async(self, *args: Any, **kwargs: Any) -> Task:
        action = self._action
        return await action.app.enqueue_async(action.name, action.payload(*args, **kwargs), **self._options)


def _check(options: Dict[str, Any]) -> None:
    unknown = sorted(options.keys() - OPTIONS)
    if unknown:
        raise TypeError("unknown option %s; known are %s" % (unknown[0], ", ".join(sorted(OPTIONS))))


def _run_fields(action: str, timeout: Optional[float]) -> Reply:
    fields: Reply = {"op": "run", "action": action}
    return fields if timeout is None else {**fields, "timeout": timeout}


def _enqueue_fields(action: str, options: Dict[str, Any]) -> Reply:
    _check(options)
    set_options = {name: value for name, value in options.items() if value is not None}
    return {"op": "enqueue", "action": action, **set_options}


def _rest(fields: Reply, payload: Optional[bytes]) -> bytes:
    """Return the line of a request without its id."""
    rest = members(fields)
    return rest if payload is None else b'%b,"payload":%b}\n' % (rest[:-2], payload)


def _with_payload(fields: Reply, payload: Optional[bytes]) -> Reply:
    return fields if payload is None else {**fields, "payload": json.loads(payload)}


def _is_harmless(fields: Reply) -> bool:
    """Report whether a request may be carried out twice."""
    return fields["op"] not in ("run", "enqueue", "retry") or (fields["op"] == "enqueue" and "key" in fields)


async def _in_thread(work: Callable[..., T], *arguments: Any) -> T:
    """Do what may block in a thread."""
    return await asyncio.get_running_loop().run_in_executor(None, functools.partial(work, *arguments))
