"""The client with a real node."""

from __future__ import annotations

import asyncio
import threading
import unittest
from typing import Any, List

from posta import ActionFailed, Posta, Refused, TaskCancelled, TaskFailed

from .realnode import PATIENCE, RealTest


class RealClient(RealTest):
    def setUp(self) -> None:
        super().setUp()
        self.app = Posta(self.node.address)
        self.addCleanup(self.app.close)

    def test_runs(self) -> None:
        self.assertEqual(self.app.run("upper", "straße"), "STRASSE")
        self.assertEqual(self.app.run("fib", 10), {"fib": 55})
        self.assertEqual(self.app.run("sleep", 0.01), {"slept": 0.01})
        with self.assertRaisesRegex(ActionFailed, "sleep takes seconds"):
            self.app.run("sleep", -1)
        with self.assertRaisesRegex(ActionFailed, "timed out"):
            self.app.run("sleep", 60, timeout=0.05)
        self.assertEqual(self.app.request("ping")["result"]["data"], "pong")

    def test_tasks(self) -> None:
        options: Any = {"key": "k", "meta": {"user": "7"}, "timeout": 30}
        task = self.app.enqueue("upper", "hola", **options)
        self.assertEqual(task.wait(PATIENCE), "HOLA")
        again = self.app.enqueue("upper", "hola", **options)
        self.assertEqual((again.id, again.duplicate, again.status), (task.id, True, "done"))
        record = task.record(payload=True)
        self.assertEqual([record[name] for name in ("payload", "key", "meta")], ["hola", "k", {"user": "7"}])
        with self.assertRaises(TaskFailed) as failed:
            self.app.enqueue("sleep", -1).wait(PATIENCE)
        self.assertEqual((failed.exception.code, failed.exception.record["attempt"]), ("action_failed", 1))
        with self.assertRaises(Refused) as refused:
            self.app.enqueue("echo", queue="Bad")
        self.assertEqual((refused.exception.code, refused.exception.reply["field"]), ("invalid_request", "queue"))

    def test_a_task_is_cancelled_retried_and_watched(self) -> None:
        task = self.app.enqueue("echo", 1, delay=3600)
        self.assertRaises(TimeoutError, task.wait, 0)
        self.assertEqual(task.cancel(), "cancelled")
        self.assertRaises(TaskCancelled, task.wait, PATIENCE)
        task.retry()
        seen = [entry["status"] for entry in task.watch() if "progress" not in entry]
        self.assertEqual(seen, ["scheduled", "cancelled", "queued", "running", "done"])

    def test_large_bodies(self) -> None:
        large = "é" * 800_000
        self.assertEqual(self.app.enqueue("echo", large).wait(PATIENCE), large)

    def test_many_at_once(self) -> None:
        async def main() -> List[Any]:
            return list(await asyncio.gather(*(self.app.run_async("echo", number) for number in range(1000))))

        self.assertEqual(asyncio.run(main()), list(range(1000)))

    def test_a_wait_and_a_watch_survive_restarts(self) -> None:
        for end in ("kill", "drain"):
            task = self.app.enqueue("echo", end, delay=3600)
            results: List[Any] = []
            seen: List[str] = []
            begun = threading.Event()

            def watch() -> None:
                for entry in task.watch():
                    seen.append(entry["status"])
                    begun.set()

            threads = [threading.Thread(target=watch), threading.Thread(target=lambda: results.append(task.wait()))]
            for thread in threads:
                thread.start()
            self.assertTrue(begun.wait(PATIENCE))
            getattr(self.node, end)()
            self.node = self.start_node(self.node.address)
            task.retry()
            for thread in threads:
                thread.join(PATIENCE)
            self.assertEqual(results, [end])
            self.assertEqual((seen[0], seen[-1]), ("scheduled", "done"))


if __name__ == "__main__":
    unittest.main()
