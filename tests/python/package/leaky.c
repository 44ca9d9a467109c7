// Functions that leak as extensions do, and the same without.
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static int flag(PyObject* argument) { return PyObject_IsTrue(argument); }

static PyObject* reference(PyObject* self, PyObject* leaks) {
  PyObject* const list = PyList_New(1);
  if (!list) return NULL;
  PyList_SET_ITEM(list, 0, PyFloat_FromDouble(1.5));
  if (!flag(leaks)) Py_DECREF(list);
  Py_RETURN_NONE;
}

// Of CPython's own allocator.
static PyObject* small_object(PyObject* self, PyObject* leaks) {
  void* const block = PyObject_Malloc(32);
  if (!flag(leaks)) PyObject_Free(block);
  Py_RETURN_NONE;
}

static PyObject* block(PyObject* self, PyObject* arguments) {
  int leaks, size, every;
  static int call;
  if (!PyArg_ParseTuple(arguments, "pii", &leaks, &size, &every)) return NULL;
  char* const memory = malloc(size);
  memset(memory, 1, size < 64 ? size : 64);
  if (!leaks || ++call % every != 0) free(memory);
  Py_RETURN_NONE;
}

static PyObject* buffer(PyObject* self, PyObject* leaks) {
  PyObject* const bytes = PyByteArray_FromStringAndSize("something", 9);
  Py_buffer* const view = malloc(sizeof *view);
  if (PyObject_GetBuffer(bytes, view, PyBUF_SIMPLE) != 0) return NULL;
  Py_DECREF(bytes);
  if (!flag(leaks)) {
    PyBuffer_Release(view);
    free(view);
  }
  Py_RETURN_NONE;
}

// The view itself is freed: what stays is the object.
static PyObject* buffer_only(PyObject* self, PyObject* leaks) {
  PyObject* const bytes = PyByteArray_FromStringAndSize("something", 9);
  Py_buffer view;
  if (PyObject_GetBuffer(bytes, &view, PyBUF_SIMPLE) != 0) return NULL;
  Py_DECREF(bytes);
  if (!flag(leaks)) PyBuffer_Release(&view);
  Py_RETURN_NONE;
}

static PyObject* mapping(PyObject* self, PyObject* leaks) {
  void* const pages = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (!flag(leaks)) munmap(pages, 8192);
  Py_RETURN_NONE;
}

static PyObject* descriptor(PyObject* self, PyObject* leaks) {
  const int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
  if (!flag(leaks)) close(fd);
  Py_RETURN_NONE;
}

static PyObject* error_path(PyObject* self, PyObject* argument) {
  char* const copy = strdup("what is worked on");
  if (argument == Py_None) {
    PyErr_SetString(PyExc_ValueError, "None is no value");
    return NULL;
  }
  free(copy);
  Py_RETURN_NONE;
}

static void* work(void* leaks) {
  // Volatile: else the compiler sees that nobody reads the block, and leaves it out.
  void* volatile const memory = malloc(100);
  if (!leaks) free(memory);
  return NULL;
}

static PyObject* thread(PyObject* self, PyObject* leaks) {
  pthread_t id;
  if (pthread_create(&id, NULL, work, flag(leaks) ? &id : NULL) == 0) pthread_join(id, NULL);
  Py_RETURN_NONE;
}

static void* cached[500];

static PyObject* cache(PyObject* self, PyObject* unused) {
  void** const place = &cached[rand() % 500];
  if (!*place) *place = malloc(200);
  Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    {"reference", reference, METH_O, NULL},     {"small_object", small_object, METH_O, NULL},
    {"block", block, METH_VARARGS, NULL},       {"buffer", buffer, METH_O, NULL},
    {"buffer_only", buffer_only, METH_O, NULL}, {"mapping", mapping, METH_O, NULL},
    {"descriptor", descriptor, METH_O, NULL},   {"error_path", error_path, METH_O, NULL},
    {"thread", thread, METH_O, NULL},           {"cache", cache, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL}};
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "leaky", NULL, -1, methods, NULL, NULL, NULL, NULL};
PyMODINIT_FUNC PyInit_leaky(void) { return PyModule_Create(&module); }
