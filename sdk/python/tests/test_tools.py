"""Tools: plain and async functions, schemas out of hints, errors, bounds."""

import asyncio
import dataclasses
import enum
import threading
import time
import typing
import unittest

import capibara
from capibara import Tool, ToolError, run

CALL = "from capibara import tools\n"


class Color(enum.Enum):
    RED = "red"


@dataclasses.dataclass
class Point:
    x: float
    y: float = 0.0


class Line(typing.TypedDict, total=False):
    start: Point
    name: str


class Calls(unittest.TestCase):
    def call(self, expression, *tools, **given):
        outcome = run(f"{CALL}print(repr({expression}))", tools=tools, **given)
        return outcome.stdout.rstrip("\n") or outcome.stderr.splitlines()[-1]

    def test_values_go_both_ways(self):
        def echo(value):
            return value

        for value in ["None", "True", "[1, 2.5, 'é', {'a': []}]", str(10**40), str(-(2**63) - 1), "1e+308"]:
            self.assertEqual(self.call(f"tools.echo(value={value})", echo), value)

    def test_hints_are_the_schema_and_are_held_to(self):
        def f(n: int, xs: list[float], how: typing.Literal["a", "b"] = "a", who: str | None = None, **more: object) -> str:
            """Does it."""
            return repr((n, xs, how, who, more))

        tool = Tool(f)
        self.assertEqual(
            tool.parameters,
            {
                "type": "object",
                "properties": {
                    "n": {"type": "integer"},
                    "xs": {"type": "array", "items": {"type": "number"}},
                    "how": {"enum": ["a", "b"], "default": "a"},
                    "who": {"type": ["string", "null"], "default": None},
                },
                "required": ["n", "xs"],
                "additionalProperties": True,
            },
        )
        self.assertEqual((tool.name, tool.description), ("f", "Does it."))
        self.assertEqual(self.call("tools.f(n=1, xs=[1, 2.5], z=3)", tool), '"(1, [1.0, 2.5], \'a\', None, {\'z\': 3})"')
        for arguments, text in [
            ("xs=[]", "the argument `n` is missing"),
            ("n='1', xs=[]", "`n`: expected integer, got string"),
            ("n=True, xs=[]", "`n`: expected integer, got boolean"),
            ("n=1.5, xs=[]", "`n`: expected integer, got number"),
            ("n=1, xs=[1, None]", "`xs`: item 1: expected number, got null"),
            ("n=1, xs=[], how='c'", "`how`: expected one of 'a', 'b'"),
            ("n=1, xs=[], who=1", "`who`: expected string, got integer; or expected null, got integer"),
        ]:
            with self.subTest(arguments=arguments):
                outcome = run(f"{CALL}try: tools.f({arguments})\nexcept TypeError as error: print(error.kind, error)", tools=[tool])
                self.assertIn(text, outcome.stdout, outcome.stderr)

    def test_classes_of_values(self):
        def f(point: Point, color: Color, line: Line, pair: tuple[int, str], note: typing.Annotated[str, "a note"] = ""):
            return [repr(point), color, line, pair, note]

        text = "tools.f(point={'x': 1}, color='red', line={'start': {'x': 2}}, pair=[1, 'a'])"
        expected = "['Point(x=1.0, y=0.0)', 'red', {'start': {'x': 2.0, 'y': 0.0}}, [1, 'a'], '']"
        self.assertEqual(self.call(text, f), expected)
        self.assertEqual(Tool(f).parameters["properties"]["note"], {"type": "string", "description": "a note", "default": ""})

    def test_what_cannot_be_a_tool(self):
        with self.assertRaisesRegex(TypeError, "JSON has no shape"):
            Tool(typed_with_bytes)
        with self.assertRaisesRegex(TypeError, "by keywords"):
            Tool(positional)
        with self.assertRaises(capibara.EngineError):
            run("print(1)", tools={"class": print_nothing})

    def test_the_script_sees_signature_and_docstring(self):
        def price(name: str, pieces: int = 1) -> float:
            """What it costs."""

        outcome = run(f"{CALL}import inspect\nprint(inspect.signature(tools.price), inspect.getdoc(tools.price))", tools=[price])
        self.assertEqual(outcome.stdout, "(*, name: str, pieces: int = 1) What it costs.\n")

    def test_errors(self):
        def fails(public: bool):
            raise ToolError("for all") if public else KeyError("secret")

        outcome = run(f"{CALL}for public in (True, False):\n  try: tools.fails(public=public)\n  except Exception as error: print(error.kind, error)", tools=[fails])
        self.assertEqual(outcome.stdout, "failed for all\nfailed fails failed\n")
        (use,) = outcome.tools
        self.assertEqual((use.calls, use.failed, use.last_error), (2, 2, "KeyError: 'secret'"))

    def test_results_that_are_no_json(self):
        for result in (object(), float("nan"), {1, 2}):
            outcome = run(f"{CALL}tools.f()", tools={"f": lambda result=result: result})
            self.assertIn("f failed", outcome.stderr)

    def test_bounds(self):
        tool = Tool(print_nothing, calls=2, name="f")
        outcome = run(f"{CALL}\nfor _ in range(3):\n  try: tools.f()\n  except Exception as error: print(error.kind)", tools=[tool])
        self.assertEqual(outcome.stdout, "budget\n")

    def test_what_is_no_ordinary_exception_ends_the_run(self):
        def leave():
            raise SystemExit(7)

        with self.assertRaises(SystemExit) as raised:
            run(f"{CALL}try: tools.leave()\nexcept BaseException: pass\nwhile True: pass", tools=[leave])
        self.assertEqual(raised.exception.code, 7)

    def test_a_tool_may_run_scripts_itself(self):
        def inner(code: str) -> str:
            return run(code).stdout

        self.assertEqual(self.call("tools.inner(code='print(1)')", inner), repr("1\n"))


class Async(unittest.TestCase):
    CONCURRENT = CALL + "import asyncio\nasync def all():\n  return await asyncio.gather(*(tools.aio.slow(n=n) for n in range(20)))\nprint(sum(asyncio.run(all())))"

    def test_async_tools_run_concurrently_without_a_loop(self):
        async def slow(n: int) -> int:
            await asyncio.sleep(0.2)
            return n

        began = time.perf_counter()
        self.assertEqual(run(self.CONCURRENT, tools=[slow]).stdout, "190\n")
        self.assertLess(time.perf_counter() - began, 1.5)

    def test_async_tools_run_on_the_loop_that_awaits(self):
        async def main():
            here = asyncio.get_running_loop()

            async def slow(n: int) -> int:
                self.assertIs(asyncio.get_running_loop(), here)
                await asyncio.sleep(0.05)
                return n

            return await capibara.run_async(self.CONCURRENT, tools=[slow])

        self.assertEqual(asyncio.run(main()).stdout, "190\n")

    def test_async_errors_and_timeouts(self):
        async def f(how: str):
            if how == "late":
                await asyncio.sleep(60)
            raise ToolError("no")

        code = CALL + "for how in ('late', 'raise'):\n  try: tools.f(how=how)\n  except Exception as error: print(error.kind)"
        self.assertEqual(run(code, tools=[Tool(f, timeout=0.2)]).stdout, "timeout\nfailed\n")

    def test_calls_are_canceled_with_their_run(self):
        canceled = threading.Event()

        async def wait():
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                canceled.set()
                raise

        self.assertEqual(run(CALL + "tools.wait()", tools=[wait], timeout=0.3).limit.kind, "wall_time")
        self.assertTrue(canceled.wait(5))

    def test_a_thousand_runs_at_once_and_output_on_the_loop(self):
        async def main():
            thread, seen = threading.get_ident(), []

            async def on_output(stream, text):
                self.assertEqual(threading.get_ident(), thread)
                seen.append(text)

            await asyncio.gather(*(capibara.run_async(f"print({n})", on_output=on_output) for n in range(1000)))
            return seen

        self.assertEqual(len(asyncio.run(main())), 1000)

    def test_canceling_the_task_ends_the_run(self):
        async def main():
            task = asyncio.create_task(capibara.run_async("while True: pass", timeout=60))
            await asyncio.sleep(0.2)
            task.cancel()
            began = time.perf_counter()
            with self.assertRaises(asyncio.CancelledError):
                await task
            self.assertLess(time.perf_counter() - began, 2)
            with self.assertRaises(asyncio.TimeoutError):
                await asyncio.wait_for(capibara.run_async("while True: pass", timeout=60), 0.2)

        asyncio.run(main())


def typed_with_bytes(data: bytes):
    pass


def positional(x, /):
    pass


def print_nothing():
    pass


if __name__ == "__main__":
    unittest.main()
