// The past: every cycle with its outcome, one of them opened, and what happened besides.

import { get, olderCycles, olderEvents, on, Refused, seen } from "./live.js";
import { explanation } from "./now.js";
import { amount, happening, headline, kindOf, named, outcome } from "./words.js";
import { bytes, clock, command, count, day, duration, fill, folded, h, isKnown, keep, Names, plural, ranges, ratio, time } from "./text.js";

/** So many calm cycles in a row are told of in one line. */
const CALM_MIN = 3;
/** Pairs and migrations of a cycle that are shown at once. */
const PAIRS_MAX = 6;
/** Nodes of a cycle whose change is drawn. */
const NETS_MAX = 16;

const CHOICES = [
  ["all", "All", () => true],
  ["moved", "Moved", (one) => ["executed", "incomplete"].includes(one.outcome)],
  ["planned", "Planned", (one) => one.outcome === "planned"],
  ["held", "Held back", (one) => one.refusals.length > 0],
  ["failed", "Failed", (one) => ["policy-failed", "not-collected", "incomplete"].includes(one.outcome)],
];

export function decisionsView(rest) {
  let choice = "all";
  let words = "";
  let opened = null;
  /** The first cycles of calm stretches that a person has opened. */
  const unfolded = new Set();

  const search = h("input", {
    type: "search", class: "search", placeholder: "Search: number, reason, policy, check", "aria-label": "Search decisions", "data-search": true, autocomplete: "off", spellcheck: "false",
    oninput: () => { words = search.value.trim().toLowerCase(); drawList(); },
  });
  const choices = h("div", { class: "choices", role: "group", "aria-label": "Show" }, CHOICES.map(([name, label]) => h("button", {
    type: "button", "aria-pressed": String(name === choice), "data-name": name, "data-key": `choice ${name}`,
    onclick: () => {
      choice = name;
      for (const one of choices.children) one.setAttribute("aria-pressed", String(one.dataset.name === name));
      drawList();
    },
  }, label)));
  const summary = h("p", { class: "quiet small", "aria-live": "polite" });
  const list = h("ol", { class: "cycles", "aria-label": "Cycles, the newest first" });
  const more = h("button", { type: "button", class: "button", onclick: () => load(more, olderCycles) }, "Show older");
  const detail = h("section", { class: "card detail", "aria-label": "Cycle", tabindex: "-1" });
  const events = h("ol", { class: "events", "aria-label": "What happened, the newest first" });
  const moreEvents = h("button", { type: "button", class: "button", onclick: () => load(moreEvents, olderEvents) }, "Show older");
  const eventsCard = h("section", { class: "card events-card", "aria-labelledby": "events-title" },
    h("div", { class: "card-head" }, h("h2", { id: "events-title" }, "What happened besides"), h("span", { class: "quiet small" }, "modes, reloads, drains, approvals")),
    events, moreEvents);
  const listCard = h("section", { class: "card list-card", "aria-labelledby": "list-title" },
    h("div", { class: "card-head" }, h("h2", { id: "list-title" }, "Cycles"), search), choices, summary, list, more);
  const element = h("div", { class: "decisions" }, h("h1", { class: "unseen" }, "Decisions"), h("div", { class: "column" }, listCard, eventsCard), detail);

  list.addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1, j: 1, k: -1 }[event.key];
    if (!step || event.ctrlKey || event.metaKey || event.altKey) return;
    const all = [...list.querySelectorAll("a, button")];
    all[Math.min(Math.max(all.indexOf(document.activeElement) + step, 0), all.length - 1)]?.focus();
    event.preventDefault();
  });

  function text(one) {
    const policy = one.policy ? `${one.policy.name} ${one.policy.version} ${one.policy.digest}` : "";
    return `${one.cycle} ${outcome(one)} ${one.outcome} ${one.mode} ${one.summary ?? ""} ${one.reason ?? ""} ${policy} ${one.refusals.map((refusal) => `${refusal.check} ${refusal.reason}`).join(" ")} ${day(one.started_at_ms)} ${clock(one.started_at_ms)}`.toLowerCase();
  }

  function drawList() {
    const wanted = words.split(/\s+/).filter(Boolean);
    const fits = CHOICES.find(([name]) => name === choice)[2];
    const shown = seen.cycles.filter((one) => fits(one) && (wanted.length === 0 || wanted.every((word) => text(one).includes(word))));
    const calm = choice === "all" && wanted.length === 0;
    summary.textContent = seen.cycles.length === 0 ? ""
      : `${shown.length === seen.cycles.length ? "" : `${count(shown.length)} of `}${plural(seen.cycles.length, "cycle")} read, back to ${clock(seen.cycles.at(-1).started_at_ms).slice(0, 5)}`;
    more.hidden = seen.cyclesEnd || seen.cycles.length === 0;
    keep(list, [seen.read, shown.map((one) => [one.cycle, one.outcome]), calm, [...unfolded], opened], () => {
      if (shown.length === 0) return [h("li", { class: "empty" }, !seen.read ? "Not read yet." : seen.cycles.length === 0 ? "No cycle has ended yet." : "No cycle that was read is like that.")];
      const rows = [];
      for (let place = 0; place < shown.length; ) {
        let end = place;
        while (calm && end < shown.length && shown[end].outcome === "no-change" && shown[end].cycle !== opened) end += 1;
        const stretch = shown.slice(place, end);
        if (stretch.length >= CALM_MIN && !unfolded.has(stretch.at(-1).cycle)) {
          rows.push(fold(stretch));
          place = end;
        } else {
          const until = Math.max(end, place + 1);
          for (; place < until; place += 1) rows.push(row(shown[place]));
        }
      }
      return rows;
    });
  }

  function fold(stretch) {
    const [last, first] = [stretch[0], stretch.at(-1)];
    return h("li", null, h("button", {
      type: "button", class: "cycle fold", "data-key": `fold ${first.cycle}`,
      onclick: () => { unfolded.add(first.cycle); drawList(); list.querySelector(`[href="#decisions/${last.cycle}"]`)?.focus(); },
    }, h("span", { class: "mark calm", "aria-hidden": "true" }), h("span", { class: "cycle-number" }, `${first.cycle}–${last.cycle}`), h("span", { class: "cycle-what" }, `${count(stretch.length)} cycles: nothing to move`), h("span", { class: "quiet small" }, time(last.started_at_ms))));
  }

  function row(one) {
    const held = one.refusals.reduce((sum, refusal) => sum + refusal.slots, 0);
    return h("li", null, h("a", {
      class: "cycle", href: `#decisions/${one.cycle}`, "data-key": `cycle ${one.cycle}`, "aria-current": one.cycle === opened ? "true" : null,
    },
      h("span", { class: `mark ${kindOf(one)[1]}`, "aria-hidden": "true" }),
      h("span", { class: "cycle-number" }, String(one.cycle)),
      h("span", { class: "cycle-what" }, outcome(one), held > 0 && one.outcome !== "refused" ? h("span", { class: "quiet" }, `, ${count(held)} held back`) : null),
      h("span", { class: "cycle-gain" }, headline(one.predictions)),
      h("span", { class: "quiet small cycle-time" }, time(one.started_at_ms))));
  }

  function drawEvents() {
    moreEvents.hidden = seen.eventsEnd || seen.events.length === 0;
    keep(events, [seen.read, seen.events.map((one) => [one.at_ms, one.event, one.id])], () => {
      if (seen.events.length === 0) return [h("li", { class: "empty" }, seen.read ? "Nothing happened yet." : "Not read yet.")];
      let date = day(Date.now());
      return seen.events.flatMap((one) => {
        const [kind, what, why] = happening(one);
        const rows = [];
        if (day(one.at_ms) !== date) {
          date = day(one.at_ms);
          rows.push(h("li", { class: "events-day quiet small" }, date));
        }
        rows.push(h("li", { class: "event" },
          h("span", { class: `mark ${kind}`, "aria-hidden": "true" }),
          h("span", { class: "event-time quiet" }, clock(one.at_ms)),
          h("div", { class: "event-what" }, h("p", null, what), why ? h("p", { class: "quiet small" }, why) : null)));
        return rows;
      });
    });
  }

  async function load(button, older) {
    button.disabled = true;
    try { await older(); } catch { /* The link tells. */ }
    button.disabled = false;
  }

  async function open(number, quiet = false) {
    opened = number;
    element.classList.toggle("opened", number !== null);
    drawList();
    if (number === null) {
      fill(detail, h("p", { class: "empty" }, "Choose a cycle to see what was planned, what was held back, what moved, and why."));
      return;
    }
    if (!quiet) fill(detail, h("p", { class: "quiet" }, `Reading cycle ${number}…`));
    try {
      const [whole, why] = await Promise.all([get(`cycles/${number}`), get(`explain?cycle=${number}`).catch(() => null)]);
      // Summaries have outcome and reason beside each other, whole reports one within the other.
      const report = typeof whole.outcome === "object" ? { ...whole, ...whole.outcome } : whole;
      if (opened === number) fill(detail, cycle(report, why?.items ?? []));
    } catch (error) {
      const text = error instanceof Refused ? error.message : "the daemon does not answer";
      if (opened === number) fill(detail, back(), h("h2", null, `Cycle ${number}`), h("p", { class: "quiet" }, text), command(`ballast explain ${number}`));
    }
  }

  const stops = [
    on("cycles", () => {
      drawList();
      // What came of the opened one is told by a later cycle.
      if (opened !== null && seen.cycles[0]?.realised?.cycle === opened) open(opened, true);
      if (opened === null) suggest();
    }),
    on("events", drawEvents),
  ];

  /** With nothing chosen, a wide window shows the last cycle in which something happened. */
  function suggest() {
    const wide = matchMedia("(min-width: 1000px)").matches;
    const one = seen.cycles.find((cycle) => cycle.outcome !== "no-change" && cycle.policy);
    if (wide && one && !location.hash.includes("/")) open(one.cycle);
  }

  drawEvents();
  const wanted = /^\d+$/.test(rest) ? Number(rest) : null;
  open(wanted);
  if (wanted === null) suggest();

  return {
    element,
    title: "Decisions",
    go(rest) {
      open(/^\d+$/.test(rest) ? Number(rest) : null);
      if (opened !== null && !matchMedia("(min-width: 1000px)").matches) detail.focus();
    },
    key: () => false,
    leave: () => stops.forEach((stop) => stop()),
  };
}

const back = () => h("a", { class: "back", href: "#decisions" }, "All cycles");

/** One cycle, whole. */
function cycle(report, why) {
  const names = new Names(Object.entries(report.addresses ?? {}).map(([id, address]) => ({ id, address })));
  const slots = report.migrations.reduce((sum, one) => sum + slotCount(one.moved), 0);
  const told = {
    ...report, moves_proposed: report.plan?.moves.length ?? 0, moves_approved: report.approved.length,
    slots_moved: slots, slots_stayed: report.migrations.reduce((sum, one) => sum + one.stayed.length, 0),
  };
  const [word, kind] = kindOf(report);
  const later = seen.cycles.find((one) => one.realised?.cycle === report.cycle);
  const { timings } = report;
  return [
    back(),
    h("div", { class: "card-head" },
      h("h2", null, `Cycle ${report.cycle}`, h("span", { class: `badge ${kind}` }, word)),
      h("span", { class: "quiet" }, `${day(report.started_at_ms)} ${clock(report.started_at_ms)} · mode ${report.mode}`)),
    h("p", { class: "lead" }, outcome(told), report.outcome === "incomplete" || report.reason ? h("span", null, `: ${report.reason}`) : null),
    report.plan?.summary ? h("p", { class: "said" }, h("span", { class: "quiet" }, `${report.policy?.name ?? "policy"} ${report.policy?.version ?? ""} says `), report.plan.summary) : null,
    part("Imbalance", Object.keys(report.predictions).length === 0 ? null : [change(report.predictions, later?.realised, report.approved.length > 0), later ? h("p", { class: "quiet small" }, `What came of it was measured in cycle ${later.cycle}.`) : null]),
    part("Slots by node", balanceOfMoves(report.approved, names)),
    part(`Moves ${report.approved.length > 0 && report.outcome !== "planned" ? "" : "approved "}by pair`, pairs(report.approved, names)),
    part("Held back by the guard", report.refusals.length === 0 ? null : h("ul", { class: "refusals" }, report.refusals.map((refusal) => h("li", null,
      h("div", null, h("span", { class: "badge warn" }, refusal.check), refusal.slots.length ? ` ${plural(refusal.slots.length, "slot")}` : " the whole plan"),
      h("p", null, refusal.reason),
      refusal.slots.length > 0 ? slotList(`refused ${refusal.check}`, refusal.slots) : null)))),
    part("Migrations", report.migrations.length === 0 ? null : h("ul", { class: "pairs" }, folded(report.migrations.map((one) => migration(one, names)), PAIRS_MAX, "migrations", "migrations"))),
    part("What the policy logged", report.log?.length ? h("ul", { class: "log" }, report.log.map((line) => h("li", null, line))) : null),
    part("Shadows", report.shadows?.length ? h("ul", { class: "lines" }, report.shadows.map((one) => h("li", null, h("strong", null, one.name), ` would move ${plural(one.approved, "slot")}, disagrees in ${Math.round(one.disagreement * 100)}%`))) : null),
    why.length > 0 ? h("details", { class: "part", "data-key": "explanation", open: report.approved.length === 0 }, h("summary", null, h("h3", null, "In words")), why.map(explanation)) : null,
    part("Repeat it", [
      why.some((one) => one.because.some((reason) => reason.topic === "repeat")) ? command(`ballast plan --at ${report.cycle}`, "decides once more by the same snapshot") : null,
      command(`ballast explain ${report.cycle}`, "the same in a terminal"),
    ]),
    h("p", { class: "quiet small" }, [
      report.snapshot ? `snapshot ${report.snapshot.generation}` : null,
      report.policy ? `policy sha256:${report.policy.digest.slice(0, 12)}` : null,
      `asking ${duration(timings.collect_ms)}`, `policy ${duration(timings.policy_ms)}`, `guard ${duration(timings.review_ms)}`,
      timings.migrate_ms ? `moving ${duration(timings.migrate_ms)}` : null,
    ].filter(Boolean).join(" · ")),
  ];
}

const part = (title, content) => (content ? h("section", { class: "part" }, h("h3", null, title), content) : null);

function slotCount(text) {
  let sum = 0;
  for (const item of String(text).split(/[ ,]+/).filter(Boolean)) {
    const [first, last] = item.split("-").map(Number);
    sum += (last ?? first) - first + 1;
  }
  return sum;
}

function slotList(key, slots) {
  const list = ranges(slots);
  return list.length <= 60 ? h("p", { class: "slot-list" }, list) : h("details", { "data-key": key }, h("summary", { class: "quiet small" }, "which"), h("p", { class: "slot-list" }, list));
}

/** Before → after on one line a resource, the floor as a tick, what came about as a diamond. */
function change(predictions, realised, moved) {
  const all = Object.entries(predictions);
  const came = (name) => realised?.imbalance?.[name]?.[1];
  const most = Math.max(1.3, ...all.flatMap(([name, of]) => [of.imbalance_before, of.imbalance_after, of.floor, came(name) ?? 1])) * 1.02;
  const at = (value) => `${Math.min(Math.max((value - 1) / (most - 1), 0), 1) * 100}%`;
  return h("div", { class: "changes" }, all.map(([name, of]) => {
    const seenLater = came(name);
    const words = `${name}: ${ratio(of.imbalance_before)}${moved ? ` → ${ratio(of.imbalance_after)}` : ""}, best ${ratio(of.floor)}${isKnown(seenLater) ? `, came to ${ratio(seenLater)}` : ""}`;
    const [low, high] = [of.imbalance_before, of.imbalance_after].sort((one, other) => one - other);
    const spot = (kind, value) => h("span", { class: `spot ${kind}`, css: { left: at(value) } });
    return h("div", { class: "change" },
      h("span", { class: "balance-name" }, name),
      h("span", { class: "change-line", role: "img", "aria-label": words },
        spot("floor", of.floor),
        moved ? h("span", { class: of.imbalance_after <= of.imbalance_before ? "span gain" : "span loss", css: { left: at(low), right: `calc(100% - ${at(high)})` } }) : null,
        spot(moved ? "before" : "after", of.imbalance_before),
        moved ? spot("after", of.imbalance_after) : null,
        isKnown(seenLater) ? spot("came", seenLater) : null),
      h("span", { class: "change-words", "aria-hidden": "true" },
        h("span", { class: "change-values" }, ratio(of.imbalance_before), moved ? h("strong", null, ` → ${ratio(of.imbalance_after)}`) : null),
        h("span", { class: "quiet small" }, ` best ${ratio(of.floor)}${isKnown(seenLater) ? ` · came to ${ratio(seenLater)}` : ""}`)));
  }), h("p", { class: "legend quiet small" },
    moved ? [h("span", { class: "key before" }), "before", h("span", { class: "key after" }), "promised"] : [h("span", { class: "key after" }), "as seen"],
    h("span", { class: "key floor" }), "best that could be", realised ? [h("span", { class: "key came" }), "came of it"] : null));
}

/** How many slots each node gives and takes, as bars to both sides. */
function balanceOfMoves(approved, names) {
  if (approved.length === 0) return null;
  const nodes = new Map();
  const at = (id) => nodes.get(id) ?? nodes.set(id, { gives: 0, takes: 0 }).get(id);
  for (const { from, to } of approved) {
    at(from).gives += 1;
    at(to).takes += 1;
  }
  const all = [...nodes].map(([id, { gives, takes }]) => ({ id, net: takes - gives, gives, takes })).sort((one, other) => other.net - one.net);
  const most = Math.max(...all.map((one) => Math.abs(one.net)), 1);
  const shown = all.length > NETS_MAX ? [...all.slice(0, NETS_MAX / 2), ...all.slice(-NETS_MAX / 2)] : all;
  return h("div", { class: "nets" }, shown.map((one) => h("div", { class: "net", title: `gives ${one.gives}, takes ${one.takes}` },
    h("span", { class: "address", title: names.full(one.id) }, names.of(one.id)),
    h("span", { class: "net-line" }, h("span", {
      class: one.net >= 0 ? "net-bar takes" : "net-bar gives",
      css: { width: `${(Math.abs(one.net) / most) * 50}%` },
    })),
    h("span", { class: "number" }, one.net > 0 ? `+${count(one.net)}` : one.net < 0 ? `−${count(-one.net)}` : "0"))),
    all.length > shown.length ? h("p", { class: "quiet small" }, `${count(all.length - shown.length)} nodes between them not shown`) : null);
}

function pairs(approved, names) {
  if (approved.length === 0) return null;
  const byPair = new Map();
  for (const one of approved) {
    const key = `${one.from} ${one.to}`;
    if (!byPair.has(key)) byPair.set(key, { from: one.from, to: one.to, slots: [], reasons: new Map() });
    const pair = byPair.get(key);
    pair.slots.push(one.slot);
    if (!pair.reasons.has(one.reason)) pair.reasons.set(one.reason, []);
    pair.reasons.get(one.reason).push(one.slot);
  }
  const all = [...byPair.values()].sort((one, other) => other.slots.length - one.slots.length);
  return h("ul", { class: "pairs" }, folded(all.map((pair) => h("li", null,
    ends(pair.from, pair.to, names, h("span", { class: "number" }, plural(pair.slots.length, "slot"))),
    h("ul", { class: "reasons" }, [...pair.reasons].sort(([, one], [, other]) => other.length - one.length).slice(0, 8).map(([reason, slots]) => h("li", null, because(`${pair.from} ${pair.to} ${reason}`, reason, slots)))))), PAIRS_MAX, "pairs", "pairs"));
}

/** A reason and its slots: how many where they are many, all of them when it is opened. */
function because(key, reason, slots) {
  const words = [reason || "no reason was given", h("span", { class: "quiet" }, ` · ${named(slots)}`)];
  const list = ranges(slots);
  return list.length <= 40 ? h("p", null, words) : h("details", { "data-key": key }, h("summary", null, words), h("p", { class: "slot-list" }, list));
}

const ends = (from, to, names, ...more) => h("div", { class: "move-ends" },
  h("span", { class: "address", title: names.full(from) }, names.of(from)), h("span", { class: "arrow", "aria-label": "to" }, "→"),
  h("span", { class: "address", title: names.full(to) }, names.of(to)), ...more);

function migration(one, names) {
  const moved = slotCount(one.moved);
  const eased = Object.entries(one.pace?.eased ?? {});
  const stayed = new Map();
  for (const [slot, why] of one.stayed) stayed.set(why, [...(stayed.get(why) ?? []), slot]);
  return h("li", null,
    ends(one.source, one.target, names, h("span", { class: "tag" }, one.protocol), h("span", { class: "number" }, plural(moved, "slot"))),
    h("p", { class: "quiet small" }, [
      amount(one.keys, one.bytes), duration(one.duration_ms),
      one.duration_ms > 0 && one.keys > 0 ? `${count(one.keys / (one.duration_ms / 1000))} keys/s` : null,
      one.pace?.probes ? `${one.pace.slow_probes} of ${plural(one.pace.probes, "probe")} late` : null,
      eased.length ? `eased ${eased.map(([why, times]) => `${times}× for ${why}`).join(", ")}` : null,
    ].filter(Boolean).join(" · ")),
    [...stayed].map(([why, slots]) => h("p", { class: "stayed" }, h("span", { class: "badge warn" }, "stayed"), ` ${named(slots)}: ${why}`)));
}
