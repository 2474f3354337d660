"""Guest side of the Python runtime: what is done once before the memory image is taken, and what every run does.

Frozen as `_capibara_boot`. guest.c calls `warm` when the runtime is built, then `prepare`, `module_code` (for -m), `exits_wait` and `finish` in each run,
`turn`, `run_coroutine` and `send_value` in turns of a session.
A run is measured in microseconds: whatever can be done in `warm` is not done in `prepare`, and each page written costs.
"""

import atexit
import gc
import os
import posix
import sys
import threading
from _io import BufferedRandom, BufferedWriter, TextIOWrapper
from importlib.machinery import FrozenImporter, PathFinder, SourceFileLoader
from itertools import compress

from _capibara_refusals import ABSENT_MODULES

# Frames of these files at the top of a traceback are ours and are not shown.
OWN_FILES = frozenset(
    {
        "<frozen _capibara_boot>",
        "<frozen asyncio.base_events>",
        "<frozen importlib._bootstrap>",
        "<frozen importlib._bootstrap_external>",
        "<frozen runpy>",
    }
)

# Imported before the image is taken, so that scripts find them ready.
PRELOADED = """
abc argparse array ast asyncio base64 binascii bisect bz2 calendar codecs collections collections.abc concurrent.futures
concurrent.futures.thread contextlib copy csv dataclasses datetime decimal email.message email.utils encodings.ascii encodings.idna
encodings.latin_1 encodings.utf_8 enum errno fnmatch fractions functools glob gzip hashlib heapq hmac html inspect io itertools json keyword
linecache locale logging lzma math multiprocessing numbers operator pathlib pickle platform pprint queue random re runpy secrets select
selectors shutil signal socket sqlite3 stat statistics string struct subprocess tempfile textwrap threading time timeit tokenize tomllib
traceback types typing unicodedata unittest urllib.parse urllib.request uuid warnings weakref xml.etree.ElementTree zipfile zlib zoneinfo
""".split()

_FILES = frozenset({BufferedRandom, BufferedWriter, TextIOWrapper})

_startup_modules = frozenset()  # what python itself has imported before a script begins: never replaced by a file beside the script
_module_count = 0  # length of sys.modules in the image
_turn_count = 0  # turns of this session
_loop = None  # the event loop of this session's turns that await
_library_exits = ()  # what the library has to do at exit in the image: see `_library_lists`


class _AbsentFinder:
    """The last finder on sys.meta_path: says why a module is absent. An ordinary ModuleNotFoundError all the same."""

    def find_spec(name, path=None, target=None):
        reason = ABSENT_MODULES.get(name)
        # importlib.util.find_spec() and the like only ask, and get the answer None.
        if reason and sys._getframe(2).f_code.co_name == "_find_and_load_unlocked":
            raise ModuleNotFoundError(f"No module named {name!r}: {reason}", name=name)
        return None

    # Under this name the import system takes the frame out of tracebacks, as it does with its own.
    find_spec.__code__ = find_spec.__code__.replace(co_filename="<frozen importlib._bootstrap>")
    find_spec = staticmethod(find_spec)


def _exercise():
    """Runs what most scripts run first, so that lazily made objects, caches and specialised code are in the image."""
    import datetime
    import json
    import re
    import traceback

    for _ in range(20):
        json.loads(json.dumps({"a": [1, 2.5, None, True, "x"]}))
        re.compile(r"(\w+)\s*=\s*(\d+)").match("a = 1")
        datetime.datetime(2020, 1, 1).isoformat()
    source = (
        "import os, sys\nfrom json import loads as _l\n"
        "class C:\n    '''doc'''\n    def m(self, a, *b, c=1, **d):\n        return f'{a!r:>4}' + str(b)\n"
        "def g(n):\n    yield from (i for i in range(n))\n"
        "try:\n    [x for x in g(3) if x]; {1: 2}; {1, 2}; lambda: 0\n    with open('/nowhere') as f: pass\n"
        "except (OSError, ValueError) as e:\n    del e\nfinally:\n    while False: break\n"
        "async def a():\n    await b\nmatch 1:\n    case {'k': [x, *_]}: pass\n    case C() | 1: pass\n"
        "raise ValueError(C().m(1, 2))\n"
    )
    for _ in range(3):
        try:
            exec(compile(source.encode(), "<exercise>", "exec", dont_inherit=True), {"__name__": "exercise"})
        except ValueError:
            traceback.format_exc()
    re.purge()


def _source_to_code(self, data, path, *, _optimization=-1):
    """What the host has placed in /script is UTF-8, whatever a coding cookie in it says: it was scanned as that."""
    if isinstance(data, bytes) and path.startswith("/script/"):
        data = data.decode()
    return compile(data, path, "exec", dont_inherit=True, optimize=_optimization)


def _order_finders():
    """Lets files on sys.path win over the frozen standard library, as the folder of the script does with python."""
    sys.meta_path.remove(PathFinder)
    sys.meta_path.insert(sys.meta_path.index(FrozenImporter), PathFinder)
    sys.meta_path.append(_AbsentFinder)
    # Under that name its frame is taken out of tracebacks.
    _source_to_code.__code__ = _source_to_code.__code__.replace(co_filename="<frozen importlib._bootstrap_external>")
    SourceFileLoader.source_to_code = _source_to_code


def _practise():
    """Calls `prepare` until its code is specialised, and puts back what it changed."""
    for name in ("-c", "-", "-m", "/script/program.py"):
        for _ in range(10):
            prepare([name, "argument"], None, b"pass\n")
            prepare([name], {b"NAME": b"value"}, b"pass\n")
    sys.argv[:] = [""]
    sys.orig_argv[:] = [sys.executable]
    sys.path.clear()
    sys.path_importer_cache.clear()


def warm():
    """Called once, when the runtime is built. What it leaves behind is the memory image every run starts from."""
    global _startup_modules, _module_count, _library_exits, _linecache, _logging, _time_ns, _tzset
    _startup_modules = frozenset(sys.modules) | frozenset(sys.builtin_module_names)
    for name in PRELOADED:
        __import__(name)
    import _capibara_refusals
    import linecache as _linecache
    import logging as _logging
    import random
    from time import time_ns as _time_ns

    set_generator(random._inst)  # which is behind random.random() and the like: guest.c seeds it in each run
    from asyncio import sandbox_events
    from zoneinfo import sandbox_zones

    _tzset = sandbox_zones.tzset

    sandbox_events.install(refusal)
    sandbox_zones.install()
    _capibara_refusals.install(refusal, absence)
    _order_finders()
    _exercise()
    main = dict(vars(sys.modules["__main__"]))
    _practise()
    _linecache.clearcache()
    _set_environment({})
    if atexit._ncallbacks() != 1:
        raise RuntimeError("another module than logging wants to be called at exit, each time")
    atexit._clear()  # guest.c calls logging.shutdown
    _library_exits = _library_lists()
    watch_buffers(_FILES)
    # What exists now is never looked at by the collector again: a collection in a run stays short and writes no page of the image.
    # Neither does counting references.
    gc.collect()
    gc.collect()
    immortalize(gc.get_objects())
    gc.freeze()
    # Made after that, so that the collector can free it with all the script has put into it (`finish`).
    sys.modules["__main__"] = type(sys)("__main__")
    vars(sys.modules["__main__"]).update(main)
    _module_count = len(sys.modules)


def _set_environment(env):
    """Fills os.environ; HOME is where the script stands unless the run says otherwise."""
    for environ in (os.environ._data, posix.environ):
        environ.clear()
        environ[b"HOME"] = b"/home/script"
        environ.update(env)


def _drop_shadowed(folder):
    """Forgets preloaded modules that a file or folder beside the script has the name of: python would import that one."""
    global _module_count
    modules = sys.modules
    try:
        names = os.listdir(folder)
    except OSError:
        return
    for name in names:
        name = name.partition(".")[0]
        if name in modules and name not in _startup_modules:
            prefix = name + "."
            for other in [module for module in modules if module == name or module.startswith(prefix)]:
                del modules[other]
                _module_count -= 1


def prepare(argv, env, source):
    """Sets up one run. Returns the file name of the script's code, or None when `source` names a module (-m)."""
    # The world is another one than when the image was taken.
    if env is not None:
        _set_environment(env)
        if b"TZ" in env:
            _tzset()
    _logging._startTime = _time_ns()

    name = argv[0]
    sys.argv[:] = argv
    sys.orig_argv[1:] = argv
    if name == "-m":
        sys.path[:] = (os.getcwd(),)
        return None
    if name == "-c" or name == "-":
        sys.path[:] = ("",)
        file = "<string>" if name == "-c" else "<stdin>"
        # There is no such file, yet tracebacks show lines.
        text = source.decode("utf-8", "replace")
        _linecache.cache[file] = (len(text), None, text.splitlines(True), file)
        if name == "-":
            main = sys.modules["__main__"].__dict__
            main["__file__"] = file
            main["__cached__"] = None
        return file
    folder = name.rpartition("/")[0] or "/"
    sys.path[:] = (folder,)
    main = sys.modules["__main__"].__dict__
    main["__file__"] = name
    main["__cached__"] = None
    main["__loader__"] = SourceFileLoader("__main__", name)
    _drop_shadowed(folder)
    return name


def turn(source):
    """Returns the file name of a turn's code. Tracebacks show its lines, also where a later turn calls a function of it."""
    global _turn_count
    _turn_count += 1
    file = f"<turn {_turn_count}>"
    text = source.decode("utf-8", "replace")
    _linecache.cache[file] = (len(text), None, text.splitlines(True), file)
    return file


def run_coroutine(coroutine):
    """Runs a turn that awaits. Tasks it leaves behind go on in the next one."""
    global _loop
    import asyncio

    if _loop is None or _loop.is_closed():
        _loop = asyncio.new_event_loop()
    asyncio.set_event_loop(_loop)
    return _loop.run_until_complete(coroutine)


def send_value(value):
    """Sends the value of a turn: its repr, and where it left what else it can look like."""
    import builtins
    from capibara import _channel, _display

    builtins._ = value
    files = _display.leave(value, f"value-{_turn_count}")
    _channel.send({"value": repr(value), "files": files})


def module_code(name):
    """Returns the code of a module to be run as the main program, as `python -m` finds it."""
    import runpy

    try:
        _, spec, code = runpy._get_module_details(name.decode(), runpy._Error)
    except runpy._Error as error:
        reason = ABSENT_MODULES.get(name.decode())
        raise SystemExit(f"{sys.executable}: {error}" + (f": {reason}" if reason else "")) from None
    sys.argv[0] = spec.origin if spec.has_location else f"/usr/lib/python3.13/{spec.name.replace('.', '/')}.py"
    main = sys.modules["__main__"].__dict__
    main["__file__"] = sys.argv[0]
    main["__cached__"] = spec.cached
    main["__doc__"] = None
    main["__loader__"] = spec.loader
    main["__package__"] = spec.parent
    main["__spec__"] = spec
    return code


def _library_lists():
    """Where the library itself notes what it has to do at the end. No thread can be waited for: there is none."""
    return list(threading._threading_atexits), list(_logging._handlerList)


def exits_wait():
    """Whether a run has to call exit functions: what the library itself has noted does nothing unless the script used it."""
    return atexit._ncallbacks() or (threading._threading_atexits, _logging._handlerList) != _library_exits


def _flush_files():
    """Writes what is buffered in files the script left open: the collector may close the inner file before the outer is flushed."""
    try:
        things = gc.get_objects()
        for file in compress(things, map(_FILES.__contains__, map(type, things))):
            try:
                file.flush()
            except (OSError, ValueError):  # closed, or open for reading
                pass
    except MemoryError:
        pass


def finish():
    """Writes files the script left open, and returns how many modules are ours: guest.c then lets go of the others, so that finalizers run."""
    if buffers_made():
        _flush_files()
    # Hooks of the script keep all it made alive.
    sys.excepthook = sys.__excepthook__
    sys.displayhook = sys.__displayhook__
    sys.unraisablehook = sys.__unraisablehook__
    sys.breakpointhook = sys.__breakpointhook__
    sys.stdin, sys.stdout, sys.stderr = sys.__stdin__, sys.__stdout__, sys.__stderr__
    sys.last_exc = sys.last_type = sys.last_value = sys.last_traceback = None
    return _module_count
