/* What Python prints.
 *
 * sys.stdout and sys.stderr put their bytes into two buffers whose place the host knows (export `capibara_output`). The host takes what
 * is in them before each of its own calls and when the run ends, however it ends. So nothing printed is lost when a script is stopped in
 * the middle of a line, and it stays in order with everything else the script does. A newline and flush() make the guest call the host.
 *
 * CPython's own layers would keep bytes where the host cannot see them: text in TextIOWrapper, bytes in BufferedWriter. So both classes'
 * methods `write` and `flush` are replaced by those below, which step aside for everything that is not standard output or error.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <wasi/api.h>

#include "output.h"

#define CAPACITY 8192

/* As the host reads it: for standard output, then standard error. */
struct output {
    uint32_t length; /* bytes that wait; the host sets it to zero */
    uint32_t error;  /* WASI's number of what went wrong when the host last wrote; the guest sets it to zero */
    const char *data;
};

static char buffers[2][CAPACITY];

/* Which descriptors are which stream, 1 or 2; the host keeps it, as it sees what is opened, closed and renumbered. */
#define DESCRIPTORS 256
static uint8_t streams[DESCRIPTORS] = {0, 1, 2};

struct {
    struct output stream[2];
    uint8_t *streams;
    uint32_t descriptors;
} capibara_output = {{{0, 0, buffers[0]}, {0, 0, buffers[1]}}, streams, DESCRIPTORS};

/* The wrappers python started with, while they encode as it set them up. Never dereferenced through here. */
static PyObject *standard[2];

static PyTypeObject *text_type, *writer_type, *file_type;
static Py_ssize_t text_buffer, writer_raw; /* offsets of the objects' members `buffer` and `raw` */

typedef PyObject *(*one_argument)(PyObject *, PyObject *);
typedef PyObject *(*fast_keywords)(PyObject *, PyObject *const *, Py_ssize_t, PyObject *);
static one_argument text_write, writer_write, writer_flush;
static PyCFunction text_flush;
static fast_keywords text_reconfigure;
static initproc text_init;

/* ---- to the host ---- */

static PyObject *raise(int error)
{
    errno = error; /* WASI's numbers are this C library's */
    return PyErr_SetFromErrno(PyExc_OSError);
}

/* Lets the host take what waits; zero, or what went wrong. */
static int settle(int stream)
{
    struct output *output = &capibara_output.stream[stream - 1];
    if (output->length) (void)__wasi_sched_yield();
    int error = (int)output->error;
    output->error = 0;
    return error;
}

static int append(int fd, const char *data, size_t size)
{
    int stream = streams[fd];
    struct output *output = &capibara_output.stream[stream - 1];
    if (size > CAPACITY - output->length) {
        int error = settle(stream);
        if (error) return error;
    }
    if (size <= CAPACITY) {
        memcpy(buffers[stream - 1] + output->length, data, size);
        output->length += size;
        return 0;
    }
    while (size > 0) {
        __wasi_ciovec_t range = {(const uint8_t *)data, size};
        __wasi_size_t written = 0;
        int error = __wasi_fd_write(fd, &range, 1, &written);
        if (error) return error;
        data += written;
        size -= written;
    }
    return 0;
}

/* ---- which objects are standard output and error ---- */

/* The first field of a FileIO object after its head (Modules/_io/fileio.c); checked once, in output_install. */
struct file { PyObject_HEAD int fd; };

static int descriptor_of_file(PyObject *file)
{
    if (!file || !Py_IS_TYPE(file, file_type)) return 0;
    int fd = ((struct file *)file)->fd;
    return fd > 0 && fd < DESCRIPTORS && streams[fd] ? fd : 0;
}

static PyObject *member(PyObject *object, Py_ssize_t offset) { return *(PyObject **)((char *)object + offset); }

/* The descriptor when an object writes to standard output or error, else 0: so also when it is closed or detached. */
static int descriptor_of_writer(PyObject *writer)
{
    if (!writer) return 0;
    if (Py_IS_TYPE(writer, writer_type)) return descriptor_of_file(member(writer, writer_raw));
    return descriptor_of_file(writer);
}

/* ---- the methods ---- */

static PyObject *write_text(PyObject *self, PyObject *text)
{
    int fd = descriptor_of_writer(member(self, text_buffer));
    if (!fd) return text_write(self, text);
    int stream = streams[fd];
    if (self == standard[stream - 1] && PyUnicode_CheckExact(text)) {
        PyObject *bytes = NULL;
        const char *data;
        Py_ssize_t size;
        if (PyUnicode_IS_COMPACT_ASCII(text)) {
            data = (const char *)PyUnicode_1BYTE_DATA(text);
            size = PyUnicode_GET_LENGTH(text);
        } else {
            bytes = PyUnicode_AsUTF8String(text);
            if (!bytes) { /* lone surrogates: what becomes of them is for the stream's error handler to say */
                if (!PyErr_ExceptionMatches(PyExc_UnicodeEncodeError)) return NULL;
                PyErr_Clear();
                goto slow;
            }
            data = PyBytes_AS_STRING(bytes);
            size = PyBytes_GET_SIZE(bytes);
        }
        int error = append(fd, data, size);
        if (!error && memchr(data, '\n', size)) error = settle(stream);
        Py_XDECREF(bytes);
        return error ? raise(error) : PyLong_FromSsize_t(PyUnicode_GET_LENGTH(text));
    }
slow:;
    PyObject *count = text_write(self, text);
    PyObject *done = count ? text_flush(self, NULL) : NULL;
    if (!done) {
        if (self == standard[stream - 1]) standard[stream - 1] = NULL; /* bytes may have stayed in it: it goes on in order, the slow way */
        Py_CLEAR(count);
    }
    Py_XDECREF(done);
    return count;
}

static PyObject *reconfigure_text(PyObject *self, PyObject *const *args, Py_ssize_t count, PyObject *names)
{
    for (int i = 0; i < 2; i++) {
        Py_ssize_t given = names ? PyTuple_GET_SIZE(names) : 0;
        for (Py_ssize_t at = 0; self == standard[i] && at < given; at++) {
            PyObject *name = PyTuple_GET_ITEM(names, at);
            if (!PyUnicode_EqualToUTF8(name, "line_buffering") && !PyUnicode_EqualToUTF8(name, "write_through")) standard[i] = NULL;
        }
    }
    return text_reconfigure(self, args, count, names);
}

static int initialize_text(PyObject *self, PyObject *args, PyObject *kwargs)
{
    for (int i = 0; i < 2; i++)
        if (self == standard[i]) standard[i] = NULL;
    return text_init(self, args, kwargs);
}

static PyObject *write_bytes(PyObject *self, PyObject *data)
{
    int fd = descriptor_of_file(member(self, writer_raw));
    if (!fd) return writer_write(self, data);
    if (!Py_IS_TYPE(self, writer_type)) {
        PyObject *count = writer_write(self, data);
        PyObject *done = count ? writer_flush(self, NULL) : NULL;
        if (!done) Py_CLEAR(count);
        Py_XDECREF(done);
        return count;
    }
    Py_buffer view;
    if (PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)) return NULL;
    Py_ssize_t size = view.len;
    int error = append(fd, view.buf, size);
    PyBuffer_Release(&view);
    return error ? raise(error) : PyLong_FromSsize_t(size);
}

static PyObject *flush_bytes(PyObject *self, PyObject *ignored)
{
    PyObject *done = writer_flush(self, NULL);
    int fd = done ? descriptor_of_file(member(self, writer_raw)) : 0;
    int error = fd ? settle(streams[fd]) : 0;
    if (!error) return done;
    Py_DECREF(done);
    return raise(error);
}

/* ---- putting them in place, before the memory image is taken ---- */

static PyObject *in_type(PyTypeObject *type, const char *name)
{
    PyObject *dict = PyType_GetDict(type);
    PyObject *found = dict ? PyDict_GetItemString(dict, name) : NULL;
    Py_XDECREF(dict);
    return found;
}

/* Replaces a method of a type and returns the one it had; NULL when there is none of that name and kind. */
static PyCFunction replace(PyTypeObject *type, const char *name, int flags, PyCFunction by)
{
    PyObject *found = in_type(type, name);
    if (!found || !Py_IS_TYPE(found, &PyMethodDescr_Type)) return NULL;
    PyMethodDef *method = ((PyMethodDescrObject *)found)->d_method;
    if (method->ml_flags != flags) return NULL;
    PyCFunction before = method->ml_meth;
    method->ml_meth = by;
    return before;
}

static Py_ssize_t offset_of(PyTypeObject *type, const char *name)
{
    PyObject *found = in_type(type, name);
    return found && Py_IS_TYPE(found, &PyMemberDescr_Type) ? ((PyMemberDescrObject *)found)->d_member->offset : 0;
}

int output_is_flushed(PyObject *stream)
{
    for (int i = 0; i < 2; i++) {
        if (stream != standard[i]) continue;
        int fd = descriptor_of_writer(member(stream, text_buffer));
        struct output *output = &capibara_output.stream[i];
        return fd && streams[fd] == i + 1 && !output->length && !output->error;
    }
    return 0;
}

int output_install(void)
{
    PyObject *io = PyImport_ImportModule("_io");
    if (!io) return 0;
    text_type = (PyTypeObject *)PyObject_GetAttrString(io, "TextIOWrapper");
    writer_type = (PyTypeObject *)PyObject_GetAttrString(io, "BufferedWriter");
    file_type = (PyTypeObject *)PyObject_GetAttrString(io, "FileIO");
    Py_DECREF(io);
    if (!text_type || !writer_type || !file_type) return 0;
    text_buffer = offset_of(text_type, "buffer");
    writer_raw = offset_of(writer_type, "raw");
    if (!text_buffer || !writer_raw) return 0;
    standard[0] = PySys_GetObject("stdout");
    standard[1] = PySys_GetObject("stderr");
    for (int i = 0; i < 2; i++) {
        PyObject *stream = standard[i];
        if (!stream || !Py_IS_TYPE(stream, text_type)) return 0;
        if (descriptor_of_writer(member(stream, text_buffer)) != i + 1) return 0; /* also checks struct file */
    }
    text_write = (one_argument)replace(text_type, "write", METH_O, (PyCFunction)write_text);
    text_flush = replace(text_type, "flush", METH_NOARGS, NULL);
    if (text_flush) replace(text_type, "flush", METH_NOARGS, text_flush);
    text_reconfigure = (fast_keywords)(void (*)(void))replace(
        text_type, "reconfigure", METH_FASTCALL | METH_KEYWORDS, (PyCFunction)(void (*)(void))reconfigure_text);
    writer_write = (one_argument)replace(writer_type, "write", METH_O, (PyCFunction)write_bytes);
    writer_flush = (one_argument)replace(writer_type, "flush", METH_NOARGS, (PyCFunction)flush_bytes);
    text_init = text_type->tp_init;
    text_type->tp_init = initialize_text;
    return text_write && text_flush && text_reconfigure && writer_write && writer_flush;
}
