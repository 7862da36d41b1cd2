"""Helps the tests of programs that use Posta: no server is needed.

An action is an ordinary function: the simplest test calls it, with `attempt()` for its parameter `task`.

    with Fake(app) as fake:
        task = resize.enqueue(url="a.png")
        assert fake.tasks[0].payload == {"url": "a.png"}
        fake.work()
        assert task.wait() == {"w": 100}
"""

from __future__ import annotations

import asyncio
import itertools
import json
import threading
from typing import Any, Dict, List, Optional, Tuple

from .app import Action, Posta
from .attempt import Attempt
from .errors import Cancelled, Permanent, Refused, Reply
from .line import NotJSON, encode


class RecordedAttempt(Attempt):
    """An attempt that keeps what its action says. reports has the pairs of percent and message."""

    def __init__(self, push: Reply) -> None:
        super().__init__(push, lambda what, value: None)
        self.reports: List[Tuple[Optional[float], Optional[str]]] = []

    def progress(self, percent: Optional[float] = None, message: Optional[str] = None) -> None:
        super().progress(percent, message)
        self.reports.append((percent, message))


def attempt(action: str = "test", **push: Any) -> RecordedAttempt:
    """Return an attempt to call an action with: `resize("a.png", task=attempt(number=2))`."""
    if "number" in push:
        push["attempt"] = push.pop("number")
    return RecordedAttempt({"lease": "fake.1", "action": action, "task": "fake", "attempt": 1, **push})


class FakeTask:
    """A task of a Fake: action, payload, options as they were enqueued, and what became of it.

    state is scheduled, queued, done, failed or cancelled.
    """

    def __init__(self, id: str, fields: Reply) -> None:
        self.id = id
        self.action: str = fields["action"]
        self.payload: Any = fields.get("payload")
        self.options: Dict[str, Any] = {
            name: value for name, value in fields.items() if name not in ("op", "action", "payload")
        }
        self.state = "scheduled" if fields.get("delay") or fields.get("run_at") else "queued"
        self.attempts = 0
        self.result: Any = None
        self.error: Optional[str] = None

    def record(self) -> Reply:
        """Return the record that `get` and `wait` would answer."""
        record: Reply = {
            "status": self.state,
            "task": self.id,
            "queue": self.options.get("queue", "default"),
            "action": self.action,
            "attempt": self.attempts,
        }
        for name in ("key", "meta"):
            if name in self.options:
                record[name] = self.options[name]
        if self.state == "done":
            record["result"] = {"ok": True, "data": self.result}
        elif self.error is not None:
            record.update(error=self.error, code="action_failed")
        return record


class Fake:
    """Takes the place of the server while it is entered. Requests from other threads may use it one at a time.

    run calls the action at once. enqueue keeps the task in tasks, and work runs what is queued. Payloads and results
    become JSON and back, as they would on the way. Actions of other programs are given as others: {"name": function}.
    """

    def __init__(self, app: Posta, others: Optional[Dict[str, Any]] = None) -> None:
        self.tasks: List[FakeTask] = []
        self._app = app
        self._actions: Dict[str, Action[Any, Any]] = dict(app.actions)
        for name, function in (others or {}).items():
            self._actions[name] = Action(app, function, name, False, {})
        self._numbers = itertools.count(1)

    def __enter__(self) -> Fake:
        self._app._fake = self._answer
        return self

    def __exit__(self, *_: object) -> None:
        self._app._fake = None

    def work(self, scheduled: bool = True) -> None:
        """Run all tasks that wait, with their retries, and those that they enqueue, until none is left.

        Nobody waits: delays are skipped, unless scheduled is False: then tasks with a delay stay.
        """
        while True:
            waiting = [t for t in self.tasks if t.state == "queued" or (scheduled and t.state == "scheduled")]
            if not waiting:
                return
            for task in waiting:
                self._attempt(task)

    def _attempt(self, task: FakeTask) -> None:
        task.attempts += 1
        push = {**task.options, "lease": "%s.%d" % (task.id, task.attempts), "task": task.id, "attempt": task.attempts}
        try:
            task.result = self._call(task.action, task.payload, push)
            task.state = "done"
            task.error = None
        except (Exception, Cancelled) as error:
            task.error = _text(error)
            final = isinstance(error, (Permanent, NotJSON)) or task.attempts >= task.options.get("max_attempts", 12)
            task.state = "failed" if final else "scheduled"

    def _call(self, name: str, payload: Any, push: Reply) -> Any:
        if name not in self._actions:
            raise Permanent("unknown action %s" % name)
        action = self._actions[name]
        result = action.call(json.loads(encode(payload)), RecordedAttempt({**push, "action": name}))
        if asyncio.iscoroutine(result):
            result = _run(result)
        return json.loads(encode(result))

    def _answer(self, fields: Reply) -> Reply:
        op = fields["op"]
        if op == "run":
            return self._answer_run(fields)
        if op == "enqueue":
            return self._answer_enqueue(fields)
        if op in ("get", "wait", "cancel", "retry") and "task" in fields:
            return self._answer_task(op, self._find(fields["task"]))
        raise Refused({"code": "unavailable", "error": "the fake has no op %s" % op})

    def _answer_run(self, fields: Reply) -> Reply:
        try:
            result = self._call(fields["action"], fields.get("payload"), {"lease": "run-%d" % next(self._numbers)})
            return {"status": "done", "result": {"ok": True, "data": result}}
        except (Exception, Cancelled) as error:
            return {"status": "done", "result": {"ok": False, "error": _text(error)}}

    def _answer_enqueue(self, fields: Reply) -> Reply:
        key, queue = fields.get("key"), fields.get("queue", "default")
        for task in self.tasks:
            same = task.options.get("key") == key and task.options.get("queue", "default") == queue
            if key is None or not same or task.state == "cancelled":
                continue
            if (task.action, task.payload) != (fields["action"], fields.get("payload")):
                raise Refused({"code": "key_conflict", "error": "the key belongs to another request", "task": task.id})
            return {**task.record(), "duplicate": True}
        task = FakeTask("fake-%d" % next(self._numbers), fields)
        self.tasks.append(task)
        return {"status": task.state, "task": task.id}

    def _answer_task(self, op: str, task: FakeTask) -> Reply:
        waiting = task.state in ("queued", "scheduled")
        if op == "cancel" and task.state != "cancelled":
            if not waiting:
                raise Refused({"code": "conflict", "error": "the task is finished", "task": task.id, "state": task.state})
            task.state = "cancelled"
        elif op == "retry":
            if task.state == "queued":
                raise Refused({"code": "conflict", "error": "the task is queued", "task": task.id, "state": task.state})
            task.state, task.error = "queued", None
        elif op == "wait" and waiting:
            self._attempt(task)
            while task.state == "scheduled":
                self._attempt(task)
        return task.record()

    def _find(self, id: str) -> FakeTask:
        for task in self.tasks:
            if task.id == id:
                return task
        raise Refused({"code": "not_found", "error": "there is no such task", "task": id})


def _text(error: BaseException) -> str:
    text = str(error)
    if isinstance(error, Permanent) and text:
        return text
    return "%s: %s" % (type(error).__name__, text) if text else type(error).__name__


def _run(coroutine: Any) -> Any:
    """Run a coroutine to its end, also if a loop already runs in this thread."""
    outcome: List[Any] = []
    failure: List[BaseException] = []

    def run() -> None:
        try:
            outcome.append(asyncio.run(coroutine))
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
    return outcome[0]
