/* Structs: read as `Row`, written from whatever users make of them. And the messages about values that do not fit. */
#include "codec.h"
#include <stdio.h>
#include <stdlib.h>

Step path[DEPTH_MAX + 2];
int path_depth;
const char *path_where = "";

static PyObject *n_fields, *n_dataclass;

int shape_setup(void) {
  return (n_fields = PyUnicode_FromString("_fields")) && (n_dataclass = PyUnicode_FromString("__dataclass_fields__"));
}

/* ---- messages */
#define KEY_CHARACTERS 40

/* Bytes of the first characters of a text in UTF-8. */
static int bytes_of(const char *text, int characters) {
  const char *at = text;
  for (; *at && (characters > 0 || (*at & 0xc0) == 0x80); at++) characters -= (at[1] & 0xc0) != 0x80;
  return (int)(at - text);
}

static void path_text(char *to, size_t size) {
  size_t at = (size_t)snprintf(to, size, "%s", path_where);
  for (int i = 0; i < path_depth && at < size; i++) {
    Step *s = &path[i];
    const char *key = NULL;
    PyObject *shown = s->key ? PyObject_Repr(s->key) : NULL;
    if (shown) key = PyUnicode_AsUTF8AndSize(shown, NULL);
    if (!key && s->key) PyErr_Clear();
    PyObject *field = s->names ? PyTuple_GetItem(s->names, s->index) : NULL;
    const char *name = field ? PyUnicode_AsUTF8AndSize(field, NULL) : NULL;
    if (!name) PyErr_Clear();
    if (name) at += (size_t)snprintf(to + at, size - at, ".%s", name);
    else if (key) at += (size_t)snprintf(to + at, size - at, "[%.*s]", bytes_of(key, KEY_CHARACTERS), key);
    else at += (size_t)snprintf(to + at, size - at, "[%ld]", (long)s->index);
    Py_XDECREF(shown);
  }
}

/* `str 'abc'`; long values only by their type. New reference or NULL without an exception. */
static PyObject *shown(PyObject *value) {
  Py_ssize_t size = -1;
  if (PyUnicode_Check(value)) size = PyUnicode_GetLength(value);
  else if (PyBytes_Check(value)) { char *at; if (PyBytes_AsStringAndSize(value, &at, &size) < 0) PyErr_Clear(); }
  else if (PyLong_Check(value) || PyFloat_Check(value)) size = 0;
  if (size < 0 || size > 60) return NULL;
  PyObject *text = PyObject_Repr(value);
  if (!text) PyErr_Clear();
  else if (PyUnicode_GetLength(text) > 80) Py_CLEAR(text);
  return text;
}

static PyObject *type_name(PyObject *value) {
  PyObject *name = PyObject_GetAttrString((PyObject *)Py_TYPE(value), "__name__");
  if (!name) PyErr_Clear();
  return name;
}

static int complain(PyObject *exception, const char *verb, const Type *t, PyObject *value, const char *more) {
  char where[600];
  path_text(where, sizeof where);
  if (value == Py_None) {
    PyErr_Format(exception, "%s: %s %s, got None", where, verb, t->text);
    return 0;
  }
  PyObject *text = shown(value), *name = type_name(value);
  const char *name_text = name ? PyUnicode_AsUTF8AndSize(name, NULL) : NULL, *got = text ? PyUnicode_AsUTF8AndSize(text, NULL) : NULL;
  PyErr_Clear(); /* of a text that is no UTF-8 */
  name_text = name_text ? name_text : "something else";
  PyErr_Format(exception, "%s: %s %s, got %s%s%s%s", where, verb, t->text, name_text, got ? " " : "", got ? got : "", more);
  Py_XDECREF(text);
  Py_XDECREF(name);
  return 0;
}

int wrong(const Type *t, PyObject *value) { return complain(PyExc_TypeError, "wants", t, value, ""); }
int out_of_range(const Type *t, PyObject *value) { return complain(PyExc_OverflowError, "does not fit", t, value, ""); }

int wrong_zone(const Type *t, PyObject *value) {
  const char *more = " without a zone: give it one with value.replace(tzinfo=timezone.utc), or declare a type without, as timestamp(us)";
  if (t->code == T_TIME) more = " with a zone: take it off with value.replace(tzinfo=None)";
  else if (!t->zone) more = " with a zone: take it off with value.astimezone(timezone.utc).replace(tzinfo=None), or declare a type with one, as timestamp(us,UTC)";
  return complain(PyExc_TypeError, "wants", t, value, more);
}

/* Of the UnicodeEncodeError that is set. */
int half_character(const Type *t, PyObject *value) {
  char more[140];
  PyObject *error = PyErr_GetRaisedException(), *start = error ? PyObject_GetAttrString(error, "start") : NULL;
  long at = start ? PyLong_AsLong(start) : -1;
  Py_XDECREF(start);
  Py_XDECREF(error);
  PyErr_Clear();
  snprintf(more, sizeof more, ", whose character %ld is half a pair (a lone surrogate): replace it, as value.encode('utf-8', 'replace').decode() does", at);
  return complain(PyExc_ValueError, "wants", t, value, more);
}

/* ---- opening a struct */
static int lengths_differ(const Type *t, PyObject *value, Py_ssize_t got) {
  char where[600];
  path_text(where, sizeof where);
  PyObject *name = type_name(value);
  const char *text = name ? PyUnicode_AsUTF8AndSize(name, NULL) : NULL;
  PyErr_Format(PyExc_TypeError, "%s: wants the %d fields of %s, got a %s of %zd", where, t->children, t->text, text ? text : "value", got);
  Py_XDECREF(name);
  return 0;
}

static int field_missing(const Type *t, int i, const char *said) {
  char where[600];
  path_text(where, sizeof where);
  PyObject *name = PyTuple_GetItem(t->names, i);
  const char *text = name ? PyUnicode_AsUTF8AndSize(name, NULL) : NULL;
  PyErr_Format(PyExc_TypeError, "%s: %s \"%s\" of %s", where, said, text ? text : "?", t->text);
  return 0;
}

static int unknown_field(const Type *t, PyObject *key) {
  char where[600];
  path_text(where, sizeof where);
  PyObject *text = shown(key);
  const char *got = text ? PyUnicode_AsUTF8AndSize(text, NULL) : NULL;
  PyErr_Format(PyExc_TypeError, "%s: has a field %s that is not in %s", where, got ? got : "?", t->text);
  Py_XDECREF(text);
  return 0;
}

static int from_sequence(const Type *t, PyObject *value, PyObject **fields) {
  int list = PyList_Check(value);
  Py_ssize_t size = list ? list_size(value) : tuple_size(value);
  if (size != t->children) return lengths_differ(t, value, size);
  for (int i = 0; i < t->children; i++) {
    fields[i] = list ? list_item(value, i) : tuple_item(value, i);
    Py_INCREF(fields[i]);
  }
  return 1;
}

static int from_dict(const Type *t, PyObject *value, PyObject **fields) {
  int found = 0;
  for (int i = 0; i < t->children; i++) {
    PyObject *one = PyDict_GetItemWithError(value, PyTuple_GetItem(t->names, i));
    if (!one) return PyErr_Occurred() ? 0 : field_missing(t, i, "lacks the field");
    Py_INCREF(one);
    fields[i] = one;
    found++;
  }
  if (PyDict_Size(value) == found) return 1;
  Py_ssize_t at = 0;
  PyObject *key, *item;
  while (PyDict_Next(value, &at, &key, &item))
    if (!PyDict_GetItemWithError(t->shape, key)) return PyErr_Occurred() ? 0 : unknown_field(t, key);
  return 1;
}

static int from_attributes(const Type *t, PyObject *value, PyObject **fields) {
  for (int i = 0; i < t->children; i++) {
    fields[i] = PyObject_GetAttr(value, PyTuple_GetItem(t->names, i));
    if (!fields[i]) { PyErr_Clear(); return field_missing(t, i, "lacks the field"); }
  }
  return 1;
}

/* Where the fields of `t` lie in rows of another shape. Rows of one place in a program share their shape mostly. */
static const Py_ssize_t *indices_in(const Type *shared, PyObject *shape) {
  Type *t = (Type *)shared; /* a cache is no change */
  if (t->seen_shape == shape) return t->seen_index;
  if (!t->seen_index) t->seen_index = take(sizeof(Py_ssize_t) * (size_t)t->children);
  Py_CLEAR(t->seen_shape);
  for (int i = 0; i < t->children; i++) {
    PyObject *index = PyDict_GetItemWithError(shape, PyTuple_GetItem(t->names, i));
    if (!index) {
      if (!PyErr_Occurred()) field_missing(t, i, "lacks the field");
      return NULL;
    }
    t->seen_index[i] = PyLong_AsSsize_t(index);
  }
  Py_INCREF(shape);
  t->seen_shape = shape;
  return t->seen_index;
}

/* A Row with names goes by name, one without by position. */
static int from_row(const Type *t, PyObject *row, PyObject **fields) {
  if (row_size(row) != t->children) return lengths_differ(t, row, row_size(row));
  PyObject *shape = row_shape(row);
  const Py_ssize_t *index = NULL;
  if (shape && shape != t->shape && !(index = indices_in(t, shape))) return 0;
  for (int i = 0; i < t->children; i++)
    if (!(fields[i] = row_field(row, index ? index[i] : i))) return 0;
  return 1;
}

static int has(PyObject *value, PyObject *name) {
  PyObject *found = PyObject_GetAttr((PyObject *)Py_TYPE(value), name);
  if (!found) { PyErr_Clear(); return 0; }
  Py_DECREF(found);
  return 1;
}

int struct_open(const Type *t, PyObject *value, PyObject **fields) {
  int ok;
  memset(fields, 0, sizeof(PyObject *) * (size_t)t->children);
  if (is_row(value)) ok = from_row(t, value, fields);
  else if (PyTuple_CheckExact(value) || PyList_Check(value)) ok = from_sequence(t, value, fields);
  else if (PyDict_Check(value)) ok = from_dict(t, value, fields);
  else if (PyTuple_Check(value)) ok = has(value, n_fields) ? from_attributes(t, value, fields) : from_sequence(t, value, fields);
  else if (has(value, n_dataclass)) ok = from_attributes(t, value, fields);
  else return wrong(t, value);
  if (!ok) struct_close(t, fields);
  return ok;
}

void struct_close(const Type *t, PyObject **fields) {
  for (int i = 0; i < t->children; i++) Py_CLEAR(fields[i]);
}
