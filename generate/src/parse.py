"""Says of each text on standard input whether it is a Python script of its own.

Input: a JSON list of texts. Output: the line `ready`, then one line of JSON for each, written before the next one is
looked at, so that the host sees which text broke the interpreter:

    ["script"]                             it compiles and does something
    ["trivial"]                            nothing but lone values, names, annotations or comments
    ["fragment", line, message]            it parses, and could not run by itself
    ["invalid", line, message, unfinished] it does not parse; unfinished: because it ends inside a triple-quoted string
"""

import builtins
import json
import sys
import warnings
from _ast import (
    AST,
    AnnAssign,
    AsyncFunctionDef,
    Await,
    BinOp,
    BitAnd,
    Call,
    ClassDef,
    Constant,
    Dict,
    ExceptHandler,
    Expr,
    FunctionDef,
    Load,
    MatchAs,
    MatchMapping,
    MatchStar,
    Name,
    NamedExpr,
    Pass,
    PyCF_ONLY_AST,
    Subscript,
    UnaryOp,
    Yield,
    YieldFrom,
    alias,
    arg,
)

# What HTML makes of `<`, `>`, `&` and quotes. Python takes `a &lt; b` for two statements.
ENTITIES = {"lt", "gt", "amp", "quot", "apos", "nbsp"}
KNOWN = set(dir(builtins)) | {"__file__", "__annotations__"}
MESSAGE_CHARS = 200


def walk(root):
    """All nodes below a node and it, in any order; without recursion, for trees of any depth."""
    todo = [root]
    while todo:
        node = todo.pop()
        yield node
        for field in node._fields:
            value = getattr(node, field, None)
            if isinstance(value, AST):
                todo.append(value)
            elif isinstance(value, list):
                todo.extend(it for it in value if isinstance(it, AST))


def bound(tree):
    """The names that a module gives a value somewhere; None if it imports names that nobody sees."""
    names = set()
    for node in walk(tree):
        if isinstance(node, Name) and not isinstance(node.ctx, Load):
            names.add(node.id)
        elif isinstance(node, alias):
            if node.name == "*":
                return None
            names.add(node.asname or node.name.partition(".")[0])
        elif isinstance(node, arg):
            names.add(node.arg)
        elif isinstance(node, (FunctionDef, AsyncFunctionDef, ClassDef, ExceptHandler, MatchAs, MatchStar)):
            names.add(node.name)
        elif isinstance(node, MatchMapping):
            names.add(node.rest)
    return names


class Source:
    """The bytes of a text by lines, as positions in its tree count them."""

    def __init__(self, text):
        self.lines = text.encode().split(b"\n")

    def at(self, node):
        """The first byte of a node."""
        return self.lines[node.lineno - 1][node.col_offset:][:1]

    def after(self, node):
        """The byte that follows a node; empty at the end of a line."""
        return self.lines[node.end_lineno - 1][node.end_col_offset:][:1]

    def before(self, node):
        """The byte in front of a node; empty at the start of a line."""
        return self.lines[node.lineno - 1][:node.col_offset][-1:]


def constant(value):
    """Whether an expression is a number or text, or a negative number."""
    return isinstance(value, Constant) or isinstance(value, UnaryOp) and isinstance(value.operand, Constant)


def foreign(tree, source):
    """Line and description of what parses as Python and was written as something else."""
    for statement in tree.body:
        if isinstance(statement, Expr) and source.at(statement) in (b"+", b"-") and not constant(statement.value):
            return statement.lineno, "a line begins with + or -, as in a diff or a list"
        target = getattr(statement, "target", None)
        prompt = isinstance(target, Subscript) and isinstance(target.value, Name) and target.value.id in ("In", "Out")
        if isinstance(statement, AnnAssign) and prompt:
            return statement.lineno, "a prompt of a transcript"
    for node in walk(tree):
        if isinstance(node, BinOp) and isinstance(node.op, BitAnd):
            name = node.right
            escape = isinstance(name, Name) and name.id in ENTITIES
            if escape and source.before(name) == b"&" and source.after(name) == b";":
                return name.lineno, f"an HTML escape: &{name.id};"
    return None


def acts(value, names, source):
    """Whether evaluating an expression may do something. `Done (at last)` calls nothing: it is prose."""
    if isinstance(value, Dict):
        return False
    called = value.func if isinstance(value, Call) else None
    spaced = isinstance(called, Name) and source.after(called) == b" "
    if spaced and names is not None and called.id not in names and called.id not in KNOWN:
        return False
    return any(isinstance(node, (Call, Await, Yield, YieldFrom, NamedExpr)) for node in walk(value))


def judge(text):
    try:
        tree = compile(text, "script", "exec", PyCF_ONLY_AST, dont_inherit=True)
    except SyntaxError as error:
        message = error.msg or "invalid syntax"
        return ["invalid", error.lineno or 1, message[:MESSAGE_CHARS], message.startswith("unterminated triple-quoted")]
    except (MemoryError, RecursionError):
        return ["invalid", 1, "it is too large, or nested too deep", False]
    except ValueError as error:
        return ["invalid", 1, str(error)[:MESSAGE_CHARS], False]

    source = Source(text)
    strange = foreign(tree, source)
    if strange:
        return ["invalid", *strange, False]
    names = bound(tree)
    idle = [
        isinstance(it, Pass)
        or isinstance(it, AnnAssign) and it.value is None
        or isinstance(it, Expr) and not acts(it.value, names, source)
        for it in tree.body
    ]
    if all(idle):
        return ["trivial"]
    for statement, quiet in zip(tree.body, idle):
        if quiet and names is not None and isinstance(statement, Expr):
            for node in walk(statement):
                if isinstance(node, Name) and node.id not in names and node.id not in KNOWN:
                    message = f"`{node.id}` stands there alone, and nothing defines it"
                    return ["fragment", node.lineno, message[:MESSAGE_CHARS]]
    try:
        compile(text, "script", "exec", dont_inherit=True)
    except SyntaxError as error:
        return ["fragment", error.lineno or 1, (error.msg or "invalid syntax")[:MESSAGE_CHARS]]
    except (MemoryError, RecursionError, ValueError):
        return ["invalid", 1, "it is too large, or nested too deep", False]
    return ["script"]


def main():
    warnings.simplefilter("ignore")
    texts = json.loads(sys.stdin.buffer.read())
    print("ready", flush=True)
    for text in texts:
        try:
            said = judge(text)
        except (MemoryError, RecursionError):
            said = ["invalid", 1, "it is too large, or nested too deep", False]
        print(json.dumps(said), flush=True)


main()
