"""Runs scripts you did not write: real CPython inside WebAssembly, scanned first, with nothing granted and held to limits.

>>> import capibara
>>> outcome = capibara.run("print(6 * 7)")
>>> outcome.stdout, outcome.success
('42\\n', True)

A script that raises, is denied, hits a limit or breaks down is an `Outcome`, a value; `CapibaraError` is kept for "we could not
do the job".

>>> capibara.run("import os; os.system('id')").status
'denied'
>>> capibara.run("import itertools; max(itertools.count())", timeout=0.2).limit.kind
'wall_time'

`Sandbox` has a policy, limits and grants for many runs, `Session` an interpreter that goes on between turns, `Tool` functions of
yours that a script may call. Runs are without the interpreter's lock: threads run scripts on all processors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from ._capibara import Canceler, Outcome
from ._errors import CapibaraError, EngineError, OutcomeError, PolicyError, ToolError
from ._forks import forgotten_in_children
from ._sandbox import Code, Files, OnEvent, OnOutput, Path, Sandbox, Session, Time
from ._tools import Tool, Tools
from ._values import (
    Applied,
    Artifact,
    Change,
    Divergence,
    Event,
    Finding,
    LimitHit,
    Need,
    Refusal,
    RuntimeId,
    Scan,
    Started,
    ToolAnswered,
    ToolCalled,
    ToolUse,
    Trap,
    Usage,
    UsageSoFar,
    Value,
    Written,
)

__all__ = [
    "Applied",
    "Artifact",
    "Canceler",
    "CapibaraError",
    "Change",
    "Divergence",
    "EngineError",
    "Event",
    "Finding",
    "LimitHit",
    "Need",
    "Outcome",
    "OutcomeError",
    "PolicyError",
    "Refusal",
    "RuntimeId",
    "Sandbox",
    "Scan",
    "Session",
    "Started",
    "Tool",
    "ToolAnswered",
    "ToolCalled",
    "ToolError",
    "ToolUse",
    "Trap",
    "Usage",
    "UsageSoFar",
    "Value",
    "Written",
    "run",
    "run_async",
]


def run(
    code: Code,
    policy: Path = "moderate",
    *,
    timeout: Time | None = None,
    memory: int | str | None = None,
    fuel: int | str | None = None,
    max_output: int | str | None = None,
    max_disk: int | str | None = None,
    env: Mapping[str, str] | None = None,
    read: Files = (),
    write: Files = (),
    overlay: Files = (),
    tools: Tools = (),
    live: bool = False,
    args: Sequence[str] = (),
    stdin: str | bytes | None = None,
    epoch: datetime | str | None = None,
    seed: int | None = None,
    language: str | None = None,
    on_output: OnOutput | None = None,
    on_event: OnEvent | None = None,
    capture: bool = True,
    canceler: Canceler | None = None,
) -> Outcome:
    """Runs one script to its end. `Sandbox` says what policy, limits and grants mean, `Sandbox.run` all else.

    >>> import capibara
    >>> capibara.run("import sys; print(sys.stdin.read().upper())", stdin="hello").stdout
    'HELLO\\n'
    >>> capibara.run("import random; print(random.random())", seed=7, epoch="2026-01-31T12:00:00Z").stdout
    '0.9697845647712536\\n'
    >>> capibara.run("raise SystemExit(3)").exit_code
    3
    """
    sandbox = _sandbox_of(
        policy,
        timeout=timeout,
        memory=memory,
        fuel=fuel,
        max_output=max_output,
        max_disk=max_disk,
        env=env,
        read=read,
        write=write,
        overlay=overlay,
        tools=tools,
        live=live,
    )
    return sandbox.run(
        code,
        args=args,
        stdin=stdin,
        epoch=epoch,
        seed=seed,
        language=language,
        on_output=on_output,
        on_event=on_event,
        capture=capture,
        canceler=canceler,
    )


async def run_async(
    code: Code,
    policy: Path = "moderate",
    *,
    timeout: Time | None = None,
    memory: int | str | None = None,
    fuel: int | str | None = None,
    max_output: int | str | None = None,
    max_disk: int | str | None = None,
    env: Mapping[str, str] | None = None,
    read: Files = (),
    write: Files = (),
    overlay: Files = (),
    tools: Tools = (),
    live: bool = False,
    args: Sequence[str] = (),
    stdin: str | bytes | None = None,
    epoch: datetime | str | None = None,
    seed: int | None = None,
    language: str | None = None,
    on_output: OnOutput | None = None,
    on_event: OnEvent | None = None,
    capture: bool = True,
) -> Outcome:
    """As `run`, for a task that goes on meanwhile; see `Sandbox.run_async`.

    >>> import asyncio, capibara
    >>> asyncio.run(capibara.run_async("print(6 * 7)")).stdout
    '42\\n'
    """
    sandbox = _sandbox_of(
        policy,
        timeout=timeout,
        memory=memory,
        fuel=fuel,
        max_output=max_output,
        max_disk=max_disk,
        env=env,
        read=read,
        write=write,
        overlay=overlay,
        tools=tools,
        live=live,
    )
    return await sandbox.run_async(
        code,
        args=args,
        stdin=stdin,
        epoch=epoch,
        seed=seed,
        language=language,
        on_output=on_output,
        on_event=on_event,
        capture=capture,
    )


_plain = forgotten_in_children(Sandbox)


def _sandbox_of(policy: Path, **given: Any) -> Sandbox:
    # A preset as it is stays the same; files of policies may change.
    nothing = all(value is None or value is False or value == () for value in given.values())
    if nothing and policy in ("strict", "moderate", "permissive"):
        return _plain(policy)
    return Sandbox(policy, **given)
