/* Columns of a frame, read as Python objects. The host checked nothing for us but made the frame; what would read past its end is a lie. */
#include "codec.h"
#include <stdlib.h>

#define LIE "the host's frame does not fit the function's types"

const uint8_t *slot_take(Slots *s, uint32_t *length) {
  if (s->next >= s->slots) die(LIE ": too few slots");
  const uint8_t *entry = s->frame + 64 + 8u * s->next++;
  uint32_t at = load32(entry);
  *length = load32(entry + 4);
  if (!*length) return NULL;
  if (at > s->length || *length > s->length - at) die(LIE ": a slot ends behind the frame");
  return s->frame + at;
}

void column_init(Column *c, const Type *t) {
  memset(c, 0, sizeof *c);
  c->type = t;
  c->child = take(sizeof(Column) * (size_t)t->children);
  for (int i = 0; i < t->children; i++) column_init(&c->child[i], t->child[i]);
}

void column_free(Column *c) {
  if (!c->child) return;
  for (int i = 0; i < c->type->children; i++) column_free(&c->child[i]);
  free(c->child);
  c->child = NULL;
}

static void need(uint32_t length, uint64_t wanted) {
  if (length < wanted) die(LIE ": a slot is too short");
}

static uint32_t last_offset(const Column *c) {
  int32_t end = c->rows ? (int32_t)load32(c->data + 4u * c->rows) : 0;
  if (end < 0) die(LIE ": an offset is negative");
  return (uint32_t)end;
}

int all_ascii(const uint8_t *at, uint32_t length) {
  uint64_t bits = 0;
  uint32_t i = 0;
  for (; i + 64 <= length; i += 64) { /* in blocks: the host's deadline is checked on every turn of a loop */
    uint64_t block[8];
    memcpy(block, at + i, 64);
    bits |= block[0] | block[1] | block[2] | block[3] | block[4] | block[5] | block[6] | block[7];
  }
  for (; i < length; i++) bits |= at[i];
  return !(bits & 0x8080808080808080ull);
}

void column_load(Column *c, Slots *s, uint32_t rows) {
  const Type *t = c->type;
  uint32_t length;
  c->rows = rows;
  c->absent = 0;
  c->validity = slot_take(s, &length);
  if (c->validity) need(length, (rows + 7u) / 8);
  if (t->code == T_STRUCT) {
    for (int i = 0; i < t->children; i++) column_load(&c->child[i], s, rows);
    c->absent = t->children && c->child[0].absent;
    return;
  }
  c->data = slot_take(s, &length);
  if (!c->data && rows) {
    c->absent = 1; /* its other slots are absent too */
    c->rows = 0;
  } else if (rows) {
    need(length, t->code == T_BOOL ? (rows + 7u) / 8 : type_is_fixed(t) ? (uint64_t)rows * t->width : 4ull * rows + 4);
  }
  if (t->code == T_UTF8 || t->code == T_BINARY) {
    c->chars = slot_take(s, &length);
    need(length, last_offset(c));
    c->ascii = t->code == T_UTF8 && all_ascii(c->chars, length);
  } else if (t->code == T_LIST || t->code == T_MAP) {
    uint32_t inner = last_offset(c);
    for (int i = 0; i < t->children; i++) column_load(&c->child[i], s, inner);
  }
}

static inline int span(const Column *c, uint32_t row, uint32_t *from, uint32_t *to, uint32_t end) {
  *from = load32(c->data + 4u * row);
  *to = load32(c->data + 4u * row + 4);
  if (UNLIKELY(*to < *from || *to > end)) die(LIE ": offsets descend");
  return 1;
}

static PyObject *list_get(const Column *c, uint32_t row) {
  uint32_t from, to;
  span(c, row, &from, &to, c->child[0].rows);
  PyObject *list = PyList_New(to - from);
  for (uint32_t i = from; list && i < to; i++) {
    PyObject *item = column_get(&c->child[0], i);
    if (!item) { Py_DECREF(list); return NULL; }
    PyList_SetItem(list, i - from, item);
  }
  return list;
}

static PyObject *map_get(const Column *c, uint32_t row) {
  uint32_t from, to;
  span(c, row, &from, &to, c->child[0].rows);
  PyObject *map = PyDict_New();
  for (uint32_t i = from; map && i < to; i++) {
    PyObject *key = column_get(&c->child[0], i), *item = key ? column_get(&c->child[1], i) : NULL;
    int ok = item && PyDict_SetItem(map, key, item) == 0;
    Py_XDECREF(key);
    Py_XDECREF(item);
    if (!ok) Py_CLEAR(map);
  }
  return map;
}

static PyObject *struct_get(const Column *c, uint32_t row) {
  PyObject *made = row_begin(c->type);
  for (int i = 0; made && i < c->type->children; i++) {
    PyObject *field = column_get(&c->child[i], row);
    if (!field) { Py_DECREF(made); return NULL; }
    row_put(made, i, field);
  }
  return made;
}

PyObject *column_get_any(const Column *c, uint32_t row) {
  if (column_is_null(c, row)) { Py_INCREF(Py_None); return Py_None; }
  const Type *t = c->type;
  uint32_t from, to;
  switch (t->code) {
    case T_BOOL: return PyBool_FromLong(bit_get(c->data, row));
    case T_UTF8:
      span(c, row, &from, &to, UINT32_MAX);
      if (c->ascii) return ascii_new((const char *)c->chars + from, to - from);
      return PyUnicode_FromStringAndSize((const char *)c->chars + from, to - from);
    case T_BINARY:
      span(c, row, &from, &to, UINT32_MAX);
      return PyBytes_FromStringAndSize((const char *)c->chars + from, to - from);
    case T_LIST: return list_get(c, row);
    case T_MAP: return map_get(c, row);
    case T_STRUCT: return struct_get(c, row);
    default: return scalar_read(t, c->data + (size_t)row * t->width);
  }
}
