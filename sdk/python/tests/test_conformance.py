"""Plays each transcript of sdk/conformance with functions and with coroutines as actions."""

from __future__ import annotations

import asyncio
import logging
import pathlib
import unittest
from typing import Any, Callable, Dict, List, Optional

from posta import Permanent, Posta, Retry, Worker
from posta.link import Backoff

from .fakenode import FakeNode, Signals, Transcript, transcripts


def nested(depth: int) -> Any:
    value: Any = []
    for _ in range(depth - 1):
        value = [value]
    return value


def functions(signals: Signals) -> Dict[str, Callable[..., Any]]:
    """The actions that the transcripts use, as functions."""

    def echo(payload: Any, /) -> Any:
        return payload

    def fail(message: str) -> None:
        raise OSError(message)

    def permanent(message: str) -> None:
        raise Permanent(message)

    def retry(message: str, after: float) -> None:
        raise Retry(message, after=after)

    def unserialisable() -> Any:
        return object()

    def duplicate_keys() -> Any:
        return {1: "a", "1": "b"}

    def big(bytes: int) -> str:
        return "x" * bytes

    def progress(percent: float, message: str, *, task: Any) -> None:
        task.progress(percent, message)

    def block(name: str) -> str:
        signals("entered", name).set()
        signals.wait("finish", name)
        return name

    def wait(name: str, *, task: Any) -> None:
        signals("entered", name).set()
        task.cancelled.wait()
        signals("interrupted", name).set()
        task.check()

    failing: List[Callable[..., Any]] = [fail, permanent, retry, unserialisable, duplicate_keys]
    others: List[Callable[..., Any]] = [echo, nested, big, progress, block, wait]
    return {action.__name__: action for action in failing + others}


def coroutines(signals: Signals) -> Dict[str, Callable[..., Any]]:
    """The same actions as coroutines."""

    async def wait(name: str) -> None:
        signals("entered", name).set()
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            signals("interrupted", name).set()

    async def block(name: str) -> str:
        signals("entered", name).set()
        finished = asyncio.ensure_future(asyncio.to_thread(signals.wait, "finish", name))
        while not finished.done():
            try:
                await asyncio.shield(finished)
            except asyncio.CancelledError:
                pass
        return name

    def as_coroutine(function: Callable[..., Any]) -> Callable[..., Any]:
        if function.__name__ == "echo":

            async def echo(payload: Any, /) -> Any:
                return payload

            return echo
        if function.__name__ == "progress":

            async def progress(percent: float, message: str, *, task: Any) -> None:
                task.progress(percent, message)

            return progress

        async def coroutine(**kwargs: Any) -> Any:
            return function(**kwargs)

        return coroutine

    actions = {name: as_coroutine(function) for name, function in functions(signals).items()}
    return {**actions, "wait": wait, "block": block}


def worker_for(transcript: Transcript, node: FakeNode, actions: Dict[str, Callable[..., Any]]) -> Worker:
    settings = transcript.worker
    app = Posta(node.address, token=settings.get("token"))
    for name in settings["actions"]:
        app.action(name=name, idempotent=name in settings.get("idempotent", []))(actions[name])
    options = {name: settings[name] for name in ("queues", "version", "grace") if name in settings}
    return app.worker(
        slots=settings.get("slots", 1), drain=settings.get("drain", 600), backoff=Backoff(0.001, 0.01), **options
    )


class Conformance(unittest.TestCase):
    def play(self, path: pathlib.Path, make: Callable[[Signals], Dict[str, Callable[..., Any]]]) -> None:
        transcript, node, signals = Transcript(path), FakeNode(), Signals()
        worker = worker_for(transcript, node, make(signals))

        def stopped(timeout: float) -> Optional[BaseException]:
            try:
                self.assertTrue(worker.join(timeout), "the worker has not stopped")
            except Exception as error:
                return error
            return None

        worker.start()
        try:
            transcript.play(node, signals, worker.stop, stopped)
        finally:
            node.close()
            worker.stop(-60)
            transcript.close()
            stopped(20)


def _add(path: pathlib.Path) -> None:
    """Add two tests for a transcript."""
    for kind, make in (("functions", functions), ("coroutines", coroutines)):

        def test(self: Conformance, make: Any = make) -> None:
            self.play(path, make)

        test.__doc__ = "%s, with %s" % (path.stem, kind)
        setattr(Conformance, "test_%s_with_%s" % (path.stem.replace("-", "_"), kind), test)


for _path in transcripts():
    _add(_path)


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    unittest.main()
