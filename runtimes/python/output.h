/* output.c: what Python prints. */

/* Once, when the interpreter has started; zero when CPython is not as expected. */
int output_install(void);
/* Whether a stream is one that python started with, open, and nothing of it waits. */
int output_is_flushed(PyObject *stream);
