/* State of a key. A write is encoded at once, so that what the user does to the object later changes nothing, and a wrong type is the
 * fault of the line that wrote it. The bytes lie in an arena until the bundle ends; a log of old cells undoes what a failing row wrote. */
#include "codec.h"
#include <stdlib.h>
#include <stdio.h>

#define CHUNK_BYTES (64u << 10)
#define PREFETCH_KEYS 256
#define ABSENT 0x80000000u

/* ---- arena */
typedef struct Chunk { struct Chunk *before; size_t used, capacity; } Chunk;
static Chunk *arena;

static uint8_t *arena_take(size_t bytes) {
  if (!arena || arena->capacity - arena->used < bytes) {
    size_t capacity = bytes > CHUNK_BYTES ? bytes : CHUNK_BYTES;
    Chunk *chunk = malloc(sizeof *chunk + capacity);
    if (!chunk) die("out of memory");
    *chunk = (Chunk){arena, 0, capacity};
    arena = chunk;
  }
  uint8_t *at = (uint8_t *)(arena + 1) + arena->used;
  arena->used += bytes;
  return at;
}

void arena_reset(void) { /* keeps the first chunk */
  while (arena && (arena->before || arena->capacity > CHUNK_BYTES)) {
    Chunk *before = arena->before;
    free(arena);
    arena = before;
  }
  if (arena) arena->used = 0;
}

/* ---- undo */
typedef struct { State *state; uint32_t key; Saved saved; } Undo;
Buffer undo;

void undo_back(void) {
  while (undo.used) {
    undo.used -= sizeof(Undo);
    const Undo *u = (const Undo *)(undo.at + undo.used);
    state_restore(u->state, u->key, &u->saved);
  }
}

static void undo_note(State *s, uint32_t key) {
  Undo *u = (Undo *)buffer_extend(&undo, sizeof *u);
  u->state = s;
  u->key = key;
  state_save(s, key, &u->saved);
}

/* ---- flat states */
static inline void flat_copy(const State *s, void *to, const void *from) {
  if (s->type->width == 8) memcpy(to, from, 8);
  else copy_bytes(to, from, s->type->width);
}

enum { PRESENT = 1, WRITTEN = 2 };

static void flat_begin(State *s, uint32_t keys) {
  const Column *c = &s->column;
  if (s->cells_capacity < keys) {
    free(s->marks);
    s->cells_capacity = keys + keys / 2;
    s->marks = take(s->cells_capacity);
  }
  if (keys && c->data) {
    s->values = (uint8_t *)c->data; /* the frame is ours until the bundle ends */
    if (c->validity) for (uint32_t k = 0; k < keys; k++) s->marks[k] = (uint8_t)bit_get(c->validity, k);
    else memset(s->marks, PRESENT, keys);
    return;
  }
  buffer_reset(&s->own);
  s->values = buffer_extend(&s->own, (size_t)keys * s->type->width);
  memset(s->values, 0, s->own.used);
  memset(s->marks, 0, keys);
}

static inline PyObject *flat_value(const State *s, uint32_t key) {
  double real;
  if (!(s->marks[key] & PRESENT)) { Py_INCREF(Py_None); return Py_None; }
  const uint8_t *at = s->values + (size_t)key * s->type->width;
  if (s->type->quick == Q_INT64) return PyLong_FromLongLong(load64(at));
  if (s->type->quick != Q_FLOAT64) return scalar_read(s->type, at);
  memcpy(&real, at, 8);
  return PyFloat_FromDouble(real);
}

/* The bytes of a value; 0 = an exception. */
static inline int flat_encode(State *s, PyObject *value, uint64_t *bytes) {
  int64_t whole;
  double real;
  if (s->type->quick == Q_INT64 && PyLong_CheckExact(value) && small_int(value, &whole)) {
    memcpy(bytes, &whole, 8);
    return 1;
  }
  if (s->type->quick == Q_FLOAT64 && PyFloat_CheckExact(value)) {
    real = float_of(value);
    memcpy(bytes, &real, 8);
    return 1;
  }
  path_where = s->where;
  path_depth = 0;
  int done = scalar_write(s->type, value, (uint8_t *)bytes);
  return done == 2 ? out_of_range(s->type, value) : done; /* 2 = null, which a state's value is not */
}

static inline int flat_put(State *s, uint32_t key, PyObject *value, int with_undo) {
  uint64_t bytes[2];
  if (value != Py_None && !flat_encode(s, value, bytes)) return 0;
  if (with_undo) undo_note(s, key);
  if (value != Py_None) flat_copy(s, s->values + (size_t)key * s->type->width, bytes);
  s->marks[key] = value == Py_None ? WRITTEN : WRITTEN | PRESENT;
  return 1;
}

/* Keys that were not written, or cleared, are null, and zero like all nulls. */
static int flat_finish(State *s, Buffer *written) {
  uint32_t first = 0, nulls = 0;
  while (first < s->keys && !(s->marks[first] & WRITTEN)) first++;
  if (first == s->keys) return 0;
  Buffer *valid = &s->builder.validity;
  size_t bytes = (s->keys + 7) / 8;
  written->used = valid->used = 0;
  uint8_t *w = buffer_extend(written, bytes), *v = buffer_extend(valid, bytes);
  for (uint32_t k = 0; k < s->keys; k += 8) {
    uint8_t these_written = 0, these_valid = 0;
    for (uint32_t i = 0; i < 8 && k + i < s->keys; i++) {
      uint8_t mark = s->marks[k + i];
      these_written |= (uint8_t)((mark >> 1) << i);
      if (mark == (PRESENT | WRITTEN)) { these_valid |= (uint8_t)(1 << i); continue; }
      nulls++;
      memset(s->values + (size_t)(k + i) * s->type->width, 0, s->type->width);
    }
    w[k / 8] = these_written;
    v[k / 8] = these_valid;
  }
  if (!nulls) valid->used = 0;
  return 1;
}

/* ---- cells */
void state_save(const State *s, uint32_t key, Saved *saved) {
  if (!s->flat) { saved->cell = s->cells[key]; return; }
  flat_copy(s, saved->value, s->values + (size_t)key * s->type->width);
  saved->mark = s->marks[key];
}

void state_restore(State *s, uint32_t key, const Saved *saved) {
  if (!s->flat) { s->cells[key] = saved->cell; return; }
  copy_bytes(s->values + (size_t)key * s->type->width, saved->value, s->type->width);
  s->marks[key] = saved->mark;
}

void state_begin(State *s, uint32_t keys) {
  s->keys = keys;
  if (s->flat) { flat_begin(s, keys); return; }
  if (s->cells_capacity < keys) {
    free(s->cells);
    s->cells_capacity = keys + keys / 2;
    s->cells = take(sizeof(Cell) * s->cells_capacity);
  } else if (keys) {
    memset(s->cells, 0, sizeof(Cell) * keys);
  }
}

static void learn(State *s, uint32_t key, const uint8_t *at, uint32_t length, int present) {
  uint8_t *kept = present ? arena_take(length) : NULL;
  if (present) copy_bytes(kept, at, length);
  s->cells[key] = (Cell){kept, length, 0, 1, (uint8_t)present, 0};
}

static void fetch(State *s, uint32_t key) { /* this key, and those after it that nobody asked for yet */
  uint32_t keys[PREFETCH_KEYS] = {0}, count = 0;
  for (uint32_t k = key; k < s->keys && count < PREFETCH_KEYS; k++)
    if (!s->cells[k].known) keys[count++] = k;
  if (count == 1) {
    uint8_t *at = NULL;
    uint32_t length = 0;
    int present = host_get(s->index, key, &at, &length);
    learn(s, key, at, length, present);
    free(at);
    return;
  }
  uint32_t *ends, start = 0;
  uint8_t *values;
  host_get_many(s->index, keys, count, &ends, &values);
  for (uint32_t i = 0; i < count; i++) {
    uint32_t end = ends[i] & ~ABSENT;
    learn(s, keys[i], values + start, end - start, !(ends[i] & ABSENT));
    start = end;
  }
  free(ends);
  free(values);
}

PyObject *state_value(State *s, uint32_t key) {
  if (s->flat) return flat_value(s, key);
  Cell *c = &s->cells[key];
  if (!c->known) {
    if (!s->by_call) return column_get(&s->column, key);
    fetch(s, key);
  }
  if (c->present) return value_read(s->type, c->at, c->length);
  Py_INCREF(Py_None);
  return Py_None;
}

static Buffer scratch;

static int wrong_value(State *s, PyObject *value) {
  path_where = s->where;
  path_depth = 0;
  return wrong(s->type, value);
}

static int encode(State *s, PyObject *value) {
  path_where = s->where;
  path_depth = 0;
  scratch.used = 0;
  return value_write(s->type, value, &scratch);
}

int state_store(State *s, uint32_t key, PyObject *value) {
  if (s->flat) return flat_put(s, key, value, 1);
  if (value == Py_None) {
    undo_note(s, key);
    s->cells[key] = (Cell){NULL, 0, 0, 1, 0, 1};
    return 1;
  }
  if (!encode(s, value)) return 0;
  undo_note(s, key);
  uint8_t *at = arena_take(scratch.used);
  copy_bytes(at, scratch.at, scratch.used);
  s->cells[key] = (Cell){at, (uint32_t)scratch.used, 0, 1, 1, 1};
  return 1;
}

int state_replace(State *s, uint32_t key, PyObject *value) {
  if (s->flat) return value == Py_None ? wrong_value(s, value) : flat_put(s, key, value, 0);
  Cell *c = &s->cells[key];
  if (!encode(s, value)) return 0;
  uint32_t length = (uint32_t)scratch.used;
  if (!c->written || c->capacity < length) {
    uint32_t capacity = c->written ? length + length / 2 : length;
    *c = (Cell){arena_take(capacity), length, capacity, 1, 1, 1};
  }
  copy_bytes((uint8_t *)c->at, scratch.at, length);
  c->length = length;
  return 1;
}

/* ---- the end of a bundle */
void state_slots(const State *s, Parts *parts) {
  if (!s->flat) { builder_slots(&s->builder, parts); return; }
  part(parts, s->builder.validity.at, s->builder.validity.used);
  part(parts, s->values, (size_t)s->keys * s->type->width);
}

int state_finish_column(State *s, Buffer *written) {
  if (s->flat) return flat_finish(s, written);
  uint32_t first = 0;
  while (first < s->keys && !s->cells[first].written) first++;
  if (first == s->keys) return 0;
  builder_reset(&s->builder);
  written->used = 0;
  memset(buffer_extend(written, (s->keys + 7) / 8), 0, (s->keys + 7) / 8);
  for (uint32_t k = 0; k < s->keys; k++) {
    Cell *c = &s->cells[k];
    if (c->written) bit_set(written->at, k, 1);
    if (c->written && c->present) builder_append_value(&s->builder, c->at, c->length);
    else builder_append_null(&s->builder);
  }
  return 1;
}

void state_finish_call(State *s) {
  static Buffer keys, ends, values;
  keys.used = ends.used = values.used = 0;
  for (uint32_t k = 0; k < s->keys; k++) {
    Cell *c = &s->cells[k];
    if (!c->written) continue;
    if (c->present) buffer_append(&values, c->at, c->length);
    uint32_t end = (uint32_t)values.used | (c->present ? 0 : ABSENT);
    buffer_append(&keys, &k, 4);
    buffer_append(&ends, &end, 4);
  }
  uint32_t count = (uint32_t)(keys.used / 4);
  if (values.used >= ABSENT) die("the states written in one bundle are larger than 2 GiB");
  if (count == 1) host_put(s->index, load32(keys.at), values.at, (uint32_t)values.used, !(load32(ends.at) & ABSENT));
  else if (count) host_put_many(s->index, (uint32_t *)keys.at, (uint32_t *)ends.at, count, values.at, (uint32_t)values.used);
  buffer_reset(&values);
}

/* ---- ValueState */
static int outside_of_rows(State *s) {
  PyErr_Format(PyExc_RuntimeError, "%s: a state belongs to a key, and can be used only while a row of a keyed stream is processed", s->where);
  return 0;
}

static inline int in_a_row(State *s) {
  if (UNLIKELY(!current.running || current.key >= s->keys)) return outside_of_rows(s);
  return 1;
}

static PyObject *value_method(PyObject *self, PyObject *unused) {
  State *s = (State *)self;
  (void)unused;
  if (!in_a_row(s)) return NULL;
  return s->flat ? flat_value(s, current.key) : state_value(s, current.key);
}

static PyObject *update_method(PyObject *self, PyObject *value) {
  State *s = (State *)self;
  if (!in_a_row(s) || !(s->flat ? flat_put(s, current.key, value, 1) : state_store(s, current.key, value))) return NULL;
  Py_INCREF(Py_None);
  return Py_None;
}

static PyObject *clear_method(PyObject *self, PyObject *unused) {
  (void)unused;
  return update_method(self, Py_None);
}

static void dealloc(PyObject *self) {
  State *s = (State *)self;
  PyTypeObject *class = Py_TYPE(self);
  builder_free(&s->builder);
  column_free(&s->column);
  column_free(&s->sources);
  type_free(s->type);
  Py_XDECREF(s->name);
  free(s->where);
  free(s->cells);
  free(s->marks);
  buffer_free(&s->own);
  PyObject_Free(self);
  Py_DECREF(class);
}

static PyMethodDef methods[] = {
  {"value", value_method, METH_NOARGS, "The value of the current key, or None."},
  {"update", update_method, METH_O, "Sets the value of the current key."},
  {"clear", clear_method, METH_NOARGS, "Removes the value of the current key."},
  {NULL, NULL, 0, NULL},
};
static PyType_Slot slots[] = {{Py_tp_methods, methods}, {Py_tp_dealloc, (void *)dealloc}, {0, NULL}};
static PyType_Spec spec = {
  "_wasmill_codec.ValueState", sizeof(State), 0,
  Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE, slots,
};
static PyTypeObject *ValueState;

int state_setup(void) {
  if (!ValueState) ValueState = (PyTypeObject *)PyType_FromSpec(&spec);
  return ValueState != NULL;
}

State *state_new(PyObject *name, PyObject *description, int by_call, uint32_t index) {
  const char *text = PyUnicode_AsUTF8AndSize(name, NULL);
  Type *type = text ? type_build(description) : NULL;
  if (!type) return NULL;
  State *s = (State *)PyType_GenericAlloc(ValueState, 0);
  if (!s) { type_free(type); return NULL; }
  size_t size = strlen(text) + 16;
  s->where = take(size);
  snprintf(s->where, size, "state \"%s\"", text);
  Py_INCREF(name);
  s->name = name;
  s->type = type;
  s->by_call = by_call;
  s->index = index;
  s->flat = !by_call && type_is_fixed(type);
  type->nullable = 1; /* as a column; alone it is encoded without */
  column_init(&s->column, type);
  column_init(&s->sources, type);
  builder_init(&s->builder, type);
  return s;
}
