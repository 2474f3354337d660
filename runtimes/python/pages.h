/* Bytes of one of pymalloc's arenas (Include/internal/pycore_obmalloc.h, without the radix tree). */
#define PAGES_ARENA (256 << 10)

/* Zeroed memory that is never given back, or NULL. */
void *pages_take(size_t bytes);
/* Memory of PAGES_ARENA bytes, or NULL; the context is not used. */
void *pages_take_arena(void *context, size_t size);
void pages_give_back_arena(void *context, void *at, size_t size);
/* Lets CPython take its arenas from here. Before it starts. */
void pages_install(void);
