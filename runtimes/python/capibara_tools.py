"""Functions of the host, as functions of Python: `tools.f(n=1)` waits, `await tools.aio.f(n=1)` lets others go on."""

import asyncio
from inspect import Parameter, Signature

from . import _channel


class ToolError(RuntimeError):
    """A tool did not return a value. `tool` is its name, `kind` why: failed, timeout, arguments, budget, unknown, too-large."""

    def __init__(self, message, tool=None, kind="failed"):
        super().__init__(message)
        self.tool = tool
        self.kind = kind


class ToolTimeout(ToolError, TimeoutError):
    """A tool took longer than it may."""


class ToolArgumentError(ToolError, TypeError):
    """A tool was called with arguments it does not take."""


for _error in ToolError, ToolTimeout, ToolArgumentError:
    _error.__module__ = "capibara"  # where scripts have it from

_ERRORS = {"timeout": ToolTimeout, "arguments": ToolArgumentError}
_TYPES = {"string": str, "integer": int, "number": float, "boolean": bool, "array": list, "object": dict, "null": None}


def _value(tool, answer):
    if "error" not in answer:
        return answer["result"]
    error = answer["error"]
    kind = error["kind"]
    raise _ERRORS.get(kind, ToolError)(error["message"], tool, kind)


def _message(tool, positional, keywords):
    if positional:
        raise ToolArgumentError(f"{tool}() takes keyword arguments only", tool, "arguments")
    return {"tool": tool, "arguments": keywords}


def _annotation(schema):
    kind = schema.get("type") if isinstance(schema, dict) else None
    if isinstance(kind, list):
        named = [_TYPES[one] for one in kind if one in _TYPES]
        union = named[0] if named else Parameter.empty
        for one in named[1:]:
            union = union | one
        return union
    return _TYPES.get(kind, Parameter.empty)


def _signature(parameters):
    """A signature out of the JSON Schema of an object; any keywords where it says nothing of them."""
    properties = parameters.get("properties") if parameters else None
    if properties is None:
        return Signature([Parameter("arguments", Parameter.VAR_KEYWORD)])
    required = parameters.get("required", ())
    made = []
    for name, schema in properties.items():
        default = Parameter.empty
        if name not in required:
            default = schema.get("default") if isinstance(schema, dict) else None
        if name.isidentifier():
            made.append(Parameter(name, Parameter.KEYWORD_ONLY, default=default, annotation=_annotation(schema)))
    return Signature(made)


def _documentation(about):
    lines = [about["description"]] if about["description"] else []
    properties = (about["parameters"] or {}).get("properties") or {}
    described = [(name, schema["description"]) for name, schema in properties.items() if isinstance(schema, dict) and schema.get("description")]
    if described:
        lines += ["", *(f"{name}: {text}" for name, text in described)]
    return "\n".join(lines) or None


def _dress(function, name, about):
    function.__name__ = function.__qualname__ = name
    function.__module__ = "capibara.tools"
    function.__doc__ = _documentation(about)
    function.__signature__ = _signature(about["parameters"])
    return function


def _waiting(name, about):
    def tool(*positional, **keywords):
        return _value(name, _channel.ask(_message(name, positional, keywords)))

    return _dress(tool, name, about)


def _concurrent(name, about):
    async def tool(*positional, **keywords):
        message = _message(name, positional, keywords)
        future = asyncio.get_running_loop().create_future()

        def take(answer):
            if not future.done():
                future.set_result(answer)

        _channel.ask_later(message, take)
        return _value(name, await future)

    return _dress(tool, name, about)


class _Tools:
    """The tools this script was granted. Each takes keyword arguments; `aio` has them as coroutine functions."""

    def __init__(self, make):
        self.__dict__["_make"] = make

    def __getattr__(self, name):
        about = _known().get(name)
        if about is None:
            names = ", ".join(_known())
            granted = f"granted are: {names}" if names else "none was granted"
            raise AttributeError(f"there is no tool {name!r}: {granted}", name=name, obj=self)
        made = self.__dict__[name] = self._make(name, about)
        return made

    def __dir__(self):
        return sorted(_known())

    def __repr__(self):
        return f"<tools: {', '.join(_known()) or 'none'}>"


_all = None


def _known():
    global _all
    if _all is None:
        try:
            listed = _channel.ask({"list": "tools"})
        except RuntimeError:  # a run without a host that answers
            listed = {"result": []}
        _all = {about["name"]: about for about in listed["result"]}
    return _all


tools = _Tools(_waiting)
tools.__dict__["aio"] = _Tools(_concurrent)
