"""What the host asks of a session besides its turns. The host undoes whatever it changes."""

import json


class _Json(str):
    """Its representation is its text: that is what comes back as the value of a turn."""

    __repr__ = str.__str__


def complete(text, most=200):
    """Names and attributes that begin with `text`, as JSON."""
    import __main__
    from rlcompleter import Completer

    completer = Completer(vars(__main__))
    found = []
    while len(found) < most:
        match = completer.complete(text, len(found))
        if match is None or match in found:
            break
        found.append(match)
    return _Json(json.dumps(found))


def is_incomplete(source):
    """Whether Python would wait for more lines, with `await` at the top level."""
    import ast
    import codeop
    import warnings

    compiler = codeop.CommandCompiler()
    compiler.compiler.flags |= ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for symbol in "single", "exec":
            try:
                return compiler(source, "<input>", symbol) is None
            except (SyntaxError, OverflowError, ValueError):
                pass
    return False
