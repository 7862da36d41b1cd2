"""The worker in Python of a chaos run. Its actions write the same journal as those in Go, ../node/actions.go."""

import hashlib
import json
import os
import signal
import time

from posta import Permanent, Posta

app = Posta()
journal = os.open(os.environ["POSTA_CHAOS_JOURNAL"], os.O_APPEND | os.O_CREAT | os.O_WRONLY, 0o600)


def note(task, how):
    line = {"at": time.time_ns(), "pid": os.getpid(), "task": task.id, "attempt": task.number, "action": task.action, "how": how}
    os.write(journal, (json.dumps(line) + "\n").encode())  # one write, so that a killed process leaves whole lines


def action(do):
    """Make an action of the run, whose executions are in the journal."""

    def run(payload, /, *, task):
        note(task, "start")
        try:
            more = do(payload, task) or {}
        except BaseException:
            note(task, "failed")
            raise
        note(task, "done")
        return {"hash": hashlib.sha256(payload["nonce"].encode()).digest()[:8].hex(), "attempt": task.number, **more}

    app.action(name="work." + do.__name__)(run)


@action
def hash(payload, task):
    pass


@action
def sleep(payload, task):
    if task.cancelled.wait(payload["ms"] / 1000):
        task.check()


@action
def flaky(payload, task):
    if task.number <= payload["fails"]:
        raise RuntimeError("attempt %d fails, as it was asked to" % task.number)


@action
def refuse(payload, task):
    raise Permanent("it never succeeds")


@action
def hang(payload, task):
    time.sleep(payload["ms"] / 1000)


@action
def kill(payload, task):
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)


@action
def big(payload, task):
    return {"fill": "x" * payload["bytes"]}


@action
def progress(payload, task):
    for percent in range(0, 100, 20):
        task.progress(percent, "on its way")
        if task.cancelled.wait(payload["ms"] / 5000):
            task.check()


app.work(slots=8, drain=20)
