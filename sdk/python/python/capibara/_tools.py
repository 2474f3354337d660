"""Tools: functions of yours that a script may call."""

from __future__ import annotations

import asyncio
import dataclasses
import enum
import inspect
import json
import threading
from collections.abc import Awaitable, Callable, Iterable, Mapping
from concurrent.futures import Future
from contextvars import ContextVar
from datetime import timedelta
from typing import Any, Union

from . import _capibara, _shapes
from ._forks import forgotten_in_children

running_loop: ContextVar[asyncio.AbstractEventLoop | None] = ContextVar("running_loop", default=None)
"""The event loop that the tools of a run are scheduled on; without one, a loop of their own."""


class Tool:
    """A function that a script may call, by its name and by keywords, as `capibara.tools`.

    Its signature and hints become the JSON Schema that the script sees as signature and docstring, and what the script sends is
    held to it: `str`, `int`, `float`, `bool`, `None`, `list`, `tuple`, `dict`, unions, `Literal`, `Annotated[…, "what it is"]`,
    enums, `TypedDict` and dataclasses. What it returns goes to the script as JSON.

    `function` may be async: it then runs on the event loop that awaits the run, or, without one, on a loop in a thread of its
    own. One that is not runs on the thread of the run, which waits for it, past its limits too.

    `calls` bounds how often a run may call it (10,000), `timeout` how long one call may take (30 s), `argument_bytes` and
    `result_bytes` the JSON of arguments (1 MiB) and result (16 MiB). Raises `TypeError` for a function or hint that cannot be
    offered.

    >>> import capibara
    >>> def price(name: str, pieces: int = 1) -> float:
    ...     "What so many pieces of an article cost."
    ...     return {"apple": 0.5, "pear": 0.75}[name] * pieces
    >>> capibara.Tool(price, calls=100).parameters["required"]
    ['name']
    >>> code = "from capibara import tools\\nprint(tools.price(name='apple', pieces=3))"
    >>> capibara.run(code, tools=[price]).stdout
    '1.5\\n'
    """

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        name: str | None = None,
        description: str | None = None,
        calls: int | None = None,
        timeout: str | float | timedelta | None = None,
        argument_bytes: int | None = None,
        result_bytes: int | None = None,
    ) -> None:
        self.function = function
        self.name: str = name if name is not None else function.__name__
        self.description: str = description if description is not None else inspect.getdoc(function) or ""
        self.parameters: dict[str, Any]
        self.parameters, self._check = _shapes.parameters(function)
        self._tool = _capibara.Tool(
            self.name,
            self.description,
            json.dumps(self.parameters),
            self._call,
            calls=calls,
            timeout=timeout,
            argument_bytes=argument_bytes,
            result_bytes=result_bytes,
        )

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Calls the function itself."""
        return self.function(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<Tool {self.name}>"

    def _call(self, text: str) -> str | Future[str]:
        result = self.function(**self._check(json.loads(text)))
        if inspect.isawaitable(result):
            return asyncio.run_coroutine_threadsafe(_awaited(result), running_loop.get() or _own_loop())
        return _to_json(result)


Tools = Union[Iterable["Callable[..., Any] | Tool"], Mapping[str, Callable[..., Any]]]


def tools_of(tools: Tools) -> list[_capibara.Tool]:
    """The tools as the engine takes them: functions and tools, or functions by name."""
    if isinstance(tools, Mapping):
        tools = [Tool(function, name=name) for name, function in tools.items()]
    return [(tool if isinstance(tool, Tool) else Tool(tool))._tool for tool in tools]


async def _awaited(result: Awaitable[Any]) -> str:
    return _to_json(await result)


def _as_json(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, enum.Enum):
        return value.value
    raise TypeError(f"a tool's result is JSON, and {type(value).__name__} is not")


_to_json = json.JSONEncoder(default=_as_json, allow_nan=False, separators=(",", ":")).encode


@forgotten_in_children
def _own_loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="capibara-tools", daemon=True).start()
    return loop
