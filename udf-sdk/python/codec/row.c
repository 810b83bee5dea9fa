/* `Row`, a struct in Python. Its methods that need no speed are added in Python (wasmill/rows.py).
 *
 * The row that a UDF gets is a view: a field is made when it is asked for. When the row is done, a view that nobody kept is used again
 * for the next row; one that was kept gets all its fields at last.
 */
#include "codec.h"
#include <stddef.h>

#define VIEWS 8
#define SPARE_FIELDS_MAX 16
#define SPARE_ROWS_MAX 1024 /* of a size */
#define NAMES_COMPARED 8 /* then the dict is faster */

typedef struct {
  PyVarObject head;
  PyObject *shape;       /* name -> index, or NULL */
  PyObject *names;       /* those of `shape` in order and interned; or NULL, where only the dict knows them */
  long kind;             /* -1 = as its source */
  const Column *source;  /* of a view */
  uint32_t row;
  PyObject *value[];     /* NULL in a view: not made yet */
} Row;

PyTypeObject *RowType;
static PyObject *no_field; /* (row, name) -> message */

static Py_ssize_t size_of(const Row *r) { return r->head.ob_size; }

/* Memory of rows that are gone, by their size: with values per key and in lists, rows come and go by thousands. */
static Row *spare[SPARE_FIELDS_MAX + 1];
static int spare_count[SPARE_FIELDS_MAX + 1];

static Row *row_of_spare(Py_ssize_t size) {
  Row *r = spare[size];
  spare[size] = (Row *)r->shape;
  spare_count[size]--;
  r->shape = r->names = NULL;
  r->source = NULL;
  return (Row *)PyObject_InitVar((PyVarObject *)r, RowType, size);
}

static Row *row_new(Py_ssize_t size, PyObject *shape, PyObject *names) {
  Row *r = size <= SPARE_FIELDS_MAX && spare[size] ? row_of_spare(size) : (Row *)PyType_GenericAlloc(RowType, size);
  if (!r) return NULL;
  r->shape = shape;
  r->names = names;
  if (shape) Py_INCREF(shape);
  if (names) Py_INCREF(names);
  r->kind = -1;
  return r;
}

static inline PyObject *made(Row *r, Py_ssize_t i) { /* borrowed */
  if (!r->value[i]) r->value[i] = column_get(&r->source->child[i], r->row);
  return r->value[i];
}

static int settle(Row *r) { /* a field that cannot be made is None, and the first such failure is set */
  PyObject *failure = NULL;
  for (Py_ssize_t i = 0; i < size_of(r); i++) {
    if (made(r, i)) continue;
    PyObject *e = PyErr_GetRaisedException();
    if (failure) Py_XDECREF(e);
    else failure = e;
    Py_INCREF(Py_None);
    r->value[i] = Py_None;
  }
  r->source = NULL;
  if (!failure) return 1;
  PyErr_SetObject((PyObject *)Py_TYPE(failure), failure);
  Py_DECREF(failure);
  return 0;
}

static void forget(Row *r) {
  for (Py_ssize_t i = 0; i < size_of(r); i++) Py_CLEAR(r->value[i]);
}

/* ---- views */
static Row *views[VIEWS];
int open_views;
static int kept_views;

PyObject *row_view(const Column *c, uint32_t row) {
  if (open_views == VIEWS) return column_get(c, row);
  Row *r = open_views < kept_views ? views[open_views] : NULL;
  if (r && (size_of(r) != c->type->children || r->shape != c->type->shape)) {
    Py_DECREF((PyObject *)r);
    r = NULL;
  }
  if (!r) {
    r = row_new(c->type->children, c->type->shape, c->type->names);
    views[open_views] = r;
    if (!r) { kept_views = open_views; return NULL; }
    if (kept_views <= open_views) kept_views = open_views + 1;
  }
  r->source = c;
  r->row = row;
  r->kind = current.row_kinds ? current.row_kinds[row] : -1;
  open_views++;
  Py_INCREF((PyObject *)r);
  return (PyObject *)r;
}

int views_settle(void) {
  int ok = 1;
  while (open_views) {
    Row *r = views[--open_views];
    if (Py_REFCNT((PyObject *)r) == 1) {
      forget(r);
      continue;
    }
    if (!ok) PyErr_Clear();
    ok &= settle(r);
    Py_DECREF((PyObject *)r);
    views[open_views] = views[--kept_views];
  }
  return ok;
}

/* Two views in turn: the loop holds the last one until it has the next. */
static Row *turns[2];
static int turn;

PyObject *row_turn(const Column *c, uint32_t row) {
  turn ^= 1;
  Row *r = turns[turn];
  if (r && (Py_REFCNT((PyObject *)r) != 1 || size_of(r) != c->type->children || r->shape != c->type->shape)) Py_CLEAR(turns[turn]);
  if (!turns[turn] && !(turns[turn] = row_new(c->type->children, c->type->shape, c->type->names))) return NULL;
  r = turns[turn];
  if (!r->source) forget(r); /* somebody held it beyond its turn: it has its fields */
  r->source = c;
  r->row = row;
  r->kind = current.row_kinds ? current.row_kinds[row] : -1;
  Py_INCREF((PyObject *)r);
  return (PyObject *)r;
}

int row_turn_end(int holders) {
  Row *r = turns[turn];
  if (!r || !r->source) return 1;
  if (Py_REFCNT((PyObject *)r) > 1 + holders) return settle(r);
  forget(r);
  r->source = NULL;
  return 1;
}

/* ---- for the codec */
PyObject *row_field(PyObject *row, Py_ssize_t i) {
  PyObject *value = made((Row *)row, i);
  if (value) Py_INCREF(value);
  return value;
}

Py_ssize_t row_size(PyObject *row) { return size_of((Row *)row); }
PyObject *row_shape(PyObject *row) { return ((Row *)row)->shape; }
long row_kind(PyObject *row) { return ((Row *)row)->kind; }

PyObject *row_begin(const Type *t) { return (PyObject *)row_new(t->children, t->shape, t->names); }
void row_put(PyObject *row, Py_ssize_t i, PyObject *value) { ((Row *)row)->value[i] = value; }

/* ---- for Python */
static void dealloc(PyObject *self) {
  PyTypeObject *type = Py_TYPE(self);
  forget((Row *)self);
  Py_XDECREF(((Row *)self)->shape);
  Py_XDECREF(((Row *)self)->names);
  if (size_of((Row *)self) <= SPARE_FIELDS_MAX && spare_count[size_of((Row *)self)] < SPARE_ROWS_MAX) {
    Py_ssize_t size = size_of((Row *)self);
    ((Row *)self)->shape = (PyObject *)spare[size];
    spare[size] = (Row *)self;
    spare_count[size]++;
  } else {
    PyObject_Free(self);
  }
  Py_DECREF(type);
}

static int count_names(PyObject *shape) { /* in place: the values become indices */
  PyObject *name, *value;
  Py_ssize_t at = 0;
  for (long i = 0; PyDict_Next(shape, &at, &name, &value); i++) {
    PyObject *index = PyLong_FromLong(i);
    int failed = !index || PyDict_SetItem(shape, name, index) < 0;
    Py_XDECREF(index);
    if (failed) return 0;
  }
  return 1;
}

static PyObject *new_named(PyObject *kwargs) {
  PyObject *shape = PyDict_Copy(kwargs), *name, *value;
  Row *r = shape ? row_new(PyDict_Size(shape), shape, NULL) : NULL;
  Py_XDECREF(shape);
  if (!r) return NULL;
  Py_ssize_t at = 0;
  for (Py_ssize_t i = 0; PyDict_Next(shape, &at, &name, &value); i++) {
    Py_INCREF(value);
    r->value[i] = value;
  }
  if (count_names(shape)) return (PyObject *)r;
  Py_DECREF((PyObject *)r);
  return NULL;
}

static PyObject *new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
  (void)type;
  Py_ssize_t size = PyTuple_Size(args);
  if (kwargs && PyDict_Size(kwargs)) {
    if (!size) return new_named(kwargs);
    PyErr_SetString(PyExc_ValueError, "Row takes values or names with values, not both");
    return NULL;
  }
  Row *r = row_new(size, NULL, NULL);
  for (Py_ssize_t i = 0; r && i < size; i++) {
    r->value[i] = PyTuple_GetItem(args, i);
    Py_INCREF(r->value[i]);
  }
  return (PyObject *)r;
}

/* The index of a name; -1 = there is none (or an exception is set). Names in a program are interned mostly. */
static inline Py_ssize_t index_of(Row *r, PyObject *name) {
  if (r->names)
    for (Py_ssize_t i = 0; i < size_of(r) && i < NAMES_COMPARED; i++)
      if (tuple_item(r->names, i) == name) return i;
  PyObject *index = r->shape ? PyDict_GetItemWithError(r->shape, name) : NULL;
  int64_t small;
  if (!index) return -1;
  return small_int(index, &small) ? (Py_ssize_t)small : PyLong_AsSsize_t(index);
}

static void say_missing(Row *r, PyObject *name, PyObject *exception) {
  PyErr_Clear();
  PyObject *arguments[3] = {NULL, (PyObject *)r, name};
  PyObject *message = no_field ? PyObject_Vectorcall(no_field, arguments + 1, 2 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL) : NULL;
  if (message) PyErr_SetObject(exception, message);
  Py_XDECREF(message);
}

static PyObject *getattro(PyObject *self, PyObject *name) {
  Row *r = (Row *)self;
  Py_ssize_t i = index_of(r, name);
  if (i >= 0) return row_field(self, i);
  if (PyErr_Occurred()) return NULL;
  PyObject *found = PyObject_GenericGetAttr(self, name);
  if (!found && PyErr_ExceptionMatches(PyExc_AttributeError)) say_missing(r, name, PyExc_AttributeError);
  return found;
}

static int put(Row *r, Py_ssize_t i, PyObject *value) {
  PyObject *old = r->value[i];
  Py_INCREF(value);
  r->value[i] = value;
  Py_XDECREF(old);
  return 0;
}

static int setattro(PyObject *self, PyObject *name, PyObject *value) {
  Row *r = (Row *)self;
  Py_ssize_t i = value ? index_of(r, name) : -1;
  if (i >= 0) return put(r, i, value);
  if (PyErr_Occurred()) return -1;
  if (PyObject_GenericSetAttr(self, name, value) == 0) return 0;
  if (PyErr_ExceptionMatches(PyExc_AttributeError)) say_missing(r, name, PyExc_AttributeError);
  return -1;
}

/* The place of a name or number; -1 with an exception. */
static Py_ssize_t place(Row *r, PyObject *key) {
  int64_t small;
  if (PyLong_CheckExact(key) && small_int(key, &small) && small >= 0 && small < size_of(r)) return (Py_ssize_t)small;
  if (PyUnicode_Check(key)) {
    Py_ssize_t i = index_of(r, key);
    if (i < 0 && !PyErr_Occurred()) say_missing(r, key, PyExc_KeyError);
    return i;
  }
  PyObject *number = PyNumber_Index(key);
  if (!number) return -1;
  Py_ssize_t i = PyLong_AsSsize_t(number);
  Py_DECREF(number);
  if (i == -1 && PyErr_Occurred()) return -1;
  if (i < 0) i += size_of(r);
  if (i >= 0 && i < size_of(r)) return i;
  PyErr_Format(PyExc_IndexError, "Row index out of range: it has %zd fields", size_of(r));
  return -1;
}

static PyObject *as_list(PyObject *self) {
  Row *r = (Row *)self;
  PyObject *list = PyList_New(size_of(r));
  for (Py_ssize_t i = 0; list && i < size_of(r); i++) {
    PyObject *value = row_field(self, i);
    if (!value) { Py_DECREF(list); return NULL; }
    PyList_SetItem(list, i, value);
  }
  return list;
}

static PyObject *subscript(PyObject *self, PyObject *key) {
  if (!PyLong_CheckExact(key) && !PyUnicode_Check(key) && !PyIndex_Check(key)) { /* a slice, or its error */
    PyObject *list = as_list(self), *part = list ? PyObject_GetItem(list, key) : NULL;
    Py_XDECREF(list);
    return part;
  }
  Py_ssize_t i = place((Row *)self, key);
  return i < 0 ? NULL : row_field(self, i);
}

static int ass_subscript(PyObject *self, PyObject *key, PyObject *value) {
  if (!value) {
    PyErr_SetString(PyExc_TypeError, "a field of a Row cannot be deleted");
    return -1;
  }
  Py_ssize_t i = place((Row *)self, key);
  return i < 0 ? -1 : put((Row *)self, i, value);
}

static Py_ssize_t length(PyObject *self) { return size_of((Row *)self); }

static PyObject *iter(PyObject *self) {
  PyObject *list = as_list(self), *iterator = list ? PyObject_GetIter(list) : NULL;
  Py_XDECREF(list);
  return iterator;
}

static PyObject *get_values(PyObject *self, void *unused) { (void)unused; return as_list(self); }

static PyObject *get_shape(PyObject *self, void *unused) {
  (void)unused;
  PyObject *shape = ((Row *)self)->shape;
  if (!shape) shape = Py_None;
  Py_INCREF(shape);
  return shape;
}

static int set_shape(PyObject *self, PyObject *shape, void *unused) {
  (void)unused;
  Row *r = (Row *)self;
  if (!shape || (shape != Py_None && (!PyDict_Check(shape) || PyDict_Size(shape) != size_of(r)))) {
    PyErr_SetString(PyExc_ValueError, "the shape of a Row is a dict of name to index, or None");
    return -1;
  }
  PyObject *old = r->shape;
  r->shape = shape == Py_None ? NULL : shape;
  if (r->shape) Py_INCREF(r->shape);
  Py_CLEAR(r->names);
  Py_XDECREF(old);
  return 0;
}

static PyObject *get_kind(PyObject *self, void *unused) {
  (void)unused;
  if (((Row *)self)->kind >= 0) return PyLong_FromLong(((Row *)self)->kind);
  Py_INCREF(Py_None);
  return Py_None;
}

static int set_kind(PyObject *self, PyObject *kind, void *unused) {
  (void)unused;
  long number = !kind || kind == Py_None ? -1 : PyLong_AsLong(kind);
  if (number == -1 && PyErr_Occurred()) return -1;
  if (number > 3 || number < -1) {
    PyErr_SetString(PyExc_ValueError, "a row kind is 0 to 3, or None");
    return -1;
  }
  ((Row *)self)->kind = number;
  return 0;
}

/* restore(shape or None, values): a Row of a list */
PyObject *row_restore(PyObject *self, PyObject *const *a, Py_ssize_t n) {
  (void)self;
  if (n != 2 || !PyList_Check(a[1]) || (a[0] != Py_None && !PyDict_Check(a[0]))) {
    PyErr_SetString(PyExc_TypeError, "restore wants a dict or None, and a list");
    return NULL;
  }
  Row *r = row_new(PyList_Size(a[1]), a[0] == Py_None ? NULL : a[0], NULL);
  for (Py_ssize_t i = 0; r && i < size_of(r); i++) {
    r->value[i] = PyList_GetItem(a[1], i);
    Py_INCREF(r->value[i]);
  }
  return (PyObject *)r;
}

/* row_messages(callable): says what is missing */
PyObject *row_messages(PyObject *self, PyObject *callable) {
  (void)self;
  Py_INCREF(callable);
  Py_XDECREF(no_field);
  no_field = callable;
  Py_INCREF(Py_None);
  return Py_None;
}

static PyGetSetDef getset[] = {
  {"_values", get_values, NULL, NULL, NULL}, {"_shape", get_shape, set_shape, NULL, NULL}, {"_kind", get_kind, set_kind, NULL, NULL}, {0},
};
static PyType_Slot slots[] = {
  {Py_tp_dealloc, (void *)dealloc}, {Py_tp_new, (void *)new}, {Py_tp_getattro, (void *)getattro}, {Py_tp_setattro, (void *)setattro},
  {Py_tp_iter, (void *)iter}, {Py_tp_getset, getset}, {Py_mp_subscript, (void *)subscript}, {Py_mp_ass_subscript, (void *)ass_subscript},
  {Py_mp_length, (void *)length}, {0, NULL},
};
static PyType_Spec spec = {"wasmill.rows.Row", (int)offsetof(Row, value), sizeof(PyObject *), Py_TPFLAGS_DEFAULT, slots};

PyObject *row_type(void) {
  if (!RowType) RowType = (PyTypeObject *)PyType_FromSpec(&spec);
  return (PyObject *)RowType;
}
