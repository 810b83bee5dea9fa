/* Dates, times and timestamps: what Python holds them as is said in ../README.md ("Types"). */
#include "codec.h"

#define YEAR_1 (-62135596800000000)
#define YEAR_10000 253402300800000000

/* What the module datetime offers to C (its datetime.h), as far as it is used. */
typedef struct {
  PyTypeObject *date_type, *datetime_type, *time_type, *delta_type, *zone_type;
  PyObject *utc;
  PyObject *(*date)(int, int, int, PyTypeObject *);
  PyObject *(*datetime)(int, int, int, int, int, int, int, PyObject *, PyTypeObject *);
  PyObject *(*time)(int, int, int, int, PyObject *, PyTypeObject *);
} DatetimeApi;
static const DatetimeApi *api;
static PyObject *utc;
static PyObject *n_year, *n_month, *n_day, *n_hour, *n_minute, *n_second, *n_microsecond, *n_tzinfo, *n_astimezone, *n_fromutc, *n_utcoffset;
static PyObject *n_days, *n_seconds, *n_microseconds;

static int names_setup(void) {
  struct { PyObject **into; const char *text; } names[] = {
    {&n_year, "year"}, {&n_month, "month"}, {&n_day, "day"}, {&n_hour, "hour"}, {&n_minute, "minute"}, {&n_second, "second"},
    {&n_microsecond, "microsecond"}, {&n_tzinfo, "tzinfo"}, {&n_astimezone, "astimezone"}, {&n_fromutc, "fromutc"},
    {&n_utcoffset, "utcoffset"}, {&n_days, "days"}, {&n_seconds, "seconds"}, {&n_microseconds, "microseconds"},
  };
  for (size_t i = 0; i < sizeof names / sizeof *names; i++)
    if (!*names[i].into && !(*names[i].into = PyUnicode_FromString(names[i].text))) return 0;
  return 1;
}

/* That the fields lie where we read them: 2001-02-03 04:05:06.789012 UTC. */
static int fields_check(void) {
  static const uint8_t wanted[] = {2001 >> 8, 2001 & 255, 2, 3, 4, 5, 6, 789012 >> 16, 789012 >> 8 & 255, 789012 & 255};
  PyObject *made[] = {
    api->datetime(2001, 2, 3, 4, 5, 6, 789012, utc, api->datetime_type), api->date(2001, 2, 3, api->date_type),
    api->time(4, 5, 6, 789012, Py_None, api->time_type), api->datetime(2001, 2, 3, 4, 5, 6, 7, Py_None, api->datetime_type),
  };
  int same = made[0] && made[1] && made[2] && made[3];
  if (same && datetime_bytes(made[0], 0))
    same = !memcmp(datetime_bytes(made[0], 0), wanted, 10) && !memcmp(datetime_bytes(made[1], 0), wanted, 4)
        && !memcmp(datetime_bytes(made[2], 0), wanted + 4, 6) && datetime_zone(made[0]) == utc && datetime_zone(made[3]) == Py_None;
  for (int i = 0; i < 4; i++) Py_XDECREF(made[i]);
  return same;
}

int time_setup(PyObject *classes) { /* Decimal, date, time, datetime, utc */
  if (!names_setup() || !(api = PyCapsule_Import("datetime.datetime_CAPI", 0))) return 0;
  utc = api->utc;
  int same = (PyObject *)api->date_type == PyTuple_GetItem(classes, 1) && (PyObject *)api->time_type == PyTuple_GetItem(classes, 2)
      && (PyObject *)api->datetime_type == PyTuple_GetItem(classes, 3) && utc == PyTuple_GetItem(classes, 4);
  if (same && fields_check()) return 1;
  if (!PyErr_Occurred()) PyErr_SetString(PyExc_RuntimeError, "the module datetime lies otherwise than codec/times.c says");
  return 0;
}

static int is_a(PyObject *value, PyTypeObject *class) { return Py_TYPE(value) == class || PyType_IsSubtype(Py_TYPE(value), class); }

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

PyObject *date_read(const Type *t, int64_t days) {
  int64_t year;
  int of[3];
  civil_from_days(days, &year, &of[1], &of[2]);
  if (year < 1 || year > 9999) return not_in_python(t, days);
  return api->date((int)year, of[1], of[2], api->date_type);
}

PyObject *time_read(const Type *t, int64_t micros) {
  if (micros < 0 || micros >= 86400000000) {
    PyErr_Format(PyExc_OverflowError, "%s %lld is no time of a day", t->text, (long long)micros);
    return NULL;
  }
  int second = (int)(micros / 1000000);
  return api->time(second / 3600, second / 60 % 60, second % 60, (int)(micros % 1000000), Py_None, api->time_type);
}

PyObject *timestamp_read(const Type *t, int64_t value) {
  int64_t seconds = floor_div(value, t->per_second), rest = value % t->per_second;
  if (rest < 0) rest += t->per_second;
  int64_t days = floor_div(seconds, 86400), year;
  int of_day = (int)(seconds - days * 86400), month, day;
  civil_from_days(days, &year, &month, &day);
  if (year < 1 || year > 9999) return not_in_python(t, value);
  int micros = (int)(t->per_second > 1000000 ? rest / (t->per_second / 1000000) : rest * (1000000 / t->per_second));
  PyObject *zone = t->zone ? t->zone : Py_None;
  PyObject *made = api->datetime((int)year, month, day, of_day / 3600, of_day / 60 % 60, of_day % 60, micros, zone, api->datetime_type);
  if (!made || zone == Py_None || zone == utc) return made;
  PyObject *arguments[3] = {NULL, zone, made}; /* the zone makes local time of it: what `astimezone` ends with */
  PyObject *local = PyObject_VectorcallMethod(n_fromutc, arguments + 1, 2 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
  Py_DECREF(made);
  return local;
}

static int is_exactly(PyObject *value, PyTypeObject *type) { return Py_TYPE(value) == type; }

static int time_of_day(PyObject *value, int64_t *micros) {
  int64_t hour, minute, second, micro;
  const uint8_t *at = is_exactly(value, api->datetime_type) ? datetime_bytes(value, 4) : is_exactly(value, api->time_type) ? datetime_bytes(value, 0) : NULL;
  if (at) {
    *micros = ((at[0] * 60 + at[1]) * 60 + at[2]) * (int64_t)1000000 + (at[3] << 16 | at[4] << 8 | at[5]);
    return 1;
  }
  if (!number_of(value, n_hour, &hour) || !number_of(value, n_minute, &minute) || !number_of(value, n_second, &second)
      || !number_of(value, n_microsecond, &micro)) return 0;
  *micros = ((hour * 60 + minute) * 60 + second) * 1000000 + micro;
  return 1;
}

static int day_of(PyObject *value, int64_t *days) {
  int64_t year, month, day;
  const uint8_t *at = is_exactly(value, api->datetime_type) || is_exactly(value, api->date_type) ? datetime_bytes(value, 0) : NULL;
  if (at) {
    *days = days_from_civil(at[0] << 8 | at[1], at[2], at[3]);
    return 1;
  }
  if (!number_of(value, n_year, &year) || !number_of(value, n_month, &month) || !number_of(value, n_day, &day)) return 0;
  *days = days_from_civil(year, (int)month, (int)day);
  return 1;
}

static PyObject *zone_of(PyObject *value) { /* None = it has none */
  PyObject *zone = is_exactly(value, api->datetime_type) ? datetime_zone(value) : NULL;
  if (!zone) return PyObject_GetAttr(value, n_tzinfo);
  Py_INCREF(zone);
  return zone;
}

static int number_of_delta(PyObject *delta, int64_t *micros) {
  int64_t days, seconds, rest;
  if (!number_of(delta, n_days, &days) || !number_of(delta, n_seconds, &seconds) || !number_of(delta, n_microseconds, &rest)) return 0;
  *micros = (days * 86400 + seconds) * 1000000 + rest;
  return 1;
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

/* Microseconds since 1970 of a datetime by its own clock. */
static int micros_of(PyObject *value, int64_t *micros) {
  int64_t days, of_day;
  if (!day_of(value, &days) || !time_of_day(value, &of_day)) return 0;
  *micros = days * 86400000000 + of_day;
  return 1;
}

/* By way of `astimezone`, for what has no offset: then it is local time. */
static int by_astimezone(PyObject *value, int64_t *micros) {
  PyObject *arguments[3] = {NULL, value, utc};
  PyObject *moved = PyObject_VectorcallMethod(n_astimezone, arguments + 1, 2 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
  int ok = moved && micros_of(moved, micros);
  Py_XDECREF(moved);
  return ok;
}

static int to_utc(PyObject *value, PyObject *zone, int64_t *micros) {
  int64_t ahead;
  if (zone == utc) return micros_of(value, micros);
  PyObject *arguments[2] = {NULL, value};
  PyObject *offset = PyObject_VectorcallMethod(n_utcoffset, arguments + 1, 1 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
  if (!offset) return 0;
  int known = offset != Py_None, ok = !known || (number_of_delta(offset, &ahead) && micros_of(value, micros));
  Py_DECREF(offset);
  if (!ok) return 0;
  if (known) *micros -= ahead;
  if (known && *micros >= YEAR_1 && *micros < YEAR_10000) return 1;
  return by_astimezone(value, micros); /* it also says what is out of range */
}

int timestamp_write(const Type *t, PyObject *value, uint8_t *to) {
  if (!is_a(value, api->datetime_type)) return wrong(t, value);
  PyObject *zone = zone_of(value);
  if (!zone) return 0;
  int64_t micros, result;
  int zoned = zone != Py_None, ok = zoned == (t->zone != NULL);
  if (!ok) wrong_zone(t, value);
  else ok = zoned ? to_utc(value, zone, &micros) : micros_of(value, &micros);
  Py_DECREF(zone);
  if (!ok) return 0;
  int64_t seconds = floor_div(micros, 1000000), rest = micros - seconds * 1000000;
  rest = t->per_second > 1000000 ? rest * (t->per_second / 1000000) : rest / (1000000 / t->per_second);
  if (!join(seconds, rest, t->per_second, &result)) return out_of_range(t, value);
  memcpy(to, &result, 8);
  return 1;
}

int date_write(const Type *t, PyObject *value, uint8_t *to) {
  int64_t days;
  if (!is_a(value, api->date_type) || is_a(value, api->datetime_type)) return wrong(t, value);
  if (!day_of(value, &days)) return 0;
  int32_t narrow = (int32_t)days;
  memcpy(to, &narrow, 4);
  return 1;
}

int time_write(const Type *t, PyObject *value, uint8_t *to) {
  int64_t micros;
  if (!is_a(value, api->time_type)) return wrong(t, value);
  PyObject *zone = PyObject_GetAttr(value, n_tzinfo);
  if (!zone) return 0;
  Py_DECREF(zone);
  if (zone != Py_None) return wrong_zone(t, value);
  if (!time_of_day(value, &micros)) return 0;
  memcpy(to, &micros, 8);
  return 1;
}

int time_reads_back(const Type *t, PyObject *value) {
  PyTypeObject *class = Py_TYPE(value);
  if (t->code != T_TIMESTAMP) return class == (t->code == T_DATE ? api->date_type : api->time_type);
  return class == api->datetime_type && !t->zone && t->per_second >= 1000000;
}
