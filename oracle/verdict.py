#!/usr/bin/env python3
"""Lets llmock break calls of a client on purpose, and grade what the client does.

`python3 oracle/verdict.py [--kind KIND ...] [--seconds N] -- COMMAND ...` runs the command once for each scenario and kind against a server
on this machine. In the words of the command, `{base_url}` is replaced by the address that a profile of that kind has (with its
version), `{root}` by the same without version, `{kind}` by the kind. The command has to ask once, and to print what it was answered or
to fail; it may try again within one call. A scenario passes if the command succeeds or fails as it should, prints the answer only if
it is whole, sends no fewer and no more requests than it may, and llmock finds no error of the client.

`python3 oracle/verdict.py --self-test` grades two small clients on OpenAI's library instead: a naive one, which must fail exactly
where cut streams are taken for answers, and a careful one, which must pass. The exit code is 0 if all is as it should be.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import environment
import network

ROOTS = {
    "openai-chat": ("", "/v1"),
    "openai-responses": ("", "/v1"),
    "groq": ("/groq/openai", "/v1"),
    "anthropic": ("/anthropic", "/v1"),
    "gemini": ("/gemini", "/v1beta"),
}
MARK = 'print("whole answer")'
ANSWER = f"Here is the script:\n\n```python\n{MARK}\n```\n"


@dataclass(frozen=True)
class Scenario:
    """What goes wrong, and what a good client does then."""

    name: str
    fault: dict[str, Any] | None
    succeeds: bool
    least: int
    most: int

    def behaviors(self) -> list[dict[str, Any]]:
        """The fault, and the answer for whoever gets one."""
        reply = {"type": "reply", "text": ANSWER, "times": None}
        return [reply, *([self.fault] if self.fault else [])]


def refused(status: int) -> Scenario:
    """A status that no second request changes."""
    return Scenario(f"status {status} always", {"type": "fail", "status": status, "times": None}, False, 1, 1)


def broken(kind: str, **more: Any) -> dict[str, Any]:
    """A stream that breaks after two chunks."""
    return {"type": "stream_fault", "kind": kind, "after_chunks": 2, **more}


SCENARIOS = [
    Scenario("no fault", None, True, 1, 1),
    Scenario("429 once, wait 1 s", {"type": "fail", "status": 429, "retry_after": 1}, True, 2, 2),
    Scenario("500 once", {"type": "fail", "status": 500}, True, 2, 2),
    Scenario("503 twice", {"type": "fail", "status": 503, "times": 2}, True, 3, 3),
    Scenario("503 always", {"type": "fail", "status": 503, "times": None}, False, 2, 10),
    *[refused(status) for status in (400, 401, 403, 404, 422)],
    Scenario("stream cut politely once", broken("truncate"), True, 2, 3),
    Scenario("stream cut politely always", broken("truncate", times=None), False, 2, 10),
    Scenario("stream dropped once", broken("disconnect"), True, 2, 3),
    Scenario("stream dropped always", broken("disconnect", times=None), False, 2, 10),
    Scenario("stream malformed always", broken("malformed", times=None), False, 1, 10),
]


@contextmanager
def serving() -> Iterator[str]:
    """A server of llmock."""
    port = network.free_port()
    url = f"http://127.0.0.1:{port}"
    words = ["serve", "--host", "127.0.0.1", "--port", str(port), "--log-level", "error", "--tool-mode", "off"]
    command = [str(Path(sys.executable).with_name("llmock")), *words]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as server:
        try:
            network.until_ready(f"{url}/health", server)
            yield url
        finally:
            server.terminate()


def control(url: str, what: str, body: Any = None) -> Any:
    """Speaks to llmock itself."""
    status, answer = network.ask(f"{url}/_llmock/{what}", body)
    if status not in (200, 201):
        raise RuntimeError(f"llmock answers {what} with {status}: {answer.decode(errors='replace')}")
    return json.loads(answer)


def grade(scenario: Scenario, kind: str, command: list[str], url: str, seconds: float) -> tuple[list[str], str]:
    """What is wrong with the client in this scenario, and a line about what it did."""
    control(url, "reset", {})
    control(url, "scenario", {"behaviors": scenario.behaviors()})
    root, version = ROOTS[kind]
    places = {"{base_url}": url + root + version, "{root}": url + root, "{kind}": kind}
    words = command
    for place, value in places.items():
        words = [word.replace(place, value) for word in words]
    begin = time.monotonic()
    try:
        done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=seconds)
    except subprocess.TimeoutExpired:
        return [f"still running after {seconds:.0f} s"], ""
    took = time.monotonic() - begin
    requests, verdict = control(url, "requests"), control(url, "verdict")
    findings = [it for it in verdict["findings"] if it["severity"] == "error"]
    if done.returncode != 0 and not done.stdout:
        # llmock sees no later request and takes that for using the text; a client that failed and printed nothing did not.
        findings = [it for it in findings if it["code"] != "truncated_stream_accepted"]
    wrong = [f"{it['code']}: {it['title']}" for it in findings]
    if (done.returncode == 0) != scenario.succeeds:
        wrong.append(f"exit code {done.returncode}: {done.stderr.strip()[-300:]}")
    if (MARK in done.stdout) != scenario.succeeds:
        wrong.append(f"printed {done.stdout!r:.200}")
    if not scenario.least <= requests["count"] <= scenario.most:
        wrong.append(f"{requests['count']} requests, not {scenario.least} to {scenario.most}")
    if scenario.fault and not any(it["fault"] or it["status"] >= 400 for it in requests["requests"]):
        wrong.append("the fault reached no request: streams break only where one is asked for")
    return wrong, f"exit {done.returncode}, {requests['count']} requests, {took:.1f} s"


def run(kinds: list[str], command: list[str], seconds: float) -> dict[str, list[str]]:
    """Grades all scenarios and prints a table. Gives what is wrong, by kind and scenario."""
    results = {}
    with serving() as url:
        for kind in kinds:
            for scenario in SCENARIOS:
                wrong, line = grade(scenario, kind, command, url, seconds)
                name = f"{kind}: {scenario.name}"
                results[name] = wrong
                print(f"{name:48} {'FAILED' if wrong else 'ok':7} {line}", flush=True)
                for text in wrong:
                    print(f"    {text}")
    return results


def self_test(seconds: float) -> int:
    """Grades a client that takes cut streams for answers, and one that does not."""
    client = [sys.executable, str(Path(__file__).with_name("client.py")), "{base_url}"]
    naive = run(["openai-chat"], [*client, "naive"], seconds)
    careful = run(["openai-chat"], [*client, "careful"], seconds)
    fallen = {name.split(": ")[1] for name, wrong in naive.items() if wrong}
    # A stream that is dropped is an error of the library, which does not try again, and a naive client neither.
    expected = {it.name for it in SCENARIOS if it.name.startswith(("stream cut", "stream dropped"))}
    faults = [f"the naive client: {name}" for name in sorted(fallen ^ expected)]
    faults += [f"the careful client: {name}" for name, wrong in careful.items() if wrong]
    for fault in faults:
        print(f"graded otherwise than expected: {fault}")
    print(f"{len(naive) + len(careful) - len(faults)} passed, {len(faults)} failed")
    return 1 if faults else 0


def main() -> int:
    """Grades the command that is given, or the grading itself."""
    environment.enter()
    os.environ.update(dict.fromkeys(("NO_PROXY", "no_proxy"), "127.0.0.1"))
    parser = argparse.ArgumentParser(description="Grades how a client of models takes faults.")
    parser.add_argument("--kind", action="append", choices=list(ROOTS), help="only this wire kind; may be repeated")
    parser.add_argument("--seconds", type=float, default=60.0, help="the most time for one run of the command")
    parser.add_argument("--self-test", action="store_true", help="grade two clients whose grades are known")
    parser.add_argument("command", nargs="*", help="the client, with {base_url}, {root} and {kind} in its words")
    asked = parser.parse_args()
    if asked.self_test:
        return self_test(asked.seconds)
    if not asked.command:
        parser.error("give a command after --, or --self-test")
    results = run(asked.kind or list(ROOTS), asked.command, asked.seconds)
    failed = sum(bool(wrong) for wrong in results.values())
    print(f"{len(results) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
