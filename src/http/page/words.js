// What reports say in figures, as a person would say it. Pure.

import { bytes, count, plural, ratio, ranges } from "./text.js";

export const MODES = {
  auto: "Moves what the guard approves.",
  "dry-run": "Plans and explains, moves nothing.",
  approval: "Moves what the guard and a person approve.",
  paused: "A person stopped it.",
  halted: "It stopped itself.",
  follower: "Another daemon leads; this one looks and does nothing.",
};

export const ACTIVITIES = {
  idle: "waiting for the next cycle",
  recovering: "closing slots that an earlier run left open",
  collecting: "asking the nodes",
  planning: "asking the policy",
  migrating: "moving slots",
  stopping: "ending: closing what is open",
};

/** By outcome: a word for filters, and the class of its mark. */
const OUTCOMES = {
  executed: ["Moved", "good"],
  incomplete: ["Incomplete", "warn"],
  planned: ["Planned", "plan"],
  refused: ["Refused", "warn"],
  "policy-failed": ["Policy failed", "bad"],
  "not-collected": ["Not seen", "bad"],
  "no-change": ["Nothing to do", "calm"],
};

/** The word for a cycle's outcome and the class of its mark; a daemon that has just started waits for its policy, and nothing is wrong. */
export function kindOf(cycle) {
  if (cycle.outcome === "policy-failed" && cycle.kind === "not-loaded") return ["No policy yet", "calm"];
  return OUTCOMES[cycle.outcome] ?? [cycle.outcome, "calm"];
}

/** What a cycle came to, by its summary. */
export function outcome(cycle) {
  const proposed = plural(cycle.moves_proposed, "move");
  switch (cycle.outcome) {
    case "executed": return `${plural(cycle.slots_moved, "slot")} moved`;
    case "incomplete": return `${count(cycle.slots_moved)} of ${plural(cycle.slots_moved + cycle.slots_stayed, "slot")} moved`;
    case "planned": return `${count(cycle.moves_approved)} of ${proposed} approved, none carried out`;
    case "refused": return `The guard held back all ${proposed}`;
    case "policy-failed": return cycle.kind === "not-loaded" ? "No policy was loaded yet" : `The policy gave no plan${cycle.kind ? ` (${cycle.kind})` : ""}`;
    case "not-collected": return "The cluster could not be seen";
    case "no-change": return "Nothing to move";
    default: return cycle.outcome;
  }
}

/** The one resource that a cycle was most about: its change, else its state. */
export function headline(predictions) {
  const all = Object.entries(predictions ?? {});
  if (all.length === 0) return "";
  const gain = ([, of]) => of.imbalance_before - of.imbalance_after;
  const [name, of] = all.reduce((best, one) => (gain(one) > gain(best) + 1e-9 ? one : best), all.find(([name]) => name === "cpu") ?? all[0]);
  const after = Math.abs(of.imbalance_after - of.imbalance_before) > 0.005 ? ` → ${ratio(of.imbalance_after)}` : "";
  return `${name} ${ratio(of.imbalance_before)}${after}`;
}

const by = (event) => (event.who ? ` by ${event.who}` : "");
const policy = (id) => (id ? `${id.name} ${id.version}` : "a policy");

/** An event: a mark, what happened, and why. */
export function happening(event) {
  const why = event.why ?? "";
  switch (event.event) {
    case "started": return ["calm", `Ballast ${event.version} started`, ""];
    case "stopped": return ["calm", "Ballast stopped", why];
    case "mode": return [event.to === "halted" ? "bad" : event.to === "paused" ? "warn" : "good", event.from === event.to ? `Mode ${event.to}${by(event)}` : `Mode ${event.from} → ${event.to}${by(event)}`, why];
    case "nodes-accepted": return ["warn", `${event.nodes.join(", ")} accepted${by(event)}`, why];
    case "policy-loaded": return ["good", `Policy ${policy(event.policy)} in use`, `sha256:${(event.policy?.digest ?? "").slice(0, 12)} from ${event.source}`];
    case "policy-refused": return ["bad", "Policy file refused; what was there goes on", why];
    case "shadow-loaded": return ["good", `Shadow ${event.shadow}: ${policy(event.policy)}`, ""];
    case "shadow-refused": return ["bad", `Shadow ${event.shadow} refused`, why];
    case "promoted": return ["good", event.shadow ? `Shadow ${event.shadow} decides${by(event)}` : `The configured policy decides again${by(event)}`, why];
    case "config-loaded": return ["good", "Configuration read", [["changed", event.changed], ["after a restart", event.needs_restart]].filter(([, keys]) => keys?.length).map(([what, keys]) => `${what}: ${keys.join(", ")}`).join("; ")];
    case "config-refused": return ["bad", "Configuration refused; what was there goes on", why];
    case "cancelled": return ["warn", `Moves of cycle ${event.cycle} cancelled${by(event)}`, why];
    case "scale-wanted": return ["plan", `${plural(event.wanted, "shard")} wanted, there are ${event.shards}`, why];
    case "introduced": return ["good", `${event.address} let into the cluster`, ""];
    case "plan-waits": return ["plan", `Plan ${event.plan} waits for a person: ${plural(event.slots, "slot")}`, event.summary ?? ""];
    case "plan-approved": return ["good", `Plan ${event.plan} approved${by(event)}`, why];
    case "plan-dropped": return ["calm", `Plan ${event.plan} dropped${by(event)}`, why];
    case "drain-begun": return ["plan", `${event.address} is being drained${event.forget ? ", to be forgotten" : ""}${by(event)}`, why];
    case "drain-ended": return ["calm", `${event.address} may have slots again${by(event)}`, why];
    case "emptied": return ["good", `${event.address} owns no slot any more`, ""];
    case "left": return ["good", `${event.address} has left the cluster`, ""];
    case "flags-cleared": return ["good", `Flags of slots ${event.slots} that a move had left on ${event.node} cleared`, why];
    case "recovered": return ["good", `${plural(event.slots, "slot")} that an earlier run left open closed`, ""];
    default: return ["calm", event.event, why];
  }
}

/** A problem in a snapshot, and whether no slot may move while it lasts. */
export function problem(of) {
  const { node, other, by: witness, detail, slots } = of;
  switch (of.problem) {
    case "primary-unreachable": return [true, `Primary ${node} cannot be reached: ${detail}`];
    case "replica-unreachable": return [false, `Replica ${node} cannot be reached: ${detail}`];
    case "node-suspected": return [true, of.failed ? `${witness} sees ${node} as failed` : `${witness} cannot reach ${node}`];
    case "node-loading": return [true, `${node} is still loading its data set`];
    case "disagreement": return [true, `${node} and ${other} disagree about slots ${slots}`];
    case "slots-uncovered": return [true, `Nobody serves slots ${slots}`];
    case "slots-open": return [false, `Slots ${slots} are open on ${node}`];
    case "unknown-node": return [true, `${witness} does not know the address of node ${String(node).slice(0, 8)}`];
    case "member-failed": return [false, `${witness} sees ${node}, which owns no slot, as failed`];
    case "epoch-collision": return [true, `${node} and ${other} share config epoch ${of.epoch}`];
    case "slot-stats-off": return [false, `${node} does not count load per slot: ${detail}`];
    case "warming-up": return [true, "Counters were read once so far; rates need two looks"];
    default: return [false, JSON.stringify(of)];
  }
}

/** How moved bytes and keys are told together. */
export function amount(keys, size) {
  return [plural(keys, "key"), size ? bytes(size) : null].filter(Boolean).join(", ");
}

/** `slot 7`, `slots 1-4 9`, or how many where that would be long. */
export function named(slots) {
  const list = ranges(slots);
  if (slots.length === 1) return `slot ${list}`;
  return list.length <= 40 ? `slots ${list}` : plural(slots.length, "slot");
}
