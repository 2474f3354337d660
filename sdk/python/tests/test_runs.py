"""Runs, limits, denial, grants, files: what a caller of `run` and `Sandbox` sees."""

import datetime
import os
import pathlib
import signal
import tempfile
import threading
import unittest

import capibara
from capibara import Sandbox, run


class Outcomes(unittest.TestCase):
    def test_a_script_that_ends_by_itself(self):
        outcome = run("import sys; print('out'); print('err', file=sys.stderr); sys.exit(200)")
        self.assertEqual((outcome.status, outcome.exit_code, outcome.success), ("completed", 200, False))
        self.assertEqual((outcome.stdout, outcome.stderr_bytes), ("out\n", b"err\n"))
        self.assertIsNone(outcome.limit)
        self.assertEqual(len(outcome.job_sha256), 64)
        self.assertGreater(outcome.usage.fuel, 0)
        self.assertTrue(outcome.runtime.name.startswith("python-3."))
        self.assertEqual(repr(outcome), "<Outcome ended with exit code 200; stdout 4 bytes, stderr 4 bytes>")

    def test_check_raises_what_is_no_success(self):
        fine = run("print(1)")
        self.assertIs(fine.check(), fine)
        with self.assertRaises(capibara.OutcomeError) as raised:
            run("1 / 0").check()
        self.assertIn("ZeroDivisionError", raised.exception.outcome.stderr)
        self.assertEqual(str(raised.exception), "ended with exit code 1")

    def test_what_is_not_utf_8_is_there_as_bytes(self):
        outcome = run(r"import sys; sys.stdout.buffer.write(b'\xff\n')")
        self.assertEqual((outcome.stdout, outcome.stdout_bytes), ("\ufffd\n", b"\xff\n"))

    def test_denied(self):
        outcome = run("print(1)\nimport os; os.system('id')")
        self.assertEqual((outcome.status, outcome.exit_code, outcome.stdout), ("denied", None, ""))
        self.assertEqual((outcome.scan.verdict, outcome.findings), ("deny", outcome.scan.findings))
        finding = outcome.findings[0]
        self.assertEqual((finding.rule, finding.line, finding.effect), ("spawn-process", 2, "deny"))
        self.assertIsNone(outcome.runtime)
        with self.assertRaisesRegex(capibara.OutcomeError, r"denied by policy moderate: .*line 2"):
            outcome.check()

    def test_equal_jobs_give_equal_outcomes(self):
        moment = datetime.datetime(2026, 1, 31, 12, tzinfo=datetime.timezone.utc)
        code = "import random, datetime; print(random.random(), datetime.datetime.now())"
        one, two = (run(code, seed=2**127, epoch=epoch) for epoch in (moment, "2026-01-31T12:00:00Z"))
        self.assertEqual(one.stdout, two.stdout)
        self.assertEqual((one.job_sha256, one.usage.fuel), (two.job_sha256, two.usage.fuel))
        self.assertEqual((one.seed, one.epoch, one.determined), (2**127, "2026-01-31T12:00:00Z", True))
        with self.assertRaisesRegex(ValueError, "time zone"):
            run(code, epoch=datetime.datetime(2026, 1, 31))

    def test_input(self):
        outcome = run("import sys, os; print(sys.argv[1:], sys.stdin.read(), os.environ['A'])", args=["x", "y"], stdin=b"in", env={"A": "b"})
        self.assertEqual(outcome.stdout, "['x', 'y'] in b\n")

    def test_without_capture_output_is_only_streamed(self):
        pieces = []
        outcome = run("print('é' * 3)", capture=False, on_output=lambda stream, text: pieces.append((stream, text)))
        self.assertEqual(outcome.stdout, "")
        self.assertEqual("".join(text for _, text in pieces), "ééé\n")


class Limits(unittest.TestCase):
    def test_each_limit_is_a_value(self):
        for kind, code, given in [
            ("wall_time", "import itertools; max(itertools.count())", {"timeout": 0.3}),
            ("wall_time", "import time; time.sleep(100)", {"timeout": datetime.timedelta(seconds=2)}),
            ("fuel", "import itertools; max(itertools.count())", {"fuel": "20M"}),
            ("memory", "x = bytearray(10**9)", {"memory": "96MiB"}),
            ("output", "while True: print('x' * 1000)", {"max_output": 10_000}),
        ]:
            with self.subTest(kind=kind, given=given):
                outcome = run(code, **given)
                self.assertEqual((outcome.status, outcome.limit and outcome.limit.kind), ("limit", kind), outcome)

    def test_quotas_are_errors_for_the_script(self):
        outcome = run("open('x', 'wb').write(bytes(2_000_000))", max_disk="1MiB")
        self.assertEqual(outcome.exit_code, 1)
        self.assertEqual(outcome.quotas_met[0].kind, "bytes_written")

    def test_what_is_no_limit(self):
        for given, text in [
            ({"timeout": "2"}, "write for example `2s`"),
            ({"timeout": 0}, "at least 1ms"),
            ({"timeout": -1.0}, "no time"),
            ({"memory": "5GiB"}, "at most 4GiB"),
            ({"memory": 0}, "zero"),
            ({"fuel": "many"}, "not a count"),
            ({"fuel": 1000, "live": True}, "exclude"),
        ]:
            with self.subTest(given=given), self.assertRaisesRegex(ValueError, text):
                run("print(1)", **given)
        with self.assertRaises(TypeError):
            run("print(1)", memory=[])
        with self.assertRaises(OverflowError):
            run("print(1)", seed=2**128)

    def test_the_host_never_dies(self):
        deep = "def f(x): return f([x])\nimport sys; sys.setrecursionlimit(10**6)\nf(0)"
        for code in [
            deep,
            "import json; json.loads('[' * 10**6)",
            "x = []\nfor _ in range(10**6): x = [x]\nrepr(x)",
            "x = []\nwhile True: x.append(bytearray(10**6))",
            "import os; os.abort()",
        ]:
            with self.subTest(code=code):
                outcome = run(code, policy="permissive", timeout=20, memory="256MiB")
                self.assertFalse(outcome.success)
        self.assertEqual(run("print('alive')").stdout, "alive\n")


class Policies(unittest.TestCase):
    def test_strict_refuses_what_would_widen_it(self):
        for given in [{"timeout": 60}, {"read": "."}, {"env": {"A": "b"}}, {"live": True}, {"tools": [len]}]:
            with self.subTest(given=given), self.assertRaises((capibara.PolicyError, TypeError)):
                run("print(1)", "strict", **given)
        with self.assertRaises(capibara.PolicyError) as raised:
            run("print(1)", "strict", read="/srv")
        self.assertEqual(raised.exception.code, "policy-refuses-grant")
        self.assertIn("`read` was given", str(raised.exception))

    def test_names_and_files(self):
        with self.assertRaises(capibara.PolicyError) as raised:
            Sandbox("moderat")
        self.assertEqual((raised.exception.code, raised.exception.hint), ("unknown-policy", "did you mean `moderate`?"))
        with tempfile.TemporaryDirectory() as folder:
            file = pathlib.Path(folder, "mine.yaml")
            file.write_text("name: mine\nextends: strict\nlimits:\n  output: 10kB\n")
            for policy in (file, str(file)):
                outcome = run("print('x' * 20_000)", policy)
                self.assertEqual((outcome.limit.allowed, outcome.scan.policy), (10_000, "mine"))


class Files(unittest.TestCase):
    def setUp(self):
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.folder = pathlib.Path(temporary.name)
        (self.folder / "data").mkdir()
        (self.folder / "data/a.txt").write_text("hello")

    def test_grants(self):
        data = self.folder / "data"
        self.assertEqual(run("print(open('/data/a.txt').read())", read=data).stdout, "hello\n")
        self.assertEqual(run("print(open('/in/a.txt').read())", read={data: "/in"}).stdout, "hello\n")
        self.assertIn("Errno", run("open('/data/a.txt', 'w')", read=[str(data)]).stderr)
        run("open('/data/b.txt', 'w').write('new')", write=data).check()
        self.assertEqual((data / "b.txt").read_text(), "new")

    def test_a_grant_that_cannot_be(self):
        with self.assertRaises(capibara.EngineError) as raised:
            run("print(1)", read=self.folder / "nothing")
        self.assertEqual(raised.exception.code, "invalid-job")
        self.assertIsInstance(raised.exception, capibara.CapibaraError)

    def test_overlays(self):
        outcome = run("open('/data/a.txt', 'a').write('!')", overlay=self.folder / "data")
        change = outcome.changes[0]
        self.assertEqual((change.path, change.kind, change.type, change.contents), ("/data/a.txt", "changed", "file", b"hello!"))
        self.assertEqual((self.folder / "data/a.txt").read_text(), "hello")
        self.assertEqual(outcome.apply(), capibara.Applied(1, ()))
        self.assertEqual((self.folder / "data/a.txt").read_text(), "hello!")

    def test_artifacts(self):
        outcome = run("open('/out/r.csv', 'w').write('a,b')")
        artifact = outcome.artifacts[0]
        self.assertEqual((artifact.path, artifact.bytes, artifact.mime), ("r.csv", b"a,b", "text/csv"))
        self.assertEqual(outcome.write_artifacts(self.folder / "out"), capibara.Written(1, 3, ()))
        self.assertEqual((self.folder / "out/r.csv").read_bytes(), b"a,b")

    def test_script_files_bring_their_modules(self):
        (self.folder / "helper.py").write_text("answer = 42\n")
        script = self.folder / "main.py"
        script.write_text("import helper, sys; print(helper.answer, sys.argv[0])\n")
        self.assertEqual(run(script).stdout, "42 /script/main.py\n")
        with self.assertRaises(capibara.EngineError):
            run(self.folder / "nothing.py")

    def test_webassembly(self):
        text = '(module (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32))) (memory (export "memory") 1) (func (export "_start") (call $exit (i32.const 7))))'
        self.assertEqual(run(text, language="wasm").exit_code, 7)
        with self.assertRaises(capibara.EngineError):
            run(b"\0asm nonsense")
        with self.assertRaises(capibara.EngineError):
            run("print(1)", language="cobol")


class Events(unittest.TestCase):
    def test_events_come_while_it_runs(self):
        told = []
        run("x = 0\nfor i in range(10_000_000): x += i", on_event=told.append)
        self.assertIsInstance(told[0], capibara.Started)
        self.assertEqual(told[0].scan.verdict, "allow")
        used = [event.usage.fuel for event in told if isinstance(event, capibara.UsageSoFar)]
        self.assertTrue(used and used == sorted(used), told)

    def test_output_comes_while_it_runs(self):
        pieces = []

        def stop(stream, text):
            pieces.append((stream, text))
            if len(pieces) == 2:
                raise RuntimeError("enough")

        with self.assertRaisesRegex(RuntimeError, "enough"):
            run("import sys\nprint('a', flush=True)\nprint('b', file=sys.stderr, flush=True)\nwhile True: print('c')", on_output=stop)
        self.assertEqual(pieces, [("stdout", "a\n"), ("stderr", "b\n")])

    def test_characters_are_whole(self):
        pieces = []
        code = r"import os; os.write(1, b'\xc3'); os.write(1, b'\xa9\n'); os.write(1, b'\xc3')"
        run(code, on_output=lambda stream, text: pieces.append(text))
        self.assertEqual(pieces, ["é\n", "\ufffd"])

    def test_what_an_event_function_raises_is_raised(self):
        def fail(event):
            raise LookupError("no")

        with self.assertRaises(LookupError):
            run("while True: pass", on_event=fail)


class Canceling(unittest.TestCase):
    def test_from_another_thread(self):
        canceler = capibara.Canceler()
        timer = threading.Timer(0.2, canceler.cancel)
        timer.start()
        outcome = run("print('begun', flush=True)\nwhile True: pass", canceler=canceler)
        timer.join()
        self.assertEqual((outcome.status, outcome.stdout, canceler.canceled), ("canceled", "begun\n", True))
        self.assertEqual(run("while True: pass", canceler=canceler).status, "canceled")

    def test_ctrl_c_ends_the_run_and_is_raised(self):
        # It is ignored where the tests run in the background of a shell.
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        self.addCleanup(signal.signal, signal.SIGINT, before)
        for code, live in [("while True: pass", False), ("import time; time.sleep(60)", True)]:
            with self.subTest(code=code):
                timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
                timer.start()
                try:
                    with self.assertRaises(KeyboardInterrupt):
                        run(code, live=live)
                finally:
                    # A signal that is still to come would end another test.
                    timer.cancel()
                    timer.join()


class Threads(unittest.TestCase):
    def test_many_threads_at_once(self):
        sandbox, outputs = Sandbox(), []
        threads = [threading.Thread(target=lambda n=n: outputs.append(sandbox.run(f"print({n})").stdout)) for n in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(sorted(outputs), sorted(f"{n}\n" for n in range(16)))

    def test_other_threads_go_on_meanwhile(self):
        done = threading.Event()
        counted = 0
        thread = threading.Thread(target=lambda: (run("while True: pass", timeout=0.5), done.set()))
        thread.start()
        while not done.is_set():
            counted += 1
        thread.join()
        self.assertGreater(counted, 100_000)

    def test_a_forked_process_has_an_engine_of_its_own(self):
        sandbox = Sandbox(timeout=0.3)
        sandbox.run("while True: pass")
        child = os.fork()
        if child == 0:
            os._exit(0 if sandbox.run("while True: pass").status == "limit" else 1)
        self.assertEqual(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), 0)


if __name__ == "__main__":
    unittest.main()
