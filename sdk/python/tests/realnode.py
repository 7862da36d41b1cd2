"""A process of `posta node`, for tests against the real thing. POSTA_BINARY names the program; sdk/python_test.go sets it."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import tempfile
import threading
import unittest
from typing import Any, List

BINARY = os.environ.get("POSTA_BINARY", "")

PATIENCE = 60.0


class RealNode:
    """A node with a SQLite store in a folder. It serves when the constructor returns."""

    def __init__(self, folder: str, listen: str = "127.0.0.1:0", arguments: "List[str]" = []) -> None:
        store = ["--store", "sqlite://%s/posta.db" % folder, "--blobs", "file://%s/blobs" % folder]
        command = [BINARY, "node", "--listen", listen, *store, "--drain-delay", "0s", "--log-format", "json", *arguments]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        self._serves: "queue.Queue[Any]" = queue.Queue()
        self._log: List[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        address = self._serves.get(timeout=PATIENCE)
        if address is None:
            raise RuntimeError("the node has ended:\n" + "".join(self._log))
        self.address: str = address

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self._log.append(line.decode())
            if b'"node serves"' in line:
                self._serves.put(json.loads(line)["addr"])
        self._serves.put(None)

    def kill(self) -> None:
        """End the node with SIGKILL."""
        self.process.kill()
        self._end()

    def drain(self) -> None:
        """Ask the node to stop, and wait until it has."""
        self.process.terminate()
        self._end()

    def _end(self) -> None:
        self.process.wait(PATIENCE)
        self._reader.join()
        assert self.process.stderr is not None
        self.process.stderr.close()


@unittest.skipUnless(BINARY, "POSTA_BINARY names no program")
class RealTest(unittest.TestCase):
    """A test with a node of its own."""

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        self.node = self.start_node()

    def start_node(self, listen: str = "127.0.0.1:0") -> RealNode:
        node = RealNode(self.folder, listen)
        self.addCleanup(node.kill)
        return node
