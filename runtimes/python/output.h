/* output.c: what Python prints. */

/* Once, when the interpreter has started; zero when CPython is not as expected. */
int output_install(void);
