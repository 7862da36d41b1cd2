"""A worker for the tests of faults. Its actions wait: for a file, or until they are cancelled."""

import os
import time

from posta import Posta

app = Posta()


@app.action(name="file")
def await_file(path: str) -> str:
    while not os.path.exists(path):
        time.sleep(0.02)
    return "found"


@app.action(name="cancel")
def await_cancel(*, task) -> None:
    task.cancelled.wait()
    task.check()


app.work(slots=4)
