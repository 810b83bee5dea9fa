/* Memory. Buffers grow by half and are kept from bundle to bundle, unless they have become big. */
#include "codec.h"
#include <stdlib.h>

#define KEEP_BYTES (4u << 20)

void *take(size_t bytes) {
  void *at = calloc(1, bytes ? bytes : 1);
  if (!at) die("out of memory");
  return at;
}

void buffer_grow(Buffer *b, size_t bytes) {
  size_t capacity = b->used + bytes;
  if (capacity < b->used) die("out of memory");
  capacity += capacity / 2 + 64;
  uint8_t *at = realloc(b->at, capacity);
  if (!at) at = realloc(b->at, capacity = b->used + bytes);
  if (!at) die("out of memory");
  b->at = at;
  b->capacity = capacity;
}

void buffer_reset(Buffer *b) {
  if (b->capacity > KEEP_BYTES) buffer_free(b);
  b->used = 0;
}

void buffer_free(Buffer *b) {
  free(b->at);
  memset(b, 0, sizeof *b);
}

_Noreturn void die(const char *what) {
  host_panicked(what);
  __builtin_trap();
}
