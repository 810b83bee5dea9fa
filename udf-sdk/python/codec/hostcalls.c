/* What the codec asks the host directly: the lowered signatures of `wasmill:udf/state` and `wasmill:udf/host`. Natively a Python object with
 * the methods `get(state, key)` and `put(state, key, value)` stands for it (tests). */
#include "codec.h"
#include <stdlib.h>
#include <stdio.h>

#ifdef __wasm__
#define STATE(name) __attribute__((import_module("wasmill:udf/state@0.1.0"), import_name(name)))
#define HOST(name) __attribute__((import_module("wasmill:udf/host@0.1.0"), import_name(name)))
STATE("get") extern void import_get(uint32_t state, uint32_t key, uint32_t *result);
STATE("put") extern void import_put(uint32_t state, uint32_t key, uint32_t some, const uint8_t *at, uint32_t length);
STATE("get-many") extern void import_get_many(uint32_t state, const uint32_t *keys, uint32_t count, uint32_t *result);
STATE("put-many") extern void import_put_many(uint32_t state, const uint32_t *keys, uint32_t count, const uint32_t *ends, uint32_t ends_count, const uint8_t *at, uint32_t length);
HOST("panicked") extern void import_panicked(const char *message, uint32_t message_length, const char *location, uint32_t location_length);

void host_panicked(const char *message) {
  static const char location[] = "the Python runner";
  import_panicked(message, (uint32_t)strlen(message), location, sizeof location - 1);
}

/* A list of nothing points to nothing that could be freed. */
static void *list_at(uint32_t at, uint32_t length) { return length ? (void *)at : NULL; }

int host_get(uint32_t state, uint32_t key, uint8_t **at, uint32_t *length) {
  uint32_t result[3]; /* option: a byte, then the list */
  import_get(state, key, result);
  if (!(uint8_t)result[0]) return 0;
  *at = list_at(result[1], result[2]);
  *length = result[2];
  return 1;
}

void host_get_many(uint32_t state, const uint32_t *keys, uint32_t count, uint32_t **ends, uint8_t **values) {
  uint32_t result[4];
  import_get_many(state, keys, count, result);
  if (result[1] != count) die("state.get-many answered with another number of keys");
  uint32_t before = 0;
  for (uint32_t i = 0; i < count; i++) {
    uint32_t end = ((uint32_t *)result[0])[i] & 0x7fffffffu;
    if (end < before || end > result[3]) die("state.get-many answered with ends that do not fit its bytes");
    before = end;
  }
  *ends = list_at(result[0], count);
  *values = list_at(result[2], result[3]);
}

void host_put(uint32_t state, uint32_t key, const uint8_t *at, uint32_t length, int present) {
  import_put(state, key, (uint32_t)present, at, length);
}

void host_put_many(uint32_t state, const uint32_t *keys, const uint32_t *ends, uint32_t count, const uint8_t *values, uint32_t length) {
  import_put_many(state, keys, count, ends, count, values, length);
}
#else
extern PyObject *native_host;

void host_panicked(const char *message) { fprintf(stderr, "wasmill codec: %s\n", message); }

static PyObject *ask(const char *method, uint32_t state, uint32_t key, PyObject *value) {
  PyObject *answer = value ? PyObject_CallMethod(native_host, method, "IIO", state, key, value) : PyObject_CallMethod(native_host, method, "II", state, key);
  if (!answer) { PyErr_Print(); die("the host of the test failed"); }
  return answer;
}

int host_get(uint32_t state, uint32_t key, uint8_t **at, uint32_t *length) {
  PyObject *answer = ask("get", state, key, NULL);
  int present = answer != Py_None;
  if (present) {
    char *bytes;
    Py_ssize_t size;
    if (PyBytes_AsStringAndSize(answer, &bytes, &size) < 0) die("the host of the test answered no bytes");
    *length = (uint32_t)size;
    *at = take((size_t)size);
    memcpy(*at, bytes, (size_t)size);
  }
  Py_DECREF(answer);
  return present;
}

void host_get_many(uint32_t state, const uint32_t *keys, uint32_t count, uint32_t **ends, uint8_t **values) {
  Buffer all = {0};
  *ends = take(4u * count);
  for (uint32_t i = 0; i < count; i++) {
    uint8_t *at = NULL;
    uint32_t length = 0;
    int present = host_get(state, keys[i], &at, &length);
    buffer_append(&all, at, length);
    free(at);
    (*ends)[i] = (uint32_t)all.used | (present ? 0 : 0x80000000u);
  }
  *values = all.at;
}

void host_put(uint32_t state, uint32_t key, const uint8_t *at, uint32_t length, int present) {
  PyObject *value = present ? PyBytes_FromStringAndSize((const char *)at, length) : Py_None;
  Py_DECREF(ask("put", state, key, value));
  if (present) Py_DECREF(value);
}

void host_put_many(uint32_t state, const uint32_t *keys, const uint32_t *ends, uint32_t count, const uint8_t *values, uint32_t length) {
  uint32_t start = 0;
  (void)length;
  for (uint32_t i = 0; i < count; i++) {
    uint32_t end = ends[i] & 0x7fffffffu;
    host_put(state, keys[i], values + start, end - start, !(ends[i] & 0x80000000u));
    start = end;
  }
}
#endif
