"""The client's requests, against a server that answers as each test wants."""

from __future__ import annotations

import asyncio
import queue
import unittest
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Dict, Optional
from unittest import mock

from posta import ActionFailed, Posta, Refused, TaskCancelled, TaskFailed, UnknownOutcome, Unreachable

from .fakenode import END, PATIENCE, Connection, FakeNode


class ClientTest(unittest.TestCase):
    def setUp(self) -> None:
        self.node = FakeNode()
        self.addCleanup(self.node.close)
        self.app = Posta(self.node.address)
        self.addCleanup(self.app.close)
        self.pool = ThreadPoolExecutor(8)
        self.addCleanup(self.pool.shutdown, False)
        self.connection: Optional[Connection] = None

    def accept(self) -> None:
        self.connection = self.node.accepted.get(timeout=PATIENCE)
        self.addCleanup(self.connection.close)

    def line(self) -> Dict[str, Any]:
        assert self.connection is not None
        line = self.connection.next()
        assert line is not END, "the client has closed the connection"
        return dict(line)

    def answer(self, request: Dict[str, Any], **reply: Any) -> None:
        self.send({"id": request["id"], **reply})

    def send(self, reply: Dict[str, Any]) -> None:
        assert self.connection is not None
        self.connection.send(reply)

    def end(self) -> None:
        assert self.connection is not None
        self.connection.reset()


class Replies(ClientTest):
    def test_run_returns_the_data(self) -> None:
        result = self.pool.submit(self.app.run, "upper", "hola", timeout=5)
        self.accept()
        request = self.line()
        self.assertEqual(
            request, {"id": request["id"], "op": "run", "action": "upper", "payload": "hola", "timeout": 5}
        )
        self.answer(request, status="done", result={"ok": True, "data": "HOLA"})
        self.assertEqual(result.result(), "HOLA")

    def test_run_without_data_returns_what_else_there_is(self) -> None:
        for result, want in (({"ok": True, "slept": 0.5}, {"slept": 0.5}), ({"ok": True}, None)):
            future = self.pool.submit(self.app.run, "sleep")
            if self.connection is None:
                self.accept()
            self.answer(self.line(), status="done", result=result)
            self.assertEqual(future.result(), want)

    def test_an_action_that_fails(self) -> None:
        result = self.pool.submit(self.app.run, "fib", "x")
        self.accept()
        self.answer(self.line(), status="done", result={"ok": False, "error": "not a number"})
        with self.assertRaisesRegex(ActionFailed, "not a number"):
            result.result()

    def test_a_refusal_has_its_code(self) -> None:
        result = self.pool.submit(self.app.enqueue, "upper", "hola")
        self.accept()
        self.answer(self.line(), status="error", code="unavailable", error="this node has no store")
        with self.assertRaisesRegex(Refused, "this node has no store") as refused:
            result.result()
        self.assertEqual(refused.exception.code, "unavailable")

    def test_replies_come_in_any_order(self) -> None:
        results = [self.pool.submit(self.app.run, "echo", number) for number in range(5)]
        self.accept()
        for request in reversed([self.line() for _ in results]):
            self.answer(request, status="done", result={"ok": True, "data": request["payload"]})
        self.assertEqual([result.result() for result in results], list(range(5)))

    def test_enqueue_and_wait(self) -> None:
        @self.app.action(queue="images", max_attempts=3)
        def resize(url: str) -> None: ...

        future = self.pool.submit(resize.options(key="a-100", delay=5).enqueue, url="a.png")
        self.accept()
        request = self.line()
        want = {"op": "enqueue", "action": "resize", "payload": {"url": "a.png"}, "queue": "images"}
        self.assertEqual(request, {"id": request["id"], **want, "max_attempts": 3, "key": "a-100", "delay": 5})
        self.answer(request, status="scheduled", task="T", run_at="2026-01-31T08:00:00Z", warning="nobody has it")
        task = future.result()
        self.assertEqual((task.id, task.status, task.warning, task.duplicate), ("T", "scheduled", "nobody has it", False))

        outcomes: Any = (
            ({"status": "done", "result": {"ok": True, "data": [1]}}, None),
            ({"status": "failed", "error": "boom", "code": "action_failed"}, TaskFailed),
            ({"status": "cancelled"}, TaskCancelled),
            ({"status": "running"}, TimeoutError),
        )
        for record, error in outcomes:
            outcome = self.pool.submit(task.wait, 30)
            request = self.line()
            self.assertEqual((request["op"], request["task"]), ("wait", "T"))
            self.assertLessEqual(request["timeout"], 30)
            self.answer(request, task="T", attempt=1, **record)
            if error is None:
                self.assertEqual(outcome.result(), [1])
            else:
                self.assertRaises(error, outcome.result)

    def test_coroutines_share_a_connection(self) -> None:
        async def main() -> Any:
            return await asyncio.gather(*(self.app.run_async("echo", number) for number in range(50)))

        result = self.pool.submit(asyncio.run, main())
        self.accept()
        for _ in range(50):
            request = self.line()
            self.answer(request, status="done", result={"ok": True, "data": request["payload"]})
        self.assertEqual(result.result(), list(range(50)))

    def test_a_large_payload_is_uploaded_first(self) -> None:
        result = self.pool.submit(self.app.enqueue, "echo", "x" * 2_000_000)
        upload = self.node.requests.get(timeout=PATIENCE)
        self.assertEqual((upload.method, upload.path, len(upload.body)), ("PUT", "/v1/blobs", 2_000_002))
        blob = {"task": "T", "size": 2_000_002, "sha256": "6ceb"}
        upload.answer(200, {"blob": blob})
        self.accept()
        request = self.line()
        self.assertEqual(request["payload_blob"], blob)
        self.answer(request, status="queued", task="T")
        self.assertEqual(result.result().id, "T")

    def test_a_large_result_is_fetched(self) -> None:
        result = self.pool.submit(self.app.task("T").wait)
        self.accept()
        blob = {"size": 2_000_002, "sha256": "6ceb", "href": "/v1/tasks/T/result"}
        self.answer(self.line(), status="done", task="T", result={"ok": True, "blob": blob})
        fetch = self.node.requests.get(timeout=PATIENCE)
        self.assertEqual((fetch.method, fetch.path), ("GET", "/v1/tasks/T/result"))
        fetch.answer(200, {"ok": True, "data": "x" * 2_000_000})
        self.assertEqual(len(result.result()), 2_000_000)

    def test_watch_goes_on_after_a_lost_connection(self) -> None:
        entries: "queue.Queue[Any]" = queue.Queue()

        def watch() -> None:
            for entry in self.app.task("T").watch():
                entries.put(entry["status"])

        watching = self.pool.submit(watch)
        self.accept()
        self.assertEqual(self.line(), {"id": "watch", "op": "watch", "task": "T", "after": 0})
        self.send({"id": "watch", "status": "queued", "task": "T", "seq": 1})
        self.send({"id": "watch", "status": "running", "task": "T", "progress": {"percent": 1}})
        self.assertEqual([entries.get(timeout=PATIENCE) for _ in range(2)], ["queued", "running"])
        self.end()
        self.accept()
        self.assertEqual(self.line()["after"], 1)
        self.send({"id": "watch", "status": "done", "task": "T", "seq": 2, "result": {"ok": True}})
        watching.result()
        self.assertEqual(entries.get(timeout=PATIENCE), "done")

    def test_a_token_comes_first(self) -> None:
        app = Posta(self.node.address, token="correct-horse-battery")
        self.addCleanup(app.close)
        result = self.pool.submit(app.run, "echo", 1)
        self.accept()
        auth = self.line()
        self.assertEqual((auth["op"], auth["token"]), ("auth", "correct-horse-battery"))
        self.answer(auth, status="error", code="unauthenticated", error="unknown token")
        with self.assertRaisesRegex(Refused, "unknown token"):
            result.result()


class SentAgain(ClientTest):
    def test_a_run_is_never_sent_twice(self) -> None:
        result = self.pool.submit(self.app.run, "echo", 1)
        self.accept()
        self.line()
        self.end()
        self.assertRaises(UnknownOutcome, result.result)

    def test_an_enqueue_with_a_key_and_a_read_are_sent_again(self) -> None:
        requests = (
            lambda: self.app.enqueue("echo", 1, key="k").id,
            lambda: self.app.task("T").record()["task"],
            lambda: self.app.task("T").wait(600),
        )
        for request in requests:
            result = self.pool.submit(request)
            if self.connection is None:
                self.accept()
            first = self.line()
            self.end()
            self.accept()
            second = self.line()
            self.assertEqual((first["op"], first.get("key")), (second["op"], second.get("key")))
            self.answer(second, status="done", task="T", result={"ok": True, "data": "T"})
            self.assertEqual(result.result(), "T")

    def test_an_enqueue_without_a_key_is_not_sent_again(self) -> None:
        result = self.pool.submit(self.app.enqueue, "echo", 1)
        self.accept()
        self.line()
        self.end()
        self.assertRaises(UnknownOutcome, result.result)

    def test_draining_and_overloaded_are_tried_again(self) -> None:
        result = self.pool.submit(self.app.enqueue, "echo", 1)
        self.accept()
        for code in ("draining", "overloaded"):
            self.answer(self.line(), status="error", code=code, error="later", retry_after=0)
        self.answer(self.line(), status="queued", task="T")
        self.assertEqual(result.result().id, "T")

    def test_goaway_moves_new_requests_and_waits_for_due_replies(self) -> None:
        first = self.pool.submit(self.app.run, "echo", 1)
        self.accept()
        request, old = self.line(), self.connection
        assert old is not None
        self.send({"id": None, "status": "goaway", "code": "draining", "retry_after": 0})
        self.assertIs(old.next(), END)
        second = self.pool.submit(self.app.run, "echo", 2)
        self.accept()
        self.answer(self.line(), status="done", result={"ok": True, "data": 2})
        self.assertEqual(second.result(), 2)
        old.send({"id": request["id"], "status": "done", "result": {"ok": True, "data": 1}})
        self.assertEqual(first.result(), 1)

    def test_a_server_that_is_away(self) -> None:
        self.node.close()
        with mock.patch("posta.app.PATIENCE", 0.05), self.assertRaises(Unreachable):
            self.app.run("echo", 1)
        with self.assertRaises(TimeoutError):
            self.app.task("T").wait(0.05)


if __name__ == "__main__":
    unittest.main()
