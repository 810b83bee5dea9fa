/* `_wasmill_codec`: what the runner in Python sees of the codec, and what the host calls. */
#include "codec.h"
#include <stdio.h>
#include <stdlib.h>

#define FUNCTIONS_MAX 4096

static Function *functions[FUNCTIONS_MAX];
static uint32_t function_count;

Function *function_at(uint32_t index) {
  if (index >= function_count) die("the host's frame names a function that is not loaded");
  return functions[index];
}

static int expect(Py_ssize_t got, Py_ssize_t wanted) {
  if (got == wanted) return 1;
  PyErr_Format(PyExc_TypeError, "wants %zd arguments, got %zd", wanted, got);
  return 0;
}

static char *copied(const char *a, const char *b) {
  size_t size = strlen(a) + strlen(b) + 1;
  char *text = take(size);
  snprintf(text, size, "%s%s", a, b);
  return text;
}

static PyObject *none(void) {
  Py_INCREF(Py_None);
  return Py_None;
}

/* setup((Decimal, date, time, datetime, utc, GeneratorType, MethodType), format_traceback) */
static PyObject *f_setup(PyObject *self, PyObject *const *a, Py_ssize_t n) {
  (void)self;
  if (!expect(n, 2) || !scalar_setup(a[0]) || !call_setup(a[0]) || !shape_setup()) return NULL;
  Py_INCREF(a[1]);
  format_traceback = a[1];
  return none();
}

/* begin(name) -> index of a new function */
static PyObject *f_begin(PyObject *self, PyObject *name) {
  (void)self;
  const char *text = PyUnicode_AsUTF8AndSize(name, NULL);
  if (!text) return NULL;
  if (function_count == FUNCTIONS_MAX) {
    PyErr_Format(PyExc_ValueError, "an instance serves at most %d functions", FUNCTIONS_MAX);
    return NULL;
  }
  Function *f = take(sizeof *f);
  f->name = copied(text, "");
  f->where = copied(text, ": result");
  functions[function_count] = f;
  return PyLong_FromLong((long)function_count++);
}

static Function *function_of(PyObject *index) {
  long i = PyLong_AsLong(index);
  if (i >= 0 && (uint32_t)i < function_count) return functions[i];
  if (!PyErr_Occurred()) PyErr_SetString(PyExc_ValueError, "no such function");
  return NULL;
}

/* state(function, name, type, by_call) -> ValueState */
static PyObject *f_state(PyObject *self, PyObject *const *a, Py_ssize_t n) {
  (void)self;
  Function *f;
  if (!expect(n, 4) || !(f = function_of(a[0]))) return NULL;
  State *s = state_new(a[1], a[2], PyObject_IsTrue(a[3]) == 1, (uint32_t)f->states);
  if (!s) return NULL;
  f->state = realloc(f->state, sizeof(State *) * (size_t)(f->states + 1));
  if (!f->state) die("out of memory");
  f->state[f->states++] = s;
  Py_INCREF((PyObject *)s);
  return (PyObject *)s;
}

static Type **types_of(PyObject *tuple, int *count) {
  int n = (int)PyTuple_Size(tuple);
  Type **types = take(sizeof(Type *) * (size_t)n);
  for (*count = 0; *count < n; ++*count)
    if (!(types[*count] = type_build(PyTuple_GetItem(tuple, *count)))) return NULL;
  return types;
}

static Column *columns_of(Type **types, int count) {
  Column *columns = take(sizeof(Column) * (size_t)count);
  for (int i = 0; i < count; i++) column_init(&columns[i], types[i]);
  return columns;
}

static void keep(PyObject **into, PyObject *object) {
  if (object == Py_None) return;
  Py_INCREF(object);
  *into = object;
}

/* finish(function, mode, arguments, null_skips, keys, key_row, result, calls, context, drive) */
static PyObject *f_finish(PyObject *self, PyObject *const *a, Py_ssize_t n) {
  (void)self;
  Function *f;
  if (!expect(n, 10) || !(f = function_of(a[0]))) return NULL;
  f->mode = (Mode)PyLong_AsLong(a[1]);
  if (!(f->argument_types = types_of(a[2], &f->arguments)) || !(f->key_types = types_of(a[4], &f->keys))) return NULL;
  f->columns = columns_of(f->argument_types, f->arguments);
  f->key_columns = columns_of(f->key_types, f->keys);
  f->null_skips = take((size_t)f->arguments);
  for (int i = 0; i < f->arguments; i++) f->null_skips[i] = PyObject_IsTrue(PyTuple_GetItem(a[3], i)) == 1;
  if (a[5] != Py_None && !(f->key_row = type_build(a[5]))) return NULL;
  if (!(f->result = type_build(a[6]))) return NULL;
  builder_init(&f->output, f->result);
  Call *calls[] = {&f->call, &f->retract, &f->merge, NULL, &f->get_value};
  for (int i = 0; i < 5; i++)
    if (calls[i] && !call_set(calls[i], PyTuple_GetItem(a[7], i))) return NULL;
  keep(&f->create, PyTuple_GetItem(a[7], 3));
  keep(&f->callable, PyTuple_GetItem(a[7], 0));
  keep(&f->retract_callable, PyTuple_GetItem(a[7], 1));
  keep(&f->context, a[8]);
  keep(&f->drive, a[9]);
  f->slots = bundle_slots(f);
  return PyErr_Occurred() ? NULL : none();
}

static void drop(Function *f) {
  for (int i = 0; i < f->arguments && f->columns; i++) column_free(&f->columns[i]);
  for (int i = 0; i < f->keys && f->key_columns; i++) column_free(&f->key_columns[i]);
  if (f->output.type) builder_free(&f->output);
  for (int i = 0; i < f->arguments && f->argument_types; i++) type_free(f->argument_types[i]);
  for (int i = 0; i < f->keys && f->key_types; i++) type_free(f->key_types[i]);
  for (int i = 0; i < f->states; i++) Py_DECREF((PyObject *)f->state[i]);
  type_free(f->key_row);
  type_free(f->result);
  Call *calls[] = {&f->call, &f->retract, &f->merge, &f->get_value};
  for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) call_clear(calls[i]);
  Py_XDECREF(f->create);
  Py_XDECREF(f->callable);
  Py_XDECREF(f->retract_callable);
  Py_XDECREF(f->context);
  Py_XDECREF(f->drive);
  void *owned[] = {f->columns, f->key_columns, f->argument_types, f->key_types, f->null_skips, f->state, f->name, f->where, f};
  for (size_t i = 0; i < sizeof owned / sizeof *owned; i++) free(owned[i]);
}

/* reset(): forgets all functions (tests) */
static PyObject *f_reset(PyObject *self, PyObject *unused) {
  (void)self;
  (void)unused;
  loop_drop();
  current.frame = NULL;
  while (function_count) drop(functions[--function_count]);
  return none();
}

/* at_begin(callable or None): called with the seed before each bundle */
static PyObject *f_at_begin(PyObject *self, PyObject *callable) {
  (void)self;
  Py_CLEAR(begin_bundle);
  keep(&begin_bundle, callable);
  return none();
}

/* at_end(callable): called once, when the running bundle ends */
static PyObject *f_at_end(PyObject *self, PyObject *callable) {
  (void)self;
  Py_CLEAR(end_bundle);
  keep(&end_bundle, callable);
  return none();
}

/* ---- what a row knows of itself */
static int running(void) {
  if (current.running) return 1;
  PyErr_SetString(PyExc_RuntimeError, "there is no current row: this can be asked only while a row is processed");
  return 0;
}

static PyObject *f_timestamp(PyObject *self, PyObject *unused) {
  (void)self;
  (void)unused;
  if (!running()) return NULL;
  int64_t time = current.event_times && current.function->mode != M_AGGREGATE ? load64(current.event_times + 8u * (size_t)current.row) : INT64_MIN;
  return time == INT64_MIN ? none() : PyLong_FromLongLong(time);
}

static PyObject *f_current_key(PyObject *self, PyObject *unused) {
  (void)self;
  (void)unused;
  if (!running()) return NULL;
  Function *f = current.function;
  if (!f->keys) {
    PyErr_Format(PyExc_RuntimeError, "%s: the stream has no key", f->name);
    return NULL;
  }
  if (f->keys == 1) return column_get(&f->key_columns[0], current.key);
  PyObject *row = row_begin(f->key_row);
  for (int i = 0; row && i < f->keys; i++) {
    PyObject *one = column_get(&f->key_columns[i], current.key);
    if (!one) { Py_DECREF(row); return NULL; }
    row_put(row, i, one);
  }
  return row;
}

static PyObject *f_watermark(PyObject *self, PyObject *unused) {
  (void)self;
  (void)unused;
  return PyLong_FromLongLong(current.watermark);
}

static PyObject *f_processing_time(PyObject *self, PyObject *unused) {
  (void)self;
  (void)unused;
  return PyLong_FromLongLong(current.processing_time);
}

/* ---- bundles */
#ifdef __wasm__
/* malloc aligns to 16 whatever is asked for. */
__attribute__((export_name("cabi_realloc"))) EXPORTED void *cabi_realloc(void *at, size_t old, size_t align, size_t bytes) {
  (void)old;
  if (!bytes) return (void *)align;
  void *moved = realloc(at, bytes);
  if (!moved) die("out of memory");
  return moved;
}

static uint32_t returned[2];

static uint32_t *answer(Buffer *frame) {
  returned[0] = (uint32_t)(uintptr_t)frame->at;
  returned[1] = (uint32_t)frame->used;
  return returned;
}

__attribute__((export_name("wasmill:udf/bundle@0.1.0#run-frame"))) EXPORTED uint32_t *run_frame(uint8_t *frame, uint32_t length) {
  PyGILState_STATE held = PyGILState_Ensure();
  Buffer *effects = bundle_run(frame, length, free);
  PyGILState_Release(held);
  return answer(effects);
}

__attribute__((export_name("wasmill:udf/bundle@0.1.0#resume-frame"))) EXPORTED uint32_t *resume_frame(uint8_t *replies, uint32_t length) {
  PyGILState_STATE held = PyGILState_Ensure();
  if (length) free(replies);
  Buffer *effects = bundle_resume();
  PyGILState_Release(held);
  return answer(effects);
}

/* The buffer of the effects is kept for the next ones. */
__attribute__((export_name("cabi_post_wasmill:udf/bundle@0.1.0#run-frame"))) EXPORTED void after_run_frame(uint32_t *result) { (void)result; }
__attribute__((export_name("cabi_post_wasmill:udf/bundle@0.1.0#resume-frame"))) EXPORTED void after_resume_frame(uint32_t *result) { (void)result; }
#define NATIVE_METHODS
#else
PyObject *native_host;

static PyObject *f_run_frame(PyObject *self, PyObject *bytes) {
  (void)self;
  char *at;
  Py_ssize_t size;
  if (PyBytes_AsStringAndSize(bytes, &at, &size) < 0) return NULL;
  uint8_t *frame = take((size_t)size);
  memcpy(frame, at, (size_t)size);
  Buffer *effects = bundle_run(frame, (uint32_t)size, free);
  return PyBytes_FromStringAndSize((char *)effects->at, (Py_ssize_t)effects->used);
}

static PyObject *f_resume_frame(PyObject *self, PyObject *unused) {
  (void)self;
  (void)unused;
  Buffer *effects = bundle_resume();
  return PyBytes_FromStringAndSize((char *)effects->at, (Py_ssize_t)effects->used);
}

static PyObject *f_set_host(PyObject *self, PyObject *host) {
  (void)self;
  Py_CLEAR(native_host);
  keep(&native_host, host);
  return none();
}

/* encode_value(type, value) -> bytes; decode_value(type, bytes) */
static PyObject *f_encode_value(PyObject *self, PyObject *const *a, Py_ssize_t n) {
  (void)self;
  Type *t;
  if (!expect(n, 2) || !(t = type_build(a[0]))) return NULL;
  Buffer bytes = {0};
  path_where = "value";
  path_depth = 0;
  PyObject *encoded = value_write(t, a[1], &bytes) ? PyBytes_FromStringAndSize((char *)bytes.at, (Py_ssize_t)bytes.used) : NULL;
  buffer_free(&bytes);
  type_free(t);
  return encoded;
}

static PyObject *f_decode_value(PyObject *self, PyObject *const *a, Py_ssize_t n) {
  (void)self;
  Type *t;
  char *at;
  Py_ssize_t size;
  if (!expect(n, 2) || PyBytes_AsStringAndSize(a[1], &at, &size) < 0 || !(t = type_build(a[0]))) return NULL;
  PyObject *value = value_read(t, (uint8_t *)at, (uint32_t)size);
  type_free(t);
  return value;
}

/* drive_from(rows): smaller bundles are run by the loops in C */
static PyObject *f_drive_from(PyObject *self, PyObject *rows) {
  (void)self;
  driven_rows_min = (uint32_t)PyLong_AsUnsignedLongLong(rows);
  return PyErr_Occurred() ? NULL : none();
}

#define NATIVE_METHODS \
  {"drive_from", f_drive_from, METH_O, NULL}, \
  {"run_frame", f_run_frame, METH_O, NULL}, {"resume_frame", f_resume_frame, METH_NOARGS, NULL}, {"set_host", f_set_host, METH_O, NULL}, \
  {"encode_value", (PyCFunction)(void *)f_encode_value, METH_FASTCALL, NULL}, {"decode_value", (PyCFunction)(void *)f_decode_value, METH_FASTCALL, NULL},
#endif

static uintptr_t highest; /* of all immortal objects */

/* immortal(objects) -> those of them that were not: they are never freed from now on, and so references to them not counted */
static PyObject *f_immortal(PyObject *self, PyObject *objects) {
  (void)self;
  PyObject *fresh = PyList_New(0);
  for (Py_ssize_t i = 0; fresh && i < PyList_Size(objects); i++) {
    PyObject *o = PyList_GetItem(objects, i);
    if (!layout_immortal(o)) continue;
    if ((uintptr_t)o > highest) highest = (uintptr_t)o;
    if (PyList_Append(fresh, o) < 0) Py_CLEAR(fresh);
  }
  return fresh;
}

#define FILL_BYTES_MAX (1 << 18)
#define FILL_BYTES_STEP 8

/* fill(): takes all memory that is free below the highest immortal object, and keeps it. What is made later lies together, above. */
static PyObject *f_fill(PyObject *self, PyObject *unused) {
  (void)self;
  (void)unused;
  uintptr_t at;
  for (size_t size = FILL_BYTES_MAX; size; size -= size > 4096 ? size / 64 * FILL_BYTES_STEP : FILL_BYTES_STEP)
    do at = (uintptr_t)PyMem_Malloc(size); while (at && at < highest); /* a call that no compiler sees through */
  return none();
}

#define FAST(f) (PyCFunction)(void *)f, METH_FASTCALL, NULL
static PyMethodDef methods[] = {
  {"setup", FAST(f_setup)},
  {"begin", f_begin, METH_O, NULL},
  {"state", FAST(f_state)},
  {"finish", FAST(f_finish)},
  {"reset", f_reset, METH_NOARGS, NULL},
  {"at_begin", f_at_begin, METH_O, NULL},
  {"at_end", f_at_end, METH_O, NULL},
  {"timestamp", f_timestamp, METH_NOARGS, NULL},
  {"fill", f_fill, METH_NOARGS, NULL},
  {"immortal", f_immortal, METH_O, NULL},
  {"current_key", f_current_key, METH_NOARGS, NULL},
  {"watermark", f_watermark, METH_NOARGS, NULL},
  {"processing_time", f_processing_time, METH_NOARGS, NULL},
  {"restore", FAST(row_restore)},
  {"json_loads", FAST(json_loads)},
  {"row_messages", row_messages, METH_O, NULL},
  NATIVE_METHODS
  {NULL, NULL, 0, NULL},
};
static PyModuleDef definition = {PyModuleDef_HEAD_INIT, "_wasmill_codec", "Frames to Python objects and back.", -1, methods, NULL, NULL, NULL, NULL};

EXPORTED PyObject *PyInit__wasmill_codec(void) {
  if (!layout_check()) return NULL;
  PyObject *row = row_type();
  if (!row || !state_setup() || !drive_setup()) return NULL;
  PyObject *module = PyModule_Create(&definition);
  if (module && PyModule_AddObjectRef(module, "Row", row) < 0) Py_CLEAR(module);
  return module;
}
