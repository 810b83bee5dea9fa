/* Loops of bytecode (wasmill/drive.py) over the rows of a bundle: what they iterate over, and where they put what comes out.
 *
 * A row begins when the loop asks for it and ends when it asks for the next one. An exception ends the loop: the row that was entered
 * is the one that failed.
 */
#include "loops.h"

static PyObject *rows_iterator, *emit_function, *emit_value_function, *fold_function, *pair;

/* The accumulator and the value, in a tuple that is used again: the loop takes it apart at once. Steals the value. */
static PyObject *pair_of(PyObject *held, PyObject *value) {
  Py_INCREF(held);
  return pair_again(&pair, held, value);
}

static PyObject *rows_next(PyObject *self) {
  (void)self;
  if (current.entered) {
    if (pair) pair_clear(pair);
    if (!row_turn_end(1)) return NULL;
    current.entered = 0;
    current.row++;
  }
  Function *f = current.function;
  const Column *c = &f->columns[0];
  if (!current.driven) return NULL;
  while (current.row < current.rows && f->null_skips[0] && f->mode == M_SCALAR && column_is_null(c, current.row)) {
    builder_append_null(&f->output);
    current.row++;
  }
  if (current.row >= current.rows) return NULL;
  current.start = f->output.rows;
  current.entered = 1;
  enter_row(current.row);
  PyObject *held = f->mode == M_AGGREGATE ? accumulator(f, current.key) : NULL;
  if (f->mode == M_AGGREGATE && !held) return NULL;
  int view = c->type->code == T_STRUCT && !column_is_null(c, current.row);
  PyObject *value = view ? row_turn(c, current.row) : column_get(c, current.row);
  return held && value ? pair_of(held, value) : value;
}

static PyObject *emit_one(PyObject *self, PyObject *value) {
  (void)self;
  if (UNLIKELY(!current.entered)) {
    PyErr_SetString(PyExc_RuntimeError, "there is no current row");
    return NULL;
  }
  if (!emit(current.function, value)) return NULL;
  note_source(value);
  PyObject *enough = built_bytes > OUTPUT_BYTES ? Py_True : Py_False;
  Py_INCREF(enough);
  return enough;
}

static PyObject *emit_value(PyObject *self, PyObject *value) {
  (void)self;
  if (UNLIKELY(!current.entered)) return emit_one(self, value);
  if (!emit(current.function, value)) return NULL;
  Py_INCREF(Py_None);
  return Py_None;
}

static PyObject *call_drive(Function *f, PyObject *function, PyObject *emit_with) {
  PyObject *arguments[5] = {NULL, rows_iterator, function, emit_with, f->context ? f->context : Py_None};
  return vector_call(f->drive, arguments, 5);
}

/* The row failed, and its loop with it. */
static void end_driven_row(void) {
  undo_back();
  row_failed(current.row);
  if (pair) pair_clear(pair);
  if (!row_turn_end(0)) PyErr_Clear(); /* the row has its error already */
  current.entered = 0;
}

void run_driven_values(Function *f) {
  while (current.row < current.rows) {
    PyObject *done = call_drive(f, f->callable, emit_value_function);
    Py_XDECREF(done);
    if (done) continue;
    end_driven_row();
    hold_place(f, current.row++);
  }
}

int run_driven(Function *f) { /* 1 = more */
  for (;;) {
    PyObject *item = NULL;
    if (!current.iterator && current.row >= current.rows) return 0;
    if (!current.iterator) current.iterator = call_drive(f, f->callable, emit_function);
    PySendResult sent = current.iterator ? PyIter_Send(current.iterator, Py_None, &item) : PYGEN_ERROR;
    Py_XDECREF(item);
    if (sent == PYGEN_NEXT) return 1;
    Py_CLEAR(current.iterator);
    if (sent == PYGEN_RETURN) return 0;
    take_back(f, current.start);
    end_driven_row();
    current.row++;
  }
}

static PyObject *fold_one(PyObject *self, PyObject *result) {
  if (UNLIKELY(!current.entered)) return emit_one(self, result);
  if (!keep_folded(current.function, current.live[current.key], result)) return NULL;
  Py_INCREF(Py_None);
  return Py_None;
}

void run_driven_fold(Function *f) {
  PyObject *callable = current.operation == 1 ? f->callable : f->retract_callable;
  while (current.row < current.rows) {
    PyObject *done = call_drive(f, callable, fold_function);
    Py_XDECREF(done);
    if (done) continue;
    end_driven_row();
    Py_CLEAR(current.live[current.key]); /* it may have been changed half-way */
    current.row++;
  }
}

static PyObject *rows_self(PyObject *self) {
  Py_INCREF(self);
  return self;
}

static void rows_dealloc(PyObject *self) {
  PyTypeObject *type = Py_TYPE(self);
  PyObject_Free(self);
  Py_DECREF(type);
}

static PyMethodDef driven_methods[] = {
  {"emit", emit_one, METH_O, NULL}, {"emit", emit_value, METH_O, NULL}, {"emit", fold_one, METH_O, NULL}, {NULL, NULL, 0, NULL},
};
static PyType_Slot rows_slots[] = {
  {Py_tp_iter, (void *)rows_self}, {Py_tp_iternext, (void *)rows_next}, {Py_tp_dealloc, (void *)rows_dealloc}, {0, NULL},
};
static PyType_Spec rows_spec = {
  "_wasmill_codec.Rows", sizeof(PyObject), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE, rows_slots,
};

int drive_setup(void) {
  if (rows_iterator) return 1;
  PyTypeObject *type = (PyTypeObject *)PyType_FromSpec(&rows_spec);
  PyObject **made[] = {&emit_function, &emit_value_function, &fold_function};
  for (int i = 0; type && i < 3; i++)
    if (!(*made[i] = PyCMethod_New(&driven_methods[i], NULL, NULL, NULL))) return 0;
  return type && (rows_iterator = PyType_GenericAlloc(type, 0));
}
