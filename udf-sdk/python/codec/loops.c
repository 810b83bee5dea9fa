/* A call of the UDF for every row. A row that raises becomes a row error, whatever the exception, and leaves no trace: its output is
 * cut off, what it wrote to states is undone. */
#include "loops.h"
#include <stdlib.h>

#define TRACEBACKS 8          /* of a bundle: a full one costs as much as a hundred rows */
#define MESSAGE_BYTES 8192
#define ARGUMENTS_ON_STACK 24

Bundle current;
Errors errors;
PyObject *format_traceback;
uint32_t driven_rows_min = 8; /* what it takes to make a loop of bytecode must be worth it */

/* ---- errors */
void errors_reset(void) {
  Buffer *all[] = {
    &errors.rows, &errors.kind_offsets, &errors.kind, &errors.message_offsets, &errors.message, &errors.traceback_offsets, &errors.traceback,
  };
  for (size_t i = 0; i < sizeof all / sizeof *all; i++) buffer_reset(all[i]);
  errors.count = 0;
}

static void end_text(Buffer *offsets, const Buffer *text) {
  static const uint32_t zero = 0;
  if (!offsets->used) buffer_append(offsets, &zero, 4);
  uint32_t end = (uint32_t)text->used;
  buffer_append(offsets, &end, 4);
}

/* Steals `text`; NULL or no str = nothing. Half characters (surrogates) are written as escapes, what is too long is cut. */
static void add_text(Buffer *offsets, Buffer *to, PyObject *text, size_t limit) {
  PyObject *bytes = text && PyUnicode_Check(text) ? PyUnicode_AsEncodedString(text, "utf-8", "backslashreplace") : NULL;
  char *at;
  Py_ssize_t size;
  if (bytes && PyBytes_AsStringAndSize(bytes, &at, &size) == 0) {
    size_t length = (size_t)size;
    if (length > limit) for (length = limit; length && (at[length] & 0xc0) == 0x80;) length--;
    buffer_append(to, at, length);
  }
  PyErr_Clear();
  Py_XDECREF(bytes);
  Py_XDECREF(text);
  end_text(offsets, to);
}

void row_failed(uint32_t row) {
  PyObject *e = PyErr_GetRaisedException();
  if (!e) {
    PyErr_SetString(PyExc_RuntimeError, "a call failed without an exception");
    e = PyErr_GetRaisedException();
  }
  buffer_append(&errors.rows, &row, 4);
  PyObject *kind = PyObject_GetAttrString((PyObject *)Py_TYPE(e), "__name__"), *message = PyObject_Str(e);
  if (!message) { /* its __str__ raised */
    PyErr_Clear();
    message = PyUnicode_FromString("(the exception's __str__ raised)");
  }
  PyObject *traceback = NULL;
  if (format_traceback && errors.of_bundle < TRACEBACKS) {
    PyObject *arguments[2] = {NULL, e};
    traceback = PyObject_Vectorcall(format_traceback, arguments + 1, 1 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
    PyErr_Clear();
  }
  add_text(&errors.kind_offsets, &errors.kind, kind, MESSAGE_BYTES);
  add_text(&errors.message_offsets, &errors.message, message, MESSAGE_BYTES);
  add_text(&errors.traceback_offsets, &errors.traceback, traceback, 2 * MESSAGE_BYTES);
  Py_DECREF(e);
  errors.count++;
  errors.of_bundle++;
}

/* ---- calls */
static PyObject *generator_type, *method_type, *n_func, *n_self;

int call_setup(PyObject *classes) {
  PyObject *types[] = {PyTuple_GetItem(classes, 5), PyTuple_GetItem(classes, 6)};
  if (!types[0] || !types[1]) return 0;
  Py_INCREF(types[0]);
  Py_INCREF(types[1]);
  generator_type = types[0];
  method_type = types[1];
  return (n_func = PyUnicode_FromString("__func__")) && (n_self = PyUnicode_FromString("__self__"));
}

int call_set(Call *call, PyObject *callable) {
  if (!callable || callable == Py_None) return callable != NULL;
  if ((PyObject *)Py_TYPE(callable) == method_type) {
    call->function = PyObject_GetAttr(callable, n_func);
    call->self = PyObject_GetAttr(callable, n_self);
    return call->function && call->self;
  }
  Py_INCREF(callable);
  call->function = callable;
  return 1;
}

void call_clear(Call *call) {
  Py_CLEAR(call->function);
  Py_CLEAR(call->self);
}

static PyObject *call_few(const Call *call, PyObject *a, PyObject *b) { /* b may be NULL */
  PyObject *all[4] = {NULL};
  int end = 1;
  if (call->self) all[end++] = call->self;
  all[end++] = a;
  if (b) all[end++] = b;
  return vector_call(call->function, all, end);
}

/* Calls `call(first?, *arguments, last?)`. */
static PyObject *call_with_row(const Function *f, const Call *call, PyObject *first, PyObject *last, uint32_t row) {
  PyObject *few[ARGUMENTS_ON_STACK + 4], **all = f->arguments > ARGUMENTS_ON_STACK ? take(sizeof(PyObject *) * ((size_t)f->arguments + 4)) : few;
  int end = 1;
  if (call->self) all[end++] = call->self;
  if (first) all[end++] = first;
  int owned = end, wanted = end + f->arguments;
  for (int i = 0; i < f->arguments; i++) {
    const Column *c = &f->columns[i];
    int view = c->type->code == T_STRUCT && !column_is_null(c, row);
    if (!(all[end] = view ? row_view(c, row) : column_get(c, row))) break;
    end++;
  }
  PyObject *result = NULL;
  if (end == wanted) {
    if (last) all[end] = last;
    result = vector_call(call->function, all, end + (last != NULL));
  }
  while (end > owned) Py_DECREF(all[--end]);
  if (all != few) free(all);
  return result;
}

/* ---- rows */
static int null_in(const Function *f, uint32_t row) {
  for (int i = 0; i < f->arguments; i++)
    if (f->null_skips[i] && column_is_null(&f->columns[i], row)) return 1;
  return 0;
}

static int done_with_row(int ok) { return ok && views_close(); }

/* First the error, so that its traceback holds the row no more when the views are closed. */
static void give_up(uint32_t row) {
  row_failed(row);
  if (!views_close()) PyErr_Clear(); /* the row has its error already */
}

/* The row's place in a one-to-one output, when it has no value. */
void hold_place(Function *f, uint32_t row) {
  builder_truncate(&f->output, row);
  builder_append_null(&f->output);
}

static void run_scalar(Function *f) {
  int skips = 0;
  for (int i = 0; i < f->arguments; i++) skips |= f->null_skips[i] && f->columns[i].validity;
  for (uint32_t row = 0; row < current.rows; row++) {
    enter_row(row);
    if (skips && null_in(f, row)) { builder_append_null(&f->output); continue; }
    PyObject *result = call_with_row(f, &f->call, NULL, NULL, row);
    int ok = result && emit(f, result);
    Py_XDECREF(result);
    if (UNLIKELY(!done_with_row(ok))) {
      undo_back();
      give_up(row);
      hold_place(f, row);
    }
  }
}

/* ---- any number of rows out */
static PyObject *begin_many(Function *f, uint32_t row) { /* an iterator, or NULL: none (without an exception) */
  PyObject *result = call_with_row(f, &f->call, NULL, f->context, row);
  if (!result) return NULL;
  current.generator = (PyObject *)Py_TYPE(result) == generator_type;
  if (current.generator) return result;
  if (result == Py_None) { Py_DECREF(result); return NULL; }
  PyObject *iterator = NULL;
  if (PyUnicode_Check(result) || PyBytes_Check(result) || PyDict_Check(result) || is_row(result)) {
    PyObject *name = PyObject_GetAttrString((PyObject *)Py_TYPE(result), "__name__");
    const char *text = name ? PyUnicode_AsUTF8AndSize(name, NULL) : "value";
    PyErr_Format(PyExc_TypeError, "%s: returned one %s: yield rows, or return a list of them", f->name, text ? text : "value");
    Py_XDECREF(name);
  } else {
    iterator = PyObject_GetIter(result);
  }
  Py_DECREF(result);
  return iterator;
}

/* From now on the rows have kinds of their own; those before have that of their source. */
void begin_kinds(void) {
  current.kinds_used = 1;
  uint32_t rows = (uint32_t)(current.sources.used / 4);
  uint8_t *kinds = buffer_extend(&current.kinds, rows);
  for (uint32_t i = 0; i < rows; i++) kinds[i] = source_kind(load32(current.sources.at + 4u * i));
}

void take_back(Function *f, uint32_t rows) {
  builder_truncate(&f->output, rows);
  current.sources.used = 4u * rows;
  if (current.kinds_used) current.kinds.used = rows;
}

/* The next row, or NULL: there are no more, or an exception is set. A generator need not raise StopIteration for us. */
static PyObject *next_item(void) {
  PyObject *item;
  if (!current.generator) return PyIter_Next(current.iterator);
  PySendResult sent = PyIter_Send(current.iterator, Py_None, &item);
  if (sent == PYGEN_NEXT) return item;
  if (sent == PYGEN_RETURN) Py_DECREF(item);
  return NULL;
}

static int run_many(Function *f) { /* 1 = more */
  for (;;) {
    if (!current.iterator) {
      if (current.row >= current.rows) return 0;
      current.start = f->output.rows;
      enter_row(current.row);
      current.iterator = begin_many(f, current.row);
    }
    PyObject *item;
    while (current.iterator && (item = next_item())) {
      int ok = emit(f, item);
      if (ok) note_source(item);
      Py_DECREF(item);
      if (!ok) break;
      if (UNLIKELY(built_bytes > OUTPUT_BYTES)) return 1;
    }
    Py_CLEAR(current.iterator); /* a generator that is given up runs its `finally`; the exception stays set */
    if (!done_with_row(!PyErr_Occurred())) {
      take_back(f, current.start);
      undo_back();
      give_up(current.row);
    }
    current.row++;
  }
}

/* ---- folding */
static void live_begin(uint32_t keys) {
  if (current.live_capacity < keys) {
    free(current.live);
    current.live_capacity = keys + keys / 2;
    current.live = take(sizeof(PyObject *) * current.live_capacity);
  }
}

static void live_drop(void) {
  for (uint32_t k = 0; k < current.keys && k < current.live_capacity; k++) Py_CLEAR(current.live[k]);
}

static void run_reduce(Function *f) {
  State *s = f->state[0];
  for (uint32_t row = 0; row < current.rows; row++) {
    enter_row(row);
    PyObject **live = &current.live[current.key], *value = column_get(&f->columns[0], row), *result = NULL;
    if (value && !*live) *live = state_value(s, current.key);
    if (value && *live) {
      if (*live == Py_None) { result = value; Py_INCREF(result); }
      else result = call_few(&f->call, *live, value);
    }
    int ok = done_with_row(result && emit(f, result) && state_replace(s, current.key, result));
    if (!ok) {
      give_up(row);
      hold_place(f, row);
    }
    Py_CLEAR(*live);
    if (ok && value_reads_back(s->type, result)) { *live = result; result = NULL; }
    Py_XDECREF(result);
    Py_XDECREF(value);
  }
}

PyObject *accumulator(Function *f, uint32_t key) { /* borrowed, from `live` */
  PyObject **live = &current.live[key];
  if (*live) return *live;
  *live = state_value(f->state[0], key);
  if (!*live || *live != Py_None) return *live;
  Py_CLEAR(*live);
  PyObject *created = PyObject_CallNoArgs(f->create);
  if (!created) return NULL;
  /* Stored and read back, so that it looks the same as one from an earlier bundle. */
  Saved before;
  state_save(f->state[0], key, &before);
  if (state_replace(f->state[0], key, created)) *live = state_value(f->state[0], key);
  state_restore(f->state[0], key, &before);
  Py_DECREF(created);
  return *live;
}

/* The accumulator of a row is what its call returned, or the one that it was given. The next row gets it as it is, if it would look the
 * same in the next bundle; else it is read back. */
int keep_folded(Function *f, PyObject *held, PyObject *result) {
  State *s = f->state[0];
  PyObject **live = &current.live[current.key], *kept = result == Py_None ? held : result;
  if (!state_replace(s, current.key, kept)) return 0;
  if (!value_reads_back(s->type, kept)) {
    Py_CLEAR(*live);
  } else if (kept != *live) {
    Py_INCREF(kept);
    Py_CLEAR(*live);
    *live = kept;
  }
  return 1;
}

static void run_fold(Function *f) {
  State *s = f->state[0];
  const Call *call = current.operation == 1 ? &f->call : current.operation == 2 ? &f->retract : &f->merge;
  for (uint32_t row = 0; row < current.rows; row++) {
    enter_row(row);
    PyObject *held = accumulator(f, current.key), *result = NULL;
    if (held && current.operation == 3) {
      PyObject *other = column_get(&s->sources, row);
      if (other) {
        if (other == Py_None) { result = Py_None; Py_INCREF(result); }
        else result = call_few(call, held, other);
        Py_DECREF(other);
      }
    } else if (held) {
      result = call_with_row(f, call, held, NULL, row);
    }
    if (!done_with_row(result && keep_folded(f, held, result))) {
      give_up(row);
      Py_CLEAR(current.live[current.key]);
    }
    Py_XDECREF(result);
  }
}

static void run_results(Function *f) {
  for (uint32_t key = 0; key < current.keys; key++) {
    current.key = key;
    PyObject *held = accumulator(f, key), *result = held ? call_few(&f->get_value, held, NULL) : NULL;
    if (!result || !emit(f, result)) {
      row_failed(key);
      hold_place(f, key);
    }
    Py_XDECREF(result);
  }
}

int loop_run(void) {
  Function *f = current.function;
  current.start = 0;
  if (f->mode == M_TABLE || f->mode == M_PROCESS) return current.driven ? run_driven(f) : run_many(f);
  if (current.driven && f->mode != M_AGGREGATE) { run_driven_values(f); return 0; }
  if (f->mode == M_SCALAR || f->mode == M_FILTER) { run_scalar(f); return 0; }
  live_begin(current.keys);
  if (f->mode == M_REDUCE) run_reduce(f);
  else if (current.operation == 4) run_results(f);
  else if (current.driven) run_driven_fold(f);
  else run_fold(f);
  live_drop();
  return 0;
}

void loop_begin(void) {
  int folds = current.operation == 1 || current.operation == 2;
  current.driven = current.function->drive != NULL && current.rows >= driven_rows_min && (current.function->mode != M_AGGREGATE || folds);
  current.entered = 0;
}

void loop_drop(void) { /* the host gave up a bundle that had more */
  Py_CLEAR(current.iterator);
  if (!row_turn_end(0)) PyErr_Clear();
  if (!views_close()) PyErr_Clear(); /* nobody will read what was kept of it */
}
