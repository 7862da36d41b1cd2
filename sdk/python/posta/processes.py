"""Several worker processes under one that only watches them."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from types import FrameType
from typing import Callable, Dict, Optional

log = logging.getLogger("posta")

# FAILED is the status of a process whose worker could not go on, for example because of a wrong token.
FAILED = 70

# A process that ends sooner than QUICK seconds after its start is replaced after as long a pause.
QUICK = 5.0


def supervise(count: int, work: Callable[[], None]) -> None:
    """Run work in count processes until SIGTERM or SIGINT, which they get as well.

    One that dies is replaced. If work raises in one of them, all end, and supervise raises ChildProcessError.
    """
    if not hasattr(os, "fork"):
        raise RuntimeError("several processes need a system with fork; start the program several times instead")
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError("several processes can be started from the main thread only")
    stopping = threading.Event()
    children: Dict[int, float] = {}
    failed = False

    def on_signal(number: int, frame: Optional[FrameType]) -> None:
        stopping.set()
        for process in list(children):
            _kill(process, signal.SIGTERM)

    before = {number: signal.signal(number, on_signal) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        for _ in range(count):
            _add(children, work)
        while children:
            process, status = os.wait()
            started = children.pop(process, None)
            if started is None or stopping.is_set():
                continue
            if os.WIFEXITED(status) and os.WEXITSTATUS(status) == FAILED:
                failed = True
                on_signal(signal.SIGTERM, None)
                continue
            log.warning("worker process %d has ended with status %d; it is replaced", process, status)
            stopping.wait(max(0.0, started + QUICK - time.monotonic()))
            if not stopping.is_set():
                _add(children, work)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if failed:
        raise ChildProcessError("a worker process has failed; see its log")


def _add(children: Dict[int, float], work: Callable[[], None]) -> None:
    # A signal that comes between fork and the entry in children would not reach the child.
    signals = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        process = os.fork()
        if process == 0:
            _be_child(work, signals)
        children[process] = time.monotonic()
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)


def _be_child(work: Callable[[], None], signals: "set[signal.Signals]") -> None:
    """Run work in a new process and end it."""
    status = FAILED
    try:
        # Until the worker has its own handlers, a signal simply ends the process.
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)
        work()
        status = 0
    except BaseException:
        log.exception("the worker has failed")
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _kill(process: int, number: int) -> None:
    try:
        os.kill(process, number)
    except ProcessLookupError:
        pass
