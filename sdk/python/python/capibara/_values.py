"""The values an outcome is made of, named as in the Rust library and in the JSON of `capibara run`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Union

_Bytes = bytes  # Some classes have a field of that name.


@dataclass(frozen=True)
class Usage:
    """What a run used."""

    fuel: int | None
    """Instructions, in fuel units; `None` for a live run, which counts none."""
    wall_time: float
    """Real time from start to end, in seconds."""
    slept: float
    """Virtual time slept, in seconds: it took no real time and counts against the timeout all the same."""
    memory_peak_bytes: int
    """Most memory at one time, files in memory and the interpreter included."""
    output_bytes: int
    files_written: int
    bytes_written: int
    host_calls: int
    files_peak: int
    descriptors_peak: int


@dataclass(frozen=True)
class LimitHit:
    """A limit that was met: fuel units, milliseconds, bytes or a count, by kind."""

    kind: str
    """`fuel`, `wall_time`, `memory`, `stack`, `output`, `bytes_written`, `files` or `descriptors`."""
    allowed: int
    used: int


@dataclass(frozen=True)
class Trap:
    """How a guest broke down: a permanent name in kebab-case, and a line for people."""

    kind: str
    message: str


@dataclass(frozen=True)
class Finding:
    """One thing a scan found. Lines and columns count from 1."""

    rule: str
    severity: Literal["unprovable", "warning", "error"]
    message: str
    path: str
    line: int
    column: int
    end_line: int
    end_column: int
    effect: Literal["allow", "warn", "deny"]
    advice: str | None
    allowed: str | None
    """The reason of the allow list entry that lets it pass."""


@dataclass(frozen=True)
class Need:
    """Something outside of the script that it needs: `kind` is `read`, `write`, `net`, `env`, `package`, `module` or `stdin`."""

    kind: str
    subject: str | None
    """A path, host or name; `None` where it is only known at run time."""
    path: str
    line: int
    column: int


@dataclass(frozen=True)
class Scan:
    """What a policy says of a script."""

    verdict: Literal["allow", "warn", "deny"]
    findings: tuple[Finding, ...]
    needs: tuple[Need, ...]
    policy: str


@dataclass(frozen=True)
class RuntimeId:
    """The runtime that ran a script: language and version, and the digest of code and memory image."""

    name: str
    sha256: str


@dataclass(frozen=True)
class Divergence:
    """A file the script opened or changed, or tried to, that the scan had not foreseen."""

    path: str
    access: Literal["read", "write"]


@dataclass(frozen=True)
class Artifact:
    """A file that a script left in `/out`. Path and bytes are the script's choice; the path has no `..` in it."""

    path: str
    bytes: _Bytes
    sha256: str
    mime: str


@dataclass(frozen=True)
class Change:
    """One thing that a script changed below an overlay."""

    path: str
    kind: Literal["added", "changed", "deleted"]
    type: Literal["file", "directory", "link", "other"]
    bytes: int
    """Size of the file, or of what was deleted."""
    sha256: str | None
    contents: _Bytes | None
    """What is in a file that was added or changed; `None` where it did not come back."""
    target: str | None
    """Where a link that was added leads."""


@dataclass(frozen=True)
class Refusal:
    """A path that nothing was written to, and why."""

    path: str
    reason: str


@dataclass(frozen=True)
class Applied:
    """What came of applying changes: how many were made, and those that were not."""

    applied: int
    refused: tuple[Refusal, ...]


@dataclass(frozen=True)
class Written:
    """What came of writing artifacts."""

    files: int
    bytes: int
    refused: tuple[Refusal, ...]


@dataclass(frozen=True)
class ToolUse:
    """How a run used one of its tools. `last_error` is for the host: the script may not have been told it."""

    name: str
    calls: int
    failed: int
    last_error: str | None


@dataclass(frozen=True)
class Value:
    """What the last line of a session's turn came to: its `repr`, and files below `/out` that show it otherwise."""

    text: str
    truncated: bool
    files: tuple[str, ...]


@dataclass(frozen=True)
class Started:
    """The script was scanned, may run, and is about to."""

    scan: Scan
    runtime: RuntimeId
    epoch: str
    seed: int


@dataclass(frozen=True)
class UsageSoFar:
    """What a run has used so far, at most ten times in a second; `reading`: whether it waits for standard input."""

    usage: Usage
    reading: bool


@dataclass(frozen=True)
class ToolCalled:
    """The script called a tool."""

    call: int
    tool: str
    argument_bytes: int


@dataclass(frozen=True)
class ToolAnswered:
    """A call came to its end: with a result, or with an error the script can tell apart (`failed`, `timeout`, …). `took` is in seconds."""

    call: int
    tool: str
    result_bytes: int | None
    error: str | None
    took: float


Event = Union[Started, UsageSoFar, ToolCalled, ToolAnswered]
