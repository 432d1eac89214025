/* See ballast.h. The canonical ABI, as far as this contract needs it: lists and texts are a pointer and a length, what is
 * more than one number is written where the last argument points, and callees' lists are allocated with cabi_realloc. */
#include "ballast.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

_Static_assert(sizeof(ballast_node) == 32 && sizeof(ballast_move) == 16 && sizeof(ballast_gauge) == 16, "as in the contract");
_Static_assert(sizeof(ballast_description) == 40 && sizeof(ballast_proposal) == 24, "as in the contract");

#define IMPORT(interface, function) __attribute__((import_module("ballast:policy/" interface "@0.1.0"), import_name(function)))
#define EXPORT(name) __attribute__((export_name(name)))
#define POLICY "ballast:policy/policy@0.1.0#"

IMPORT("cluster", "taken-at-ms") uint64_t import_taken_at_ms(void);
IMPORT("cluster", "window-s") uint32_t import_window_s(void);
IMPORT("cluster", "generation") uint64_t import_generation(void);
IMPORT("cluster", "nodes") void import_nodes(ballast_nodes *answer);
IMPORT("cluster", "owners") void import_owners(ballast_owners *answer);
typedef struct { uint8_t is_some; ballast_column column; } maybe_column;
IMPORT("cluster", "slot-metric") void import_slot_metric(const char *at, size_t length, maybe_column *answer);
IMPORT("cluster", "node-metric") void import_node_metric(const char *at, size_t length, maybe_column *answer);
IMPORT("cluster", "in-flight") void import_in_flight(ballast_moves *answer);
typedef struct { uint8_t is_error; union { struct { ballast_moves moves; ballast_text report; } found; ballast_text error; }; } solved;
IMPORT("search", "solve") void import_solve(const char *at, size_t length, solved *answer);
IMPORT("log", "log") void import_log(uint32_t level, const char *at, size_t length);

/* Memory of one call: blocks in a chain, each behind its header. 16 bytes keep what follows aligned. */
typedef struct block { struct block *before; char padding[16 - sizeof(struct block *)]; } block;
static block *last_block;

static void *allocate(size_t bytes) {
  block *fresh = calloc(1, sizeof(block) + bytes);
  if (!fresh) __builtin_trap();
  fresh->before = last_block;
  last_block = fresh;
  return fresh + 1;
}

static void free_all(void) {
  while (last_block) {
    block *before = last_block->before;
    free(last_block);
    last_block = before;
  }
}

EXPORT("cabi_realloc") void *cabi_realloc(void *old, size_t old_bytes, size_t align, size_t bytes) {
  (void)align;
  void *fresh = allocate(bytes);
  if (old) memcpy(fresh, old, old_bytes < bytes ? old_bytes : bytes);
  return fresh;
}

static union {
  ballast_description description;
  struct { uint8_t is_error; ballast_text error; } configured;
  struct { uint8_t is_error; union { ballast_proposal proposal; struct { uint8_t kind; ballast_text why; } failure; }; } planned;
} answer;

EXPORT(POLICY "describe") void *export_describe(void) {
  memset(&answer, 0, sizeof answer);
  ballast_describe(&answer.description);
  return &answer;
}

EXPORT(POLICY "configure") void *export_configure(const char *at, size_t length) {
  memset(&answer, 0, sizeof answer);
  answer.configured.is_error = !ballast_configure((ballast_text){at, length}, &answer.configured.error);
  return &answer;
}

EXPORT(POLICY "plan") void *export_plan(void) {
  memset(&answer, 0, sizeof answer);
  ballast_proposal proposal = {0};
  ballast_failure failure = {0};
  answer.planned.is_error = !ballast_plan(&proposal, &failure);
  if (answer.planned.is_error) {
    answer.planned.failure.kind = failure.kind;
    answer.planned.failure.why = failure.why;
  } else {
    answer.planned.proposal = proposal;
  }
  return &answer;
}

/* The daemon has read the answer. */
EXPORT("cabi_post_" POLICY "describe") void post_describe(void *unused) { (void)unused; free_all(); }
EXPORT("cabi_post_" POLICY "configure") void post_configure(void *unused) { (void)unused; free_all(); }
EXPORT("cabi_post_" POLICY "plan") void post_plan(void *unused) { (void)unused; free_all(); }

uint64_t ballast_taken_at_ms(void) { return import_taken_at_ms(); }
uint32_t ballast_window_s(void) { return import_window_s(); }
uint64_t ballast_generation(void) { return import_generation(); }
ballast_nodes ballast_ask_nodes(void) { ballast_nodes nodes; import_nodes(&nodes); return nodes; }
ballast_owners ballast_ask_owners(void) { ballast_owners owners; import_owners(&owners); return owners; }
ballast_moves ballast_in_flight(void) { ballast_moves moves; import_in_flight(&moves); return moves; }

ballast_column ballast_slot_metric(const char *name) {
  maybe_column column;
  import_slot_metric(name, strlen(name), &column);
  return column.is_some ? column.column : (ballast_column){NULL, 0};
}

ballast_column ballast_node_metric(const char *name) {
  maybe_column column;
  import_node_metric(name, strlen(name), &column);
  return column.is_some ? column.column : (ballast_column){NULL, 0};
}

bool ballast_solve(ballast_text goals, ballast_moves *moves, ballast_text *report) {
  solved outcome;
  import_solve(goals.at, goals.length, &outcome);
  *report = outcome.is_error ? outcome.error : outcome.found.report;
  if (!outcome.is_error) *moves = outcome.found.moves;
  return !outcome.is_error;
}

void ballast_log(ballast_level level, ballast_text message) { import_log(level, message.at, message.length); }

void *ballast_alloc(size_t count, size_t bytes_each) {
  size_t bytes;
  if (__builtin_mul_overflow(count, bytes_each, &bytes)) __builtin_trap();
  return allocate(bytes);
}

ballast_text ballast_text_of(const char *zero_terminated) { return (ballast_text){zero_terminated, strlen(zero_terminated)}; }

ballast_text ballast_format(const char *format, ...) {
  va_list arguments, again;
  va_start(arguments, format);
  va_copy(again, arguments);
  int length = vsnprintf(NULL, 0, format, arguments);
  char *text = allocate((size_t)length + 1);
  vsnprintf(text, (size_t)length + 1, format, again);
  va_end(again);
  va_end(arguments);
  return (ballast_text){text, (size_t)length};
}

bool ballast_same(ballast_text text, const char *other) {
  return text.length == strlen(other) && memcmp(text.at, other, text.length) == 0;
}

bool ballast_has_tag(const ballast_node *node, const char *tag) {
  for (size_t i = 0; i < node->tags.count; i++)
    if (ballast_same(node->tags.at[i], tag)) return true;
  return false;
}

/* A JSON object whose values are whole numbers, read once from the front; NULL where it is something else. */
static const char *skip_space(const char *at, const char *end) {
  while (at < end && (*at == ' ' || *at == '\t' || *at == '\n' || *at == '\r')) at++;
  return at;
}

static const char *skip(const char *at, const char *end, char wanted) {
  at = skip_space(at, end);
  return at < end && *at == wanted ? skip_space(at + 1, end) : NULL;
}

static bool read_parameter(ballast_text key, const char **at, const char *end, const ballast_parameter *known, size_t count,
                           ballast_text *error) {
  for (size_t i = 0; i < count; i++) {
    if (!ballast_same(key, known[i].key)) continue;
    const char *digits = *at;
    uint64_t value = 0;
    while (*at < end && **at >= '0' && **at <= '9' && *at - digits < 10) value = value * 10 + (uint64_t)(*(*at)++ - '0');
    bool whole = *at > digits && (*digits != '0' || *at == digits + 1);
    /* What may follow a whole number. A zero byte would match the end of that text. */
    bool ends = *at == end || (**at && strchr(" \t\r\n,}", **at));
    if (whole && ends && value >= known[i].least && value <= known[i].most) {
      *known[i].value = (unsigned)value;
      return true;
    }
    *error = ballast_format("%s: give a whole number from %u to %u", known[i].key, known[i].least, known[i].most);
    return false;
  }
  ballast_text names = {"", 0};
  for (size_t i = 0; i < count; i++)
    names = ballast_format("%.*s%s%s", (int)names.length, names.at, i ? " and " : "", known[i].key);
  *error = ballast_format("unknown parameter '%.*s': there are %.*s", (int)key.length, key.at, (int)names.length, names.at);
  return false;
}

bool ballast_read_parameters(ballast_text json, const ballast_parameter *known, size_t count, ballast_text *error) {
  const char *end = json.at + json.length, *at = skip(json.at, end, '{');
  for (size_t i = 0; i < count; i++) *known[i].value = known[i].otherwise;
  bool first = true;
  while (at && !(at < end && *at == '}' && first)) {
    if (!(at < end && *at == '"')) { at = NULL; break; }
    const char *key = ++at;
    while (at < end && *at != '"' && *at != '\\' && (unsigned char)*at >= ' ') at++;
    ballast_text name = {key, (size_t)(at - key)};
    at = skip(at, end, '"');
    at = at ? skip(at, end, ':') : NULL;
    if (!at) break;
    if (!read_parameter(name, &at, end, known, count, error)) return false;
    first = false;
    at = skip_space(at, end);
    if (at < end && *at == '}') break;
    at = skip(at, end, ',');
  }
  if (at) at = skip(at, end, '}');
  if (at == end) return true;
  *error = ballast_text_of("parameters: give one JSON object");
  return false;
}
