"""The actions of the workers in test_real_worker.py. POSTA_TO names the node."""

from __future__ import annotations

import asyncio
import os
from typing import Any, Dict

from posta import Permanent, Posta, Retry

app = Posta()


@app.action
def greet(name: str) -> str:
    return "hello " + name


@app.action
async def greet_async(name: str) -> str:
    await asyncio.sleep(0)
    return "hello " + name


# A node has an action echo itself.
@app.action(name="echo_python")
def echo(payload: Any, /) -> Any:
    return payload


@app.action(backoff=0)
def flaky(*, task: Any) -> int:
    if task.number == 1:
        raise Retry("not yet", after=0)
    return int(task.number)


@app.action
def permanent() -> None:
    raise Permanent("not an image")


@app.action
def until_cancelled(*, task: Any) -> None:
    task.progress(40, "waiting")
    task.cancelled.wait()
    task.check()


@app.action
def until_file(path: str, *, task: Any) -> Dict[str, Any]:
    """Write the process into the FIFO path.started, and wait until somebody has opened and closed the FIFO path."""
    with open(path + ".started", "w") as started:
        started.write("%d\n" % os.getpid())
    with open(path, "rb") as gate:
        gate.read()
    return {"process": os.getpid(), "attempt": task.number}


if __name__ == "__main__":
    app.work(slots=4)
