"""The package itself: doctests, stubs, the command line."""

import ast
import contextlib
import doctest
import importlib
import inspect
import io
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import unittest

import capibara
from capibara import _capibara

PACKAGE = pathlib.Path(capibara.__file__).parent
MODULES = ["capibara", *(f"capibara.{name}" for name in ("_sandbox", "_tools"))]


def load_tests(loader, tests, pattern):
    for name in MODULES:
        tests.addTests(doctest.DocTestSuite(importlib.import_module(name)))
    tests.addTests(doctest.DocFileSuite(str(REPOSITORY / "docs/python.md"), module_relative=False))
    return tests


REPOSITORY = pathlib.Path(__file__).parents[3]


class Documents(unittest.TestCase):
    """Programs in documents that are not written as a dialogue; `load_tests` runs those that are."""

    def programs(self, document):
        blocks = [block.split("\n```")[0] for block in (REPOSITORY / document).read_text().split("```python\n")[1:]]
        return [block for block in blocks if not block.startswith(">>> ")]

    def test_the_readme(self):
        [program] = self.programs("README.md")
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(program, {})
        self.assertIn(f"# {printed.getvalue().strip()}", " ".join(program.split()))

    def test_the_guide(self):
        [program] = self.programs("docs/python.md")
        before = os.getcwd()
        with tempfile.TemporaryDirectory() as folder:
            os.chdir(folder)
            self.addCleanup(os.chdir, before)
            for name, text in [("data/in.txt", "7"), ("src/old.txt", "old"), ("helper.py", "def double(x): return 2 * x")]:
                pathlib.Path(name).parent.mkdir(exist_ok=True)
                pathlib.Path(name).write_text(text)
            pathlib.Path("job.py").write_text(
                "import sys, helper\n"
                "number = int(open('/in/in.txt').read())\n"
                "open('/out/result.txt', 'w').write(f'{sys.argv[1]} {helper.double(number)}')\n"
                "open('/src/old.txt', 'w').write('new')\n"
            )
            exec(program, {"capibara": capibara, "pathlib": pathlib})
            self.assertEqual(pathlib.Path("results/result.txt").read_text(), "--fast 14")
            self.assertEqual(pathlib.Path("src/old.txt").read_text(), "new")
            os.chdir(before)


class Stubs(unittest.TestCase):
    def test_the_stub_has_what_the_module_has(self):
        tree = ast.parse((PACKAGE / "_capibara.pyi").read_text())
        classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
        self.assertEqual(set(classes), {name for name in dir(_capibara) if inspect.isclass(getattr(_capibara, name))})
        for name, node in classes.items():
            functions = [one for one in node.body if isinstance(one, ast.FunctionDef)]
            real = getattr(_capibara, name)
            has = {member for member in vars(real) if not member.startswith("__")}
            self.assertEqual({one.name for one in functions} - {"__new__"}, has, name)
            for one in functions:
                told = ast.get_docstring(one)
                if told:
                    self.assertEqual(told, inspect.getdoc(getattr(real, one.name)), f"{name}.{one.name}")
                arguments = [argument.arg for argument in one.args.args + one.args.kwonlyargs]
                member = getattr(real, one.name)
                if one.name != "__new__" and callable(member):
                    self.assertEqual(arguments, list(inspect.signature(member).parameters), f"{name}.{one.name}")

    def test_everything_public_is_there_and_described(self):
        self.assertEqual(capibara.__all__, sorted(capibara.__all__))
        for name in capibara.__all__:
            member = getattr(capibara, name)
            self.assertTrue(inspect.getdoc(member) or name == "Event", name)
        self.assertTrue((PACKAGE / "py.typed").is_file())


class CommandLine(unittest.TestCase):
    def command(self, *words, **given):
        return subprocess.run([sys.executable, "-m", "capibara", *words], capture_output=True, text=True, timeout=60, **given)

    def test_it_is_the_command(self):
        done = self.command("run", "-c", "import sys; print(sys.stdin.read()); sys.exit(3)", input="in")
        self.assertEqual((done.returncode, done.stdout, done.stderr), (3, "in\n", ""))
        self.assertEqual(self.command("run", "-c", "import os; os.system('id')").returncode, 126)
        self.assertIn("Usage: capibara", self.command("--help").stdout)

    def test_ctrl_c(self):
        words = [sys.executable, "-m", "capibara", "run", "-c", "import itertools\nprint('begun', flush=True)\nmax(itertools.count())"]
        with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            self.assertEqual(process.stdout.readline(), "begun\n")
            process.send_signal(signal.SIGINT)
            _, stderr = process.communicate(timeout=30)
        self.assertEqual((process.returncode, stderr), (130, "capibara: canceled by SIGINT\n"))


if __name__ == "__main__":
    unittest.main()
