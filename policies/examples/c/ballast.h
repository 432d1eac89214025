/* What a policy in C needs of the contract (wit/policy.wit, world slot-policy), by hand: types as they lie in memory, the
 * daemon's functions, and the three functions that a policy defines. Optional worlds: generate with `wit-bindgen c` instead.
 *
 * Whatever is asked, allocated or answered lives until the call ends; nothing is freed by hand. */
#ifndef BALLAST_H
#define BALLAST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Not terminated by a zero. */
typedef struct { const char *at; size_t length; } ballast_text;
typedef struct { ballast_text *at; size_t count; } ballast_texts;
typedef struct { ballast_text id, address, zone; ballast_texts tags; } ballast_node;
typedef struct { ballast_node *at; size_t count; } ballast_nodes;
typedef struct { uint16_t slot; uint32_t target; ballast_text reason; } ballast_move;
typedef struct { ballast_move *at; size_t count; } ballast_moves;
typedef struct { ballast_text name; double value; } ballast_gauge;
typedef struct { ballast_gauge *at; size_t count; } ballast_gauges;
typedef struct { uint32_t *at; size_t count; } ballast_owners;
/* `at` is NULL when the daemon has no such column. */
typedef struct { double *at; size_t count; } ballast_column;
typedef struct { ballast_text name, version, summary; ballast_texts needs; ballast_text parameters_schema; } ballast_description;
typedef struct { ballast_moves moves; ballast_text summary; ballast_gauges gauges; } ballast_proposal;
typedef struct { enum { BALLAST_BAD_PARAMETERS, BALLAST_NOT_READY, BALLAST_INTERNAL } kind; ballast_text why; } ballast_failure;
typedef enum { BALLAST_DEBUG, BALLAST_INFO, BALLAST_WARN, BALLAST_ERROR } ballast_level;

/* What the policy defines. Those that answer false have filled in why. */
void ballast_describe(ballast_description *description);
bool ballast_configure(ballast_text json, ballast_text *error);
bool ballast_plan(ballast_proposal *proposal, ballast_failure *failure);

/* What the daemon tells, during ballast_plan only. The contract says what each means. */
uint64_t ballast_taken_at_ms(void);
uint32_t ballast_window_s(void);
uint64_t ballast_generation(void);
ballast_nodes ballast_ask_nodes(void);
ballast_owners ballast_ask_owners(void);
ballast_column ballast_slot_metric(const char *name);
ballast_column ballast_node_metric(const char *name);
ballast_moves ballast_in_flight(void);
/* The planning library: false and why in `report`, or true, moves, and a report in JSON. */
bool ballast_solve(ballast_text goals, ballast_moves *moves, ballast_text *report);
/* At any time. */
void ballast_log(ballast_level level, ballast_text message);

/* Zeroed memory until the call ends. */
void *ballast_alloc(size_t count, size_t bytes_each);
ballast_text ballast_text_of(const char *zero_terminated);
ballast_text ballast_format(const char *format, ...) __attribute__((format(printf, 1, 2)));
bool ballast_same(ballast_text text, const char *other);
bool ballast_has_tag(const ballast_node *node, const char *tag);

/* Parameters that are whole numbers: fills in the values, with the default where a key is absent. */
typedef struct { const char *key; unsigned least, most, otherwise; unsigned *value; } ballast_parameter;
bool ballast_read_parameters(ballast_text json, const ballast_parameter *known, size_t count, ballast_text *error);

#endif
