/* Types, from the tuples that `wasmill.notation.DataType.compiled` makes:
 * (code, nullable, a, b, extra, names, children, text). */
#include "codec.h"
#include <stdlib.h>

static int small(PyObject *tuple, Py_ssize_t i) { return (int)PyLong_AsLong(PyTuple_GetItem(tuple, i)); }

int type_is_fixed(const Type *t) {
  switch (t->code) {
    case T_INT: case T_UINT: case T_FLOAT: case T_DECIMAL: case T_DATE: case T_TIME: case T_TIMESTAMP: return 1;
    default: return 0;
  }
}

static int own_slots(Code code) {
  switch (code) {
    case T_UTF8: case T_BINARY: return 3;
    case T_STRUCT: return 1;
    default: return 2;
  }
}

/* As the names of attributes in a program are: then the same name is the same object. */
static PyObject *interned(PyObject *names) {
  Py_ssize_t size = PyTuple_Size(names);
  PyObject *made = PyTuple_New(size);
  for (Py_ssize_t i = 0; made && i < size; i++) {
    PyObject *name = PyTuple_GetItem(names, i);
    Py_INCREF(name);
    PyUnicode_InternInPlace(&name);
    PyTuple_SetItem(made, i, name);
  }
  return made;
}

static int of_code(Type *t, char code, PyObject *d) {
  int a = small(d, 2), b = small(d, 3);
  PyObject *extra = PyTuple_GetItem(d, 4), *names = PyTuple_GetItem(d, 5);
  t->width = 8;
  t->quick = Q_NONE;
  switch (code) {
    case 'b': t->code = T_BOOL; t->width = 1; return 1;
    case 'i': t->code = b ? T_INT : T_UINT; t->width = (uint8_t)a; if (a == 8 && b) t->quick = Q_INT64; return 1;
    case 'f': t->code = T_FLOAT; t->width = (uint8_t)a; if (a == 8) t->quick = Q_FLOAT64; return 1;
    case 'd': t->code = T_DECIMAL; t->width = 16; t->precision = a; t->scale = b; return 1;
    case 'u': t->code = T_UTF8; t->quick = Q_UTF8; return 1;
    case 'y': t->code = T_BINARY; return 1;
    case 'D': t->code = T_DATE; t->width = 4; return 1;
    case 't': t->code = T_TIME; return 1;
    case 'T':
      t->code = T_TIMESTAMP;
      for (t->per_second = 1; a > 0; a--) t->per_second *= 10;
      if (extra != Py_None) { t->zone = extra; Py_INCREF(extra); }
      return 1;
    case 'l': t->code = T_LIST; return 1;
    case 's': t->code = T_STRUCT; t->names = interned(names); t->shape = extra; Py_INCREF(extra); return t->names != NULL;
    case 'm': t->code = T_MAP; return 1;
  }
  PyErr_Format(PyExc_ValueError, "the codec knows no type %c", code);
  return 0;
}

Type *type_build(PyObject *d) {
  if (!PyTuple_Check(d) || PyTuple_Size(d) != 8) {
    PyErr_SetString(PyExc_TypeError, "a compiled type is a tuple of eight");
    return NULL;
  }
  const char *code = PyUnicode_AsUTF8AndSize(PyTuple_GetItem(d, 0), NULL);
  if (!code) return NULL;
  Type *t = take(sizeof *t);
  t->text_object = PyTuple_GetItem(d, 7);
  Py_INCREF(t->text_object);
  t->text = PyUnicode_AsUTF8AndSize(t->text_object, NULL);
  t->nullable = PyObject_IsTrue(PyTuple_GetItem(d, 1)) == 1;
  PyObject *children = PyTuple_GetItem(d, 6);
  if (!t->text || !of_code(t, code[0], d)) { type_free(t); return NULL; }
  t->slots = own_slots(t->code);
  int count = (int)PyTuple_Size(children);
  t->child = take(sizeof(Type *) * (size_t)count);
  for (; t->children < count; t->children++) {
    Type *child = t->child[t->children] = type_build(PyTuple_GetItem(children, t->children));
    if (!child) { type_free(t); return NULL; }
    t->slots += child->slots;
  }
  return t;
}

void type_free(Type *t) {
  if (!t) return;
  for (int i = 0; i < t->children; i++) type_free(t->child[i]);
  free(t->child);
  Py_XDECREF(t->zone);
  Py_XDECREF(t->shape);
  Py_XDECREF(t->names);
  Py_XDECREF(t->seen_shape);
  free(t->seen_index);
  Py_XDECREF(t->text_object);
  free(t);
}
