"""The event loop of the sandbox: one thread, no sockets, no pipes.

Frozen as `asyncio.sandbox_events`. Timers pass by sleeping, executors run their function at once, and nothing but answers of the host can
wake the loop from outside, so it needs no pipe to itself.
"""

import asyncio
import selectors
import time
from asyncio import selector_events

from _capibara_refusals import SANDBOX, refuse_in_loop


host_answers = {}  # what to do with the answer of a call of the host, by the call's number: see capibara._channel
receive = None  # waits for an answer, at most so many seconds, and hands it on

# While both a descriptor and the host may wake the loop, it looks at each of them in turn, for so many seconds.
_TURN = 0.01


class _Selector(selectors.PollSelector):
    """Sleeps until the next timer, or until the host answers; polls only when a script watches a descriptor (standard input, say)."""

    def select(self, timeout=None):
        if host_answers:
            return self._select_with_host(timeout)
        if self._fd_to_key:
            return super().select(timeout)
        if timeout is None:
            raise RuntimeError(f"the event loop would wait forever: no timer is set, nothing is being read, and nothing can wake it {SANDBOX}")
        if timeout > 0:
            time.sleep(timeout)
        return []

    def _select_with_host(self, timeout):
        if not self._fd_to_key:
            receive(timeout)
            return []
        end = None if timeout is None else time.monotonic() + timeout
        while True:
            left = _TURN if end is None else min(end - time.monotonic(), _TURN)
            if ready := super().select(0):
                return ready
            if receive(max(left, 0)) or left <= 0:
                return []


class SandboxEventLoop(selector_events.BaseSelectorEventLoop):
    """asyncio's selector loop without the parts that need an operating system."""

    def __init__(self, selector=None):
        super().__init__(selector or _Selector())

    def _make_self_pipe(self):
        self._ssock = self._csock = None

    def _close_self_pipe(self):
        pass

    def _write_to_self(self):
        pass

    def run_in_executor(self, executor, func, *args):
        """Calls the function right away: there are no threads. Its exception arrives through the future, as from a thread."""
        self._check_closed()
        if executor is None:
            self._check_default_executor()
        future = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:
            future.set_exception(error.with_traceback(error.__traceback__.tb_next))
        return future

    async def shutdown_default_executor(self, timeout=None):
        """Closes the default executor, if the script has set one: no thread of it is running."""
        self._executor_shutdown_called = True
        if self._default_executor is not None:
            self._default_executor.shutdown()


class SandboxEventLoopPolicy(asyncio.DefaultEventLoopPolicy):
    """Hands out SandboxEventLoop."""

    _loop_factory = SandboxEventLoop


def install(refusal):
    """Makes this loop the one asyncio uses. `refusal` makes functions that raise (guest.c)."""
    refuse_in_loop(SandboxEventLoop, refusal)
    asyncio.SelectorEventLoop = asyncio.EventLoop = SandboxEventLoop
    asyncio.DefaultEventLoopPolicy = SandboxEventLoopPolicy
    asyncio.set_event_loop_policy(SandboxEventLoopPolicy())
