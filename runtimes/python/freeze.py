"""Compiles the standard library into one blob that the guest loads as frozen modules.

    freeze.py LIB TZDATA OUT

Runs inside the guest itself (export `run-cold`), so the code objects are of exactly this interpreter. LIB holds only what belongs into the
image; TZDATA holds compiled time zones. The format of the blob is described in guest.c.
"""

import marshal
import os
import struct
import sys

# sysconfig asks for this module, which a configured build would generate.
BUILD_TIME_VARS = {
    "CFLAGS": "",
    "CONFIG_ARGS": "",
    "EXT_SUFFIX": ".so",
    "HOST_GNU_TYPE": "wasm32-wasi",
    "LIBDIR": "/usr/lib",
    "PY_CFLAGS": "",
    "Py_DEBUG": 0,
    "Py_GIL_DISABLED": 0,
    "SOABI": "cpython-313-wasm32-wasi",
    "WITH_PYMALLOC": 1,
    "abs_builddir": "/",
    "abs_srcdir": "/",
    "exec_prefix": "/usr",
    "prefix": "/usr",
    "srcdir": "/",
}


def freeze(name, source):
    """Returns the marshalled code of a module."""
    return marshal.dumps(compile(source, f"<frozen {name}>", "exec", dont_inherit=True, optimize=0))


def files_below(folder):
    """Yields (path, path relative to folder) of all files, in a fixed order."""
    for root, folders, files in os.walk(folder):
        folders.sort()
        for file in sorted(files):
            path = os.path.join(root, file)
            yield path, os.path.relpath(path, folder)


def stdlib_modules(lib):
    """Yields (name, is package, code) of every module below lib."""
    for path, relative in files_below(lib):
        parts = relative.removesuffix(".py").split("/")
        package = parts[-1] == "__init__"
        if package:
            parts.pop()
        name = ".".join(parts)
        if not relative.endswith(".py") or not all(part.isidentifier() for part in parts):
            continue
        with open(path, "rb") as file:
            yield name, package, freeze(name, file.read())


def time_zones(folder):
    """Returns {key: TZif data}; equal zones share one object, so that marshal writes it once."""
    zones, known = {}, {}
    for path, key in files_below(folder):
        with open(path, "rb") as file:
            data = file.read()
        if data.startswith(b"TZif"):
            zones[key] = known.setdefault(data, data)
    return zones


def main(lib, tzdata, out):
    modules = list(stdlib_modules(lib))
    name = "_sysconfigdata__wasi_wasm32-wasi"
    modules.append((name, False, freeze(name, f"build_time_vars = {BUILD_TIME_VARS!r}\n")))
    # Read only when a script first asks for a zone.
    name = "zoneinfo._zones"
    zones = time_zones(tzdata)
    modules.append((name, False, freeze(name, f"import marshal\nZONES = marshal.loads({marshal.dumps(zones)!r})\n")))
    with open(out, "wb") as file:
        file.write(struct.pack("<I", len(modules)))
        for name, package, code in modules:
            encoded = name.encode() + b"\0"
            file.write(struct.pack("<III", len(encoded), package, len(code)) + encoded + code)
    print(f"{len(modules)} modules, {len(zones)} time zones")


main(*sys.argv[1:])
