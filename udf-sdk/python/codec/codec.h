/* Frames (wit/README.md) to Python objects and back, and the loops that call a UDF for every row.
 *
 *   frame ─▶ Column ─▶ objects ─▶ UDF ─▶ objects ─▶ Builder ─▶ frame        columns.c, builders.c, bundle.c, loops.c
 *               values ─▶ objects ─▶ values                                  values.c (state, accumulators)
 *
 * A function that fails sets a Python exception and returns 0 or NULL, as in CPython. Out of memory and frames that lie are told to the
 * host and end in a trap (`die`): there is nobody to catch them.
 */
#pragma once
#include "abi.h"
#include "layout.h"

#define DEPTH_MAX 16
#define EXPORTED __attribute__((visibility("default")))
#define UNLIKELY(x) __builtin_expect(!!(x), 0)

/* ---- buffers.c */
typedef struct { uint8_t *at; size_t used, capacity; } Buffer;
void buffer_grow(Buffer *b, size_t bytes);
void buffer_reset(Buffer *b); /* empties; gives memory back if it was much */
void buffer_free(Buffer *b);
void *take(size_t bytes); /* zeroed memory for good, or dies */
_Noreturn void die(const char *what);

/* A memcpy for what is short mostly: it is a call into another module in WebAssembly. */
static inline void copy_bytes(void *to, const void *from, size_t bytes) {
  uint8_t *t = to;
  const uint8_t *f = from;
  if (bytes > 64) { memcpy(to, from, bytes); return; }
  for (; bytes >= 8; bytes -= 8, t += 8, f += 8) memcpy(t, f, 8);
  if (bytes & 4) { memcpy(t, f, 4); t += 4; f += 4; }
  if (bytes & 2) { memcpy(t, f, 2); t += 2; f += 2; }
  if (bytes & 1) *t = *f;
}
static inline void zero_bytes(void *to, size_t bytes) {
  uint8_t *t = to;
  if (bytes > 512) { memset(to, 0, bytes); return; }
  for (; bytes >= 32; bytes -= 32, t += 32) memset(t, 0, 32);
  for (; bytes >= 8; bytes -= 8, t += 8) memset(t, 0, 8);
  for (; bytes; bytes--) *t++ = 0;
}
static inline uint8_t *buffer_extend(Buffer *b, size_t bytes) { /* room for `bytes` more, counted as used */
  if (UNLIKELY(b->capacity - b->used < bytes)) buffer_grow(b, bytes);
  uint8_t *at = b->at + b->used;
  b->used += bytes;
  return at;
}
static inline void buffer_append(Buffer *b, const void *from, size_t bytes) { copy_bytes(buffer_extend(b, bytes), from, bytes); }

static inline int bit_get(const uint8_t *bits, uint32_t i) { return bits[i >> 3] >> (i & 7) & 1; }
static inline void bit_set(uint8_t *bits, uint32_t i, int on) {
  uint8_t mask = (uint8_t)(1u << (i & 7));
  if (on) bits[i >> 3] |= mask; else bits[i >> 3] &= (uint8_t)~mask;
}
static inline uint32_t load32(const void *p) { uint32_t v; memcpy(&v, p, 4); return v; }
static inline int64_t load64(const void *p) { int64_t v; memcpy(&v, p, 8); return v; }

/* ---- types.c */
typedef enum {
  T_BOOL, T_INT, T_UINT, T_FLOAT, T_DECIMAL, T_UTF8, T_BINARY, T_DATE, T_TIME, T_TIMESTAMP, T_LIST, T_STRUCT, T_MAP
} Code;
/* What most columns are, and has a way of its own through the codec. */
typedef enum { Q_NONE, Q_INT64, Q_FLOAT64, Q_UTF8 } Quick;
typedef struct Type {
  Code code;
  Quick quick;
  uint8_t nullable;
  uint8_t width;        /* bytes of a fixed-width value; 1 for bool as a single value */
  int precision, scale; /* decimal */
  int64_t per_second;   /* timestamp: units in a second */
  PyObject *zone;       /* timestamp: tzinfo, or NULL */
  PyObject *shape;      /* struct: name -> index */
  PyObject *names;      /* struct: tuple of str */
  PyObject *seen_shape; /* struct: the last other shape that it was made of, and where its fields lay there */
  Py_ssize_t *seen_index;
  const char *text;     /* its notation, for messages */
  PyObject *text_object;
  int children;
  struct Type **child;
  int slots;            /* of a column */
} Type;
Type *type_build(PyObject *description);
void type_free(Type *t);
int type_is_fixed(const Type *t); /* one buffer of `width` bytes a value; not bool */

/* ---- scalars.c: one value of a fixed-width type */
int scalar_setup(PyObject *classes);
int time_setup(PyObject *classes); /* times.c */
PyObject *date_read(const Type *t, int64_t days);
PyObject *time_read(const Type *t, int64_t micros);
PyObject *timestamp_read(const Type *t, int64_t value);
int date_write(const Type *t, PyObject *value, uint8_t *to);
int time_write(const Type *t, PyObject *value, uint8_t *to);
int timestamp_write(const Type *t, PyObject *value, uint8_t *to);
int time_reads_back(const Type *t, PyObject *value); /* of all three, as values do (values.c) */
PyObject *scalar_read(const Type *t, const uint8_t *at);
int scalar_write(const Type *t, PyObject *value, uint8_t *to); /* 2 = the value is null instead (decimal overflow) */
typedef struct { const char *at; Py_ssize_t size; Py_buffer view; int held; } Text;
int text_open(const Type *t, PyObject *value, Text *text); /* utf8 and binary */
void text_close(Text *text);

/* ---- shapes.c: structs, whatever the user makes them of; and what is said of wrong values */
typedef struct { PyObject *names; PyObject *key; Py_ssize_t index; } Step; /* a field, a key, or a place in a list */
extern Step path[DEPTH_MAX + 2];
extern int path_depth;
extern const char *path_where; /* `legs.grade: result` */
int shape_setup(void);
int wrong(const Type *t, PyObject *value);           /* TypeError: wants, got */
int out_of_range(const Type *t, PyObject *value);    /* OverflowError */
int wrong_zone(const Type *t, PyObject *value);       /* TypeError: a zone too many or too few, and what to do */
int half_character(const Type *t, PyObject *value);   /* ValueError: text that is no UTF-8, and what to do */
int struct_open(const Type *t, PyObject *value, PyObject **fields); /* new references */
void struct_close(const Type *t, PyObject **fields);

/* ---- row.c: the type Row */
struct Column;
PyObject *row_type(void);
extern PyTypeObject *RowType;
static inline int is_row(PyObject *value) { return Py_TYPE(value) == RowType; }
PyObject *row_begin(const Type *t); /* to be filled by row_put */
void row_put(PyObject *row, Py_ssize_t i, PyObject *value); /* steals */
PyObject *row_field(PyObject *row, Py_ssize_t i);
Py_ssize_t row_size(PyObject *row);
PyObject *row_shape(PyObject *row); /* borrowed; NULL = no names */
long row_kind(PyObject *row);       /* -1 = not said */
PyObject *row_view(const struct Column *c, uint32_t row); /* good until views_close */
extern int open_views;
int views_settle(void);
/* The row is done; 0 = a view that was kept could not be filled. */
static inline int views_close(void) { return !open_views || views_settle(); }
PyObject *row_turn(const struct Column *c, uint32_t row); /* a view for a caller that still holds that of the row before */
int row_turn_end(int holders);                            /* its row is done, and so many references are not the user's */
PyObject *row_restore(PyObject *self, PyObject *const *a, Py_ssize_t n);
PyObject *row_messages(PyObject *self, PyObject *callable);

/* ---- columns.c: reading */
typedef struct Column {
  const Type *type;
  const uint8_t *validity, *data, *chars;
  uint32_t rows;
  uint8_t ascii;  /* all text is: it can be copied as it is */
  uint8_t absent; /* rows that have no slots: the arguments of `merge` */
  struct Column *child;
} Column;
typedef struct { const uint8_t *frame; uint32_t length, slots, next; } Slots;
const uint8_t *slot_take(Slots *s, uint32_t *length);
void column_init(Column *c, const Type *t);
void column_load(Column *c, Slots *s, uint32_t rows);
int all_ascii(const uint8_t *at, uint32_t length);
PyObject *column_get_any(const Column *c, uint32_t row);
static inline int column_is_null(const Column *c, uint32_t row) { return c->validity && !bit_get(c->validity, row); }
static inline PyObject *column_get(const Column *c, uint32_t row) {
  double real;
  if (c->validity) return column_get_any(c, row);
  switch (c->type->quick) {
    case Q_INT64: return PyLong_FromLongLong(load64(c->data + 8u * (size_t)row));
    case Q_FLOAT64: memcpy(&real, c->data + 8u * (size_t)row, 8); return PyFloat_FromDouble(real);
    default: return column_get_any(c, row);
  }
}
void column_free(Column *c);

/* ---- builders.c: writing */
typedef struct { const uint8_t *at; uint32_t length, slot; } Part;
typedef struct { Buffer list; uint32_t slots; } Parts; /* what a frame is made of; of its slots, which are absent mostly, those that are not */
static inline void part(Parts *parts, const void *at, size_t length) {
  Part p = {at, (uint32_t)length, parts->slots++};
  if (length > INT32_MAX) die("the effects of a bundle are larger than 2 GiB");
  if (length) buffer_append(&parts->list, &p, sizeof p);
}
typedef struct Builder {
  const Type *type;
  uint32_t rows;
  uint8_t has_nulls;
  Buffer validity, data, offsets; /* data: values, bits or text */
  struct Builder *child;
} Builder;
extern size_t built_bytes; /* counted up by all builders: when to answer `more` */
void builder_init(Builder *b, const Type *t);
void builder_reset(Builder *b);
int builder_append_any(Builder *b, PyObject *value);
static inline int builder_append(Builder *b, PyObject *value) {
  int64_t whole;
  double real;
  if (b->has_nulls) return builder_append_any(b, value);
  if (b->type->quick == Q_INT64 && PyLong_CheckExact(value) && small_int(value, &whole)) {
    memcpy(buffer_extend(&b->data, 8), &whole, 8);
  } else if (b->type->quick == Q_FLOAT64 && PyFloat_CheckExact(value)) {
    real = float_of(value);
    memcpy(buffer_extend(&b->data, 8), &real, 8);
  } else {
    return builder_append_any(b, value);
  }
  built_bytes += 8;
  b->rows++;
  return 1;
}
void builder_append_null(Builder *b);  /* in a column that has none: a zero */
void builder_truncate(Builder *b, uint32_t rows);
void builder_append_value(Builder *b, const uint8_t *value, uint32_t length); /* encoded, not nullable at the top */
void builder_slots(const Builder *b, Parts *parts);
void builder_free(Builder *b);

/* ---- values.c: single values, encoded */
int value_write(const Type *t, PyObject *value, Buffer *to); /* not nullable at the top */
PyObject *value_read(const Type *t, const uint8_t *at, uint32_t length);
int value_reads_back(const Type *t, PyObject *value); /* it was written, and what would be read is the same */

/* ---- states.c */
typedef struct { const uint8_t *at; uint32_t length, capacity; uint8_t known, present, written; } Cell;
typedef struct State {
  PyObject head;
  Type *type;
  PyObject *name;
  char *where;
  int by_call;
  int flat; /* a column of fixed width: values are changed where they lie in the frame, there are no cells */
  uint32_t index; /* in `loaded.states` */
  Column column, sources;
  Builder builder; /* of a flat state its validity alone */
  Cell *cells;
  uint8_t *values, *marks; /* of a flat state: PRESENT and WRITTEN of each key */
  Buffer own;              /* values of a column that came without */
  uint32_t cells_capacity, keys;
} State;
typedef struct { Cell cell; uint64_t value[2]; uint8_t mark; } Saved;
int state_setup(void);
State *state_new(PyObject *name, PyObject *description, int by_call, uint32_t index);
void state_begin(State *s, uint32_t keys); /* when its column is loaded */
void state_save(const State *s, uint32_t key, Saved *saved);
void state_restore(State *s, uint32_t key, const Saved *saved);
PyObject *state_value(State *s, uint32_t key);                     /* None = no value */
int state_store(State *s, uint32_t key, PyObject *value);          /* with undo */
int state_replace(State *s, uint32_t key, PyObject *value);        /* without: accumulators, whose last good value is the undo */
int state_finish_column(State *s, Buffer *written);                /* 1 = something was written, for `state_slots` to tell */
void state_slots(const State *s, Parts *parts);
void state_finish_call(State *s);
extern Buffer undo;
static inline void undo_mark(void) { undo.used = 0; } /* a row begins: what came before is kept */
void undo_back(void); /* the row failed: as it was at the mark */
void arena_reset(void);

/* ---- loops.c, driven.c and bundle.c */
typedef enum { M_SCALAR, M_FILTER, M_TABLE, M_PROCESS, M_REDUCE, M_AGGREGATE } Mode;
typedef struct { PyObject *function, *self; } Call; /* a bound method in its halves, which spares making the arguments anew; or self is NULL */
typedef struct {
  char *name;
  Mode mode;
  int arguments;
  Type **argument_types;
  uint8_t *null_skips; /* an argument that is never passed as None: null in, null out */
  Column *columns;
  int keys;
  Type **key_types;
  Column *key_columns;
  Type *key_row; /* several key columns: what they make */
  int states;
  State **state;
  Type *result;
  Builder output;
  char *where;
  Call call, retract, merge, get_value;
  PyObject *create, *context, *drive;
  PyObject *callable, *retract_callable; /* those of `call` and `retract`, whole */
  uint32_t slots; /* of a bundle */
} Function;

typedef struct {
  Function *function;
  uint8_t *frame; /* kept while the bundle is suspended */
  uint32_t operation, rows, keys, row, key;
  int64_t watermark, processing_time;
  const uint8_t *event_times, *row_kinds, *key_index;
  int running;
  PyObject *iterator; /* of the row that is being expanded */
  int generator;      /* it is one */
  int driven;         /* it is a loop of wasmill/drive.py over the rows themselves, `entered` says that it is inside of one */
  int entered;
  uint32_t start;     /* where the row's output begins; what went out with an earlier `more` is gone */
  Buffer sources, kinds;
  int kinds_used;
  PyObject **live;    /* accumulators as objects, a key each */
  uint32_t live_capacity;
} Bundle;
extern Bundle current;

typedef struct { Buffer rows, kind_offsets, kind, message_offsets, message, traceback_offsets, traceback; uint32_t count, of_bundle; } Errors;
extern Errors errors;
void errors_reset(void);
void row_failed(uint32_t row); /* takes the exception that is set */

int loop_run(void); /* 0 done, 1 more */
extern uint32_t driven_rows_min;
void loop_begin(void);
void loop_drop(void);
int drive_setup(void);
int call_setup(PyObject *classes); /* the types of generators and of bound methods */
int call_set(Call *call, PyObject *callable);
void call_clear(Call *call);
Buffer *bundle_run(uint8_t *frame, uint32_t length, void (*release)(void *));
Buffer *bundle_resume(void);
uint32_t bundle_slots(const Function *f);
Function *function_at(uint32_t index);
extern PyObject *format_traceback, *begin_bundle, *end_bundle;

/* ---- json.c */
PyObject *json_loads(PyObject *self, PyObject *const *a, Py_ssize_t n);

/* ---- the host: hostcalls.c */
void host_panicked(const char *message);
int host_get(uint32_t state, uint32_t key, uint8_t **at, uint32_t *length); /* 0 = absent; the memory is the caller's */
void host_get_many(uint32_t state, const uint32_t *keys, uint32_t count, uint32_t **ends, uint8_t **values);
void host_put(uint32_t state, uint32_t key, const uint8_t *at, uint32_t length, int present);
void host_put_many(uint32_t state, const uint32_t *keys, const uint32_t *ends, uint32_t count, const uint8_t *values, uint32_t length);
