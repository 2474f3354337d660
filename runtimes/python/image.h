/* For boot.py, when the image is made: immortalize(list of all objects), set_generator(random.Random), watch_buffers(types). */
PyObject *image_immortalize(PyObject *module, PyObject *objects);
PyObject *image_set_generator(PyObject *module, PyObject *object);
PyObject *image_watch_buffers(PyObject *module, PyObject *types);

/* Begins the random numbers of a run. */
void image_seed(void);
/* Whether an object that buffers what is written was made since watch_buffers(). */
int image_buffers_made(void);
