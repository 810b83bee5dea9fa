/* Columns being written. A row that fails half-way is cut off again by `builder_truncate`. */
#include "codec.h"
#include <stdlib.h>

#define FIELDS_ON_STACK 48

size_t built_bytes;

void builder_init(Builder *b, const Type *t) {
  memset(b, 0, sizeof *b);
  b->type = t;
  b->child = take(sizeof(Builder) * (size_t)t->children);
  for (int i = 0; i < t->children; i++) builder_init(&b->child[i], t->child[i]);
}

void builder_free(Builder *b) {
  if (!b->child) return;
  for (int i = 0; i < b->type->children; i++) builder_free(&b->child[i]);
  free(b->child);
  buffer_free(&b->validity);
  buffer_free(&b->data);
  buffer_free(&b->offsets);
  b->child = NULL;
}

static int has_offsets(const Type *t) { return t->code == T_UTF8 || t->code == T_BINARY || t->code == T_LIST || t->code == T_MAP; }

void builder_reset(Builder *b) {
  b->rows = 0;
  b->has_nulls = 0;
  buffer_reset(&b->validity);
  buffer_reset(&b->data);
  buffer_reset(&b->offsets);
  for (int i = 0; i < b->type->children; i++) builder_reset(&b->child[i]);
}

static uint32_t offset_of(const Builder *b, uint32_t row) { return row ? load32(b->offsets.at + 4u * row) : 0; }

void builder_truncate(Builder *b, uint32_t rows) {
  const Type *t = b->type;
  if (t->code == T_BOOL) b->data.used = (rows + 7u) / 8;
  else if (type_is_fixed(t)) b->data.used = (size_t)rows * t->width;
  else if (t->code == T_STRUCT) for (int i = 0; i < t->children; i++) builder_truncate(&b->child[i], rows);
  else {
    uint32_t end = offset_of(b, rows);
    if (b->offsets.used) b->offsets.used = 4u * rows + 4;
    if (t->code == T_LIST || t->code == T_MAP) for (int i = 0; i < t->children; i++) builder_truncate(&b->child[i], end);
    else b->data.used = end;
  }
  b->rows = rows;
  if (b->has_nulls) b->validity.used = (rows + 7u) / 8;
}

/* ---- the frame of a row: validity and offsets */

static void mark(Builder *b, int valid) {
  if (!b->has_nulls) {
    if (valid) return;
    b->has_nulls = 1;
    b->validity.used = 0;
    size_t bytes = b->rows / 8u + 1;
    memset(buffer_extend(&b->validity, bytes), 0xff, bytes);
  } else if (b->validity.used < b->rows / 8u + 1) {
    *buffer_extend(&b->validity, 1) = 0xff;
  }
  bit_set(b->validity.at, b->rows, valid);
}

static int end_offset(Builder *b, size_t end) {
  if (UNLIKELY(end > INT32_MAX)) {
    PyErr_Format(PyExc_OverflowError, "%s: a column of %s holds at most 2 GiB in a bundle", path_where, b->type->text);
    return 0;
  }
  if (!b->offsets.used) memset(buffer_extend(&b->offsets, 4), 0, 4);
  uint32_t narrow = (uint32_t)end;
  memcpy(buffer_extend(&b->offsets, 4), &narrow, 4);
  return 1;
}

static void put_bit(Builder *b, int on) {
  if (b->data.used < b->rows / 8u + 1) *buffer_extend(&b->data, 1) = 0;
  bit_set(b->data.at, b->rows, on);
}

static void put_nothing(Builder *b) { /* the value under a null */
  const Type *t = b->type;
  if (t->code == T_BOOL) put_bit(b, 0);
  else if (type_is_fixed(t)) memset(buffer_extend(&b->data, t->width), 0, t->width);
  else if (t->code == T_STRUCT) for (int i = 0; i < t->children; i++) builder_append_null(&b->child[i]);
  else end_offset(b, offset_of(b, b->rows));
}

void builder_append_null(Builder *b) {
  put_nothing(b);
  mark(b, !b->type->nullable);
  b->rows++;
}

/* ---- objects */
static int append_text(Builder *b, PyObject *value) {
  Text text;
  if (!text_open(b->type, value, &text)) return 0;
  int ok = end_offset(b, b->data.used + (size_t)text.size);
  if (ok) buffer_append(&b->data, text.at, (size_t)text.size);
  built_bytes += (size_t)text.size;
  text_close(&text);
  return ok;
}

static int append_list(Builder *b, PyObject *value) {
  int list = PyList_Check(value);
  if (!list && !PyTuple_Check(value)) return wrong(b->type, value);
  Py_ssize_t size = list ? list_size(value) : tuple_size(value);
  Step *step = &path[path_depth++];
  *step = (Step){0};
  int ok = 1;
  for (Py_ssize_t i = 0; ok && i < size; i++) {
    step->index = i;
    PyObject *item = list ? list_item(value, i) : tuple_item(value, i);
    ok = item && builder_append(&b->child[0], item);
  }
  path_depth--;
  return ok && end_offset(b, b->child[0].rows);
}

static int append_map(Builder *b, PyObject *value) {
  if (!PyDict_Check(value)) return wrong(b->type, value);
  Step *step = &path[path_depth++];
  *step = (Step){0};
  Py_ssize_t at = 0;
  PyObject *key, *item;
  int ok = 1;
  while (ok && PyDict_Next(value, &at, &key, &item)) {
    step->key = key;
    ok = builder_append(&b->child[0], key) && builder_append(&b->child[1], item);
  }
  path_depth--;
  return ok && end_offset(b, b->child[0].rows);
}

static int append_struct(Builder *b, PyObject *value) {
  const Type *t = b->type;
  PyObject *few[FIELDS_ON_STACK], **fields = t->children > FIELDS_ON_STACK ? take(sizeof(PyObject *) * (size_t)t->children) : few;
  int ok = struct_open(t, value, fields);
  if (ok) {
    Step *step = &path[path_depth++];
    *step = (Step){t->names, NULL, 0};
    for (int i = 0; ok && i < t->children; i++) {
      step->index = i;
      ok = builder_append(&b->child[i], fields[i]);
    }
    path_depth--;
    struct_close(t, fields);
  }
  if (fields != few) free(fields);
  return ok;
}

static int append_scalar(Builder *b, PyObject *value) {
  uint8_t bytes[16];
  int done = scalar_write(b->type, value, bytes);
  if (done != 1) return done;
  switch (b->type->code == T_BOOL ? 0 : b->type->width) { /* of a known length, a copy is no call */
    case 0: put_bit(b, bytes[0]); break;
    case 4: memcpy(buffer_extend(&b->data, 4), bytes, 4); break;
    case 8: memcpy(buffer_extend(&b->data, 8), bytes, 8); break;
    default: buffer_append(&b->data, bytes, b->type->width);
  }
  return 1;
}

int builder_append_any(Builder *b, PyObject *value) {
  int done;
  built_bytes += 8;
  if (value == Py_None) {
    if (!b->type->nullable) return wrong(b->type, value);
    builder_append_null(b);
    return 1;
  }
  switch (b->type->code) {
    case T_UTF8: case T_BINARY: done = append_text(b, value); break;
    case T_LIST: done = append_list(b, value); break;
    case T_MAP: done = append_map(b, value); break;
    case T_STRUCT: done = append_struct(b, value); break;
    default: done = append_scalar(b, value);
  }
  if (done == 2) builder_append_null(b);
  else if (done) { mark(b, 1); b->rows++; }
  return done != 0;
}

/* ---- encoded values, as they are kept for states */
static const uint8_t *append_encoded(Builder *b, const uint8_t *at);

static const uint8_t *append_field(Builder *b, const uint8_t *at) {
  if (b->type->nullable && !*at++) {
    builder_append_null(b);
    return at;
  }
  if (b->has_nulls || (b->type->quick != Q_INT64 && b->type->quick != Q_FLOAT64)) return append_encoded(b, at);
  memcpy(buffer_extend(&b->data, 8), at, 8);
  b->rows++;
  return at + 8;
}

static const uint8_t *append_encoded(Builder *b, const uint8_t *at) {
  const Type *t = b->type;
  uint32_t count;
  switch (t->code) {
    case T_BOOL: put_bit(b, *at++); break;
    case T_UTF8: case T_BINARY:
      count = load32(at);
      if (!end_offset(b, b->data.used + count)) die("a state column is larger than 2 GiB");
      buffer_append(&b->data, at + 4, count);
      at += 4 + count;
      break;
    case T_LIST: case T_MAP:
      count = load32(at);
      at += 4;
      for (uint32_t i = 0; i < count; i++)
        for (int c = 0; c < t->children; c++) at = append_field(&b->child[c], at);
      if (!end_offset(b, b->child[0].rows)) die("a state column is larger than 2 GiB");
      break;
    case T_STRUCT:
      for (int c = 0; c < t->children; c++) at = append_field(&b->child[c], at);
      break;
    default:
      buffer_append(&b->data, at, t->width);
      at += t->width;
  }
  mark(b, 1);
  b->rows++;
  return at;
}

void builder_append_value(Builder *b, const uint8_t *value, uint32_t length) {
  if (append_encoded(b, value) != value + length) die("a state's value has not the length of its type");
}

/* ---- slots */
/* What stands behind the last bit means nothing; zeros, so that the same effects have the same bytes. */
static void clean_tail(const Builder *b, const Buffer *bits) {
  if (b->rows & 7) bits->at[b->rows >> 3] &= (uint8_t)((1u << (b->rows & 7)) - 1);
}

void builder_slots(const Builder *b, Parts *parts) {
  const Type *t = b->type;
  if (b->has_nulls) clean_tail(b, &b->validity);
  if (t->code == T_BOOL) clean_tail(b, &b->data);
  part(parts, b->validity.at, b->has_nulls ? (b->rows + 7u) / 8 : 0);
  if (has_offsets(t)) part(parts, b->offsets.at, b->rows ? 4u * b->rows + 4 : 0);
  if (t->code == T_UTF8 || t->code == T_BINARY || t->code == T_BOOL || type_is_fixed(t)) part(parts, b->data.at, b->data.used);
  for (int i = 0; i < t->children; i++) builder_slots(&b->child[i], parts);
}
