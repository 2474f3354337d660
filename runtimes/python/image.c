/* What makes runs from one memory image short: pages that are not written need not be put back, and work that a run does not need is
 * not done.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <wasi/api.h>

#include "image.h"

/* ---- objects of the image are immortal: counting references to them would write to most of its pages ---- */

struct worklist {
    PyObject **items;
    Py_ssize_t count, room;
    int failed;
};

static int visit(PyObject *object, void *context)
{
    struct worklist *list = context;
    if (!object || _Py_IsImmortal(object) || list->failed) return 0;
    if (list->count == list->room) {
        Py_ssize_t room = list->room ? 2 * list->room : 1024;
        PyObject **items = realloc(list->items, room * sizeof *items);
        if (!items) { list->failed = 1; return 0; }
        list->items = items;
        list->room = room;
    }
    object->ob_refcnt = _Py_IMMORTAL_REFCNT;
    list->items[list->count++] = object;
    return 0;
}

/* What `tp_traverse` leaves out because the collector need not know of it: code objects, and keys that are strings. */
static void visit_untraversed(PyObject *object, struct worklist *list)
{
    if (PyDict_Check(object)) {
        PyObject *key, *value;
        Py_ssize_t at = 0;
        while (PyDict_Next(object, &at, &key, &value)) { visit(key, list); visit(value, list); }
    } else if (PyCode_Check(object)) {
        PyCodeObject *code = (PyCodeObject *)object;
        PyObject *parts[] = {code->co_consts, code->co_names, code->co_exceptiontable, code->co_localsplusnames, code->co_localspluskinds,
                             code->co_filename, code->co_name, code->co_qualname, code->co_linetable};
        for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) visit(parts[i], list);
    }
}

static void visit_parts(PyObject *object, struct worklist *list)
{
    traverseproc traverse = Py_TYPE(object)->tp_traverse;
    if (traverse) traverse(object, visit, list);
    visit_untraversed(object, list);
}

PyObject *image_immortalize(PyObject *module, PyObject *objects)
{
    if (!PyList_Check(objects)) { PyErr_SetString(PyExc_TypeError, "immortalize() needs a list"); return NULL; }
    struct worklist list = {0};
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(objects); i++) {
        PyObject *object = PyList_GET_ITEM(objects, i);
        if (object == objects) continue;
        visit(object, &list);
        visit_parts(object, &list); /* types of the core are immortal already, and what they hold is not */
        while (list.count) visit_parts(list.items[--list.count], &list);
    }
    free(list.items);
    if (list.failed) return PyErr_NoMemory();
    Py_RETURN_NONE;
}

/* ---- the generator behind random.random() and the like ---- */

/* As in Modules/_randommodule.c. */
#define WORDS 624
struct generator {
    PyObject_HEAD
    int index;
    uint32_t state[WORDS];
};

static struct generator *generator;

PyObject *image_set_generator(PyObject *module, PyObject *object)
{
    if (Py_TYPE(object)->tp_basicsize < (Py_ssize_t)sizeof *generator) {
        PyErr_SetString(PyExc_TypeError, "set_generator() needs a Mersenne Twister");
        return NULL;
    }
    generator = (struct generator *)Py_NewRef(object);
    Py_RETURN_NONE;
}

static uint64_t rotated(uint64_t x, int by) { return x << by | x >> (64 - by); }

/* Fills the state from 256 random bits by xoshiro256** (Blackman and Vigna, 2018): a thirtieth of the work of the generator's own way
 * to begin. It is not for secrets, as before. */
void image_seed(void)
{
    uint64_t s[4] = {0};
    if (__wasi_random_get((uint8_t *)s, sizeof s) || !(s[0] | s[1] | s[2] | s[3])) s[0] = 1;
    for (int i = 0; i < WORDS; i += 2) {
        uint64_t word = rotated(s[1] * 5, 7) * 9, t = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= t;
        s[3] = rotated(s[3], 45);
        generator->state[i] = (uint32_t)word;
        generator->state[i + 1] = (uint32_t)(word >> 32);
    }
    generator->index = WORDS; /* nothing of this state was given out yet */
}

/* ---- whether files were opened: those that are left open are written at the end ---- */

static Py_ssize_t buffers_made;

static PyObject *allocate(PyTypeObject *type, Py_ssize_t items)
{
    buffers_made++;
    return PyType_GenericAlloc(type, items);
}

PyObject *image_watch_buffers(PyObject *module, PyObject *types)
{
    PyObject *sequence = PySequence_Fast(types, "watch_buffers() needs types");
    for (Py_ssize_t i = 0; sequence && i < PySequence_Fast_GET_SIZE(sequence); i++) {
        PyTypeObject *type = (PyTypeObject *)PySequence_Fast_GET_ITEM(sequence, i);
        if (!PyType_Check(type) || type->tp_alloc != PyType_GenericAlloc) {
            PyErr_Format(PyExc_TypeError, "%R is allocated in a way of its own", type);
            Py_CLEAR(sequence);
            return NULL;
        }
        type->tp_alloc = allocate; /* types that are derived from it take it over */
    }
    if (!sequence) return NULL;
    Py_DECREF(sequence);
    buffers_made = 0;
    Py_RETURN_NONE;
}

int image_buffers_made(void) { return buffers_made != 0; }
