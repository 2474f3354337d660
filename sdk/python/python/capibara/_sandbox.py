"""Running scripts: `Sandbox`, `Session`, and the functions that need neither."""

from __future__ import annotations

import asyncio
import codecs
import contextvars
import inspect
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any, TypeVar, Union

from ._capibara import Canceler, Engine, Outcome, Policy
from ._capibara import Session as EngineSession
from ._forks import forgotten_in_children
from ._packed import packed_runtime
from ._tools import Tools, running_loop, tools_of
from ._values import Applied, Artifact, Change, Event, Scan, Written

Code = Union[str, bytes, "os.PathLike[str]"]
Path = Union[str, "os.PathLike[str]"]
Files = Union[Path, Iterable[Path], Mapping[Path, str]]
Time = Union[str, float, timedelta]
OnOutput = Callable[[str, str], Any]
OnEvent = Callable[[Event], Any]
T = TypeVar("T")

_THREADS = 256
"""Runs that `run_async` has under way at one time, at most; more wait."""


class Sandbox:
    """What scripts run under: a policy, and what is changed of its limits and granted beside it.

    `policy` is the name of a preset (`strict`, `moderate`, `permissive`) or of a policy of yours, or the path of a policy file.
    Limits that are `None` are the policy's: `timeout` (seconds, `"2s"` or a `timedelta`), `memory`, `max_output` and `max_disk`
    (bytes or `"256MiB"`), `fuel` (instructions, as `500_000_000` or `"500M"`).

    Grants: `env` are variables; `read`, `write` and `overlay` are files and folders of the host, by path, several paths, or a
    mapping from a path to where the script sees it. What is below `overlay` is changed in memory only. `tools` are functions a
    script may call (see `Tool`). `live` chooses real clocks, real sleeps and system randomness, and counts no fuel.

    `cache_dir` is where the runtime lives. `queue=(running, waiting)` bounds how many runs are under way and how many wait for
    that; sandboxes with the same `cache_dir` and `queue` share an engine.

    Raises `PolicyError` where the policy is not there or does not allow what is asked for, `ValueError` for a limit that is none.
    A sandbox may be used by any number of threads at once.

    >>> import capibara
    >>> sandbox = capibara.Sandbox("strict", timeout=2, memory="96MiB")
    >>> sandbox.run("print(6 * 7)").stdout
    '42\\n'
    >>> sandbox.run("while True: pass").status
    'denied'
    """

    def __init__(
        self,
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
        cache_dir: Path | None = None,
        queue: tuple[int, int] | None = None,
    ) -> None:
        self._tools = tools_of(tools)
        self._live = live
        self._engine_of = (cache_dir and os.fspath(cache_dir), queue)
        self._policy = Policy(
            _policy_name(policy),
            timeout=timeout,
            memory=memory,
            fuel=fuel,
            max_output=max_output,
            max_disk=max_disk,
            env=list(env.items()) if env else None,
            read=_files(read),
            write=_files(write),
            overlay=_files(overlay),
            live=live,
            tools=bool(self._tools),
        )

    def prepare(self) -> None:
        """Makes the runtime ready now: builds it if it is not there (minutes), compiles it if it is new here (seconds).

        Otherwise the first run does it, and says so on standard error.
        """
        _engine(*self._engine_of).prepare(live=self._live)

    def scan(self, code: Code, *, language: str | None = None) -> Scan:
        """What the policy says of a script. Nothing is run.

        >>> import capibara
        >>> scan = capibara.Sandbox().scan("import os; os.system('id')")
        >>> scan.verdict, scan.findings[0].rule
        ('deny', 'spawn-process')
        """
        return _engine(*self._engine_of).scan(code, self._policy, language=language)

    def run(
        self,
        code: Code,
        *,
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
        """Runs a script to its end, on this thread and without the interpreter's lock.

        `code` is Python code, the path of a script file (modules it imports from its own folder come along) or bytes. A
        WebAssembly program is known by its first bytes or by `.wasm`, `.wat`; `language` is `"python"` or `"wasm"` where it is not.
        `args` and `stdin` are what it gets. With the same `epoch` (an aware `datetime` or RFC 3339) and `seed` (below 2^128), the
        same script prints the same bytes.

        `on_output(stream, text)` is called while the script prints, which waits for it; `on_event(event)` while it runs. Without
        `capture` the outcome has no output. `canceler.cancel()` ends the run from another thread, and so does Ctrl-C. What one of
        your functions raises ends the run, and is raised.

        Raises `EngineError` if we could not do the job. Whatever the script does is an `Outcome`.
        """
        told = on_output and _Told(on_output)
        outcome = _engine(*self._engine_of).run(
            code,
            self._policy,
            language=language,
            args=list(args),
            stdin=stdin,
            epoch=_epoch(epoch),
            seed=seed,
            live=self._live,
            tools=self._tools,
            on_output=told or None,
            on_event=on_event,
            capture=capture,
            canceler=canceler,
        )
        if told:
            told.end()
        return outcome

    async def run_async(
        self,
        code: Code,
        *,
        args: Sequence[str] = (),
        stdin: str | bytes | None = None,
        epoch: datetime | str | None = None,
        seed: int | None = None,
        language: str | None = None,
        on_output: OnOutput | None = None,
        on_event: OnEvent | None = None,
        capture: bool = True,
    ) -> Outcome:
        """As `run`, in a thread, for a task that goes on meanwhile. Canceling the task ends the run.

        `on_output`, `on_event` and async tools run on the event loop; the two may be async. Plain tools run on the run's thread.

        >>> import asyncio, capibara
        >>> async def both():
        ...     sandbox = capibara.Sandbox()
        ...     return await asyncio.gather(sandbox.run_async("print(1)"), sandbox.run_async("print(2)"))
        >>> [outcome.stdout for outcome in asyncio.run(both())]
        ['1\\n', '2\\n']
        """
        canceler = Canceler()

        def work(on_loop: Callable[[Any], Any]) -> Outcome:
            return self.run(
                code,
                args=args,
                stdin=stdin,
                epoch=epoch,
                seed=seed,
                language=language,
                on_output=on_loop(on_output),
                on_event=on_loop(on_event),
                capture=capture,
                canceler=canceler,
            )

        return await _in_thread(work, canceler)

    def session(
        self,
        *,
        epoch: datetime | str | None = None,
        seed: int | None = None,
        total_turns: int | None = None,
        total_fuel: int | None = None,
        total_wall_time: Time | None = None,
        total_output: int | None = None,
    ) -> Session:
        """Opens a session: an interpreter that goes on between turns. The totals bound all its turns together.

        >>> import capibara
        >>> with capibara.Sandbox().session() as session:
        ...     outcome = session.run("x = 6")
        ...     session.run("x * 7").value.text
        '42'
        """
        inner = _engine(*self._engine_of).session(
            self._policy,
            epoch=_epoch(epoch),
            seed=seed,
            live=self._live,
            tools=self._tools,
            total_turns=total_turns,
            total_fuel=total_fuel,
            total_wall_time=total_wall_time,
            total_output=total_output,
        )
        return Session(inner, self._policy)


class Session:
    """An interpreter that goes on between turns: variables, imports, functions, files, clock and randomness stay.

    `Sandbox.session` opens one. A turn is a transaction: if it is stopped by a limit, breaks down or is canceled, the session is
    exactly what it was before it. It has one turn at a time; a second one meanwhile is a `RuntimeError`. Between turns it takes
    no thread. `close`, or the end of a `with`, gives back what it holds.
    """

    def __init__(self, inner: EngineSession, policy: Policy) -> None:
        self._inner = inner
        self._policy = policy

    def run(
        self,
        code: str,
        *,
        timeout: Time | None = None,
        memory: int | str | None = None,
        fuel: int | str | None = None,
        max_output: int | str | None = None,
        on_output: OnOutput | None = None,
        on_event: OnEvent | None = None,
        capture: bool = True,
        canceler: Canceler | None = None,
    ) -> Outcome:
        """Runs a turn where the last one left off, as `Sandbox.run` does; limits are of this turn, by default the sandbox's.

        The value of a last line that is an expression is `Outcome.value`. Code may `await` at its top level.

        Raises `EngineError` if a total is used up, and `ValueError` if the session is closed.
        """
        changed = any(limit is not None for limit in (timeout, memory, fuel, max_output))
        policy = self._policy.changed(timeout=timeout, memory=memory, fuel=fuel, max_output=max_output) if changed else None
        told = on_output and _Told(on_output)
        outcome = self._inner.run(
            code, policy=policy, on_output=told or None, on_event=on_event, capture=capture, canceler=canceler
        )
        if told:
            told.end()
        return outcome

    async def run_async(
        self,
        code: str,
        *,
        timeout: Time | None = None,
        memory: int | str | None = None,
        fuel: int | str | None = None,
        max_output: int | str | None = None,
        on_output: OnOutput | None = None,
        on_event: OnEvent | None = None,
        capture: bool = True,
    ) -> Outcome:
        """As `run`, in a thread, as `Sandbox.run_async` does. A turn whose task is canceled is undone."""
        canceler = Canceler()

        def work(on_loop: Callable[[Any], Any]) -> Outcome:
            return self.run(
                code,
                timeout=timeout,
                memory=memory,
                fuel=fuel,
                max_output=max_output,
                on_output=on_loop(on_output),
                on_event=on_loop(on_event),
                capture=capture,
                canceler=canceler,
            )

        return await _in_thread(work, canceler)

    @property
    def artifacts(self) -> tuple[Artifact, ...]:
        """The files that lie in `/out` now, sorted by path."""
        return self._inner.artifacts()

    def write_artifacts(self, folder: Path) -> Written:
        """Writes them into a folder of the host, as `Outcome.write_artifacts` does."""
        return self._inner.write_artifacts(folder)

    def files(self, folder: str) -> dict[str, bytes]:
        """The files in memory below an absolute folder of the session, by their paths relative to it."""
        return self._inner.files(folder)

    @property
    def changes(self) -> tuple[Change, ...]:
        """What the turns changed below overlays, and `apply` has not made."""
        return self._inner.changes()

    def apply(self) -> Applied:
        """Makes these changes on the host; later turns may change it again."""
        return self._inner.apply()

    @property
    def kept(self) -> int:
        """How many turns were kept: those that ended by themselves."""
        return self._inner.kept()

    def complete(self, text: str) -> list[str]:
        """Names and attributes of the session that begin with a text, as `os.pa`; at most 200."""
        return self._inner.complete(text)

    def is_incomplete(self, code: str) -> bool:
        """Whether Python would wait for more lines if this was typed."""
        return self._inner.is_incomplete(code)

    def close(self) -> None:
        """Gives back what it holds. It takes no more turns."""
        self._inner.close()

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@forgotten_in_children
def _engine(cache_dir: str | None, queue: tuple[int, int] | None) -> Engine:
    return Engine(cache_dir=cache_dir, queue=queue, pack=packed_runtime())


@forgotten_in_children
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_THREADS, thread_name_prefix="capibara")


def _policy_name(policy: Path) -> str:
    # A path may be without a `/`; a name never has one.
    name = os.fspath(policy)
    return name if isinstance(policy, str) or os.sep in name else os.path.join(".", name)


def _files(files: Files) -> list[tuple[Path, str | None]]:
    if isinstance(files, (str, os.PathLike)):
        return [(files, None)]
    if isinstance(files, Mapping):
        return list(files.items())
    return [(file, None) for file in files]


def _epoch(epoch: datetime | str | None) -> str | None:
    if not isinstance(epoch, datetime):
        return epoch
    if epoch.tzinfo is None:
        raise ValueError("a moment without a time zone is none: give `epoch` a `tzinfo`")
    return epoch.isoformat()


class _Told:
    """Gives output on as text. A character may lie in two pieces."""

    def __init__(self, on_output: OnOutput) -> None:
        decoder = codecs.getincrementaldecoder("utf-8")
        self._on_output = on_output
        self._decoders = {stream: decoder("replace") for stream in ("stdout", "stderr")}

    def __call__(self, stream: str, piece: bytes, final: bool = False) -> None:
        text = self._decoders[stream].decode(piece, final)
        if text:
            self._on_output(stream, text)

    def end(self) -> None:
        for stream in self._decoders:
            self(stream, b"", final=True)


async def _in_thread(work: Callable[[Callable[[Any], Any]], T], canceler: Canceler) -> T:
    """Does the work in a thread of ours. If the task is canceled, the run is, and has ended when the task has."""
    loop = asyncio.get_running_loop()

    def on_loop(function: Callable[..., Any] | None) -> Callable[..., Any] | None:
        """A function that calls this one on the event loop, and waits for it."""
        if function is None:
            return None

        async def call(*arguments: Any) -> None:
            result = function(*arguments)
            if inspect.isawaitable(result):
                await result

        return lambda *arguments: asyncio.run_coroutine_threadsafe(call(*arguments), loop).result()

    context = contextvars.copy_context()
    context.run(running_loop.set, loop)
    working = loop.run_in_executor(_threads(), context.run, work, on_loop)
    try:
        return await asyncio.shield(working)
    except asyncio.CancelledError:
        canceler.cancel()
        await asyncio.wait([working])
        working.exception()
        raise
