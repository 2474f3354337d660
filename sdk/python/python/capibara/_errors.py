"""The exceptions of this package. Whatever a script does is an `Outcome`, never one of these."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ._capibara import Outcome


class CapibaraError(Exception):
    """We could not do what was asked for.

    `code` is the permanent name of the kind, in kebab-case; `hint` says what to try, or is `None`.
    """

    __module__ = "capibara"

    def __init__(self, message: str, code: str = "internal", hint: str | None = None) -> None:
        super().__init__(message, code, hint)
        self.code = code
        self.hint = hint

    def __str__(self) -> str:
        message = str(self.args[0])
        return f"{message} (hint: {self.hint})" if self.hint else message


class EngineError(CapibaraError):
    """The job could not be done: no runtime, a grant that cannot be given, an engine that is overloaded, a session at its end.

    >>> import capibara
    >>> try:
    ...     capibara.run("print(1)", read="/no/such/folder")
    ... except capibara.EngineError as error:
    ...     print(error.code)
    invalid-job
    """

    __module__ = "capibara"


class PolicyError(CapibaraError):
    """The policy is not there, cannot be used, or does not allow what was asked for.

    >>> import capibara
    >>> try:
    ...     capibara.Sandbox("strict", memory="1GiB")
    ... except capibara.PolicyError as error:
    ...     print(error.code)
    policy-widened
    """

    __module__ = "capibara"


class OutcomeError(Exception):
    """Raised by `Outcome.check` for an outcome that is no success, which is its `outcome`."""

    __module__ = "capibara"

    def __init__(self, message: str, outcome: Outcome) -> None:
        super().__init__(message, outcome)
        self.outcome = outcome

    def __str__(self) -> str:
        return str(self.args[0])


class ToolError(Exception):
    """Raised by a tool to tell the script why there is no value. Of any other exception the script learns only that the tool failed."""

    __module__ = "capibara"


class ToolArgumentError(Exception):
    """A script called a tool with other arguments than it takes. The script sees the text."""

