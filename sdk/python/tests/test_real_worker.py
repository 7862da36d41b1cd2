"""The worker with a real node: also when one of them is killed."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import unittest
from typing import Any, List, Optional

from posta import Posta, TaskCancelled, TaskFailed, Worker

from .realnode import PATIENCE, RealTest


class RealWorker(RealTest):
    def setUp(self) -> None:
        super().setUp()
        self.app = Posta(self.node.address)
        self.addCleanup(self.app.close)

    def worker(self) -> Worker:
        """Return a worker of this process that is ready."""
        from . import realapp

        realapp.app.server = self.app.server
        worker = realapp.app.worker(slots=4)
        worker.start()
        self.addCleanup(worker.join, PATIENCE)
        self.addCleanup(worker.stop, 0)
        self.assertTrue(worker.wait_ready(PATIENCE))
        return worker

    def process(self, *arguments: str) -> "subprocess.Popen[bytes]":
        """Return a worker in a process of its own."""
        command = [sys.executable, "-m", "posta", "tests.realapp:app", "--slots", "4", *arguments]
        process = subprocess.Popen(command, env={**os.environ, "POSTA_TO": self.node.address}, stderr=subprocess.DEVNULL)

        def end() -> None:
            process.kill()
            process.wait()

        self.addCleanup(end)
        return process

    def gate(self, name: str) -> str:
        """Return the path of a FIFO, on which until_file waits."""
        path = os.path.join(self.folder, name)
        os.mkfifo(path)
        os.mkfifo(path + ".started")
        return path

    def open_gate(self, path: str) -> None:
        with open(path, "wb"):
            pass

    def until_running(self, path: str) -> int:
        """Wait until an until_file has begun, and return its process."""
        with open(os.open(path + ".started", os.O_RDONLY | os.O_NONBLOCK)) as started:
            ready, _, _ = select.select([started], [], [], PATIENCE)
            self.assertTrue(ready, "the action has not begun")
            os.set_blocking(started.fileno(), True)
            return int(started.read())

    def history(self, task: Any) -> List[str]:
        return [entry["status"] for entry in task.watch() if "progress" not in entry]

    def test_tasks_of_every_kind(self) -> None:
        self.worker()
        self.assertEqual(self.app.enqueue("greet", {"name": "Ana"}).wait(PATIENCE), "hello Ana")
        self.assertEqual(self.app.enqueue("greet_async", {"name": "Ñandú"}).wait(PATIENCE), "hello Ñandú")
        self.assertEqual(self.app.run("greet", {"name": "Eva"}), "hello Eva")
        self.assertEqual(self.app.enqueue("flaky", backoff=0).wait(PATIENCE), 2)
        with self.assertRaises(TaskFailed) as failed:
            self.app.enqueue("permanent").wait(PATIENCE)
        self.assertEqual((str(failed.exception), failed.exception.record["attempt"]), ("not an image", 1))

    def test_bodies_of_every_size(self) -> None:
        self.worker()
        for size in (0, 1 << 10, 70 << 10, 900 << 10, 1 << 20, 3 << 20):
            body = "x" * size
            self.assertEqual(self.app.enqueue("echo_python", body).wait(PATIENCE), body, "%d bytes" % size)

    def test_a_cancelled_task(self) -> None:
        self.worker()
        task = self.app.enqueue("until_cancelled")
        for entry in task.watch():
            if "progress" in entry:
                self.assertEqual(entry["progress"], {"percent": 40, "message": "waiting"})
                break
        self.assertEqual(task.cancel(), "cancelling")
        self.assertRaises(TaskCancelled, task.wait, PATIENCE)

    def test_a_task_that_takes_too_long(self) -> None:
        self.worker()
        with self.assertRaisesRegex(TaskFailed, "timed out"):
            self.app.enqueue("until_cancelled", timeout=0.1, max_attempts=1).wait(PATIENCE)

    def test_a_worker_that_is_killed(self) -> None:
        first, path = self.process(), self.gate("gate")
        task = self.app.enqueue("until_file", {"path": path})
        self.assertEqual(self.until_running(path), first.pid)
        first.kill()
        second = self.process()
        self.assertEqual(self.until_running(path), second.pid)
        self.open_gate(path)
        self.assertEqual(task.wait(PATIENCE), {"process": second.pid, "attempt": 2})

    def test_a_worker_that_drains_finishes_and_leaves(self) -> None:
        first, path = self.process(), self.gate("gate")
        task = self.app.enqueue("until_file", {"path": path})
        self.until_running(path)
        first.send_signal(signal.SIGTERM)
        self.open_gate(path)
        self.assertEqual(first.wait(PATIENCE), 0)
        self.assertEqual(task.wait(PATIENCE), {"process": first.pid, "attempt": 1})

    def test_a_worker_without_time_to_drain_gives_its_task_back(self) -> None:
        first, path = self.process("--drain", "0"), self.gate("gate")
        task = self.app.enqueue("until_file", {"path": path})
        self.until_running(path)
        first.send_signal(signal.SIGTERM)
        self.assertEqual(first.wait(PATIENCE), 0)
        second = self.process()
        self.assertEqual(self.until_running(path), second.pid)
        self.open_gate(path)
        self.assertEqual(task.wait(PATIENCE)["process"], second.pid)

    def test_the_node_dies_and_the_task_goes_on(self) -> None:
        worker, path = self.process(), self.gate("gate")
        task = self.app.enqueue("until_file", {"path": path})
        self.until_running(path)
        self.node.kill()
        self.node = self.start_node(self.node.address)
        self.open_gate(path)
        self.assertEqual(task.wait(PATIENCE), {"process": worker.pid, "attempt": 1})
        self.assertEqual(self.history(task).count("running"), 1)

    def test_several_processes(self) -> None:
        parent, paths = self.process("--processes", "2", "--slots", "1"), [self.gate("a"), self.gate("b")]
        tasks = [self.app.enqueue("until_file", {"path": path}) for path in paths]
        first, second = [self.until_running(path) for path in paths]
        self.assertEqual(len({first, second, parent.pid}), 3)
        os.kill(first, signal.SIGKILL)
        replacement = self.until_running(paths[0])
        for path in paths:
            self.open_gate(path)
        self.assertEqual([task.wait(PATIENCE)["process"] for task in tasks], [replacement, second])
        self.assertNotIn(replacement, (first, parent.pid))
        parent.send_signal(signal.SIGTERM)
        self.assertEqual(parent.wait(PATIENCE), 0)


if __name__ == "__main__":
    unittest.main()
