"""Prints the names of the modules that can be imported here, as a JSON list on the last line."""

import contextlib
import importlib
import io
import json
import pkgutil
import sys

# They act when they are imported: one opens a browser, one prints a poem.
ACTING = {"antigravity", "this"}

names = set(sys.builtin_module_names) | set(sys.stdlib_module_names) | {module.name for module in pkgutil.iter_modules()}
importable = ["__future__"]
for name in sorted(names - ACTING):
    if name.startswith("_"):
        continue
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        try:
            importlib.import_module(name)
        except BaseException:  # whatever it raises, it cannot be imported
            continue
    importable.append(name)
print(json.dumps(sorted(importable)))
