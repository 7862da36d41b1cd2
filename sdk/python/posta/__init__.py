"""Client and worker for Posta, a distributed task system.

    from posta import Posta, Retry

    app = Posta("127.0.0.1:9000")

    @app.action(queue="images")
    def resize(url: str, width: int = 100) -> dict:
        ...

    task = resize.enqueue(url="a.png")      # is stored and runs later
    print(task.wait(timeout=60))
    app.work(slots=8)                       # or: python -m posta app:app --slots 8
"""

from .app import Action, Call, Posta, Task
from .attempt import Attempt
from .errors import (
    ActionFailed,
    Cancelled,
    Permanent,
    PostaError,
    Refused,
    Retry,
    TaskCancelled,
    TaskFailed,
    UnknownOutcome,
    Unreachable,
)
from .worker import Worker

__version__ = "0.1.0"

__all__ = [
    "Action",
    "ActionFailed",
    "Attempt",
    "Call",
    "Cancelled",
    "Permanent",
    "Posta",
    "PostaError",
    "Refused",
    "Retry",
    "Task",
    "TaskCancelled",
    "TaskFailed",
    "UnknownOutcome",
    "Unreachable",
    "Worker",
]
