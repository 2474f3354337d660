/* Memory by whole pages, straight from the module's memory: the C library's malloc rounds up to the next power of two, its own header
 * included, so that each of CPython's arenas would take twice its size.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>

#include "pages.h"

#define PAGE 65536

void *pages_take(size_t bytes)
{
    size_t at = __builtin_wasm_memory_grow(0, (bytes + PAGE - 1) / PAGE);
    return at == SIZE_MAX ? NULL : (void *)(at * PAGE);
}

/* Arenas are all of one size. Those that are free are linked. */
struct arena { struct arena *next; };
static struct arena *free_arenas;

void *pages_take_arena(void *context, size_t size)
{
    struct arena *arena = size == PAGES_ARENA ? free_arenas : NULL;
    if (!arena) return pages_take(size);
    free_arenas = arena->next;
    return arena;
}

void pages_give_back_arena(void *context, void *at, size_t size)
{
    if (size != PAGES_ARENA) return; /* there are none of another size */
    struct arena *arena = at;
    arena->next = free_arenas;
    free_arenas = arena;
}

void pages_install(void)
{
    PyObjectArenaAllocator arenas = {NULL, pages_take_arena, pages_give_back_arena};
    PyObject_SetArenaAllocator(&arenas);
}
