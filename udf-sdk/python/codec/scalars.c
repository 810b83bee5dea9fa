/* Single values: numbers, decimals, text; for dates and times see times.c. What Python holds them as is said in ../README.md ("Types"). */
#include "codec.h"

static PyObject *Decimal, *n_adjusted, *fixed_point;

int scalar_setup(PyObject *classes) { /* begins with Decimal, date, time, datetime, utc */
  Decimal = PyTuple_GetItem(classes, 0);
  if (!Decimal) return 0;
  Py_INCREF(Decimal);
  if (!n_adjusted && (!(n_adjusted = PyUnicode_FromString("adjusted")) || !(fixed_point = PyUnicode_FromString("f")))) return 0;
  return time_setup(classes);
}

/* ---- decimals: 128 bits as four limbs of 32, since there is no 128-bit arithmetic to link with */
typedef struct { uint32_t limb[4]; } Wide;

static uint32_t wide_divide(Wide *w, uint32_t by) {
  uint64_t rest = 0;
  for (int i = 3; i >= 0; i--) {
    rest = rest << 32 | w->limb[i];
    w->limb[i] = (uint32_t)(rest / by);
    rest %= by;
  }
  return (uint32_t)rest;
}

static int wide_multiply_add(Wide *w, uint32_t by, uint32_t add) { /* 0 = it overflowed */
  uint64_t carry = add;
  for (int i = 0; i < 4; i++) {
    carry += (uint64_t)w->limb[i] * by;
    w->limb[i] = (uint32_t)carry;
    carry >>= 32;
  }
  return carry == 0;
}

static int wide_less(const Wide *a, const Wide *b) {
  for (int i = 3; i >= 0; i--)
    if (a->limb[i] != b->limb[i]) return a->limb[i] < b->limb[i];
  return 0;
}

static void wide_negate(Wide *w) {
  uint64_t carry = 1;
  for (int i = 0; i < 4; i++) {
    carry += (uint32_t)~w->limb[i];
    w->limb[i] = (uint32_t)carry;
    carry >>= 32;
  }
}

static PyObject *read_decimal(const Type *t, const uint8_t *at) {
  char text[64];
  int end = sizeof text, digits = 0;
  Wide w;
  memcpy(&w, at, 16);
  int negative = w.limb[3] >> 31;
  if (negative) wide_negate(&w);
  while (w.limb[0] | w.limb[1] | w.limb[2] | w.limb[3] || digits <= t->scale) {
    uint32_t nine = wide_divide(&w, 1000000000);
    int last = !(w.limb[0] | w.limb[1] | w.limb[2] | w.limb[3]);
    for (int i = 0; i < 9 && (nine || !last || digits <= t->scale); i++, nine /= 10) {
      if (digits == t->scale && digits) text[--end] = '.';
      text[--end] = (char)('0' + nine % 10);
      digits++;
    }
  }
  if (negative) text[--end] = '-';
  PyObject *arguments[2] = {NULL, PyUnicode_FromStringAndSize(text + end, (Py_ssize_t)sizeof text - end)};
  if (!arguments[1]) return NULL;
  PyObject *made = PyObject_Vectorcall(Decimal, arguments + 1, 1 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
  Py_DECREF(arguments[1]);
  return made;
}

/* The text of a Decimal or int without an exponent; *far = 1: too big, -1: nothing but zeros at any scale. */
static PyObject *plain_digits(PyObject *value, int *far) {
  *far = 0;
  if (Py_TYPE(value) == (PyTypeObject *)Decimal) { /* most are written without an exponent, and are numbers */
    PyObject *text = PyObject_Str(value);
    const char *at = text ? PyUnicode_AsUTF8AndSize(text, NULL) : NULL;
    if (!at) { Py_XDECREF(text); return NULL; }
    if (!at[strcspn(at, "ENIs")]) return text;
    Py_DECREF(text);
  }
  if (PyLong_Check(value)) {
    PyObject *text = PyObject_Str(value);
    if (!text && PyErr_ExceptionMatches(PyExc_ValueError)) { PyErr_Clear(); *far = 1; }
    return text;
  }
  int filled = PyObject_IsTrue(value);
  if (filled < 0) return NULL;
  if (!filled) { *far = -1; return NULL; }
  PyObject *method = PyObject_GetAttr(value, n_adjusted), *exponent = method ? PyObject_CallNoArgs(method) : NULL;
  Py_XDECREF(method);
  if (!exponent) return NULL;
  int overflow;
  long long adjusted = PyLong_AsLongLongAndOverflow(exponent, &overflow);
  Py_DECREF(exponent);
  if (overflow || adjusted > 40 || adjusted < -60) {
    *far = overflow ? overflow : adjusted > 0 ? 1 : -1;
    return NULL;
  }
  return PyObject_Format(value, fixed_point);
}

static const uint32_t tens[] = {1, 10, 100, 1000, 10000, 100000, 1000000, 10000000, 100000000, 1000000000};

static int wide_shift(Wide *w, int digits) { /* times a power of ten */
  for (; digits > 9; digits -= 9) if (!wide_multiply_add(w, tens[9], 0)) return 0;
  return wide_multiply_add(w, tens[digits], 0);
}

/* Rounds half up (away from zero) to the scale. 0 = does not fit, -1 = no number */
static int parse_digits(const Type *t, const char *text, Wide *w, int *negative) {
  int fraction = -1, round_up = 0, pending = 0;
  uint32_t part = 0; /* digits that are not in `w` yet */
  *negative = *text == '-';
  for (text += *negative; *text; text++) {
    if (*text == '.' && fraction < 0) { fraction = 0; continue; }
    if (*text < '0' || *text > '9') return -1;
    if (fraction >= t->scale) { /* the first digit behind the scale decides */
      if (fraction++ == t->scale) round_up = *text >= '5';
      continue;
    }
    part = part * 10 + (uint32_t)(*text - '0');
    fraction += fraction >= 0;
    if (++pending < 9) continue;
    if (!wide_multiply_add(w, tens[9], part)) return 0;
    part = 0;
    pending = 0;
  }
  if (!wide_multiply_add(w, tens[pending], part)) return 0;
  if (fraction < t->scale && !wide_shift(w, t->scale - (fraction < 0 ? 0 : fraction))) return 0;
  if (round_up && !wide_multiply_add(w, 1, 1)) return 0;
  Wide limit = {{1}};
  wide_shift(&limit, t->precision);
  return wide_less(w, &limit);
}

static int is_decimal(PyObject *value) {
  return Py_TYPE(value) == (PyTypeObject *)Decimal || PyType_IsSubtype(Py_TYPE(value), (PyTypeObject *)Decimal);
}

static int write_decimal(const Type *t, PyObject *value, uint8_t *to) {
  if (!(is_decimal(value) || (PyLong_Check(value) && !PyBool_Check(value)))) return wrong(t, value);
  Wide w = {{0}};
  int far, negative = 0, fits = 1;
  PyObject *text = plain_digits(value, &far);
  if (text) {
    const char *digits = PyUnicode_AsUTF8AndSize(text, NULL);
    fits = digits ? parse_digits(t, digits, &w, &negative) : -1;
    Py_DECREF(text);
    if (!digits) return 0;
  } else if (!far) {
    return 0;
  } else {
    fits = far < 0;
  }
  if (fits < 0) return wrong(t, value);
  if (!fits) return t->nullable ? 2 : out_of_range(t, value);
  if (negative) wide_negate(&w);
  memcpy(to, &w, 16);
  return 1;
}

/* ---- numbers */
static PyObject *read_int(const Type *t, const uint8_t *at) {
  switch (t->width | (t->code == T_UINT ? 16 : 0)) {
    case 1: return PyLong_FromLong((int8_t)*at);
    case 2: { int16_t v; memcpy(&v, at, 2); return PyLong_FromLong(v); }
    case 4: return PyLong_FromLong((int32_t)load32(at));
    case 8: return PyLong_FromLongLong(load64(at));
    case 17: return PyLong_FromLong(*at);
    case 18: { uint16_t v; memcpy(&v, at, 2); return PyLong_FromLong(v); }
    case 20: return PyLong_FromLongLong(load32(at));
    default: return PyLong_FromUnsignedLongLong((uint64_t)load64(at));
  }
}

static int write_uint64(const Type *t, PyObject *value, uint8_t *to) {
  uint64_t v = PyLong_AsUnsignedLongLong(value);
  if (v == UINT64_MAX && PyErr_Occurred()) {
    PyErr_Clear();
    return out_of_range(t, value);
  }
  memcpy(to, &v, 8);
  return 1;
}

static int write_int(const Type *t, PyObject *value, uint8_t *to) {
  int64_t small;
  if (PyLong_CheckExact(value) && t->code == T_INT && t->width == 8 && small_int(value, &small)) {
    memcpy(to, &small, 8);
    return 1;
  }
  if (!PyLong_Check(value)) {
    if (!PyIndex_Check(value)) return wrong(t, value);
    PyObject *index = PyNumber_Index(value);
    if (!index) return 0;
    int ok = write_int(t, index, to);
    Py_DECREF(index);
    return ok;
  }
  if (t->code == T_UINT && t->width == 8) return write_uint64(t, value, to);
  int overflow, bits = t->width * 8;
  int64_t v = PyLong_AsLongLongAndOverflow(value, &overflow);
  if (v == -1 && !overflow && PyErr_Occurred()) return 0;
  int64_t low = t->code == T_UINT ? 0 : bits == 64 ? INT64_MIN : -((int64_t)1 << (bits - 1));
  int64_t high = bits == 64 ? INT64_MAX : ((int64_t)1 << (t->code == T_UINT ? bits : bits - 1)) - 1;
  if (overflow || v < low || v > high) return out_of_range(t, value);
  memcpy(to, &v, t->width);
  return 1;
}

static int write_float(const Type *t, PyObject *value, uint8_t *to) {
  double v;
  if (PyFloat_CheckExact(value)) {
    v = float_of(value);
  } else if (PyFloat_Check(value)) {
    v = PyFloat_AsDouble(value);
  } else if (PyLong_Check(value) && !PyBool_Check(value)) {
    v = PyLong_AsDouble(value);
    if (v == -1.0 && PyErr_Occurred()) {
      PyErr_Clear();
      return out_of_range(t, value);
    }
  } else {
    return wrong(t, value);
  }
  if (t->width == 8) { memcpy(to, &v, 8); return 1; }
  float narrow = (float)v;
  if (__builtin_isinf(narrow) && !__builtin_isinf(v)) return out_of_range(t, value);
  memcpy(to, &narrow, 4);
  return 1;
}

PyObject *scalar_read(const Type *t, const uint8_t *at) {
  switch (t->code) {
    case T_INT: case T_UINT: return read_int(t, at);
    case T_FLOAT:
      if (t->width == 4) { float v; memcpy(&v, at, 4); return PyFloat_FromDouble((double)v); }
      else { double v; memcpy(&v, at, 8); return PyFloat_FromDouble(v); }
    case T_BOOL: return PyBool_FromLong(*at);
    case T_DECIMAL: return read_decimal(t, at);
    case T_DATE: return date_read(t, (int32_t)load32(at));
    case T_TIME: return time_read(t, load64(at));
    case T_TIMESTAMP: return timestamp_read(t, load64(at));
    default: PyErr_SetString(PyExc_RuntimeError, "not a scalar"); return NULL;
  }
}

int scalar_write(const Type *t, PyObject *value, uint8_t *to) {
  switch (t->code) {
    case T_INT: case T_UINT: return write_int(t, value, to);
    case T_FLOAT: return write_float(t, value, to);
    case T_BOOL:
      if (!PyBool_Check(value)) return wrong(t, value);
      *to = value == Py_True;
      return 1;
    case T_DECIMAL: return write_decimal(t, value, to);
    case T_DATE: return date_write(t, value, to);
    case T_TIME: return time_write(t, value, to);
    case T_TIMESTAMP: return timestamp_write(t, value, to);
    default: return wrong(t, value);
  }
}

/* ---- text */
int text_open(const Type *t, PyObject *value, Text *text) {
  text->held = 0;
  if (t->code == T_UTF8) {
    if (PyUnicode_CheckExact(value) && ascii_text(value, &text->at, &text->size)) return 1;
    if (!PyUnicode_Check(value)) return wrong(t, value);
    text->at = PyUnicode_AsUTF8AndSize(value, &text->size);
    if (text->at) return 1;
    return PyErr_ExceptionMatches(PyExc_UnicodeEncodeError) ? half_character(t, value) : 0;
  }
  if (PyBytes_Check(value)) {
    char *at;
    if (PyBytes_AsStringAndSize(value, &at, &text->size) < 0) return 0;
    text->at = at;
    return 1;
  }
  if (PyUnicode_Check(value) || PyObject_GetBuffer(value, &text->view, PyBUF_SIMPLE) < 0) {
    PyErr_Clear();
    return wrong(t, value);
  }
  text->held = 1;
  text->at = text->view.buf;
  text->size = text->view.len;
  return 1;
}

void text_close(Text *text) {
  if (text->held) PyBuffer_Release(&text->view);
}
