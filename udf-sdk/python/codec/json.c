/* `json.loads` for what documents are mostly: one pass over the text, no tree between. Whatever is odd (an error, a surrogate, a number
 * of twenty digits, an argument by keyword) is left to the function of the standard library, with all that it returns and raises.
 */
#include "codec.h"
#include <stdlib.h>

#define NESTED_MAX 64         /* deeper: the standard library's, which knows when to raise a RecursionError */
#define KEYS 1024             /* of objects, kept from document to document */
#define KEY_BYTES_MAX 32
#define INTERNED_MAX 2048     /* an interned text may never be freed */
#define SHAPES 64
#define SHAPE_KEYS_MAX 16

typedef struct { const char *at, *end; int depth, ascii; } Source;
typedef struct Key { PyObject *key; const char *at; Py_ssize_t size; struct Key *next; } Key; /* next: the key that followed last time */
typedef struct { PyObject *pattern; PyObject *key[SHAPE_KEYS_MAX]; int keys; } Shape;

static PyObject *standard;
static Key keys[KEYS], *last_key = keys;
static Shape shapes[SHAPES];
static int interned;
static PyObject **held; /* finished values of the containers that are still open; owned */
static size_t held_count, held_capacity;

static int hold(PyObject *value) { /* steals; passes NULL on */
  if (!value) return 0;
  if (UNLIKELY(held_count == held_capacity)) {
    held_capacity += held_capacity + 64;
    held = realloc(held, sizeof *held * held_capacity);
    if (!held) die("out of memory");
  }
  held[held_count++] = value;
  return 1;
}

static void let_go(size_t down_to) {
  while (held_count > down_to) Py_DECREF(held[--held_count]);
}

/* ---- text */
static inline int same_words(const char *a, const char *b) { return load64(a) == load64(b); }

static inline int same_bytes(const char *a, const char *b, Py_ssize_t size) {
  if (size >= 8) { /* the last word may overlap the one before */
    for (Py_ssize_t i = 0; i < size - 8; i += 8) if (!same_words(a + i, b + i)) return 0;
    return same_words(a + size - 8, b + size - 8);
  }
  if (size >= 4) return load32(a) == load32(b) && load32(a + size - 4) == load32(b + size - 4);
  for (; size; size--) if (*a++ != *b++) return 0;
  return 1;
}

/* The first quote, backslash or control character, or the end. */
static inline const char *plain_end(const char *at, const char *end) {
  const uint64_t ones = 0x0101010101010101ull;
  for (uint64_t word; end - at >= 8; at += 8) {
    memcpy(&word, at, 8);
    uint64_t quote = word ^ ones * '"', slash = word ^ ones * '\\';
    uint64_t hit = (((quote - ones) & ~quote) | ((slash - ones) & ~slash) | ((word - ones * 32) & ~word)) & ones * 0x80;
    if (hit) return at + (__builtin_ctzll(hit) >> 3);
  }
  while (at < end && *at != '"' && *at != '\\' && (uint8_t)*at >= 32) at++;
  return at;
}

static int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  c |= 32;
  return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* \u and four digits to UTF-8. 0 = not so, or half a pair. */
static int put_code(Buffer *to, const char *at, const char *end) {
  int code = 0;
  if (end - at < 4) return 0;
  for (int i = 0; i < 4; i++) {
    int digit = hex_digit(at[i]);
    if (digit < 0) return 0;
    code = code << 4 | digit;
  }
  if (code >= 0xd800 && code < 0xe000) return 0;
  if (code >= 0x800) *buffer_extend(to, 1) = (uint8_t)(0xe0 | code >> 12);
  if (code >= 0x80) *buffer_extend(to, 1) = (uint8_t)(code >= 0x800 ? 0x80 | (code >> 6 & 0x3f) : 0xc0 | code >> 6);
  *buffer_extend(to, 1) = (uint8_t)(code >= 0x80 ? 0x80 | (code & 0x3f) : code);
  return 1;
}

/* A text with backslashes, of which the first is at `stop`. */
static PyObject *escaped(Source *t, const char *start, const char *stop) {
  static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
  static Buffer bytes;
  buffer_reset(&bytes);
  for (;;) {
    buffer_append(&bytes, start, (size_t)(stop - start));
    if (stop >= t->end || (uint8_t)*stop < 32) return NULL;
    if (*stop == '"') break;
    if (++stop >= t->end) return NULL;
    const char *known = *stop ? strchr(from, *stop) : NULL;
    if (known) {
      *buffer_extend(&bytes, 1) = (uint8_t)to[known - from];
      start = stop + 1;
    } else {
      if (*stop != 'u' || !put_code(&bytes, stop + 1, t->end)) return NULL;
      start = stop + 5;
    }
    stop = plain_end(start, t->end);
  }
  t->at = stop + 1;
  return PyUnicode_FromStringAndSize((char *)bytes.at, (Py_ssize_t)bytes.used);
}

static inline PyObject *text(Source *t, const char *start, const char *stop) {
  t->at = stop + 1;
  return t->ascii ? ascii_new(start, stop - start) : PyUnicode_FromStringAndSize(start, stop - start);
}

static PyObject *new_key(Key *place, const char *at, Py_ssize_t size) {
  Key made = {PyUnicode_FromStringAndSize(at, size), NULL, 0, place->next};
  if (!made.key) return NULL;
  if (interned < INTERNED_MAX) { /* as the names in a program are: looking it up compares addresses alone */
    PyUnicode_InternInPlace(&made.key);
    interned++;
  }
  if (!(made.at = PyUnicode_AsUTF8AndSize(made.key, &made.size))) { Py_DECREF(made.key); return NULL; }
  Py_XDECREF(place->key);
  *place = made;
  Py_INCREF(made.key);
  return made.key;
}

/* The key of an object: the same text is the same object mostly, whose hash is known. */
static PyObject *key_of(const char *at, Py_ssize_t size) {
  uint32_t first = 0, last = 0;
  if (size > KEY_BYTES_MAX) return PyUnicode_FromStringAndSize(at, size);
  if (size >= 4) {
    memcpy(&first, at, 4);
    memcpy(&last, at + size - 4, 4);
  } else {
    for (Py_ssize_t i = 0; i < size; i++) first = first << 8 | (uint8_t)at[i];
  }
  uint32_t hash = first * 0x9e3779b1u ^ (last + (uint32_t)size) * 0x85ebca6bu;
  Key *place = &keys[(hash ^ hash >> 15) % KEYS];
  last_key = last_key->next = place;
  if (!place->key || place->size != size || !same_bytes(place->at, at, size)) return new_key(place, at, size);
  Py_INCREF(place->key);
  return place->key;
}

/* ---- numbers */
static PyObject *real(Source *t, const char *start, uint64_t digits, int count, int exponent, int negative) {
  static const double power[] = {
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22,
  };
  if (count <= 19 && digits < 1ull << 53 && exponent >= -22 && exponent <= 22) { /* both are exact, so one operation rounds right */
    double value = exponent < 0 ? (double)digits / power[-exponent] : (double)digits * power[exponent];
    return PyFloat_FromDouble(negative ? -value : value);
  }
  char *end;
  double value = PyOS_string_to_double(start, &end, NULL);
  return end == t->at ? PyFloat_FromDouble(value) : NULL;
}

static inline int is_digit(char c) { return (uint8_t)(c - '0') < 10; }

static PyObject *number(Source *t) { /* what ends the text is no digit */
  const char *start = t->at, *at = start;
  int negative = *at == '-', exponent = 0;
  const char *first = at += negative;
  uint64_t digits = 0;
  for (; is_digit(*at); at++) digits = digits * 10 + (uint64_t)(*at - '0');
  int count = at - first > 100 ? 100 : (int)(at - first);
  if (!count || (count > 1 && *first == '0')) return NULL;
  t->at = at;
  if (*at != '.' && (*at | 32) != 'e') {
    if (count > 19 || (negative && digits > INT64_MAX)) return NULL;
    if (negative) return PyLong_FromLongLong(-(int64_t)digits);
    return digits > INT64_MAX ? PyLong_FromUnsignedLongLong(digits) : PyLong_FromLongLong((int64_t)digits);
  }
  if (*at == '.') {
    const char *point = ++at;
    for (; is_digit(*at); at++) digits = digits * 10 + (uint64_t)(*at - '0');
    if (at == point || at - point > 1000) return NULL;
    exponent = -(int)(at - point);
    count += (int)(at - point);
  }
  if ((*at | 32) == 'e') {
    int less = *++at == '-', shift = 0;
    at += *at == '-' || *at == '+';
    const char *sign = at;
    for (; is_digit(*at) && at - sign < 5; at++) shift = shift * 10 + (*at - '0');
    if (at == sign || is_digit(*at)) return NULL;
    exponent += less ? -shift : shift;
  }
  t->at = at;
  return real(t, start, digits, count, exponent, negative);
}

/* ---- objects */
static PyObject *plain_dict(PyObject **pairs, Py_ssize_t count, PyObject *instead) {
  PyObject *dict = PyDict_New();
  for (Py_ssize_t i = 0; dict && i < count; i++)
    if (PyDict_SetItem(dict, pairs[2 * i], instead ? instead : pairs[2 * i + 1]) < 0) Py_CLEAR(dict);
  return dict;
}

/* Remembers a dict of None by these keys, if dicts of its kind can be filled in place. */
static PyObject *new_shape(Shape *s, PyObject **pairs, Py_ssize_t count) {
  PyObject *pattern = plain_dict(pairs, count, Py_None);
  if (!pattern) return NULL;
  if (dict_fits(pattern, pairs, count)) {
    for (int i = 0; i < s->keys; i++) Py_DECREF(s->key[i]);
    Py_XDECREF(s->pattern);
    for (Py_ssize_t i = 0; i < count; i++) {
      s->key[i] = pairs[2 * i];
      Py_INCREF(s->key[i]);
    }
    s->keys = (int)count;
    s->pattern = pattern;
  } else {
    Py_DECREF(pattern);
  }
  return plain_dict(pairs, count, NULL);
}

static int has_shape(const Shape *s, PyObject **pairs, Py_ssize_t count) {
  if (s->keys != count) return 0;
  for (Py_ssize_t i = 0; i < count; i++)
    if (s->key[i] != pairs[2 * i]) return 0;
  return 1;
}

/* Objects that have the keys of one before are copies of its table, with the values put in. */
static PyObject *dict_of(size_t base) {
  PyObject **pairs = held + base, *dict;
  Py_ssize_t count = (Py_ssize_t)(held_count - base) / 2;
  if (!DICTS_CAN_BE_FILLED || count > SHAPE_KEYS_MAX) {
    dict = plain_dict(pairs, count, NULL);
  } else {
    uintptr_t hash = ((uintptr_t)pairs[0] >> 4) * 31 + ((uintptr_t)pairs[2 * count - 2] >> 4) + (uintptr_t)count;
    Shape *s = &shapes[hash % SHAPES];
    if (has_shape(s, pairs, count)) {
      if (!(dict = PyDict_Copy(s->pattern))) return NULL;
      dict_fill(dict, pairs, count);
      for (Py_ssize_t i = 0; i < count; i++) Py_DECREF(pairs[2 * i]);
      held_count = base;
      return dict;
    }
    dict = new_shape(s, pairs, count);
  }
  let_go(base);
  return dict;
}

/* ---- the grammar. NULL = leave it to the standard library */
static inline char skip(Source *t) { /* white space; gives the character after it, 0 at the end */
  while (*t->at == ' ' || *t->at == '\n' || *t->at == '\t' || *t->at == '\r') t->at++;
  return *t->at;
}

static PyObject *value_of(Source *t);

static PyObject *array(Source *t) {
  size_t base = held_count;
  t->at++;
  if (skip(t) == ']') { t->at++; return PyList_New(0); }
  for (;;) {
    if (!hold(value_of(t))) return NULL;
    char next = skip(t);
    t->at++;
    if (next == ']') break;
    if (next != ',') return NULL;
  }
  Py_ssize_t count = (Py_ssize_t)(held_count - base);
  PyObject *list = PyList_New(count);
  for (Py_ssize_t i = 0; list && i < count; i++) list_put(list, i, held[base + (size_t)i]);
  if (list) held_count = base;
  return list;
}

/* Is it the key that followed the last one before? Documents of a stream have the same keys mostly. */
static int expected_key(Source *t, const char *start) {
  Key *next = last_key->next;
  if (!next || !next->key || t->end - start <= next->size || start[next->size] != '"' || !same_bytes(next->at, start, next->size)) return 0;
  last_key = next;
  t->at = start + next->size + 1;
  Py_INCREF(next->key);
  return hold(next->key);
}

static int key(Source *t) {
  if (skip(t) != '"') return 0;
  const char *start = t->at + 1;
  if (expected_key(t, start)) return 1;
  const char *stop = plain_end(start, t->end);
  if (stop < t->end && *stop == '\\') {
    if (!hold(escaped(t, start, stop))) return 0;
  } else {
    if (stop >= t->end || *stop != '"' || !hold(key_of(start, stop - start))) return 0;
    t->at = stop + 1;
  }
  return 1;
}

static int key_and_value(Source *t) {
  if (!key(t) || skip(t) != ':') return 0;
  t->at++;
  return hold(value_of(t));
}

static PyObject *object(Source *t) {
  size_t base = held_count;
  t->at++;
  if (skip(t) == '}') { t->at++; return PyDict_New(); }
  for (;;) {
    if (!key_and_value(t)) return NULL;
    char next = skip(t);
    t->at++;
    if (next == '}') break;
    if (next != ',') return NULL;
  }
  return dict_of(base);
}

static PyObject *word(Source *t, const char *wanted, Py_ssize_t size, PyObject *value) {
  if (t->end - t->at < size || !same_bytes(t->at, wanted, size)) return NULL;
  t->at += size;
  Py_INCREF(value);
  return value;
}

static PyObject *value_of(Source *t) {
  PyObject *made;
  switch (skip(t)) {
    case '"': {
      const char *start = t->at + 1, *stop = plain_end(start, t->end);
      if (stop >= t->end || (uint8_t)*stop < 32) return NULL;
      return *stop == '"' ? text(t, start, stop) : escaped(t, start, stop);
    }
    case '{': case '[':
      if (++t->depth > NESTED_MAX) return NULL;
      made = *t->at == '{' ? object(t) : array(t);
      t->depth--;
      return made;
    case 't': return word(t, "true", 4, Py_True);
    case 'f': return word(t, "false", 5, Py_False);
    case 'n': return word(t, "null", 4, Py_None);
    default: return number(t);
  }
}

/* The text of a str, or of bytes that are ASCII. A zero byte follows it. */
static int open_text(PyObject *from, Source *t) {
  Py_ssize_t size;
  char *bytes;
  t->depth = 0;
  if (PyUnicode_CheckExact(from)) {
    t->ascii = ascii_text(from, &t->at, &size);
    if (!t->ascii && !(t->at = PyUnicode_AsUTF8AndSize(from, &size))) return 0;
  } else {
    if (!PyBytes_CheckExact(from) || PyBytes_AsStringAndSize(from, &bytes, &size) < 0) return 0;
    t->at = bytes;
    t->ascii = 1;
    if (size > INT32_MAX || !all_ascii((const uint8_t *)bytes, (uint32_t)size)) return 0;
  }
  t->end = t->at + size;
  return 1;
}

static PyObject *loads(PyObject *self, PyObject *const *arguments, Py_ssize_t count, PyObject *names) {
  (void)self;
  Source t;
  if (count == 1 && !names && open_text(arguments[0], &t)) {
    size_t base = held_count;
    PyObject *value = value_of(&t);
    if (value) {
      skip(&t);
      if (t.at == t.end) return value;
      Py_DECREF(value);
    }
    let_go(base);
  }
  PyErr_Clear();
  return PyObject_Vectorcall(standard, arguments, (size_t)count, names);
}

static PyMethodDef method = {"loads", (PyCFunction)(void *)loads, METH_FASTCALL | METH_KEYWORDS, NULL};

/* json_loads(standard, module name, documentation): the function that stands for the standard one */
PyObject *json_loads(PyObject *self, PyObject *const *a, Py_ssize_t n) {
  (void)self;
  if (n != 3 || !(method.ml_doc = PyUnicode_AsUTF8AndSize(a[2], NULL))) {
    if (!PyErr_Occurred()) PyErr_SetString(PyExc_TypeError, "json_loads wants the function, the name of its module and its documentation");
    return NULL;
  }
  Py_INCREF(a[0]);
  Py_INCREF(a[2]); /* for good, like the method */
  Py_XDECREF(standard);
  standard = a[0];
  return PyCMethod_New(&method, NULL, a[1], NULL);
}
