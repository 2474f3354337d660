#!/usr/bin/env python3
"""Measures the Python package, beside pyeryx and pydantic-monty where they are installed.

    python benches/python.py                 medians and ratios, in interleaved rounds of one process
    python benches/python.py driver          hosts the package for a benchmark harness, one JSON request per line:
                                             {"op":"run","code":S,"iters":N,"timeout_ms":T|null,"mem":BYTES|null},
                                             {"op":"throughput","code":S,"workers":W,"seconds":T}, {"op":"hold","n":N},
                                             {"op":"tools","n":N}, {"op":"quit"}; replies as engine/examples/bench_driver.rs

A run is a new sandbox each time: new interpreter, hello, output collected, all dropped.
"""

import json
import statistics
import sys
import threading
import time

HELLO = "print('hello')"
ROUNDS, BURST = 30, 20
CALLS = 1000
WORK = "x = 0\nfor i in range(200_000): x += i * i\nprint(x)"


def add(a: int, b: int) -> int:
    """Adds two numbers."""
    return a + b


class Capibara:
    def __init__(self):
        import capibara

        self.package, self.sandboxes = capibara, {}

    def sandbox(self, timeout_ms=None, mem=None):
        key = (timeout_ms, mem)
        if key not in self.sandboxes:
            timeout = timeout_ms / 1000 if timeout_ms else 600
            self.sandboxes[key] = self.package.Sandbox("permissive", timeout=timeout, memory=mem or 2 << 30)
        return self.sandboxes[key]

    def run(self, code):
        return self.package.run(code).stdout

    def tools(self):
        code = f"from capibara import tools\nfor i in range({CALLS}): tools.add(a=i, b=1)"
        self.package.run(code, tools=[add]).check()

    def reply(self, code, timeout_ms, mem):
        outcome = self.sandbox(timeout_ms, mem).run(code)
        kind = outcome.limit and outcome.limit.kind
        ended = {"wall_time": "timeout", "memory": "memory"}.get(kind) or ("crash" if outcome.trap else "error")
        if "MemoryError" in outcome.stderr:
            ended = "memory"
        return {"out": outcome.stdout[-200:], "err": outcome.stderr[-400:], "outcome": "ok" if outcome.success else ended}

    def hold(self):
        session = self.sandbox().session()
        session.run("x = 1").check()
        return session


class Eryx:
    def __init__(self):
        import eryx

        self.package = eryx

    def run(self, code):
        return self.package.Sandbox().execute(code).stdout_text

    def tools(self):
        callback = {"name": "add", "fn": lambda a, b: {"sum": a + b}, "description": "Adds."}
        sandbox = self.package.Sandbox(callbacks=[callback])
        sandbox.execute(f"for i in range({CALLS}): await add(a=i, b=1)")


class Monty:
    def __init__(self):
        import pydantic_monty

        self.package = pydantic_monty
        self.pool = pydantic_monty.Monty(max_processes=16)
        self.pool.__enter__()

    def run(self, code):
        printed = self.package.CollectString()
        with self.pool.checkout() as session:
            session.feed_run(code, print_callback=printed)
        return printed.output

    def tools(self):
        with self.pool.checkout() as session:
            session.feed_run(f"for i in range({CALLS}): add(i, 1)", external_lookup={"add": add})


def timed(work, *arguments):
    began = time.perf_counter()
    work(*arguments)
    return time.perf_counter() - began


def in_threads(contender, threads, seconds=2.0):
    """Runs in a second, by so many threads."""
    counts, began = [0] * threads, time.perf_counter()

    def work(at):
        while time.perf_counter() - began < seconds:
            contender.run(WORK)
            counts[at] += 1

    workers = [threading.Thread(target=work, args=(at,)) for at in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return sum(counts) / (time.perf_counter() - began)


def compare():
    contenders = {}
    for name, make in [("capibara", Capibara), ("pyeryx", Eryx), ("pydantic-monty", Monty)]:
        try:
            contenders[name] = make()
        except ImportError as error:
            print(f"{name}: {error}")
    hello, calls = {name: [] for name in contenders}, {name: [] for name in contenders}
    for contender in contenders.values():
        assert contender.run(HELLO) == "hello\n"
        contender.tools()
    for at in range(ROUNDS):
        for name, contender in contenders.items():
            hello[name] += [timed(contender.run, HELLO) for _ in range(BURST)]
            if at % 3 == 0:
                calls[name].append(timed(contender.tools))
    print(f"{'':<16} {'hello, p50 ms':>14} {'p95 ms':>8} {f'{CALLS} calls, ms':>16} {'8 threads / 1':>14}")
    for name, contender in contenders.items():
        scaling = statistics.median(in_threads(contender, 8) / in_threads(contender, 1) for _ in range(3))
        middle, late = statistics.median(hello[name]), statistics.quantiles(hello[name], n=20)[-1]
        print(f"{name:<16} {middle * 1e3:>14.3f} {late * 1e3:>8.3f} {statistics.median(calls[name]) * 1e3:>16.1f} {scaling:>14.2f}")
    if "pyeryx" in hello and "capibara" in hello:
        ratio = statistics.median(hello["capibara"]) / statistics.median(hello["pyeryx"])
        print(f"hello, capibara / pyeryx: {ratio:.4f} (1/{1 / ratio:.0f})")


def drive():
    contender, held = Capibara(), []
    contender.sandbox().prepare()

    def reply(answer):
        print(json.dumps(answer), flush=True)

    def throughput(asked):
        counts, began = [0] * asked["workers"], time.perf_counter()

        def work(at):
            while time.perf_counter() - began < asked["seconds"] and contender.sandbox().run(asked["code"]).success:
                counts[at] += 1

        workers = [threading.Thread(target=work, args=(at,)) for at in range(asked["workers"])]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        return {"runs": sum(counts), "wall": time.perf_counter() - began}

    reply({"ready": "capibara-python"})
    for line in sys.stdin:
        asked = json.loads(line)
        op = asked["op"]
        if op == "run":
            nanos, answer = [], {"out": "", "err": "", "outcome": "ok"}
            for _ in range(asked.get("iters", 1)):
                began = time.perf_counter_ns()
                answer = contender.reply(asked["code"], asked.get("timeout_ms"), asked.get("mem"))
                nanos.append(time.perf_counter_ns() - began)
                if answer["outcome"] != "ok":
                    break
            reply({"ns": nanos, **answer})
        elif op == "throughput":
            reply(throughput(asked))
        elif op == "hold":
            began = time.perf_counter()
            while len(held) < asked["n"]:
                held.append(contender.hold())
            reply({"live": len(held), "wall": time.perf_counter() - began})
        elif op == "tools":
            reply({"ms": timed(contender.tools) * 1e3})
        elif op == "quit":
            reply({"bye": True})
            return
        else:
            reply({"unsupported": True})


if __name__ == "__main__":
    drive() if sys.argv[1:] == ["driver"] else compare()
