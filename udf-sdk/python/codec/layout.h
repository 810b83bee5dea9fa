/* How CPython 3.14's objects lie in 32-bit memory: fields read directly instead of by a call into libpython, which is another module.
 *
 * The runner brings its CPython along, so the layout cannot change under us; when componentize-py's CPython does, `layout_check` refuses
 * the import, and so the build. Then correct this file, or build with -DWASMILL_STABLE_ABI: slower by 10 to 20 %, otherwise the same.
 * Natively (tests) nothing of this is used.
 */
#pragma once

#if defined(__wasm__) && !defined(WASMILL_STABLE_ABI)
#define IMMORTAL (1 << 30)
#define AT(o, offset, type) (*(type *)((char *)(o) + (offset)))

extern void _Py_Dealloc(PyObject *);
extern PyObject *PyUnicode_New(Py_ssize_t size, uint32_t highest);

static inline void layout_incref(PyObject *o) {
  if (o->ob_refcnt < IMMORTAL) o->ob_refcnt++;
}
static inline void layout_decref(PyObject *o) {
  if (o->ob_refcnt < IMMORTAL && --o->ob_refcnt == 0) _Py_Dealloc(o);
}
static inline int layout_immortal(PyObject *o) { /* 0 = it was already */
  if (o->ob_refcnt >= IMMORTAL) return 0;
  o->ob_refcnt = 5 << 28; /* as CPython has it: far above the bound, so that no drift brings it below */
  return 1;
}
#undef Py_INCREF
#undef Py_DECREF
#undef Py_XDECREF
#undef Py_CLEAR
#define Py_INCREF(o) layout_incref((PyObject *)(o))
#define Py_DECREF(o) layout_decref((PyObject *)(o))
#define Py_XDECREF(o) do { PyObject *dropped_ = (PyObject *)(o); if (dropped_) layout_decref(dropped_); } while (0)
#define Py_CLEAR(o) do { PyObject *held_ = (PyObject *)(o); (o) = NULL; if (held_) layout_decref(held_); } while (0)

/* Types are static or on the heap, with the same head. */
static inline unsigned long type_flags(PyTypeObject *t) { return AT(t, 84, unsigned long); }

/* ob_size, then for tuples the hash and the items, for lists the pointer to the items. */
static inline Py_ssize_t layout_size(PyObject *o) { return AT(o, 8, Py_ssize_t); }
static inline PyObject *tuple_item(PyObject *o, Py_ssize_t i) { return (&AT(o, 16, PyObject *))[i]; }
static inline PyObject *list_item(PyObject *o, Py_ssize_t i) { return i < layout_size(o) ? AT(o, 12, PyObject **)[i] : PyList_GetItem(o, i); }
static inline Py_ssize_t tuple_size(PyObject *o) { return layout_size(o); }
static inline Py_ssize_t list_size(PyObject *o) { return layout_size(o); }
static inline double float_of(PyObject *o) { return AT(o, 8, double); }

/* Integers of up to two digits of 30 bits: tag = number of digits << 3 | 1 - sign. */
static inline int small_int(PyObject *o, int64_t *value) {
  uint32_t tag = AT(o, 8, uint32_t);
  if (tag >= 24) return 0;
  uint64_t low = AT(o, 12, uint32_t), high = tag >= 16 ? AT(o, 16, uint32_t) : 0;
  *value = (int64_t)(low | high << 30) * (1 - (int64_t)(tag & 3));
  return 1;
}

/* Text of ASCII alone. The state's low bits are interned:2, kind:3, compact:1, ascii:1, static:1; the others are not set at all. */
static inline int ascii_text(PyObject *o, const char **at, Py_ssize_t *size) {
  if ((AT(o, 16, uint8_t) & 0x60) != 0x60) return 0;
  *size = layout_size(o);
  *at = (char *)o + 20;
  return 1;
}
static inline PyObject *ascii_new(const char *from, Py_ssize_t size) {
  if (size < 2) return PyUnicode_FromStringAndSize(from, size); /* shared ones */
  PyObject *made = PyUnicode_New(size, 127);
  if (!made) return NULL;
  char *to = (char *)made + 20;
  if (size < 64) for (Py_ssize_t i = 0; i < size; i++) to[i] = from[i]; /* memcpy is a call to another module too */
  else memcpy(to, from, (size_t)size);
  return made;
}

static inline void list_put(PyObject *o, Py_ssize_t i, PyObject *value) { AT(o, 12, PyObject **)[i] = value; } /* steals; of a new list */

/* Of dates, times and datetimes: year (2 bytes), month, day, hour, minute, second, microsecond (3), as far as they have it; then the zone. */
static inline const uint8_t *datetime_bytes(PyObject *o, int from) { return (const uint8_t *)o + 13 + from; }
static inline PyObject *datetime_zone(PyObject *o) { return AT(o, 12, uint8_t) ? AT(o, 24, PyObject *) : Py_None; }

/* A tuple of two of which nobody keeps hold. Steals both; a new reference. */
static inline void pair_put(PyObject *pair, int i, PyObject *value) {
  PyObject **place = &AT(pair, 16, PyObject *) + i, *old = *place;
  *place = value;
  layout_decref(old);
}
static inline PyObject *pair_again(PyObject **pair, PyObject *a, PyObject *b) {
  if (!*pair || (*pair)->ob_refcnt != 1) {
    Py_CLEAR(*pair);
    if (!(*pair = PyTuple_New(2))) { Py_DECREF(a); Py_DECREF(b); return NULL; }
    PyTuple_SetItem(*pair, 0, a);
    PyTuple_SetItem(*pair, 1, b);
  } else {
    pair_put(*pair, 0, a);
    pair_put(*pair, 1, b);
  }
  layout_incref(*pair);
  return *pair;
}
static inline void pair_clear(PyObject *pair) {
  if (pair->ob_refcnt != 1) return;
  pair_put(pair, 0, Py_None);
  pair_put(pair, 1, Py_None);
}

/* Dicts whose keys are all text: a table of keys and values in order, behind the head of its keys and an index whose size the head tells.
 * A copy of a dict of None can be filled there, which is several times faster than putting in key by key. */
#define DICTS_CAN_BE_FILLED 1
static inline PyObject **dict_table(PyObject *o) {
  char *keys = AT(o, 24, char *);
  return (PyObject **)(keys + 20 + (1u << AT(keys, 5, uint8_t)));
}
static inline int dict_fits(PyObject *o, PyObject **pairs, Py_ssize_t count) {
  char *keys = AT(o, 24, char *);
  if (AT(o, 8, Py_ssize_t) != count || AT(o, 28, void *) || AT(keys, 6, uint8_t) != 1 || AT(keys, 16, Py_ssize_t) != count) return 0;
  for (Py_ssize_t i = 0; i < count; i++)
    if (dict_table(o)[2 * i] != pairs[2 * i] || dict_table(o)[2 * i + 1] != Py_None) return 0;
  return 1;
}
static inline void dict_fill(PyObject *o, PyObject **pairs, Py_ssize_t count) { /* steals the values */
  PyObject **table = dict_table(o);
  for (Py_ssize_t i = 0; i < count; i++) table[2 * i + 1] = pairs[2 * i + 1];
}
/* Of a dict of None, its copy, and the copy filled. */
static inline int dict_check(void) {
  PyObject *pairs[4] = {
    PyUnicode_FromString("layout"), PyLong_FromLongLong(1ll << 40), PyUnicode_FromString("check"), PyFloat_FromDouble(1.5),
  };
  PyObject *pattern = PyDict_New();
  int same = pattern && pairs[0] && pairs[1] && pairs[2] && pairs[3];
  for (int i = 0; same && i < 2; i++) same = PyDict_SetItem(pattern, pairs[2 * i], Py_None) == 0;
  PyObject *copy = same ? PyDict_Copy(pattern) : NULL;
  same = copy && dict_fits(pattern, pairs, 2) && dict_fits(copy, pairs, 2) && PyObject_GC_IsTracked(copy);
  for (int i = 0; same && i < 2; i++) Py_INCREF(pairs[2 * i + 1]);
  if (same) dict_fill(copy, pairs, 2);
  for (int i = 0; same && i < 2; i++)
    same = PyDict_GetItemWithError(copy, pairs[2 * i]) == pairs[2 * i + 1] && PyDict_GetItemWithError(pattern, pairs[2 * i]) == Py_None;
  for (int i = 0; i < 4; i++) Py_XDECREF(pairs[i]);
  Py_XDECREF(pattern);
  Py_XDECREF(copy);
  return same;
}

static inline int layout_check(void) {
  PyObject *one = PyUnicode_FromString("layout"), *pair = PyTuple_New(2), *list = PyList_New(1);
  PyObject *big = PyLong_FromLongLong(-123456789012345), *wide = PyLong_FromLongLong(INT64_MIN), *real = PyFloat_FromDouble(2.5);
  PyObject *other = PyUnicode_FromString("\xc3\xbc\xc3\xbc"), *made = ascii_new("layout", 6);
  if (!one || !pair || !list || !big || !wide || !real || !other || !made) return 0;
  PyTuple_SetItem(pair, 1, one);
  PyList_SetItem(list, 0, real);
  const char *at;
  Py_ssize_t size;
  int64_t value;
  int same = tuple_size(pair) == 2 && tuple_item(pair, 1) == one && list_size(list) == 1 && list_item(list, 0) == real
      && float_of(real) == 2.5 && small_int(big, &value) && value == -123456789012345 && !small_int(wide, &value)
      && small_int((PyObject *)&_Py_FalseStruct, &value) && value == 0 && small_int((PyObject *)&_Py_TrueStruct, &value) && value == 1
      && ascii_text(one, &at, &size) && size == 6 && memcmp(at, "layout", 6) == 0 && !ascii_text(other, &at, &size)
      && ascii_text(made, &at, &size) && size == 6 && memcmp(at, "layout", 6) == 0 && list->ob_refcnt == 1 && Py_None->ob_refcnt >= IMMORTAL
      && type_flags(Py_TYPE(one)) == PyType_GetFlags(Py_TYPE(one)) && type_flags(Py_TYPE(list)) == PyType_GetFlags(Py_TYPE(list))
      && PyUnicode_Check(one) && !PyUnicode_Check(list) && PyList_Check(list) && PyTuple_Check(pair) && PyLong_Check(big) && !PyDict_Check(pair) && dict_check();
  Py_DECREF(pair);
  Py_DECREF(list);
  Py_DECREF(big);
  Py_DECREF(wide);
  Py_DECREF(other);
  Py_DECREF(made);
  if (!same) PyErr_SetString(PyExc_RuntimeError, "CPython's objects lie otherwise than codec/layout.h says");
  return same;
}
#else
static inline unsigned long type_flags(PyTypeObject *t) { return PyType_GetFlags(t); }
static inline PyObject *tuple_item(PyObject *o, Py_ssize_t i) { return PyTuple_GetItem(o, i); }
static inline PyObject *list_item(PyObject *o, Py_ssize_t i) { return PyList_GetItem(o, i); }
static inline Py_ssize_t tuple_size(PyObject *o) { return PyTuple_Size(o); }
static inline Py_ssize_t list_size(PyObject *o) { return PyList_Size(o); }
static inline double float_of(PyObject *o) { return PyFloat_AsDouble(o); }
static inline int small_int(PyObject *o, int64_t *value) {
  int overflow;
  *value = PyLong_AsLongLongAndOverflow(o, &overflow);
  return !overflow;
}
static inline int ascii_text(PyObject *o, const char **at, Py_ssize_t *size) { (void)o; (void)at; (void)size; return 0; }
static inline PyObject *ascii_new(const char *from, Py_ssize_t size) { return PyUnicode_FromStringAndSize(from, size); }
static inline void list_put(PyObject *o, Py_ssize_t i, PyObject *value) { PyList_SetItem(o, i, value); }
static inline PyObject *pair_again(PyObject **pair, PyObject *a, PyObject *b) {
  (void)pair;
  PyObject *made = PyTuple_New(2);
  if (!made) { Py_DECREF(a); Py_DECREF(b); return NULL; }
  PyTuple_SetItem(made, 0, a);
  PyTuple_SetItem(made, 1, b);
  return made;
}
static inline void pair_clear(PyObject *pair) { (void)pair; }
static inline const uint8_t *datetime_bytes(PyObject *o, int from) { (void)o; (void)from; return NULL; }
static inline PyObject *datetime_zone(PyObject *o) { (void)o; return NULL; }
#define DICTS_CAN_BE_FILLED 0
static inline int dict_fits(PyObject *o, PyObject **pairs, Py_ssize_t count) { (void)o; (void)pairs; (void)count; return 0; }
static inline void dict_fill(PyObject *o, PyObject **pairs, Py_ssize_t count) { (void)o; (void)pairs; (void)count; }
static inline int layout_immortal(PyObject *o) { (void)o; return 0; } /* more memory of each instance's own, otherwise the same */
static inline int layout_check(void) { return 1; }
#endif
