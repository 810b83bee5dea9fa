/* Single values in the encoding of wit/README.md ("Values"): how states and accumulators are kept. */
#include "codec.h"
#include <stdlib.h>

#define FIELDS_ON_STACK 48

static int write_any(const Type *t, PyObject *value, Buffer *to) {
  int64_t whole;
  double real;
  if (t->quick == Q_INT64 && PyLong_CheckExact(value) && small_int(value, &whole)) {
    if (t->nullable) *buffer_extend(to, 1) = 1;
    memcpy(buffer_extend(to, 8), &whole, 8);
    return 1;
  }
  if (t->quick == Q_FLOAT64 && PyFloat_CheckExact(value)) {
    real = float_of(value);
    if (t->nullable) *buffer_extend(to, 1) = 1;
    memcpy(buffer_extend(to, 8), &real, 8);
    return 1;
  }
  if (t->nullable) {
    *buffer_extend(to, 1) = value != Py_None;
    if (value == Py_None) return 1;
  } else if (UNLIKELY(value == Py_None)) {
    return wrong(t, value);
  }
  return value_write(t, value, to);
}

static void write_count(Buffer *to, size_t at, size_t count) {
  uint32_t narrow = (uint32_t)count;
  memcpy(to->at + at, &narrow, 4);
}

static int write_text(const Type *t, PyObject *value, Buffer *to) {
  Text text;
  if (!text_open(t, value, &text)) return 0;
  size_t at = to->used;
  buffer_extend(to, 4);
  write_count(to, at, (size_t)text.size);
  buffer_append(to, text.at, (size_t)text.size);
  text_close(&text);
  return 1;
}

static int write_list(const Type *t, PyObject *value, Buffer *to) {
  int list = PyList_Check(value);
  if (!list && !PyTuple_Check(value)) return wrong(t, value);
  Py_ssize_t size = list ? list_size(value) : tuple_size(value);
  size_t at = to->used;
  buffer_extend(to, 4);
  write_count(to, at, (size_t)size);
  Step *step = &path[path_depth++];
  *step = (Step){0};
  int ok = 1;
  for (Py_ssize_t i = 0; ok && i < size; i++) {
    step->index = i;
    PyObject *item = list ? list_item(value, i) : tuple_item(value, i);
    ok = item && write_any(t->child[0], item, to);
  }
  path_depth--;
  return ok;
}

static int write_map(const Type *t, PyObject *value, Buffer *to) {
  if (!PyDict_Check(value)) return wrong(t, value);
  size_t at = to->used, count = 0;
  buffer_extend(to, 4);
  Step *step = &path[path_depth++];
  *step = (Step){0};
  Py_ssize_t next = 0;
  PyObject *key, *item;
  int ok = 1;
  for (; ok && PyDict_Next(value, &next, &key, &item); count++) {
    step->key = key;
    ok = write_any(t->child[0], key, to) && write_any(t->child[1], item, to);
  }
  path_depth--;
  write_count(to, at, count);
  return ok;
}

/* A Row of the very type, which accumulators are: no list of its fields is made. */
static int write_row(const Type *t, PyObject *row, Buffer *to) {
  Step *step = &path[path_depth++];
  *step = (Step){t->names, NULL, 0};
  int ok = 1;
  for (int i = 0; ok && i < t->children; i++) {
    step->index = i;
    PyObject *field = row_field(row, i); /* held: the value's own methods may change the row */
    ok = field && write_any(t->child[i], field, to);
    Py_XDECREF(field);
  }
  path_depth--;
  return ok;
}

static int write_struct(const Type *t, PyObject *value, Buffer *to) {
  if (is_row(value) && row_shape(value) == t->shape && row_size(value) == t->children) return write_row(t, value, to);
  PyObject *few[FIELDS_ON_STACK], **fields = t->children > FIELDS_ON_STACK ? take(sizeof(PyObject *) * (size_t)t->children) : few;
  int ok = struct_open(t, value, fields);
  if (ok) {
    Step *step = &path[path_depth++];
    *step = (Step){t->names, NULL, 0};
    for (int i = 0; ok && i < t->children; i++) {
      step->index = i;
      ok = write_any(t->child[i], fields[i], to);
    }
    path_depth--;
    struct_close(t, fields);
  }
  if (fields != few) free(fields);
  return ok;
}

int value_write(const Type *t, PyObject *value, Buffer *to) {
  switch (t->code) {
    case T_UTF8: case T_BINARY: return write_text(t, value, to);
    case T_LIST: return write_list(t, value, to);
    case T_MAP: return write_map(t, value, to);
    case T_STRUCT: return write_struct(t, value, to);
    default: break;
  }
  uint8_t bytes[16];
  int done = scalar_write(t, value, bytes);
  if (done == 1) buffer_append(to, bytes, t->width);
  else if (done == 2) { /* a decimal that does not fit is null; the byte that said otherwise stands before it */
    if (!to->used) return out_of_range(t, value);
    to->at[to->used - 1] = 0;
  }
  return done != 0;
}

/* ---- reading */
typedef struct { const uint8_t *at, *end; } In;
static PyObject *read_value(const Type *t, In *in);

static int enough(In *in, size_t bytes) {
  if ((size_t)(in->end - in->at) >= bytes) return 1;
  PyErr_SetString(PyExc_RuntimeError, "a value from the host ends too early");
  return 0;
}

static PyObject *read_any(const Type *t, In *in) {
  if (t->nullable) {
    if (!enough(in, 1)) return NULL;
    if (!*in->at++) { Py_INCREF(Py_None); return Py_None; }
  }
  return read_value(t, in);
}

static PyObject *read_map(const Type *t, In *in, uint32_t count) {
  PyObject *map = PyDict_New();
  for (uint32_t i = 0; map && i < count; i++) {
    PyObject *key = read_any(t->child[0], in), *item = key ? read_any(t->child[1], in) : NULL;
    int ok = item && PyDict_SetItem(map, key, item) == 0;
    Py_XDECREF(key);
    Py_XDECREF(item);
    if (!ok) Py_CLEAR(map);
  }
  return map;
}

static PyObject *read_items(const Type *t, In *in, uint32_t count) {
  PyObject *list = PyList_New(count);
  for (uint32_t i = 0; list && i < count; i++) {
    PyObject *item = read_any(t->child[0], in);
    if (!item) { Py_DECREF(list); return NULL; }
    PyList_SetItem(list, i, item);
  }
  return list;
}

static PyObject *read_struct(const Type *t, In *in) {
  PyObject *row = row_begin(t);
  for (int i = 0; row && i < t->children; i++) {
    PyObject *field = read_any(t->child[i], in);
    if (!field) { Py_DECREF(row); return NULL; }
    row_put(row, i, field);
  }
  return row;
}

/* A value takes a byte at least, but for structs of nothing. */
static int takes_bytes(const Type *t) {
  if (t->code != T_STRUCT || t->nullable) return 1;
  for (int i = 0; i < t->children; i++)
    if (takes_bytes(t->child[i])) return 1;
  return 0;
}

static PyObject *read_value(const Type *t, In *in) {
  if (t->code == T_STRUCT) return read_struct(t, in);
  if (t->code == T_UTF8 || t->code == T_BINARY || t->code == T_LIST || t->code == T_MAP) {
    if (!enough(in, 4)) return NULL;
    uint32_t count = load32(in->at);
    in->at += 4;
    if (!enough(in, t->code == T_UTF8 || t->code == T_BINARY ? count : 0)) return NULL;
    if (t->code == T_MAP) return read_map(t, in, count);
    if (t->code == T_LIST) return enough(in, takes_bytes(t->child[0]) ? count : 0) ? read_items(t, in, count) : NULL;
    const char *at = (const char *)in->at;
    in->at += count;
    return t->code == T_UTF8 ? PyUnicode_FromStringAndSize(at, count) : PyBytes_FromStringAndSize(at, count);
  }
  if (!enough(in, t->width)) return NULL;
  const uint8_t *at = in->at;
  in->at += t->width;
  return scalar_read(t, at);
}

PyObject *value_read(const Type *t, const uint8_t *at, uint32_t length) {
  In in = {at, at + length};
  return read_value(t, &in);
}

static int items_read_back(const Type *t, PyObject *list) {
  for (Py_ssize_t i = 0, size = list_size(list); i < size; i++)
    if (!value_reads_back(t, list_item(list, i))) return 0;
  return 1;
}

static int pairs_read_back(const Type *t, PyObject *dict) {
  Py_ssize_t next = 0;
  PyObject *key, *item;
  while (PyDict_Next(dict, &next, &key, &item))
    if (!value_reads_back(t->child[0], key) || !value_reads_back(t->child[1], item)) return 0;
  return 1;
}

static int fields_read_back(const Type *t, PyObject *row) {
  if (row_shape(row) != t->shape || row_size(row) != t->children || row_kind(row) >= 0) return 0;
  for (int i = 0; i < t->children; i++) {
    PyObject *field = row_field(row, i);
    if (!field) PyErr_Clear();
    int same = field && value_reads_back(t->child[i], field);
    Py_XDECREF(field);
    if (!same) return 0;
  }
  return 1;
}

/* Where that is much to find out (decimals, zones), or the value loses something (float32), the answer is no. */
int value_reads_back(const Type *t, PyObject *value) {
  if (value == Py_None) return 1;
  switch (t->code) {
    case T_BOOL: return 1;
    case T_INT: case T_UINT: return PyLong_CheckExact(value);
    case T_FLOAT: return t->width == 8 && PyFloat_CheckExact(value);
    case T_UTF8: return PyUnicode_CheckExact(value);
    case T_BINARY: return PyBytes_CheckExact(value);
    case T_DATE: case T_TIME: case T_TIMESTAMP: return time_reads_back(t, value);
    case T_LIST: return PyList_CheckExact(value) && items_read_back(t->child[0], value);
    case T_MAP: return PyDict_CheckExact(value) && pairs_read_back(t, value);
    case T_STRUCT: return is_row(value) && fields_read_back(t, value);
    default: return 0;
  }
}
