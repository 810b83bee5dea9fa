/* What the loops in C and those in bytecode have in common. */
#pragma once
#include "codec.h"

#define OUTPUT_BYTES 1048576u /* then answer `more` */

void hold_place(Function *f, uint32_t row);
void take_back(Function *f, uint32_t rows);
void begin_kinds(void);
PyObject *accumulator(Function *f, uint32_t key); /* borrowed */
int keep_folded(Function *f, PyObject *held, PyObject *result);

/* driven.c */
int run_driven(Function *f); /* 1 = more */
void run_driven_values(Function *f);
void run_driven_fold(Function *f);

/* Of `all` the first is spare, the others are the arguments. */
static inline PyObject *vector_call(PyObject *function, PyObject **all, int end) {
  return PyObject_Vectorcall(function, all + 1, (size_t)(end - 1) | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
}

static inline void enter_row(uint32_t row) {
  current.row = row;
  if (current.key_index) {
    current.key = load32(current.key_index + 4u * row);
    if (UNLIKELY(current.key >= current.keys)) die("the host's key index is out of range");
  }
  undo_mark();
}

static inline void output_where(const Function *f) {
  path_where = f->where;
  path_depth = 0;
}

static inline int emit(Function *f, PyObject *value) {
  output_where(f);
  if (f->mode != M_FILTER) return builder_append(&f->output, value);
  int keep = PyObject_IsTrue(value);
  return keep >= 0 && builder_append(&f->output, keep ? Py_True : Py_False);
}

static inline uint8_t source_kind(uint32_t row) { return current.row_kinds ? current.row_kinds[row] : 0; }

/* Of a row that was emitted: where it comes from, and its kind, if the user set another than its source has. */
static inline void note_source(PyObject *value) {
  int own = is_row(value) && row_kind(value) >= 0 && row_kind(value) != source_kind(current.row);
  if (UNLIKELY(own) && !current.kinds_used) begin_kinds();
  if (UNLIKELY(current.kinds_used)) *buffer_extend(&current.kinds, 1) = own ? (uint8_t)row_kind(value) : source_kind(current.row);
  memcpy(buffer_extend(&current.sources, 4), &current.row, 4);
}
