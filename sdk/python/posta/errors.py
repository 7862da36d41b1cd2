"""The exceptions of the package: those that calls raise, and those that actions raise."""

from __future__ import annotations

from typing import Any, Dict, Optional

Reply = Dict[str, Any]


class PostaError(Exception):
    """The base class of everything that calls of this package raise."""


class Unreachable(PostaError, ConnectionError):
    """No server answered in time, and nothing was sent."""


class Refused(PostaError):
    """The server refused a request, and did nothing.

    code is stable and meant for programs. reply is the whole line, which may also have
    field, limit, task, state and retry_after.
    """

    def __init__(self, reply: Reply) -> None:
        self.reply = reply
        self.code: str = str(reply.get("code", "internal"))
        super().__init__(str(reply.get("error", self.code)))


class UnknownOutcome(Refused):
    """The connection ended before the reply: the request may or may not have been carried out."""

    def __init__(self, reason: str) -> None:
        super().__init__({"code": "unknown_outcome", "error": reason})


class ActionFailed(PostaError):
    """An action that was run directly failed. The text is the action's error."""


class TaskFailed(PostaError):
    """A durable task ended without a result. record is the task's record."""

    def __init__(self, record: Reply) -> None:
        self.record = record
        super().__init__(str(record.get("error", "task %s is %s" % (record.get("task"), record.get("status")))))

    @property
    def code(self) -> Optional[str]:
        """Why the task failed: action_failed, timed_out, crashed, expired and so on."""
        code = self.record.get("code")
        return None if code is None else str(code)


class TaskCancelled(TaskFailed):
    """A durable task was cancelled."""


class Retry(Exception):
    """An action raises Retry to fail this attempt and to say when the next one may begin.

    after is in seconds. Without it the task's own backoff applies.
    """

    def __init__(self, message: str = "", after: Optional[float] = None) -> None:
        if after is not None and after < 0:
            raise ValueError("after must not be negative")
        self.after = after
        super().__init__(message)


class Permanent(Exception):
    """An action raises Permanent to fail its task for good: it is not tried again."""


class Cancelled(BaseException):
    """Attempt.check raises Cancelled when the attempt was cancelled.

    It is no Exception, so that `except Exception` in an action does not swallow it.
    """
