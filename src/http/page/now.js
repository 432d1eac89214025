// The present: mode and why, the figures asked for first, who owns what and how busy it is, what moves.

import { SHADES, SlotMap } from "./slotmap.js";
import { HeatMap } from "./heatmap.js";
import { Nodes } from "./nodes.js";
import { slotOf } from "./binary.js";
import { get, on, seen } from "./live.js";
import { ACTIVITIES, MODES, headline, kindOf, named, outcome, problem } from "./words.js";
import { bytes, clock, command, count, duration, fill, h, isKnown, keep, micros, Names, percent, plural, ratio, say, short, slotsOf, time, UNKNOWN } from "./text.js";

/** Lines of one kind that are shown at once. */
const LINES_MAX = 6;

export function nowView() {
  const standing = h("section", { class: "standing", "aria-label": "Mode" });
  const attention = h("section", { class: "attention", "aria-label": "What needs attention", hidden: true });
  const figures = h("section", { class: "figures", "aria-label": "Figures" });
  // The command stays where it is while what is above it changes twice a second: somebody may be copying it.
  const movesBody = h("div", { class: "contents" });
  const moves = h("section", { class: "card moves", "aria-labelledby": "moves-title" }, movesBody, command("ballast cancel --reason …", "ends them at the next step"));
  const recent = h("section", { class: "card recent", "aria-labelledby": "recent-title", hidden: true });
  const openSlots = h("section", { class: "card", "aria-label": "Open slots", hidden: true });
  const answer = h("div", { class: "answer", hidden: true, tabindex: "-1", role: "region", "aria-label": "Explanation of a slot" });

  const map = new SlotMap({ chosen: explain, pointed: (id) => nodes.highlight(id) });
  const nodes = new Nodes({ isolate: (id) => map.set({ isolated: id }) });
  const heatMap = new HeatMap({
    chosen: (slot) => {
      map.mark(slot);
      map.frame.scrollIntoView({ block: "center", behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth" });
      map.frame.focus({ preventScroll: true });
    },
  });

  let asked = 0;
  async function explain(slot) {
    asked += 1;
    const turn = asked;
    answer.hidden = slot === null;
    if (slot === null) return;
    const close = h("button", { type: "button", class: "tool", "aria-label": "Close", onclick: () => { map.mark(null); answer.hidden = true; map.frame.focus(); } }, "×");
    const head = h("div", { class: "answer-head" }, h("h3", null, `Slot ${slot}`), close);
    const body = h("div", null, h("p", { class: "quiet" }, "Looking through the history…"));
    fill(answer, head, body, command(`ballast explain --slot ${slot}`));
    try {
      const { items } = await get(`explain?slot=${slot}`);
      if (turn === asked) fill(body, items.map(explanation));
      if (turn === asked && items[0]) say(items[0].answer);
    } catch (error) {
      if (turn === asked) fill(body, h("p", { class: "quiet" }, error.message));
    }
  }

  const shades = h("div", { class: "choices", role: "group", "aria-label": "Colour slots by" }, SHADES.map(([name, label]) => h("button", {
    type: "button", "data-name": name, "data-key": `shade ${name}`, "aria-pressed": String(name === "owner"), onclick: () => shade(name),
  }, label)));
  function shade(name) {
    for (const one of shades.children) one.setAttribute("aria-pressed", String(one.dataset.name === name));
    map.set({ shade: name });
  }

  const find = h("input", {
    type: "search", class: "search", placeholder: "Slot, or key", "aria-label": "Find a slot by its number or by a key", autocomplete: "off", spellcheck: "false",
    oninput: () => { const slot = meant(find.value); if (slot !== null) map.point(slot); },
    onkeydown: (event) => {
      const slot = meant(find.value);
      if (event.key === "Enter" && slot !== null) { map.mark(slot); explain(slot); }
    },
  });

  const mapCard = h("section", { class: "card map-card", "aria-labelledby": "map-title" },
    h("div", { class: "card-head" }, h("h2", { id: "map-title" }, "Slots"), find),
    shades, map.frame, map.scale, map.readout, answer,
    h("p", { id: "map-keys", class: "unseen" }, "Arrow keys go from slot to slot, page up and down by eight rows, enter explains a slot, escape closes."));
  const nodeCard = h("section", { class: "card node-card", "aria-labelledby": "nodes-title" },
    h("div", { class: "card-head" }, h("h2", { id: "nodes-title" }, "Primaries"), nodes.search),
    nodes.summary, nodes.grid,
    h("p", { id: "node-keys", class: "unseen" }, "Arrow keys go from node to node, enter keeps one isolated on the map, escape ends that."));
  const heatCard = h("section", { class: "card heat-card", "aria-labelledby": "heat-title" },
    h("div", { class: "card-head" }, h("h2", { id: "heat-title" }, "Slots over time"), heatMap.scale),
    h("div", { class: "heat-grid" },
      h("div", { class: "heat-slots", "aria-hidden": "true" }, ["0", "4096", "8192", "12288", "16383"].map((text) => h("span", null, text))),
      heatMap.frame, h("span"), heatMap.times),
    heatMap.readout,
    h("p", { id: "heat-keys", class: "unseen" }, "Arrow keys go by a minute and by 32 slots, enter shows the slots on the map."));

  const left = h("div", { class: "now-main" }, mapCard);
  const right = h("div", { class: "now-side" }, moves, nodeCard, openSlots);
  const element = h("div", { class: "now" },
    h("h1", { class: "unseen" }, "Now"),
    standing, attention, figures,
    h("div", { class: "now-grid" }, left, right),
    heatCard);

  let names = new Names();

  /** The last cycles in which something happened. */
  function drawRecent() {
    const shown = seen.cycles.filter((one) => one.outcome !== "no-change" && one.policy).slice(0, LINES_MAX);
    recent.hidden = shown.length === 0;
    // Where there is room for it.
    const place = seen.nodes.length > 6 || !moves.hidden ? left : right;
    if (recent.parentElement !== place) place.append(recent);
    keep(recent, shown.map((one) => [one.cycle, one.outcome]), () => [
      h("div", { class: "card-head" }, h("h2", { id: "recent-title" }, "Last decisions"), h("a", { class: "small", href: "#decisions" }, "all")),
      h("ol", { class: "cycles" }, shown.map((one) => h("li", null, h("a", { class: "cycle", href: `#decisions/${one.cycle}`, "data-key": `recent ${one.cycle}` },
        h("span", { class: `mark ${kindOf(one)[1]}`, "aria-hidden": "true" }),
        h("span", { class: "cycle-number" }, String(one.cycle)),
        h("span", { class: "cycle-what" }, outcome(one), h("span", { class: "quiet" }, ` · ${headline(one.predictions)}`)),
        h("span", { class: "quiet small cycle-time" }, time(one.started_at_ms)))))),
    ]);
  }

  function drawStanding() {
    const { status, why } = seen;
    if (!status) return keep(standing, "none", () => h("p", { class: "quiet" }, "Asking the daemon…"));
    keep(standing, [status.mode, status.mode_reason, status.activity, status.lease, status.stuck, why?.answer, why?.because], () => [
      h("div", { class: "standing-line" },
        h("span", { class: `mode mode-${status.mode}` }, status.mode),
        h("span", { class: "standing-what" }, h("strong", null, capital(ACTIVITIES[status.activity] ?? status.activity)), h("span", { class: "quiet" }, ` · ${MODES[status.mode] ?? ""}`))),
      h("p", { class: "standing-reason" }, status.mode_reason || "no reason was given"),
      status.lease && !status.lease.leads ? h("p", { class: "standing-reason" }, status.lease.reason) : null,
      why ? h("details", { class: "why", "data-key": "why" }, h("summary", null, capital(why.answer)), reasons(why.because)) : null,
    ]);
  }

  function drawAttention() {
    const { status } = seen;
    const notes = status ? attentions(status) : [];
    attention.hidden = notes.length === 0;
    keep(attention, notes, () => notes.slice(0, LINES_MAX + 4).map(({ kind, title, text, since, commands }) => h("article", { class: `note ${kind}${commands ? " acts" : ""}` },
      h("div", { class: "note-text" },
        h("h2", null, title, since ? h("span", { class: "quiet" }, " · ", time(since)) : null),
        text ? h("p", null, text) : null),
      commands ? h("div", { class: "note-commands" }, commands.map((one) => command(one))) : null)).concat(notes.length > LINES_MAX + 4 ? [h("p", { class: "quiet" }, `and ${notes.length - LINES_MAX - 4} more`)] : []));
  }

  function drawFigures() {
    const { status } = seen;
    if (!status) return keep(figures, "none", () => []);
    const { moving, scale, scaling, snapshot, totals } = status;
    const probes = seen.nodes.map((node) => node.probe_usec).filter(isKnown).sort((one, other) => one - other);
    const running = status.migrations.filter((one) => !one.finished);
    const left = moving ? moving.total.slots - moving.slots_moved : 0;
    const bytesLeft = moving && isKnown(moving.total.bytes) ? Math.max(moving.total.bytes - moving.bytes_moved, 0) : NaN;
    const shards = scale?.shards ?? NaN;
    const desired = scale?.desired_shards ?? NaN;
    fillFigures(figures, [
      ["imbalance", () => [
        h("h2", null, "Imbalance"),
        Object.keys(status.balance).length === 0
          ? h("p", { class: "quiet" }, "Not known yet: rates need two looks at the counters.")
          : h("div", { class: "balances" }, Object.entries(status.balance).map(balance)),
        h("p", { class: "quiet small" }, "busiest ÷ mean; the tick is the best that any placement could reach")],
      [status.balance]],
      ["moving", () => tile("In flight", moving ? count(left) : "0", moving ? plural(left, "slot").replace(/^[\d,]+ /, "") : "slots",
        moving ? [isKnown(bytesLeft) ? `${bytes(bytesLeft)} left` : null, isKnown(moving.bytes_per_s) ? `${bytes(moving.bytes_per_s)}/s` : isKnown(moving.keys_per_s) ? `${short(moving.keys_per_s)} keys/s` : null].filter(Boolean).join(" · ") || plural(running.length, "migration") : lastMove()),
      [moving, running.length, seen.cycles[0]?.cycle, lastMove()]],
      ["eta", () => tile("Done in", moving && isKnown(moving.eta_ms) ? duration(moving.eta_ms) : UNKNOWN, "", moving ? (isKnown(moving.eta_ms) ? `about ${clock(Date.now() + moving.eta_ms).slice(0, 5)}` : "not known yet") : "nothing moves"), [moving?.eta_ms, Boolean(moving)]],
      ["shards", () => tile("Shards", count(shards), isKnown(desired) && desired !== shards ? `→ ${count(desired)}` : "", [isKnown(desired) ? `${count(desired)} desired` : null, scaling ? (scaling.waits ?? scaling.reason) : "no advice was given"].filter(Boolean).join(" · "), scaling?.reason), [shards, desired, scaling]],
      ["probe", () => tile("Probe", probes.length ? micros(probes.at(-1)) : UNKNOWN, "", probes.length > 1 ? `slowest; median ${micros(probes[Math.floor(probes.length / 2)])}` : "our own round trip to a node"), [probes.at(-1), probes[Math.floor(probes.length / 2)]]],
      ["seen", () => tile("Seen", snapshot ? time(snapshot.taken_at_ms) : "not yet", "", snapshot ? `${plural(snapshot.primaries, "primary", "primaries")}, ${plural(snapshot.replicas, "replica")}` : "the first snapshot is being taken"), [snapshot?.taken_at_ms, snapshot?.primaries, snapshot?.replicas]],
      ["totals", () => tile("Moved since start", count(totals.slots_moved), "slots", `${short(totals.keys_moved)} keys, ${bytes(totals.bytes_moved)} · up ${duration(Math.floor((Date.now() - status.started_at_ms) / 60000) * 60000 || Date.now() - status.started_at_ms)}`), [totals, Math.floor((Date.now() - status.started_at_ms) / 60000)]],
    ]);
  }

  function lastMove() {
    const last = seen.cycles.find((one) => one.slots_moved > 0);
    return last ? `last: ${plural(last.slots_moved, "slot")} in cycle ${last.cycle}` : "nothing moved yet";
  }

  function drawMoves() {
    const { status } = seen;
    const running = (status?.migrations ?? []).filter((one) => !one.finished);
    const { moving } = status ?? {};
    moves.hidden = !moving && running.length === 0;
    map.set({ moving: running.flatMap((one) => slotsOf(one.slots)), names });
    if (moves.hidden) return;
    const share = moving?.total.slots ? moving.slots_moved / moving.total.slots : NaN;
    fill(movesBody,
      h("div", { class: "card-head" }, h("h2", { id: "moves-title" }, "Moves in flight"),
        moving ? h("span", { class: "quiet" }, `${count(moving.slots_moved)} of ${plural(moving.total.slots, "slot")}${moving.slots_waiting ? `, ${count(moving.slots_waiting)} not begun` : ""}`) : null),
      isKnown(share) ? progress(share, "All moves of this cycle") : null,
      h("ul", { class: "move-list" }, running.slice(0, LINES_MAX).map(migration)),
      running.length > LINES_MAX ? h("p", { class: "quiet" }, `and ${running.length - LINES_MAX} more`) : null);
  }

  function migration(one) {
    const total = slotsOf(one.slots).length;
    const keysLeft = isKnown(one.keys_total) ? Math.max(one.keys_total - one.keys_moved, 0) : NaN;
    const seconds = Math.max((one.told_at_ms - one.started_at_ms) / 1000, 0);
    const rate = seconds >= 1 ? one.keys_moved / seconds : NaN;
    const share = one.keys_total ? one.keys_moved / one.keys_total : total ? one.slots_moved / total : 0;
    const eta = rate > 0 && isKnown(keysLeft) ? (keysLeft / rate) * 1000 : NaN;
    return h("li", { class: "move" },
      h("div", { class: "move-ends" }, who(one.source), h("span", { class: "arrow", "aria-label": "to" }, "→"), who(one.target), h("span", { class: "tag" }, one.protocol), h("span", { class: "tag" }, one.step)),
      progress(Math.min(share, 1), `${total - one.slots_moved} slots left`),
      h("div", { class: "move-facts quiet" },
        h("span", null, `${count(total - one.slots_moved)} of ${plural(total, "slot")} left`),
        h("span", null, isKnown(keysLeft) ? `${count(keysLeft)} keys left` : `${count(one.keys_moved)} keys moved`),
        h("span", null, isKnown(rate) ? `${short(rate)} keys/s` : "rate not known yet"),
        h("span", null, isKnown(eta) ? `about ${duration(eta)}` : "")),
      one.reason ? h("p", { class: "quiet small" }, one.reason) : null);
  }

  const who = (id) => h("span", { class: "address", title: names.full(id) }, names.of(id));

  function drawOpen() {
    const open = seen.status?.open_slots ?? [];
    openSlots.hidden = open.length === 0;
    keep(openSlots, open.map((one) => [one, names.of(one.node)]), () => [
      h("div", { class: "card-head" }, h("h2", null, "Open slots"), h("span", { class: "quiet" }, plural(open.length, "flag"))),
      h("ul", { class: "lines" }, open.slice(0, LINES_MAX * 2).map((one) => {
        const [[way, other]] = Object.entries(one.direction);
        return h("li", null, h("span", { class: "number" }, String(one.slot)), " ", way, " on ", who(one.node), way === "importing" ? " from " : " to ", who(other));
      })),
      open.length > LINES_MAX * 2 ? h("p", { class: "quiet" }, `and ${open.length - LINES_MAX * 2} more`) : null,
      seen.status?.activity === "migrating" ? null : command("ballast check", "says whose they are"),
    ]);
  }

  function drawNodes() {
    names = new Names(seen.nodes);
    nodes.set({ nodes: seen.nodes, drains: seen.status?.drains ?? [], names, places: new Map((seen.slots?.nodes ?? seen.nodes).map((node, place) => [node.id, place])) });
    map.set({ names });
  }

  const drawHeat = () => {
    heatCard.hidden = !seen.heat;
    heatMap.set(seen.heat);
  };
  const drawSlots = () => {
    mapCard.classList.toggle("without", !seen.slots);
    map.set({ slots: seen.slots, names });
    nodes.set({ places: new Map((seen.slots?.nodes ?? seen.nodes).map((node, place) => [node.id, place])) });
  };
  const drawStatus = () => { drawStanding(); drawAttention(); drawFigures(); drawMoves(); drawOpen(); nodes.set({ drains: seen.status?.drains ?? [] }); };

  const stops = [
    on("status", drawStatus), on("nodes", () => { drawNodes(); drawFigures(); drawMoves(); drawOpen(); drawRecent(); }), on("slots", drawSlots), on("heat", drawHeat),
    on("why", drawStanding), on("cycles", () => { drawFigures(); drawRecent(); }),
  ];
  drawStatus();
  drawNodes();
  drawSlots();
  drawHeat();
  drawRecent();

  return {
    element,
    title: "Now",
    key(event) {
      if (event.key === "m") {
        const place = SHADES.findIndex(([name]) => name === map.shade);
        const [name, label] = SHADES[(place + 1) % SHADES.length];
        shade(name);
        say(`Slots by ${label}`);
      } else if (event.key === "s") find.focus();
      else return false;
      return true;
    },
    dress: () => { map.draw(); map.drawAbove(); map.tell(); heatMap.draw(); nodes.draw(); },
    leave: () => stops.forEach((stop) => stop()),
    // For the measurements of tests/page/scale.mjs.
    redraw: () => { map.draw(); map.drawAbove(); heatMap.draw(); nodes.set({}); },
    map, nodes, heatMap,
  };
}

function meant(text) {
  const wanted = text.trim();
  if (wanted === "") return null;
  if (/^\d{1,5}$/.test(wanted) && Number(wanted) < 16384) return Number(wanted);
  return slotOf(wanted);
}

const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);

export function explanation(of) {
  return h("div", { class: "explanation" }, h("p", { class: "explanation-answer" }, capital(of.answer)), reasons(of.because));
}

export function reasons(because) {
  return h("dl", { class: "because" }, because.map(({ topic, text }) => h("div", null, h("dt", null, topic), h("dd", null, text))));
}

/** Tiles are filled one by one, so that one that changes leaves the others alone. */
function fillFigures(place, tiles) {
  for (const [name, make, by] of tiles) {
    place[name] ??= place.appendChild(h("div", { class: `figure figure-${name}` }));
    keep(place[name], by, make);
  }
}

function tile(label, value, unit, detail, title) {
  return [h("h2", null, label), h("p", { class: "value" }, value, unit ? h("span", { class: "unit" }, ` ${unit}`) : null), h("p", { class: "quiet small figure-detail", title: title ?? null }, detail)];
}

/** A resource's imbalance on a line from 1 to 2 and beyond, with the best that could be as a tick. */
function balance([name, { imbalance, floor }]) {
  const most = Math.max(2, imbalance * 1.05, floor * 1.05);
  const at = (value) => (value - 1) / (most - 1);
  const far = imbalance / Math.max(floor, 1);
  return h("div", { class: "balance" },
    h("span", { class: "balance-name" }, name),
    h("span", { class: "balance-value" }, ratio(imbalance)),
    h("span", { class: `balance-line ${far > 1.5 ? "far" : far > 1.2 ? "near" : "even"}` },
      h("span", { class: "balance-level", css: { transform: `scaleX(${Math.max(at(imbalance), 0.012)})` } }),
      h("span", { class: "balance-floor", css: { left: `${Math.min(at(Math.max(floor, 1)), 1) * 100}%` } })),
    h("span", { class: "quiet small" }, `best ${ratio(floor)}`));
}

function progress(share, label) {
  return h("div", { class: "progress", role: "progressbar", "aria-label": label, "aria-valuemin": "0", "aria-valuemax": "100", "aria-valuenow": String(Math.round(share * 100)) },
    h("span", { css: { transform: `scaleX(${share})` } }));
}

/** What a person should look at, the worst first. */
function attentions(status) {
  const notes = [];
  const add = (kind, title, text, more = {}) => notes.push({ kind, title, text, ...more });
  const { waiting } = status;
  if (status.mode === "halted") add("bad", "Halted: nothing moves until a person lets it go on", "Why is said above; the same, and what it hung on, by the first command.", { commands: ["ballast explain", "ballast resume --reason …"] });
  if (waiting && !waiting.approved_by) {
    const size = waiting.bytes ? `, ${bytes(waiting.bytes)}` : "";
    add("plan", `Plan ${waiting.plan} waits for approval: ${plural(waiting.slots, "slot")}${size}`, `${waiting.summary} · it can be approved until ${clock(waiting.until_ms)}`, { since: waiting.since_ms, commands: [`ballast approve ${waiting.plan} --reason …`, `ballast approve ${waiting.plan} --reject`] });
  } else if (waiting) add("good", `Plan ${waiting.plan} was approved by ${waiting.approved_by}`, "The next cycle carries it out, if the guard approves as well.");
  if (status.stuck) add("bad", "A step lasts unusually long", "Is the node that it waits for reachable? If nothing is wrong with the cluster, end this cycle's moves.", { commands: ["ballast cancel --reason …"] });
  const { policy } = status;
  if (!policy.id) add("bad", "No policy is loaded", policy.last_reload?.detail ?? "it is being loaded");
  else if (policy.failure) add("bad", `The policy gave no plan${policy.faults_in_a_row > 1 ? `, ${count(policy.faults_in_a_row)} times in a row` : ""}`, policy.failure + (policy.standing_in ? ` Standing in: ${policy.standing_in.name} ${policy.standing_in.version}.` : ""));
  if (policy.id && policy.last_reload && !policy.last_reload.accepted) add("warn", "The newest policy file was refused; what was there goes on", policy.last_reload.detail, { since: policy.last_reload.at_ms });
  if (status.config.last_reload && !status.config.last_reload.accepted) add("warn", "The newest configuration was refused; what was there goes on", status.config.last_reload.detail, { since: status.config.last_reload.at_ms });
  if (status.config.needs_restart?.length) add("warn", "Settings wait for a restart", status.config.needs_restart.join(", "));
  const { recovery } = status;
  for (const [slot, why] of (recovery?.held ?? []).slice(0, 3)) add("bad", `Slot ${slot} is in doubt`, why, { commands: ["ballast check"] });
  if (recovery?.foreign?.length) add("bad", `${plural(recovery.foreign.length, "open slot")} not ours: nothing begins until closed`, named([...new Set(recovery.foreign.map((one) => one.open.slot))]), { commands: ["ballast check", "ballast fix"] });
  for (const drain of status.drains ?? []) {
    const left = drain.slots_left === null ? "not known" : plural(drain.slots_left, "slot");
    const keys = isKnown(drain.keys_left) ? `, ${short(drain.keys_left)} keys` : "";
    if (drain.blocked_by) add("warn", `Drain of ${drain.address} does not go on`, drain.blocked_by, { since: drain.since_ms, commands: [`ballast undrain ${drain.address}`] });
    else add("plan", drain.slots_left === 0 ? `${drain.address} is drained` : `${drain.address} is being drained: ${left}${keys} left`, [drain.why, drain.who ? `asked by ${drain.who}` : ""].filter(Boolean).join(", "), { since: drain.since_ms });
  }
  const problems = (status.snapshot?.problems ?? []).map(problem).sort(([one], [other]) => Number(other) - Number(one));
  for (const [blocks, text] of problems.slice(0, LINES_MAX)) add(blocks ? "bad" : "warn", blocks ? "No slot moves while this lasts" : "A problem, which stops no moves", text);
  if (problems.length > LINES_MAX) add("warn", `${problems.length - LINES_MAX} problems more`, "", { commands: ["ballast check"] });
  const ended = status.last_cycle;
  if (ended?.outcome === "not-collected") add("bad", "The cluster could not be seen", ended.reason);
  return notes;
}
