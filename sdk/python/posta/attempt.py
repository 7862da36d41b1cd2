"""What an action may know and say about the attempt that it makes."""

from __future__ import annotations

import threading
from typing import Any, Callable, Dict, Optional

from .errors import Cancelled, Reply
from .line import encode

# What is said of an attempt that was cancelled, by the code of its end.
_REASONS = {
    "cancelled": "cancelled",
    "timed_out": "timed out",
    "lost": "the lease is lost: the task is no longer this worker's",
    "stopping": "the worker stops",
}


class Attempt:
    """One attempt of a task: the keyword argument `task` of an action.

    id is the task's, or None for a direct run. number counts the attempts from 1. timeout is in seconds. cancelled is set
    when the action should end; code then says why: cancelled, timed_out, lost or stopping.
    """

    def __init__(self, push: Reply, tell: Callable[[str, Any], None]) -> None:
        self.lease: str = push["lease"]
        self.action: str = push["action"]
        self.id: Optional[str] = push.get("task")
        self.number: int = push.get("attempt", 1)
        self.queue: Optional[str] = push.get("queue")
        self.priority: Optional[str] = push.get("priority")
        self.key: Optional[str] = push.get("key")
        self.meta: Dict[str, str] = push.get("meta") or {}
        self.timeout: Optional[float] = push.get("timeout")
        self.cancelled = threading.Event()
        self.code: Optional[str] = None
        self._tell = tell
        self.newest_progress = b""

    def progress(self, percent: Optional[float] = None, message: Optional[str] = None) -> None:
        """Say how far the action is. It never blocks; of many in a short time only the newest is sent."""
        fields: Dict[str, Any] = {"op": "progress", "lease": self.lease}
        if percent is not None:
            fields["percent"] = percent
        if message is not None:
            fields["message"] = message
        self.newest_progress = encode(fields) + b"\n"
        self._tell("progress", self)

    def check(self) -> None:
        """Raise Cancelled if the attempt was cancelled."""
        if self.cancelled.is_set():
            raise Cancelled(self.reason)

    @property
    def reason(self) -> str:
        """Why the attempt was cancelled, for people."""
        return _REASONS.get(self.code or "", "cancelled")

    def cancel(self, code: str) -> None:
        """Ask the action to end. Only the first code counts."""
        if self.code is None:
            self.code = code
            self.cancelled.set()
