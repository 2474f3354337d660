/* The Python guest: a WASI preview 1 reactor around CPython.
 *
 * Exports:
 *   wizer-initialize()      once, when the runtime is built: starts the interpreter and warms it (boot.py)
 *   alloc(n) -> ptr         memory for a source
 *   run(ptr, len) -> code   runs one script; afterwards the instance is dropped, so nothing is finalised for its own sake
 *   compile(ptr, len) -> ptr to {ptr, len}, or 0
 *                           compiles a script; afterwards the instance is dropped. 0 where that says anything: an error or a warning
 *                           is for the run to show
 *   run-compiled(ptr, len, code len) -> code
 *                           as run, with what `compile` made of the same source and name behind the source
 *   turn(ptr, len) -> code  runs the next part of a session: as run, and the instance's memory goes on to the next turn. It may await at its
 *                           top level; the value of a last line that is an expression is sent to the host
 *   run-cold() -> code      building only: runs the program named by argv[1] without a memory image
 *   capibara_input          a place for a source (and its code) of at most INPUT_BYTES, so that small ones need no `alloc`
 *   capibara_output         where the host finds what was printed and not yet written (output.c)
 *
 * Imports, besides WASI, from the module `capibara` (messages are JSON):
 *   call(ptr, len) -> id    sends a message; never blocks. Negative where it is refused
 *   wait(ms) -> id          waits until a call has its answer; ms < 0: for ever. 0: none came; negative: none can come
 *   read(id, ptr, cap) -> n bytes of the answer; it is forgotten once it was copied, which it is where cap >= n
 *
 * run: the source (UTF-8) is in memory, its name is argv[0], the script's own arguments follow.
 *   argv[0] "-c": code, "<string>" · "-": code from standard input, "<stdin>" · "-m": the source is a module's name ·
 *   anything else: the path of the script.
 * It returns 0..255, the exit code, or 256 when the script ended by an error that want of memory may have caused (exit code 1).
 *
 * The script is compiled and evaluated from here and not from boot.py: so no frame of ours lies under its own, and neither tracebacks
 * nor sys._getframe() nor the stack levels of warnings show one.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <marshal.h>
#include <opcode_ids.h>
#include <stdlib.h>
#include <string.h>
#include <stdio.h>
#include <time.h>
#include <locale.h>
#include <unistd.h>
#include <wasi/api.h>
#include <wasi/libc.h>
#include <wasi/libc-environ.h>

#include <internal/pycore_ast.h>
#include <internal/pycore_compile.h>
#include <internal/pycore_parser.h>
#include <internal/pycore_pyarena.h>

#include "image.h"
#include "output.h"
#include "pages.h"

#define EXPORT(name) __attribute__((export_name(name)))
#define IMPORT(name) __attribute__((import_module("capibara"), import_name(name)))
#define STATUS_MEMORY_ERROR 256

IMPORT("call") int32_t capibara_call(const char *message, uint32_t length);
IMPORT("wait") int32_t capibara_wait(int32_t milliseconds);
IMPORT("read") int32_t capibara_read(int32_t id, char *into, uint32_t capacity);

/* Not in any header; forgets the preopened directories of the machine that made the image. */
void __wasilibc_reset_preopens(void);

static PyObject *boot;         /* module _capibara_boot */
static PyObject *hook_prepare; /* its functions, looked up before the image is taken */
static PyObject *hook_module;
static PyObject *hook_turn;
static PyObject *hook_await;
static PyObject *hook_value;
static PyObject *hook_exits;
static PyObject *hook_finish;
static PyObject *threading_shutdown;
static PyObject *run_exitfuncs;
static PyObject *logging_shutdown;
static PyObject *main_globals;

/* The host writes a source here, where it fits: its size in front, so that host and guest agree. */
#define INPUT_BYTES (16 << 10)
struct { uint32_t capacity; char bytes[INPUT_BYTES]; } capibara_input = {INPUT_BYTES, {0}};

/* Given back when memory runs out, so that there is room for the traceback: one part when the first MemoryError is made, which needs a
 * traceback object for each frame, the other before it is reported. The C library's allocator serves a request only from freed blocks of
 * the same power of two, so there are some of each, and some of pymalloc's arenas. Never touched, so they cost no page. */
#define RESERVE_SMALLEST 256
#define RESERVE_LARGEST (256 << 10)
static struct reserve {
    void *blocks[64], *arenas[4];
    int count, arena_count;
} for_traceback, for_report;
extern void (*capibara_give_back)(void);

static void fill(struct reserve *reserve, int each)
{
    for (size_t size = RESERVE_SMALLEST; size <= RESERVE_LARGEST; size *= 2)
        for (int i = 0; i < each; i++) reserve->blocks[reserve->count++] = malloc(size - 32);
    while (reserve->arena_count < each) reserve->arenas[reserve->arena_count++] = pages_take(PAGES_ARENA);
}

static void give_back(struct reserve *reserve)
{
    while (reserve->count > 0) free(reserve->blocks[--reserve->count]);
    while (reserve->arena_count > 0) pages_give_back_arena(NULL, reserve->arenas[--reserve->arena_count], PAGES_ARENA);
}

static void give_back_for_traceback(void) { give_back(&for_traceback); }

static void fill_reserve(void)
{
    fill(&for_traceback, 1);
    fill(&for_report, 3);
    capibara_give_back = give_back_for_traceback;
}

/* ---- process time: restarts with every run (overrides the C library's weak clock()) ---- */

static __wasi_timestamp_t clock_base;

static __wasi_timestamp_t processor_time(void)
{
    __wasi_timestamp_t now = 0;
    __wasi_clock_time_get(__WASI_CLOCKID_PROCESS_CPUTIME_ID, 0, &now);
    return now;
}

clock_t clock(void) { return (clock_t)(processor_time() - clock_base); }

/* ---- starting the interpreter ---- */

static void die(PyStatus status)
{
    fprintf(stderr, "python does not start: %s: %s\n", status.func ? status.func : "?", status.err_msg ? status.err_msg : "?");
    abort();
}

static int flush_all(void);

static void check(int ok)
{
    if (ok) return;
    if (PyErr_Occurred()) PyErr_Print();
    flush_all(); /* so that the recipe can say it */
    fflush(stderr);
    abort();
}

/* The standard library as frozen modules. The blob (freeze.py) is: u32 count, then for each module u32 length of the name with its NUL,
 * u32 is-package, u32 length of the code, the name, the marshalled code. It stays in memory: the table points into it. */
static void load_stdlib(const char *path)
{
    FILE *file = fopen(path, "rb");
    if (!file) { fprintf(stderr, "no standard library at %s\n", path); abort(); }
    fseek(file, 0, SEEK_END);
    long size = ftell(file);
    fseek(file, 0, SEEK_SET);
    unsigned char *blob = pages_take(size), *at = blob + 4;
    if (!blob || fread(blob, 1, size, file) != (size_t)size) abort();
    fclose(file);
    unsigned count;
    memcpy(&count, blob, 4);
    struct _frozen *table = calloc(count + 1, sizeof *table);
    if (!table) abort();
    for (unsigned i = 0; i < count; i++) {
        unsigned head[3];
        memcpy(head, at, sizeof head);
        at += sizeof head;
        table[i].name = (char *)at;
        at += head[0];
        table[i].code = at;
        table[i].size = (int)head[2];
        table[i].is_package = (int)head[1];
        at += head[2];
    }
    PyImport_FrozenModules = table;
}

static void start_python(const char *lib)
{
    setlocale(LC_CTYPE, "C.UTF-8"); /* as python does itself where no locale is set */
    pages_install();
    PyPreConfig pre;
    PyPreConfig_InitIsolatedConfig(&pre);
    pre.utf8_mode = 1;
    PyStatus status = Py_PreInitialize(&pre);
    if (PyStatus_Exception(status)) die(status);

    PyConfig config;
    PyConfig_InitIsolatedConfig(&config);
    config.use_hash_seed = 1; /* a fixed hash seed is part of the image: equal jobs give equal bytes */
    config.hash_seed = 0;
    config.install_signal_handlers = 0;
    config.write_bytecode = 0;
    config.site_import = 1;
    config.pathconfig_warnings = 0;
    config.parse_argv = 0;
    config.cpu_count = 1;
    PyConfig_SetString(&config, &config.program_name, L"/usr/bin/python3");
    PyConfig_SetString(&config, &config.executable, L"/usr/bin/python3");
    PyConfig_SetString(&config, &config.home, L"/usr");
    /* Where frozen modules say they are: `__file__` and `__path__` are looked at, as by logging. */
    PyConfig_SetString(&config, &config.stdlib_dir, L"/usr/lib/python3.13");
    /* UTF-8 mode alone would write lone surrogates; python on an ordinary UTF-8 machine refuses them. */
    PyConfig_SetString(&config, &config.stdio_encoding, L"utf-8");
    PyConfig_SetString(&config, &config.stdio_errors, L"strict");
    config.module_search_paths_set = 1;
    if (lib) {
        wchar_t *wide = Py_DecodeLocale(lib, NULL);
        PyWideStringList_Append(&config.module_search_paths, wide);
        PyMem_RawFree(wide);
    }
    status = Py_InitializeFromConfig(&config);
    if (PyStatus_Exception(status)) die(status);
    PyConfig_Clear(&config);
}

/* ---- what boot.py cannot write in Python without leaving a frame in the user's traceback ---- */

static PyObject *refuse(PyObject *self, PyObject *args, PyObject *kwargs)
{
    PyObject *error = PyObject_CallObject(PyTuple_GET_ITEM(self, 0), PyTuple_GET_ITEM(self, 1));
    if (!error) return NULL;
    PyErr_SetObject((PyObject *)Py_TYPE(error), error);
    Py_DECREF(error);
    return NULL;
}

static PyMethodDef refusal_def = {"unavailable", (PyCFunction)(void (*)(void))refuse, METH_VARARGS | METH_KEYWORDS,
                                  "This operation is not available in the Capibara sandbox."};

/* refusal(type, *args): a function that raises type(*args), whatever it is called with */
static PyObject *refusal(PyObject *module, PyObject *args)
{
    if (PyTuple_GET_SIZE(args) < 1) { PyErr_SetString(PyExc_TypeError, "refusal() needs an exception type"); return NULL; }
    PyObject *rest = PyTuple_GetSlice(args, 1, PyTuple_GET_SIZE(args));
    PyObject *self = rest ? PyTuple_Pack(2, PyTuple_GET_ITEM(args, 0), rest) : NULL;
    Py_XDECREF(rest);
    PyObject *function = self ? PyCFunction_New(&refusal_def, self) : NULL;
    Py_XDECREF(self);
    return function;
}

/* Is a name looked up for `from module import name`? That statement replaces an AttributeError by an ImportError without our reason. */
static int is_imported(void)
{
    PyFrameObject *frame = PyThreadState_GetFrame(PyThreadState_Get());
    if (!frame) return 0;
    PyCodeObject *code = PyFrame_GetCode(frame);
    PyObject *bytes = PyCode_GetCode(code);
    int at = PyFrame_GetLasti(frame);
    int found = bytes && at >= 0 && at < PyBytes_GET_SIZE(bytes) && (unsigned char)PyBytes_AS_STRING(bytes)[at] == IMPORT_FROM;
    Py_XDECREF(bytes);
    Py_DECREF(code);
    Py_DECREF(frame);
    return found;
}

/* Why a module has not this name: by the name, or by what it begins with ("SO_"). */
static PyObject *reason_of(PyObject *reasons, PyObject *name)
{
    PyObject *reason = PyDict_GetItemWithError(reasons, name);
    if (reason || PyErr_Occurred()) return reason;
    Py_ssize_t underscore = PyUnicode_FindChar(name, '_', 0, PyUnicode_GET_LENGTH(name), 1);
    PyObject *family = underscore > 0 ? PyUnicode_Substring(name, 0, underscore + 1) : NULL;
    if (family) reason = PyDict_GetItemWithError(reasons, family);
    Py_XDECREF(family);
    return reason;
}

static PyObject *absent(PyObject *self, PyObject *name)
{
    PyObject *module = PyTuple_GET_ITEM(self, 0);
    if (!PyUnicode_Check(name)) return PyErr_Format(PyExc_TypeError, "attribute name must be string");
    PyObject *reason = reason_of(PyTuple_GET_ITEM(self, 1), name);
    if (PyErr_Occurred()) return NULL;
    if (!reason) return PyErr_Format(PyExc_AttributeError, "module %R has no attribute %R", module, name);
    if (is_imported()) {
        PyObject *message = PyUnicode_FromFormat("cannot import name %R from %R: %U", name, module, reason);
        if (message) PyErr_SetImportError(message, module, NULL);
        Py_XDECREF(message);
        return NULL;
    }
    return PyErr_Format(PyExc_AttributeError, "module %R has no attribute %R: %U", module, name, reason);
}

static PyMethodDef absence_def = {"__getattr__", absent, METH_O, NULL};

/* absence(module, {name: reason}): a `__getattr__` for a module that says why it lacks a name */
static PyObject *absence(PyObject *module, PyObject *args)
{
    PyObject *name, *reasons;
    if (!PyArg_ParseTuple(args, "UO!", &name, &PyDict_Type, &reasons)) return NULL;
    return PyCFunction_New(&absence_def, args);
}

static PyObject *buffers_made(PyObject *module, PyObject *unused) { return PyBool_FromLong(image_buffers_made()); }

/* ---- messages to the host ---- */

static PyObject *host_call(PyObject *module, PyObject *message)
{
    char *bytes;
    Py_ssize_t length;
    if (PyBytes_AsStringAndSize(message, &bytes, &length)) return NULL;
    return PyLong_FromLong(capibara_call(bytes, (uint32_t)length));
}

static PyObject *host_wait(PyObject *module, PyObject *milliseconds)
{
    long most = PyLong_AsLong(milliseconds);
    if (most == -1 && PyErr_Occurred()) return NULL;
    return PyLong_FromLong(capibara_wait((int32_t)most));
}

static PyObject *host_read(PyObject *module, PyObject *number)
{
    long id = PyLong_AsLong(number);
    if (id == -1 && PyErr_Occurred()) return NULL;
    int32_t length = capibara_read((int32_t)id, NULL, 0);
    if (length < 0) { PyErr_SetString(PyExc_ValueError, "this call has no answer"); return NULL; }
    PyObject *answer = PyBytes_FromStringAndSize(NULL, length);
    if (answer && length) capibara_read((int32_t)id, PyBytes_AS_STRING(answer), (uint32_t)length);
    return answer;
}

static PyMethodDef boot_methods[] = {
    {"refusal", refusal, METH_VARARGS, NULL},
    {"absence", absence, METH_VARARGS, NULL},
    {"immortalize", image_immortalize, METH_O, NULL},
    {"set_generator", image_set_generator, METH_O, NULL},
    {"watch_buffers", image_watch_buffers, METH_O, NULL},
    {"buffers_made", buffers_made, METH_NOARGS, NULL},
    {"host_call", host_call, METH_O, NULL},
    {"host_wait", host_wait, METH_O, NULL},
    {"host_read", host_read, METH_O, NULL},
    {NULL, NULL, 0, NULL}};

/* ---- arguments and environment of this run ---- */

static PyObject *read_arguments(void)
{
    size_t count = 0, bytes = 0;
    if (__wasi_args_sizes_get(&count, &bytes)) return PyList_New(0);
    char **argv = malloc((count + 1) * sizeof *argv), *text = malloc(bytes + 1);
    if (!argv || !text || __wasi_args_get((uint8_t **)argv, (uint8_t *)text)) return PyErr_NoMemory();
    PyObject *list = PyList_New(count);
    for (size_t i = 0; list && i < count; i++) {
        PyObject *item = PyUnicode_DecodeFSDefault(argv[i]);
        if (!item) Py_CLEAR(list); else PyList_SET_ITEM(list, i, item);
    }
    free(argv);
    free(text);
    return list;
}

/* None when empty, as it was when the image was taken: then there is nothing to change. */
static PyObject *read_environment(void)
{
    size_t count = 0, bytes = 0;
    if (__wasi_environ_sizes_get(&count, &bytes) || count == 0) Py_RETURN_NONE;
    __wasilibc_initialize_environ();
    PyObject *dict = PyDict_New();
    for (char **entry = __wasilibc_get_environ(); dict && entry && *entry; entry++) {
        char *equals = strchr(*entry, '=');
        if (!equals) continue;
        PyObject *key = PyBytes_FromStringAndSize(*entry, equals - *entry), *value = PyBytes_FromString(equals + 1);
        if (!key || !value || PyDict_SetItem(dict, key, value)) Py_CLEAR(dict);
        Py_XDECREF(key);
        Py_XDECREF(value);
    }
    return dict;
}

/* ---- one run ---- */

static int can_be_code(PyObject *source)
{
    if (!memchr(PyBytes_AS_STRING(source), 0, PyBytes_GET_SIZE(source))) return 1;
    PyErr_SetString(PyExc_SyntaxError, "source code cannot contain null bytes");
    return 0;
}

/* The source is UTF-8, whatever a coding cookie in it says: the host has decoded and scanned it. */
static PyCompilerFlags compiler_flags(int more)
{
    PyCompilerFlags flags = _PyCompilerFlags_INIT;
    flags.cf_flags |= PyCF_SOURCE_IS_UTF8 | PyCF_IGNORE_COOKIE | more;
    return flags;
}

static PyObject *compile_source(PyObject *source, PyObject *name)
{
    if (!can_be_code(source)) return NULL;
    PyCompilerFlags flags = compiler_flags(0);
    return Py_CompileStringObject(PyBytes_AS_STRING(source), name, Py_file_input, &flags, -1);
}

/* Frames of boot.py may lie before the user's own in the traceback (imports of -m); the user sees only his. */
static void hide_own_frames(void)
{
    PyObject *error = PyErr_GetRaisedException();
    PyObject *traceback = PyException_GetTraceback(error);
    PyObject *first = traceback;
    PyObject *own = PyObject_GetAttrString(boot, "OWN_FILES");
    while (own && first && first != Py_None) {
        PyObject *code = (PyObject *)PyFrame_GetCode(((PyTracebackObject *)first)->tb_frame);
        int ours = PySequence_Contains(own, ((PyCodeObject *)code)->co_filename);
        Py_DECREF(code);
        if (ours <= 0) break;
        first = (PyObject *)((PyTracebackObject *)first)->tb_next;
    }
    PyErr_Clear();
    if (first != traceback) PyException_SetTraceback(error, first ? first : Py_None);
    Py_XDECREF(own);
    Py_XDECREF(traceback);
    PyErr_SetRaisedException(error);
}

/* What the raised exception means as an exit code; prints it as python does. */
static int report(void)
{
    if (PyErr_ExceptionMatches(PyExc_SystemExit)) {
        PyObject *error = PyErr_GetRaisedException();
        PyObject *code = PyObject_GetAttrString(error, "code");
        int status = 1;
        if (!code || code == Py_None) {
            PyErr_Clear();
            status = 0;
        } else if (PyLong_Check(code)) {
            status = (int)PyLong_AsLong(code) & 0xff; /* too large a number is -1, so 255, as with python */
            PyErr_Clear();
        } else {
            PyObject *out = PySys_GetObject("stderr");
            if (out && out != Py_None) {
                if (PyFile_WriteObject(code, out, Py_PRINT_RAW)) PyErr_Clear();
                if (PyFile_WriteString("\n", out)) PyErr_Clear();
            }
        }
        Py_XDECREF(code);
        Py_DECREF(error);
        return status;
    }
    int status = 1;
    if (PyErr_ExceptionMatches(PyExc_KeyboardInterrupt)) status = 130;
    /* Where it cannot allocate a frame, CPython may lose the MemoryError and raise a SystemError; the host knows if memory was refused. */
    if (PyErr_ExceptionMatches(PyExc_MemoryError) || PyErr_ExceptionMatches(PyExc_SystemError)) {
        status = STATUS_MEMORY_ERROR;
        give_back(&for_traceback);
        give_back(&for_report);
    }
    hide_own_frames();
    PyErr_Print(); /* sets sys.last_exc and calls sys.excepthook, with python's own handling of a failing hook */
    return status;
}

/* Flushes a stream of sys; nonzero when what was printed could not be written. As with python, only stdout makes that known. */
static int flush(const char *name, int complain)
{
    PyObject *stream = PySys_GetObject(name);
    if (!stream || stream == Py_None || output_is_flushed(stream)) return 0;
    PyObject *closed = PyObject_GetAttrString(stream, "closed");
    int skip = closed ? PyObject_IsTrue(closed) : 0;
    Py_XDECREF(closed);
    PyErr_Clear();
    if (skip) return 0;
    PyObject *done = PyObject_CallMethod(stream, "flush", NULL);
    if (done) { Py_DECREF(done); return 0; }
    if (complain) PyErr_WriteUnraisable(stream); else PyErr_Clear();
    return 1;
}

static int flush_all(void)
{
    int failed = flush("stdout", 1);
    flush("stderr", 0);
    /* Replaced by the script; python closes them without a word when it deallocates them. */
    if (PySys_GetObject("stdout") != PySys_GetObject("__stdout__")) flush("__stdout__", 0);
    if (PySys_GetObject("stderr") != PySys_GetObject("__stderr__")) flush("__stderr__", 0);
    return failed;
}

/* Lets go of what the script made. From here and not from boot.py: what a finalizer complains of shows no frame of ours. */
static void let_go(PyObject *function)
{
    PyObject *ours = PyObject_CallNoArgs(function);
    Py_ssize_t count = ours ? PyLong_AsSsize_t(ours) : -1;
    if (!ours) PyErr_WriteUnraisable(function);
    Py_XDECREF(ours);
    PyObject *modules = PyImport_GetModuleDict();
    while (count >= 0 && PyDict_GET_SIZE(modules) > count) {
        PyObject *last = PyObject_CallMethod(modules, "popitem", NULL);
        if (!last) break;
        Py_DECREF(last);
    }
    PyErr_Clear();
    if (PyDict_DelItemString(modules, "__main__")) PyErr_Clear();
    PyGC_Collect();
}

static void call_at_exit(PyObject *function)
{
    PyObject *done = PyObject_CallNoArgs(function);
    if (done) Py_DECREF(done); else PyErr_WriteUnraisable(function);
}

/* Whether a function of the script's waits for the end, or the library has anything to do then. */
static int exits_wait(void)
{
    PyObject *answer = PyObject_CallNoArgs(hook_exits);
    int wait = answer ? PyObject_IsTrue(answer) : 1;
    Py_XDECREF(answer);
    PyErr_Clear();
    return wait != 0;
}

/* The order of Py_FinalizeEx, without what only matters to a process that goes on. logging registers its own function when it is
 * imported, and functions are called in reverse: it comes last. */
static int finish(int status)
{
    if (exits_wait()) {
        call_at_exit(threading_shutdown);
        call_at_exit(run_exitfuncs);
        call_at_exit(logging_shutdown);
    }
    int failed = flush_all();
    Py_CLEAR(main_globals);
    let_go(hook_finish); /* files it left open are written, __del__ is called */
    return failed && status == 0 ? 120 : status;
}

/* A source as the host hands it over, perhaps with its code behind it; the memory is given back. */
struct script {
    PyObject *source; /* NULL: no memory */
    PyObject *code;   /* marshalled, or NULL */
};

static struct script take(char *text, size_t length, size_t code_length)
{
    struct script script = {PyBytes_FromStringAndSize(text, (Py_ssize_t)length), NULL};
    if (script.source && code_length) {
        script.code = PyMarshal_ReadObjectFromString(text + length, (Py_ssize_t)code_length);
        if (!script.code) Py_CLEAR(script.source);
    }
    if (text != capibara_input.bytes) free(text);
    return script;
}

/* Prepares the interpreter for the script; returns what boot.py's `prepare` does. */
static PyObject *prepare(PyObject *source)
{
    PyObject *arguments = read_arguments();
    PyObject *environment = arguments ? read_environment() : NULL;
    PyObject *name = environment ? PyObject_CallFunctionObjArgs(hook_prepare, arguments, environment, source, NULL) : NULL;
    Py_XDECREF(environment);
    Py_XDECREF(arguments);
    return name;
}

static PyObject *evaluate(struct script script)
{
    PyObject *name = prepare(script.source), *code = NULL, *result = NULL;
    if (name == Py_None) code = PyObject_CallOneArg(hook_module, script.source);
    else if (name) code = script.code ? Py_NewRef(script.code) : compile_source(script.source, name);
    if (code) result = PyEval_EvalCode(code, main_globals, main_globals);
    Py_XDECREF(code);
    Py_XDECREF(name);
    return result;
}

/* What every instance begins with: the image knows nothing of this run. */
static void begin(void)
{
    clock_base = processor_time();
    __wasilibc_reset_preopens();
    image_seed();
}

static int run(char *text, size_t length, size_t code_length)
{
    begin();
    struct script script = take(text, length, code_length);
    PyObject *result = script.source ? evaluate(script) : NULL;
    Py_XDECREF(script.code);
    Py_XDECREF(script.source);
    int status = result ? 0 : report();
    Py_XDECREF(result);
    return finish(status);
}

EXPORT("alloc") void *capibara_alloc(size_t bytes) { return malloc(bytes ? bytes : 1); }

EXPORT("run") int capibara_run(char *text, size_t length) { return run(text, length, 0); }

EXPORT("run-compiled") int capibara_run_compiled(char *text, size_t length, size_t code_length)
{
    return run(text, length, code_length);
}

/* ---- compiling for later runs ---- */

/* The name that `prepare` gives the code of a script with this argv[0]. */
static PyObject *code_name(PyObject *arguments)
{
    PyObject *first = PyList_GET_SIZE(arguments) ? PyList_GET_ITEM(arguments, 0) : NULL;
    if (!first) { PyErr_SetString(PyExc_ValueError, "no name"); return NULL; }
    if (PyUnicode_EqualToUTF8(first, "-c")) return PyUnicode_FromString("<string>");
    if (PyUnicode_EqualToUTF8(first, "-")) return PyUnicode_FromString("<stdin>");
    return Py_NewRef(first);
}

/* Whatever the compiler warns of becomes an error: a warning is shown by the run, each time. */
static int warnings_are_errors(void)
{
    PyObject *warnings = PyImport_ImportModule("warnings");
    PyObject *done = warnings ? PyObject_CallMethod(warnings, "simplefilter", "s", "error") : NULL;
    Py_XDECREF(done);
    Py_XDECREF(warnings);
    return done != NULL;
}

static struct { char *at; uint32_t length; } compiled;

EXPORT("compile") void *capibara_compile(char *text, size_t length)
{
    struct script script = take(text, length, 0);
    PyObject *arguments = script.source && warnings_are_errors() ? read_arguments() : NULL;
    PyObject *name = arguments ? code_name(arguments) : NULL;
    PyObject *code = name ? compile_source(script.source, name) : NULL;
    PyObject *bytes = code ? PyMarshal_WriteObjectToString(code, Py_MARSHAL_VERSION) : NULL;
    if (!bytes) return NULL;
    compiled.at = PyBytes_AS_STRING(bytes);
    compiled.length = (uint32_t)PyBytes_GET_SIZE(bytes);
    return &compiled;
}

/* ---- sessions ---- */

/* Where the value of a turn's last line is put, for as long as the turn lasts. */
#define VALUE_NAME "__capibara_value__"

/* Makes a last statement that is an expression an assignment to that name. Returns -1 on an error. */
static int keep_value(mod_ty tree, PyArena *arena)
{
    asdl_stmt_seq *body = tree->v.Module.body;
    Py_ssize_t count = asdl_seq_LEN(body);
    stmt_ty last = count ? asdl_seq_GET(body, count - 1) : NULL;
    if (!last || last->kind != Expr_kind) return 0;
    PyObject *id = PyUnicode_InternFromString(VALUE_NAME);
    if (!id || _PyArena_AddPyObject(arena, id)) { Py_XDECREF(id); return -1; }
    int line = last->lineno, column = last->col_offset, end_line = last->end_lineno, end_column = last->end_col_offset;
    expr_ty name = _PyAST_Name(id, Store, line, column, end_line, end_column, arena);
    asdl_expr_seq *targets = name ? _Py_asdl_expr_seq_new(1, arena) : NULL;
    if (!targets) return -1;
    asdl_seq_SET(targets, 0, name);
    stmt_ty kept = _PyAST_Assign(targets, last->v.Expr.value, NULL, line, column, end_line, end_column, arena);
    if (!kept) return -1;
    asdl_seq_SET(body, count - 1, kept);
    return 0;
}

static PyObject *compile_turn(PyObject *source, PyObject *name)
{
    if (!can_be_code(source)) return NULL;
    PyArena *arena = _PyArena_New();
    if (!arena) return NULL;
    PyCompilerFlags flags = compiler_flags(PyCF_ALLOW_TOP_LEVEL_AWAIT);
    PyObject *code = NULL;
    mod_ty tree = _PyParser_ASTFromString(PyBytes_AS_STRING(source), name, Py_file_input, &flags, arena);
    if (tree && keep_value(tree, arena) == 0) code = (PyObject *)_PyAST_Compile(tree, name, &flags, -1, arena);
    _PyArena_Free(arena);
    return code;
}

/* Evaluates a turn's code; that of one that awaits is a coroutine, which an event loop of the session runs. */
static PyObject *evaluate_turn(PyObject *code)
{
    PyObject *result = PyEval_EvalCode(code, main_globals, main_globals);
    if (result && ((PyCodeObject *)code)->co_flags & CO_COROUTINE) {
        PyObject *coroutine = result;
        result = PyObject_CallOneArg(hook_await, coroutine);
        Py_DECREF(coroutine);
    }
    return result;
}

/* Takes the value of a turn out of its globals and, if it is one, lets boot.py send it. Returns -1 on an error. */
static int send_value(void)
{
    PyObject *value = PyDict_GetItemString(main_globals, VALUE_NAME);
    if (!value) return 0;
    Py_INCREF(value);
    PyDict_DelItemString(main_globals, VALUE_NAME);
    PyObject *sent = value == Py_None ? Py_NewRef(Py_None) : PyObject_CallOneArg(hook_value, value);
    Py_DECREF(value);
    Py_XDECREF(sent);
    return sent ? 0 : -1;
}

EXPORT("turn") int capibara_turn(char *text, size_t length)
{
    static int begun;
    if (!begun) begin();
    struct script script = take(text, length, 0);
    PyObject *name = NULL, *code = NULL, *result = NULL;
    if (script.source && !begun) {
        name = prepare(script.source);
        begun = name != NULL;
        Py_CLEAR(name);
    }
    if (script.source && begun) name = PyObject_CallOneArg(hook_turn, script.source);
    if (name) code = compile_turn(script.source, name);
    if (code) result = evaluate_turn(code);
    Py_XDECREF(code);
    Py_XDECREF(name);
    Py_XDECREF(script.source);
    int status = result && send_value() == 0 ? 0 : report();
    Py_XDECREF(result);
    int failed = flush_all();
    return failed && status == 0 ? 120 : status;
}

static PyObject *function_of(PyObject *module, const char *name)
{
    PyObject *function = module ? PyObject_GetAttrString(module, name) : NULL;
    check(function != NULL);
    return function;
}

EXPORT("wizer-initialize") void capibara_initialize(void)
{
    if (chdir("/home/script")) { perror("/home/script"); abort(); }
    load_stdlib("/build/stdlib.frz");
    start_python(NULL);
    check(output_install());
    fill_reserve();
    boot = PyImport_ImportModule("_capibara_boot");
    check(boot && PyModule_AddFunctions(boot, boot_methods) == 0);
    hook_prepare = function_of(boot, "prepare");
    hook_module = function_of(boot, "module_code");
    hook_turn = function_of(boot, "turn");
    hook_await = function_of(boot, "run_coroutine");
    hook_value = function_of(boot, "send_value");
    hook_exits = function_of(boot, "exits_wait");
    hook_finish = function_of(boot, "finish");
    threading_shutdown = function_of(PyImport_ImportModule("threading"), "_shutdown");
    run_exitfuncs = function_of(PyImport_ImportModule("atexit"), "_run_exitfuncs");
    PyObject *done = PyObject_CallNoArgs(function_of(boot, "warm"));
    check(done != NULL);
    logging_shutdown = function_of(PyImport_ImportModule("logging"), "shutdown");
    Py_DECREF(done);
    PyObject *main_module = PyImport_AddModule("__main__");
    check(main_module != NULL);
    main_globals = Py_NewRef(PyModule_GetDict(main_module));
    flush_all();
    fflush(stdout);
    fflush(stderr);
    __wasilibc_reset_preopens();
}

EXPORT("run-cold") int capibara_run_cold(void)
{
    start_python("/lib/python3.13");
    PyObject *arguments = read_arguments();
    check(arguments && PyList_GET_SIZE(arguments) > 1 && PyList_SetSlice(arguments, 0, 1, NULL) == 0);
    PySys_SetObject("argv", arguments);
    const char *path = PyUnicode_AsUTF8(PyList_GET_ITEM(arguments, 0));
    FILE *file = path ? fopen(path, "rb") : NULL;
    if (!file) { perror(path); return 2; }
    PyObject *globals = PyModule_GetDict(PyImport_AddModule("__main__"));
    PyObject *result = PyRun_File(file, path, Py_file_input, globals, globals);
    fclose(file);
    int status = result ? 0 : 1;
    if (!result) PyErr_Print();
    flush_all();
    return status;
}
