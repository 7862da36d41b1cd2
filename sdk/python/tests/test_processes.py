"""`python -m posta` with one process and with several."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import unittest

from .fakenode import PATIENCE, Connection, FakeNode


READY = {"id": "work", "status": "ready", "worker": "w", "node": "n", "slots": 3}


class Processes(unittest.TestCase):
    def setUp(self) -> None:
        self.node = FakeNode()
        self.addCleanup(self.node.close)

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        command = [sys.executable, "-m", "posta", *arguments]
        environment = {**os.environ, "POSTA_TO": self.node.address}
        process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)

        def end() -> None:
            process.kill()
            process.communicate()

        self.addCleanup(end)
        return process

    def accept(self) -> Connection:
        connection = self.node.accepted.get(timeout=PATIENCE)
        self.addCleanup(connection.close)
        self.assertEqual(connection.next()["op"], "work")
        return connection

    def let_leave(self, connection: Connection) -> None:
        self.assertEqual(connection.next()["op"], "slots")
        self.assertEqual(connection.next()["op"], "leave")
        connection.send({"id": "work", "status": "done", "result": {"ok": True, "released": 0}})

    def test_each_process_has_a_connection_and_a_name_and_drains(self) -> None:
        process = self.start("tests.realapp:app", "--processes", "2", "--slots", "3")
        connections = [self.accept() for _ in range(2)]
        for connection in connections:
            connection.send(READY)
        process.send_signal(signal.SIGTERM)
        for connection in connections:
            self.let_leave(connection)
        _, log = process.communicate(timeout=PATIENCE)
        self.assertEqual(process.returncode, 0, log)

    def test_all_end_when_one_is_refused(self) -> None:
        process = self.start("tests.realapp:app", "--processes", "2")
        connections = [self.accept() for _ in range(2)]
        connections[0].send(READY)
        connections[1].send({"id": "work", "status": "error", "code": "forbidden", "error": "not with this token"})
        self.let_leave(connections[0])
        _, log = process.communicate(timeout=PATIENCE)
        self.assertEqual(process.returncode, 1, log)
        self.assertIn("not with this token", log)

    def test_what_is_wrong_is_said(self) -> None:
        for argument, text in (
            ("nowhere:app", "there is no module nowhere"),
            ("tests.realapp:nobody", "tests.realapp has no Posta named nobody"),
        ):
            process = self.start(argument)
            _, log = process.communicate(timeout=PATIENCE)
            self.assertEqual((process.returncode, text in log), (1, True), log)


if __name__ == "__main__":
    unittest.main()
