"""The fake that posta.testing has for the tests of other programs."""

import asyncio
import unittest
from typing import Any, Dict

from posta import ActionFailed, Permanent, Posta, Refused, Retry, TaskCancelled, TaskFailed
from posta.testing import Fake, attempt

app = Posta("127.0.0.1:1")  # nobody is there: a test that needs a server fails


@app.action(queue="images", max_attempts=3)
def resize(url: str, width: int = 100, *, task: Any) -> Dict[str, Any]:
    task.progress(40, "decoded")
    if url == "slow.png":
        raise Retry("the cdn is slow", after=30)
    if url == "text.txt":
        raise Permanent("not an image")
    return {"w": width, "attempt": task.number}


@app.action
async def greet(name: str) -> str:
    await asyncio.sleep(0)
    return "hello " + name


@app.action
def echo(payload: Any, /) -> Any:
    return payload


@app.action
def fan_out(count: int) -> None:
    for number in range(count):
        greet.options(key="n-%d" % number).enqueue(str(number))


class Functions(unittest.TestCase):
    def test_an_action_is_an_ordinary_function(self) -> None:
        task = attempt(number=2)
        self.assertEqual(resize("a.png", task=task), {"w": 100, "attempt": 2})
        self.assertEqual(task.reports, [(40, "decoded")])
        self.assertEqual(asyncio.run(greet("ana")), "hello ana")
        self.assertEqual(echo.__name__, "echo")

    def test_arguments_become_the_members_of_a_payload(self) -> None:
        self.assertEqual(resize.payload("a.png", width=5), {"url": "a.png", "width": 5})
        self.assertEqual(echo.payload([1]), [1])
        for wrong in (lambda: resize.payload(), lambda: resize.payload("a", 1, 2), lambda: resize.payload("a", x=1)):
            self.assertRaises(TypeError, wrong)

    def test_a_payload_becomes_arguments(self) -> None:
        self.assertEqual(resize.call("a.png", attempt())["w"], 100)
        self.assertEqual(resize.call({"url": "a.png", "width": 1}, attempt())["w"], 1)
        self.assertEqual(echo.call({"a": 1}, attempt()), {"a": 1})
        self.assertRaises(TypeError, resize.call, None, attempt())

    def test_an_unknown_option_is_named(self) -> None:
        with self.assertRaisesRegex(TypeError, "colour"):
            resize.options(colour="red")

    def test_a_name_is_registered_once(self) -> None:
        with self.assertRaisesRegex(ValueError, "echo"):
            app.action(name="echo")(lambda: None)


class WithFake(unittest.TestCase):
    def test_run_calls_the_action(self) -> None:
        with Fake(app):
            self.assertEqual(resize.run(url="a.png")["w"], 100)
            self.assertEqual(greet.run("ana"), "hello ana")
            with self.assertRaisesRegex(ActionFailed, "not an image"):
                resize.run("text.txt")
            with self.assertRaisesRegex(ActionFailed, "unknown action nope"):
                app.run("nope")

    def test_enqueue_keeps_tasks_until_work(self) -> None:
        with Fake(app) as fake:
            task = resize.options(delay=5).enqueue(url="a.png")
            self.assertEqual(fake.tasks[0].payload, {"url": "a.png"})
            self.assertEqual(fake.tasks[0].options, {"queue": "images", "max_attempts": 3, "delay": 5})
            self.assertEqual(task.status, "scheduled")
            fake.work()
            self.assertEqual(task.wait(), {"w": 100, "attempt": 1})

    def test_tasks_that_fail(self) -> None:
        with Fake(app) as fake:
            slow, text = resize.enqueue("slow.png"), resize.enqueue("text.txt")
            with self.assertRaisesRegex(TaskFailed, "the cdn is slow") as failed:
                slow.wait()
            self.assertEqual(failed.exception.record["attempt"], 3)
            self.assertRaises(TaskFailed, text.wait)
            self.assertEqual(fake.tasks[1].attempts, 1)
            text.retry()
            self.assertEqual(text.status, "queued")

    def test_tasks_that_enqueue_others_with_keys(self) -> None:
        with Fake(app) as fake:
            fan_out.enqueue(3)
            again = fan_out.enqueue(2)
            fake.work()
            self.assertEqual([t.result for t in fake.tasks if t.action == "greet"], ["hello 0", "hello 1", "hello 2"])
            self.assertIsNone(again.wait())
            self.assertTrue(greet.options(key="n-1").enqueue("1").duplicate)
            with self.assertRaises(Refused) as refused:
                greet.options(key="n-1").enqueue("2")
            self.assertEqual(refused.exception.code, "key_conflict")

    def test_cancel(self) -> None:
        with Fake(app):
            task = greet.enqueue("ana")
            self.assertEqual(task.cancel(), "cancelled")
            self.assertRaises(TaskCancelled, task.wait)

    def test_actions_of_other_programs(self) -> None:
        with Fake(app, others={"upper": lambda text: text.upper()}):
            self.assertEqual(app.run("upper", "hola"), "HOLA")

    def test_coroutines(self) -> None:
        async def main() -> Any:
            task = await greet.enqueue_async("ana")
            return await task.wait_async(), await greet.run_async(name="eva")

        with Fake(app):
            self.assertEqual(asyncio.run(main()), ("hello ana", "hello eva"))


if __name__ == "__main__":
    unittest.main()
