/* Single values: numbers, decimals, dates, times, timestamps, text. What Python holds them as is said in ../README.md ("Types"). */
#include "codec.h"

static PyObject *Decimal, *Date, *Time, *Datetime, *utc;
static PyObject *n_year, *n_month, *n_day, *n_hour, *n_minute, *n_second, *n_microsecond, *n_tzinfo, *n_astimezone, *n_adjusted, *fixed_point;

int scalar_setup(PyObject *classes) { /* begins with Decimal, date, time, datetime, utc */
  PyObject **into[] = {&Decimal, &Date, &Time, &Datetime, &utc};
  for (int i = 0; i < 5; i++) {
    PyObject *one = PyTuple_GetItem(classes, i);
    if (!one) return 0;
    Py_INCREF(one);
    *into[i] = one;
  }
  if (n_year) return 1;
  struct { PyObject **into; const char *text; } names[] = {
    {&n_year, "year"}, {&n_month, "month"}, {&n_day, "day"}, {&n_hour, "hour"}, {&n_minute, "minute"}, {&n_second, "second"},
    {&n_microsecond, "microsecond"}, {&n_tzinfo, "tzinfo"}, {&n_astimezone, "astimezone"}, {&n_adjusted, "adjusted"}, {&fixed_point, "f"},
  };
  for (size_t i = 0; i < sizeof names / sizeof *names; i++)
    if (!(*names[i].into = PyUnicode_FromString(names[i].text))) return 0;
  return 1;
}

static int is_a(PyObject *value, PyObject *class) {
  return Py_TYPE(value) == (PyTypeObject *)class || PyType_IsSubtype(Py_TYPE(value), (PyTypeObject *)class);
}

static int64_t floor_div(int64_t a, int64_t b) { return a / b - (a % b < 0); }

/* ---- calendar (proleptic Gregorian; day 0 = 1970-01-01) */
static void civil_from_days(int64_t days, int64_t *year, int *month, int *day) {
  days += 719468;
  int64_t era = floor_div(days, 146097);
  int of_era = (int)(days - era * 146097);
  int year_of_era = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
  int of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
  int m = (5 * of_year + 2) / 153;
  *day = of_year - (153 * m + 2) / 5 + 1;
  *month = m < 10 ? m + 3 : m - 9;
  *year = year_of_era + era * 400 + (*month <= 2);
}

static int64_t days_from_civil(int64_t year, int month, int day) {
  year -= month <= 2;
  int64_t era = floor_div(year, 400);
  int year_of_era = (int)(year - era * 400);
  int of_year = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1;
  return era * 146097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + of_year - 719468;
}

static PyObject *call_with_numbers(PyObject *callable, const int *numbers, int count, PyObject *last) {
  PyObject *arguments[9] = {0}, *result = NULL;
  int made = 0;
  while (made < count && (arguments[made + 1] = PyLong_FromLong(numbers[made]))) made++;
  if (made == count) {
    if (last) arguments[count + 1] = last;
    result = PyObject_Vectorcall(callable, arguments + 1, (size_t)(count + !!last) | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
  }
  while (made) Py_DECREF(arguments[made--]);
  return result;
}

static int number_of(PyObject *value, PyObject *name, int64_t *into) {
  PyObject *found = PyObject_GetAttr(value, name);
  if (!found) return 0;
  *into = PyLong_AsLongLong(found);
  Py_DECREF(found);
  return *into != -1 || !PyErr_Occurred();
}

static PyObject *not_in_python(const Type *t, int64_t value) {
  PyErr_Format(PyExc_OverflowError, "%s %lld is outside of what Python can hold (years 1 to 9999)", t->text, (long long)value);
  return NULL;
}

static PyObject *read_date(const Type *t, int64_t days) {
  int64_t year;
  int of[3];
  civil_from_days(days, &year, &of[1], &of[2]);
  if (year < 1 || year > 9999) return not_in_python(t, days);
  of[0] = (int)year;
  return call_with_numbers(Date, of, 3, NULL);
}

static PyObject *read_time(const Type *t, int64_t micros) {
  if (micros < 0 || micros >= 86400000000) {
    PyErr_Format(PyExc_OverflowError, "%s %lld is no time of a day", t->text, (long long)micros);
    return NULL;
  }
  int of[4] = {(int)(micros / 3600000000), (int)(micros / 60000000 % 60), (int)(micros / 1000000 % 60), (int)(micros % 1000000)};
  return call_with_numbers(Time, of, 4, NULL);
}

static PyObject *read_timestamp(const Type *t, int64_t value) {
  int64_t seconds = floor_div(value, t->per_second), rest = value - seconds * t->per_second;
  int64_t days = floor_div(seconds, 86400), year;
  int of_day = (int)(seconds - days * 86400), of[7];
  civil_from_days(days, &year, &of[1], &of[2]);
  if (year < 1 || year > 9999) return not_in_python(t, value);
  of[0] = (int)year;
  of[3] = of_day / 3600;
  of[4] = of_day / 60 % 60;
  of[5] = of_day % 60;
  of[6] = (int)(t->per_second > 1000000 ? rest / (t->per_second / 1000000) : rest * (1000000 / t->per_second));
  PyObject *made = call_with_numbers(Datetime, of, 7, t->zone ? utc : NULL);
  if (!made || !t->zone || t->zone == utc) return made;
  PyObject *method = PyObject_GetAttr(made, n_astimezone);
  Py_DECREF(made);
  if (!method) return NULL;
  PyObject *arguments[2] = {NULL, t->zone};
  made = PyObject_Vectorcall(method, arguments + 1, 1 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
  Py_DECREF(method);
  return made;
}

static int time_of_day(PyObject *value, int64_t *micros) {
  int64_t hour, minute, second, micro;
  if (!number_of(value, n_hour, &hour) || !number_of(value, n_minute, &minute) || !number_of(value, n_second, &second)
      || !number_of(value, n_microsecond, &micro)) return 0;
  *micros = ((hour * 60 + minute) * 60 + second) * 1000000 + micro;
  return 1;
}

static int day_of(PyObject *value, int64_t *days) {
  int64_t year, month, day;
  if (!number_of(value, n_year, &year) || !number_of(value, n_month, &month) || !number_of(value, n_day, &day)) return 0;
  *days = days_from_civil(year, (int)month, (int)day);
  return 1;
}

/* 1 = it has a zone, 0 = none, -1 = exception */
static int has_zone(PyObject *value) {
  PyObject *zone = PyObject_GetAttr(value, n_tzinfo);
  if (!zone) return -1;
  Py_DECREF(zone);
  return zone != Py_None;
}

/* seconds * per_second + rest, 0 <= rest < per_second; 0 = it overflows. */
static int join(int64_t seconds, int64_t rest, int64_t per_second, int64_t *result) {
  int64_t whole = INT64_MAX / per_second, left = INT64_MAX % per_second;
  if (seconds < 0) { /* rather a second later and less than nothing on top */
    seconds++;
    rest -= per_second;
    if (seconds < -whole || (seconds == -whole && rest < -left - 1)) return 0;
  } else if (seconds > whole || (seconds == whole && rest > left)) {
    return 0;
  }
  *result = seconds * per_second + rest;
  return 1;
}

static int write_timestamp(const Type *t, PyObject *value, uint8_t *to) {
  if (!is_a(value, Datetime)) return wrong(t, value);
  int zoned = has_zone(value);
  if (zoned < 0) return 0;
  if (zoned != (t->zone != NULL)) return wrong_zone(t, value);
  PyObject *local = NULL;
  if (zoned) {
    PyObject *method = PyObject_GetAttr(value, n_astimezone), *arguments[2] = {NULL, utc};
    if (!method) return 0;
    value = local = PyObject_Vectorcall(method, arguments + 1, 1 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
    Py_DECREF(method);
    if (!local) return 0;
  }
  int64_t days, micros, result;
  int ok = day_of(value, &days) && time_of_day(value, &micros);
  if (ok) {
    int64_t seconds = days * 86400 + micros / 1000000, rest = micros % 1000000;
    rest = t->per_second > 1000000 ? rest * (t->per_second / 1000000) : rest / (1000000 / t->per_second);
    if (!join(seconds, rest, t->per_second, &result)) ok = out_of_range(t, value);
    else memcpy(to, &result, 8);
  }
  Py_XDECREF(local);
  return ok;
}

static int write_date(const Type *t, PyObject *value, uint8_t *to) {
  int64_t days;
  if (!is_a(value, Date) || is_a(value, Datetime)) return wrong(t, value);
  if (!day_of(value, &days)) return 0;
  int32_t narrow = (int32_t)days;
  memcpy(to, &narrow, 4);
  return 1;
}

static int write_time(const Type *t, PyObject *value, uint8_t *to) {
  int64_t micros;
  if (!is_a(value, Time)) return wrong(t, value);
  int zoned = has_zone(value);
  if (zoned) return zoned < 0 ? 0 : wrong_zone(t, value);
  if (!time_of_day(value, &micros)) return 0;
  memcpy(to, &micros, 8);
  return 1;
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
    if (digits == t->scale && digits) text[--end] = '.';
    text[--end] = (char)('0' + wide_divide(&w, 10));
    digits++;
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

/* Rounds half up (away from zero) to the scale. 0 = does not fit, -1 = no number */
static int parse_digits(const Type *t, const char *text, Wide *w, int *negative) {
  int fraction = -1, round_up = 0;
  *negative = *text == '-';
  for (text += *negative; *text; text++) {
    if (*text == '.' && fraction < 0) { fraction = 0; continue; }
    if (*text < '0' || *text > '9') return -1;
    if (fraction >= t->scale) { /* the first digit behind the scale decides */
      if (fraction++ == t->scale) round_up = *text >= '5';
      continue;
    }
    if (!wide_multiply_add(w, 10, (uint32_t)(*text - '0'))) return 0;
    fraction += fraction >= 0;
  }
  for (int i = fraction < 0 ? 0 : fraction; i < t->scale; i++)
    if (!wide_multiply_add(w, 10, 0)) return 0;
  if (round_up && !wide_multiply_add(w, 1, 1)) return 0;
  Wide limit = {{1}};
  for (int i = 0; i < t->precision; i++) wide_multiply_add(&limit, 10, 0);
  return wide_less(w, &limit);
}

static int write_decimal(const Type *t, PyObject *value, uint8_t *to) {
  if (!(is_a(value, Decimal) || (PyLong_Check(value) && !PyBool_Check(value)))) return wrong(t, value);
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
    case T_DATE: return read_date(t, (int32_t)load32(at));
    case T_TIME: return read_time(t, load64(at));
    case T_TIMESTAMP: return read_timestamp(t, load64(at));
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
    case T_DATE: return write_date(t, value, to);
    case T_TIME: return write_time(t, value, to);
    case T_TIMESTAMP: return write_timestamp(t, value, to);
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
