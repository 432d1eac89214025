/* Evens memory: from the fullest node to the emptiest, the largest slot that does not turn the two around. */
#include "ballast.h"

static unsigned threshold_percent = 110, max_moves = 100;

static const char schema[] =
    "{\"type\":\"object\",\"additionalProperties\":false,\"properties\":{"
    "\"threshold-percent\":{\"type\":\"integer\",\"minimum\":100,\"maximum\":1000,\"default\":110},"
    "\"max-moves\":{\"type\":\"integer\",\"minimum\":1,\"maximum\":1000,\"default\":100}}}";

void ballast_describe(ballast_description *description) {
  static ballast_text needs[] = {{"slot/bytes", 10}};
  description->name = ballast_text_of("even-memory");
  description->version = ballast_text_of("0.1.0");
  description->summary = ballast_text_of("moves slots from the fullest node to the emptiest until memory is even");
  description->needs = (ballast_texts){needs, 1};
  description->parameters_schema = ballast_text_of(schema);
}

bool ballast_configure(ballast_text json, ballast_text *error) {
  unsigned threshold, moves;
  const ballast_parameter known[] = {
      {"threshold-percent", 100, 1000, 110, &threshold},
      {"max-moves", 1, 1000, 100, &moves},
  };
  /* What was configured before stays in force unless everything is right. */
  if (!ballast_read_parameters(json, known, 2, error)) return false;
  threshold_percent = threshold;
  max_moves = moves;
  return true;
}

typedef struct { double load; bool gets, drains, spent; } node;

/* Of the nodes that may get slots, the one with the least; `count` if there is none. */
static uint32_t emptiest(const node *nodes, uint32_t count) {
  uint32_t least = count;
  for (uint32_t i = 0; i < count; i++)
    if (nodes[i].gets && (least == count || nodes[i].load < nodes[least].load)) least = i;
  return least;
}

/* Of the nodes that are not spent, the one with the most; `count` if there is none. */
static uint32_t fullest(const node *nodes, uint32_t count) {
  uint32_t most = count;
  for (uint32_t i = 0; i < count; i++)
    if (!nodes[i].spent && (most == count || nodes[i].load > nodes[most].load)) most = i;
  return most;
}

bool ballast_plan(ballast_proposal *proposal, ballast_failure *failure) {
  ballast_column bytes = ballast_slot_metric("bytes");
  if (!bytes.at) {
    *failure = (ballast_failure){BALLAST_NOT_READY, ballast_text_of("slot/bytes is not there yet")};
    return false;
  }
  ballast_nodes told = ballast_ask_nodes();
  ballast_owners owners = ballast_ask_owners();
  uint32_t count = (uint32_t)told.count;
  node *nodes = ballast_alloc(count, sizeof *nodes);
  for (uint32_t i = 0; i < count; i++) {
    const ballast_node *it = &told.at[i];
    nodes[i].drains = nodes[i].spent = ballast_has_tag(it, "draining");
    nodes[i].gets = !nodes[i].drains && !ballast_has_tag(it, "cordoned") && !ballast_has_tag(it, "loading") &&
                    !ballast_has_tag(it, "suspect");
  }
  /* No slot moves twice, and those in flight are as good as there. */
  bool *moved = ballast_alloc(owners.count, sizeof *moved);
  ballast_moves begun = ballast_in_flight();
  for (size_t i = 0; i < begun.count; i++) {
    owners.at[begun.at[i].slot] = begun.at[i].target;
    moved[begun.at[i].slot] = true;
  }
  for (size_t slot = 0; slot < owners.count; slot++)
    if (owners.at[slot] < count) nodes[owners.at[slot]].load += bytes.at[slot];
  if (emptiest(nodes, count) == count) {
    proposal->summary = ballast_text_of("no node can take slots");
    return true;
  }
  double total = 0, most = 0, kept = 0;
  for (uint32_t i = 0; i < count; i++) {
    total += nodes[i].load;
    if (nodes[i].drains) continue;
    kept += 1;
    if (nodes[i].load > most) most = nodes[i].load;
  }
  double fair = total / kept, imbalance = fair > 0 ? most / fair : 1;

  ballast_move *moves = ballast_alloc(max_moves, sizeof *moves);
  size_t made = 0;
  /* Draining nodes are emptied first, lowest slots first. */
  for (size_t slot = 0; slot < owners.count && made < max_moves; slot++) {
    uint32_t giver = owners.at[slot];
    if (moved[slot] || giver >= count || !nodes[giver].drains) continue;
    uint32_t taker = emptiest(nodes, count);
    nodes[giver].load -= bytes.at[slot];
    nodes[taker].load += bytes.at[slot];
    owners.at[slot] = taker;
    moved[slot] = true;
    moves[made++] = (ballast_move){(uint16_t)slot, taker, ballast_text_of("drain")};
  }
  while (made < max_moves) {
    uint32_t giver = fullest(nodes, count), taker = emptiest(nodes, count);
    if (giver == count || 100 * nodes[giver].load <= threshold_percent * fair) break;
    double half = (nodes[giver].load - nodes[taker].load) / 2, best_bytes = 0;
    size_t best = owners.count;
    for (size_t slot = 0; slot < owners.count; slot++) {
      if (owners.at[slot] != giver || moved[slot] || bytes.at[slot] <= best_bytes || bytes.at[slot] > half) continue;
      best = slot;
      best_bytes = bytes.at[slot];
    }
    if (best == owners.count) {
      nodes[giver].spent = true;
      continue;
    }
    nodes[giver].load -= best_bytes;
    nodes[taker].load += best_bytes;
    owners.at[best] = taker;
    moved[best] = true;
    moves[made++] = (ballast_move){(uint16_t)best, taker, ballast_text_of("memory")};
  }
  ballast_gauge *gauge = ballast_alloc(1, sizeof *gauge);
  *gauge = (ballast_gauge){ballast_text_of("imbalance"), imbalance};
  proposal->moves = (ballast_moves){moves, made};
  proposal->gauges = (ballast_gauges){gauge, 1};
  proposal->summary = ballast_format("moves: %zu; the fullest node holds %u%% of its fair share", made, (unsigned)(imbalance * 100));
  return true;
}
