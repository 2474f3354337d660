"""Sessions: turns, what is undone, files, closing."""

import asyncio
import pathlib
import tempfile
import unittest

import capibara
from capibara import Canceler, Sandbox


class Sessions(unittest.TestCase):
    def test_variables_stay_and_a_stopped_turn_is_undone(self):
        with Sandbox().session() as session:
            session.run("x = [1]").check()
            self.assertEqual(session.run("x.append(2); x").value, capibara.Value("[1, 2]", False, ()))
            stopped = session.run("x.clear()\nwhile True: pass", timeout=0.2)
            self.assertEqual((stopped.limit.kind, stopped.limit.allowed), ("wall_time", 200))
            self.assertEqual(session.run("x").value.text, "[1, 2]")
            self.assertEqual(session.run("import os; os.system('id')").status, "denied")
            self.assertEqual(session.kept, 3)
            self.assertIn("x", session.complete("x"))
            self.assertTrue(session.is_incomplete("for i in x:"))
        with self.assertRaisesRegex(ValueError, "closed"):
            session.run("x")

    def test_limits_of_a_turn_are_within_the_policy(self):
        session = Sandbox("strict").session()
        with self.assertRaises(capibara.PolicyError):
            session.run("1", timeout=60)

    def test_tools_files_and_artifacts(self):
        session = Sandbox(tools=[len_of]).session()
        self.assertEqual(session.run("from capibara import tools\ntools.len_of(text='abc')").value.text, "3")
        session.run("open('/out/a.txt', 'w').write('a'); open('/tmp/b', 'w').write('b')").check()
        self.assertEqual([(it.path, it.bytes) for it in session.artifacts], [("a.txt", b"a")])
        self.assertEqual(session.files("/tmp"), {"b": b"b"})
        with tempfile.TemporaryDirectory() as folder:
            self.assertEqual(session.write_artifacts(folder).files, 1)
            self.assertEqual(pathlib.Path(folder, "a.txt").read_text(), "a")

    def test_overlays(self):
        with tempfile.TemporaryDirectory() as folder:
            session = Sandbox(overlay={folder: "/notes"}).session()
            session.run("open('/notes/new', 'w').write('1')").check()
            self.assertEqual([change.path for change in session.changes], ["/notes/new"])
            self.assertEqual(session.apply().applied, 1)
            self.assertEqual(session.changes, ())
            self.assertEqual(pathlib.Path(folder, "new").read_text(), "1")

    def test_totals(self):
        session = Sandbox().session(total_turns=1)
        session.run("1")
        with self.assertRaises(capibara.EngineError) as raised:
            session.run("1")
        self.assertEqual(raised.exception.code, "session-ended")

    def test_one_turn_at_a_time(self):
        session = Sandbox().session()

        def again(stream, text):
            session.run("1")

        with self.assertRaisesRegex(RuntimeError, "under way"):
            session.run("print(1)", on_output=again)
        self.assertEqual(session.run("2").value.text, "2")

    def test_canceling(self):
        session = Sandbox().session()
        canceler = Canceler()
        canceler.cancel()
        self.assertEqual(session.run("while True: pass", canceler=canceler).status, "canceled")
        self.assertEqual(session.run("3").value.text, "3")

        async def main():
            await session.run_async("y = 1")
            with self.assertRaises(asyncio.TimeoutError):
                await asyncio.wait_for(session.run_async("y = 2\nwhile True: pass"), 0.3)
            return await session.run_async("y")

        self.assertEqual(asyncio.run(main()).value.text, "1")


def len_of(text: str) -> int:
    return len(text)


if __name__ == "__main__":
    unittest.main()
