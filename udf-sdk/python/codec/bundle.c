/* A bundle's frame in, the frame of its effects out. */
#include "codec.h"
#include <stdlib.h>

#define BUNDLE_MAGIC 0x31424D57u
#define EFFECTS_MAGIC 0x31454D57u
#define HEADER 64u

PyObject *begin_bundle, *end_bundle;
static void (*release_frame)(void *);

uint32_t bundle_slots(const Function *f) {
  uint32_t n = 3 + 3; /* event times, row kinds, key index; timers */
  for (int i = 0; i < f->arguments; i++) n += (uint32_t)f->argument_types[i]->slots;
  for (int i = 0; i < f->keys; i++) n += (uint32_t)f->key_types[i]->slots;
  for (int i = 0; i < f->states; i++)
    if (!f->state[i]->by_call) n += (uint32_t)f->state[i]->type->slots * (f->mode == M_AGGREGATE ? 2 : 1);
  return n;
}

static const uint8_t *take_rows(Slots *s, uint32_t rows, uint32_t width) {
  uint32_t length;
  const uint8_t *at = slot_take(s, &length);
  if (at && length < (uint64_t)rows * width) die("the host's frame does not fit its rows");
  return at;
}

static void load(Function *f, Slots *s) {
  for (int i = 0; i < f->arguments; i++) column_load(&f->columns[i], s, current.rows);
  current.event_times = take_rows(s, current.rows, 8);
  current.row_kinds = take_rows(s, current.rows, 1);
  current.key_index = take_rows(s, current.rows, 4);
  for (int i = 0; i < f->keys; i++) column_load(&f->key_columns[i], s, current.keys);
  s->next += 3;
  int needs_keys = f->keys || f->states || f->mode == M_REDUCE || f->mode == M_AGGREGATE;
  if (needs_keys && current.rows && !current.key_index) die("the host's frame lacks the key index");
  for (int i = 0; i < f->states; i++) {
    State *state = f->state[i];
    if (!state->by_call) column_load(&state->column, s, current.keys);
    state_begin(state, current.keys);
  }
  if (f->mode != M_AGGREGATE) return;
  for (int i = 0; i < f->states; i++)
    if (!f->state[i]->by_call) column_load(&f->state[i]->sources, s, current.operation == 3 ? current.rows : 0);
}

static void check_arguments(const Function *f) {
  if (f->mode == M_AGGREGATE && current.operation >= 3) return;
  for (int i = 0; i < f->arguments; i++)
    if (current.rows && f->columns[i].absent) die("the host's frame lacks an argument");
}

static void put32(uint8_t *at, uint32_t v) { memcpy(at, &v, 4); }

static inline void buffer_part(Parts *parts, const Buffer *b) { part(parts, b->at, b->used); }

static inline void no_parts(Parts *parts, int count) { parts->slots += (uint32_t)count; }

static void state_parts(Function *f, Parts *parts, int done) {
  static Buffer *written;
  static int written_count;
  if (written_count < f->states) {
    written = realloc(written, sizeof(Buffer) * (size_t)f->states);
    if (!written) die("out of memory");
    memset(written + written_count, 0, sizeof(Buffer) * (size_t)(f->states - written_count));
    written_count = f->states;
  }
  for (int i = 0; i < f->states; i++) {
    State *s = f->state[i];
    if (s->by_call) {
      if (done) state_finish_call(s);
    } else if (done && state_finish_column(s, &written[i])) {
      state_slots(s, parts);
      buffer_part(parts, &written[i]);
    } else {
      no_parts(parts, s->type->slots + 1);
    }
  }
}

static size_t padded(size_t n) { return (n + 63) & ~(size_t)63; }

static Buffer *assemble(const Parts *parts, uint32_t status, uint32_t rows) {
  static Buffer frame;
  const Part *all = (const Part *)parts->list.at, *end = all + parts->list.used / sizeof(Part);
  size_t start = padded(HEADER + 8u * parts->slots), total = start;
  for (const Part *p = all; p < end; p++) total += padded(p->length);
  if (total > INT32_MAX) die("the effects of a bundle are larger than 2 GiB");
  buffer_reset(&frame);
  uint8_t *at = buffer_extend(&frame, total);
  zero_bytes(at, start);
  put32(at, EFFECTS_MAGIC);
  put32(at + 4, parts->slots);
  put32(at + 8, status);
  put32(at + 12, rows);
  size_t to = start;
  for (const Part *p = all; p < end; p++) {
    put32(at + HEADER + 8u * p->slot, (uint32_t)to);
    put32(at + HEADER + 8u * p->slot + 4, p->length);
    copy_bytes(at + to, p->at, p->length);
    size_t last = to + p->length;
    to = padded(last);
    zero_bytes(at + last, to - last);
  }
  return &frame;
}

static Buffer *effects(int more) {
  static Parts parts;
  Function *f = current.function;
  parts.list.used = parts.slots = 0;
  int many = f->mode == M_TABLE || f->mode == M_PROCESS;
  int folds = f->mode == M_AGGREGATE && current.operation != 4;
  builder_slots(&f->output, &parts);
  part(&parts, current.sources.at, many && f->output.rows ? current.sources.used : 0);
  part(&parts, current.kinds.at, many && current.kinds_used ? current.kinds.used : 0);
  state_parts(f, &parts, !more);
  no_parts(&parts, 3);
  if (errors.count) {
    buffer_part(&parts, &errors.rows);
    buffer_part(&parts, &errors.kind_offsets);
    buffer_part(&parts, &errors.kind);
    buffer_part(&parts, &errors.message_offsets);
    buffer_part(&parts, &errors.message);
    buffer_part(&parts, &errors.traceback_offsets);
    buffer_part(&parts, &errors.traceback);
  } else {
    no_parts(&parts, 7);
  }
  no_parts(&parts, 2);
  return assemble(&parts, (uint32_t)more, folds ? 0 : f->output.rows);
}

static void run_hook(PyObject *hook, PyObject *argument) {
  PyObject *arguments[2] = {NULL, argument};
  PyObject *answer = PyObject_Vectorcall(hook, arguments + 1, (size_t)(argument != NULL) | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
  if (!answer) die("the runner could not begin or end a bundle: out of memory?");
  Py_DECREF(answer);
}

static Buffer *advance(void) {
  Function *f = current.function;
  builder_reset(&f->output);
  buffer_reset(&current.sources);
  buffer_reset(&current.kinds);
  current.kinds_used = 0;
  if (errors.count) errors_reset();
  built_bytes = 0;
  current.running = 1;
  int more = loop_run();
  current.running = 0;
  if (end_bundle) {
    PyObject *hook = end_bundle;
    end_bundle = NULL;
    run_hook(hook, NULL);
    Py_DECREF(hook);
  }
  Buffer *frame = effects(more);
  if (!more) {
    if (release_frame) release_frame(current.frame);
    current.frame = NULL;
    arena_reset();
  }
  return frame;
}

Buffer *bundle_run(uint8_t *frame, uint32_t length, void (*release)(void *)) {
  if (current.frame) {
    loop_drop();
    if (release_frame) release_frame(current.frame);
    arena_reset();
  }
  if (length < HEADER || load32(frame) != BUNDLE_MAGIC) die("the host's frame has not the magic number of a bundle");
  Function *f = current.function = function_at(load32(frame + 8));
  current.frame = frame;
  release_frame = release;
  current.operation = load32(frame + 12);
  current.rows = load32(frame + 16);
  current.keys = load32(frame + 20);
  current.watermark = load64(frame + 24);
  current.processing_time = load64(frame + 32);
  current.row = current.key = 0;
  Slots s = {frame, length, load32(frame + 4), 0};
  if (s.slots != f->slots || HEADER + 8ull * s.slots > length) die("the host's frame has another number of slots than the function");
  if (f->mode == M_AGGREGATE ? current.operation < 1 || current.operation > 4 : current.operation != 0)
    die("the host asked for an operation that the function's kind has not");
  load(f, &s);
  check_arguments(f);
  loop_begin();
  errors.of_bundle = 0;
  undo_mark();
  if (begin_bundle) {
    PyObject *seed = PyLong_FromUnsignedLongLong((uint64_t)load64(frame + 40));
    if (!seed) die("out of memory");
    run_hook(begin_bundle, seed);
    Py_DECREF(seed);
  }
  return advance();
}

Buffer *bundle_resume(void) {
  if (!current.frame) die("the host resumed a bundle that is done");
  return advance();
}
