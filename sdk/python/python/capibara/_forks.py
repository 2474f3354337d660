"""What a process has once, and a process forked from it must not have: a fork has none of the threads."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")

_made: dict[Any, Any] = {}
_left_behind: list[dict[Any, Any]] = []


def forgotten_in_children(make: Callable[..., T]) -> Callable[..., T]:
    """Keeps what a function returns, by its arguments, for as long as the process lives."""

    def kept(*arguments: Any) -> T:
        key = (make, *arguments)
        found: T | None = _made.get(key)
        if found is None:
            # Of two threads that make one, both use the first.
            found = _made.setdefault(key, make(*arguments))
        return found

    return kept


def _in_child() -> None:
    # Dropping them would wait for threads that are not there.
    _left_behind.append(dict(_made))
    _made.clear()


os.register_at_fork(after_in_child=_in_child)
