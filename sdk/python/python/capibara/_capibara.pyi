# The extension module. What it has that is for everybody is in `capibara` itself.

import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from datetime import timedelta
from typing import Any, Literal, final

from ._values import (
    Applied,
    Artifact,
    Change,
    Divergence,
    Finding,
    LimitHit,
    RuntimeId,
    Scan,
    ToolUse,
    Trap,
    Usage,
    Value,
    Written,
)

__all__ = ["Canceler", "Engine", "Outcome", "Policy", "Session", "Tool", "main"]

_Code = str | bytes | os.PathLike[str]
_Files = Sequence[tuple[str | os.PathLike[str], str | None]]
_Time = str | float | timedelta

def main(args: Sequence[str]) -> int: ...
@final
class Canceler:
    """Stops the runs and turns it was given to, from any thread. Once canceled, it stays so: what is given to it later ends at once."""

    def __new__(cls) -> Canceler: ...
    def cancel(self) -> None:
        """Asks them to stop. Each ends as `canceled` within milliseconds, with what it had printed."""
    @property
    def canceled(self) -> bool:
        """Whether `cancel` was called."""

@final
class Policy:
    def __new__(
        cls,
        policy: str | os.PathLike[str],
        *,
        timeout: _Time | None = None,
        memory: str | int | None = None,
        fuel: str | int | None = None,
        max_output: str | int | None = None,
        max_disk: str | int | None = None,
        env: Sequence[tuple[str, str]] | None = None,
        read: _Files = ...,
        write: _Files = ...,
        overlay: _Files = ...,
        live: bool = False,
        tools: bool = False,
    ) -> Policy: ...
    def changed(
        self,
        *,
        timeout: _Time | None = None,
        memory: str | int | None = None,
        fuel: str | int | None = None,
        max_output: str | int | None = None,
        max_disk: str | int | None = None,
    ) -> Policy: ...
    @property
    def name(self) -> str: ...
    @property
    def limits(self) -> tuple[int | None, float, int, int, int, int, int]: ...

@final
class Tool:
    def __new__(
        cls,
        name: str,
        description: str,
        parameters: str,
        call: Callable[[str], str | Future[str]],
        *,
        calls: int | None = None,
        timeout: _Time | None = None,
        argument_bytes: int | None = None,
        result_bytes: int | None = None,
    ) -> Tool: ...

@final
class Engine:
    def __new__(
        cls,
        *,
        cache_dir: str | os.PathLike[str] | None = None,
        queue: tuple[int, int] | None = None,
        pack: str | os.PathLike[str] | None = None,
    ) -> Engine: ...
    def prepare(self, language: str = "python", *, live: bool = False) -> None: ...
    def scan(self, code: _Code, policy: Policy, *, language: str | None = None) -> Scan: ...
    def run(
        self,
        code: _Code,
        policy: Policy,
        *,
        language: str | None = None,
        args: Sequence[str] = ...,
        stdin: str | bytes | None = None,
        epoch: str | None = None,
        seed: int | None = None,
        live: bool = False,
        tools: Sequence[Tool] = ...,
        on_output: Callable[[str, bytes], Any] | None = None,
        on_event: Callable[[Any], Any] | None = None,
        capture: bool = True,
        canceler: Canceler | None = None,
    ) -> Outcome: ...
    def session(
        self,
        policy: Policy,
        *,
        epoch: str | None = None,
        seed: int | None = None,
        live: bool = False,
        tools: Sequence[Tool] = ...,
        total_turns: int | None = None,
        total_fuel: int | None = None,
        total_wall_time: _Time | None = None,
        total_output: int | None = None,
    ) -> Session: ...

@final
class Session:
    def run(
        self,
        code: str,
        *,
        policy: Policy | None = None,
        on_output: Callable[[str, bytes], Any] | None = None,
        on_event: Callable[[Any], Any] | None = None,
        capture: bool = True,
        canceler: Canceler | None = None,
    ) -> Outcome: ...
    def artifacts(self) -> tuple[Artifact, ...]: ...
    def write_artifacts(self, folder: str | os.PathLike[str]) -> Written: ...
    def files(self, folder: str) -> dict[str, bytes]: ...
    def changes(self) -> tuple[Change, ...]: ...
    def apply(self) -> Applied: ...
    def complete(self, text: str) -> list[str]: ...
    def is_incomplete(self, code: str) -> bool: ...
    def kept(self) -> int: ...
    def close(self) -> None: ...

@final
class Outcome:
    """What came of a run: a value, whatever the script did. It is made by `run`, never by itself."""

    @property
    def status(self) -> Literal["completed", "denied", "limit", "trapped", "canceled"]:
        """How it ended: `completed`, `denied`, `limit`, `trapped` or `canceled`."""
    @property
    def exit_code(self) -> int | None:
        """The exit code, if the script ended by itself; the real one, of any size."""
    @property
    def success(self) -> bool:
        """Whether the script ended by itself with exit code 0."""
    def check(self) -> Outcome:
        """Returns the outcome itself if it is a success.

        Raises `OutcomeError`, which has the outcome, if it is not: as `subprocess` does with `check`."""
    @property
    def stdout(self) -> str:
        """What it printed on standard output; what is not UTF-8 becomes U+FFFD."""
    @property
    def stdout_bytes(self) -> bytes:
        """The bytes it printed on standard output."""
    @property
    def stdout_truncated(self) -> bool:
        """Whether the output limit cut standard output."""
    @property
    def stderr(self) -> str:
        """What it printed on standard error; what is not UTF-8 becomes U+FFFD."""
    @property
    def stderr_bytes(self) -> bytes:
        """The bytes it printed on standard error."""
    @property
    def stderr_truncated(self) -> bool:
        """Whether the output limit cut standard error."""
    @property
    def limit(self) -> LimitHit | None:
        """The limit that ended it, if one did."""
    @property
    def trap(self) -> Trap | None:
        """How the guest broke down, if it did."""
    @property
    def usage(self) -> Usage:
        """What it used."""
    @property
    def quotas_met(self) -> tuple[LimitHit, ...]:
        """Quotas that the script met on its way, and got an error for that it could handle."""
    @property
    def scan(self) -> Scan:
        """What the scan before the run came to."""
    @property
    def findings(self) -> tuple[Finding, ...]:
        """The findings of that scan."""
    @property
    def divergence(self) -> tuple[Divergence, ...]:
        """Files it opened or changed, or tried to, that the scan had not foreseen."""
    @property
    def artifacts(self) -> tuple[Artifact, ...]:
        """The files it left in `/out`, sorted by path, with their bytes. None for turns of a session: see `Session.artifacts`."""
    @property
    def artifacts_left_out(self) -> list[str]:
        """Paths of files in `/out` that did not come back, because all would be larger than `max_disk`."""
    def write_artifacts(self, folder: str | os.PathLike[str]) -> Written:
        """Writes the artifacts into a folder of the host, each whole or not at all, and never through a link.

        Raises `EngineError` if the folder cannot be used."""
    @property
    def changes(self) -> tuple[Change, ...]:
        """What it changed below overlays: nothing of it is on the host yet."""
    def apply(self) -> Applied:
        """Makes the changes on the host, but for what was changed there meanwhile."""
    @property
    def tools(self) -> tuple[ToolUse, ...]:
        """How it used its tools, one entry for each tool it was given."""
    @property
    def value(self) -> Value | None:
        """What the last line of a session's turn came to, if it is an expression and not `None`."""
    @property
    def job_sha256(self) -> str:
        """SHA-256 of everything the run depended on, in hexadecimal."""
    @property
    def epoch(self) -> str:
        """Where its clock started, in RFC 3339."""
    @property
    def seed(self) -> int | None:
        """Where its randomness started; `None` for a live run."""
    @property
    def live(self) -> bool:
        """Whether it ran with real clocks and system randomness."""
    @property
    def determined(self) -> bool:
        """Whether running the same job again gives the same outcome."""
    @property
    def runtime(self) -> RuntimeId | None:
        """The runtime that ran it; `None` if nothing was run."""
