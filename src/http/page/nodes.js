// The primaries: bars against capacity, sorted and filtered. Only the rows in sight exist, so that a thousand cost what
// fifteen do.

import { owner } from "./colour.js";
import { bytes, count, h, isKnown, keep, micros, percent, plural, say, short, UNKNOWN } from "./text.js";

/** How a column is called, what it sorts by, and whether the largest comes first. */
const COLUMNS = [
  ["node", "Node", (node) => node.address, false],
  ["cpu", "Load", (node) => node.cpu, true],
  ["memory", "Memory", (node) => node.memory_used, true],
  ["slots", "Slots", (node) => node.slots, true],
  ["ops", "Ops/s", (node) => node.ops, true],
  ["probe", "Probe", (node) => node.probe_usec, true],
  ["replicas", "Replicas", (node) => node.replicas, false],
];
/** From so many on the busiest come first unless somebody chose another order. */
const MANY = 24;
/** Rows beyond the edges, so that scrolling shows no gap. */
const MARGIN = 4;

/** So many characters of a name's end are always shown. */
const TAIL = 8;

const natural = new Intl.Collator("en", { numeric: true });

export class Nodes {
  /** `isolate(id or null)` is called for the node that is pointed at or pinned. */
  constructor({ isolate }) {
    this.isolate = isolate;
    this.nodes = [];
    this.shown = [];
    this.places = new Map();
    this.drains = new Map();
    this.names = null;
    this.order = null;
    this.filter = "";
    this.pinned = null;
    this.pointedAt = null;
    /** The owner of the slot that is pointed at elsewhere. */
    this.ofSlot = null;
    this.active = -1;
    this.rows = [];
    this.search = h("input", {
      type: "search", class: "search", placeholder: "Filter: address, zone, tag, id", "aria-label": "Filter nodes", "data-search": true, autocomplete: "off", spellcheck: "false",
      oninput: () => { this.filter = this.search.value.trim().toLowerCase(); this.active = -1; this.arrange(); },
    });
    this.summary = h("p", { class: "quiet", "aria-live": "polite" });
    this.heads = h("div", { class: "node-row node-heads", role: "row" }, COLUMNS.map(([name, label, , down]) => h("span", {
      role: "columnheader", class: `node-head cell-${name}`, "data-name": name,
      onclick: () => {
        const [by, falls] = this.sorting();
        this.order = by === name ? [name, !falls] : [name, down];
        this.arrange();
      },
    }, h("button", { type: "button", "data-key": `sort ${name}` }, label))));
    this.space = h("div", { class: "node-space", role: "presentation" });
    // Not a place of its own for the keyboard, though it scrolls: the grid is.
    this.scroller = h("div", { class: "node-scroll", tabindex: "-1", role: "rowgroup" }, this.space);
    this.grid = h("div", { class: "nodes", role: "grid", tabindex: "0", "data-key": "nodes", "aria-label": "Primaries", "aria-describedby": "node-keys" }, this.heads, this.scroller);
    this.scroller.addEventListener("scroll", () => this.draw(), { passive: true });
    this.grid.addEventListener("keydown", (event) => this.key(event));
    this.scroller.addEventListener("pointerleave", () => this.point(null));
    this.scroller.addEventListener("pointermove", (event) => this.point(event.target.closest?.(".node-row")?.dataset.id ?? null));
    this.scroller.addEventListener("click", (event) => {
      const id = event.target.closest?.(".node-row")?.dataset.id;
      if (!id) return;
      this.grid.focus({ preventScroll: true });
      this.pin(this.pinned === id ? null : id);
    });
    this.height = 52;
    this.inSight = 600;
    new ResizeObserver(() => this.measure()).observe(this.scroller);
  }

  sorting() {
    return this.order ?? (this.nodes.length > MANY ? ["cpu", true] : ["node", false]);
  }

  set({ nodes = this.nodes, drains, names = this.names, places = this.places }) {
    Object.assign(this, { nodes, names, places });
    if (this.pinned !== null && nodes.length > 0 && !nodes.some((node) => node.id === this.pinned)) {
      this.pinned = null;
      this.isolate(this.pointedAt);
    }
    if (drains) this.drains = new Map(drains.map((drain) => [drain.id, drain]));
    const most = (of) => nodes.reduce((most, node) => Math.max(most, of(node) ?? 0), 0);
    const mean = (of) => {
      const known = nodes.map(of).filter(isKnown);
      return known.length > 1 ? known.reduce((sum, value) => sum + value, 0) / known.length : NaN;
    };
    this.scale = {
      memory: most((node) => node.memory_used) || 1,
      slots: most((node) => node.slots) || 1,
      meanCpu: mean((node) => node.cpu),
      meanSlots: mean((node) => node.slots),
    };
    this.arrange();
  }

  arrange() {
    const [by, falls] = this.sorting();
    const value = COLUMNS.find(([name]) => name === by)[2];
    const words = this.filter.split(/\s+/).filter(Boolean);
    const text = (node) => `${node.address} ${node.zone} ${(node.tags ?? []).join(" ")} ${node.id} ${node.version} ${this.drains.has(node.id) ? "draining" : ""}`.toLowerCase();
    this.shown = words.length === 0 ? [...this.nodes] : this.nodes.filter((node) => { const of = text(node); return words.every((word) => of.includes(word)); });
    const rank = (one, other) => {
      const [a, b] = [value(one), value(other)];
      // What is not known comes last, whichever way it is sorted.
      if (!isKnown(a) && typeof a !== "string") return isKnown(b) ? 1 : 0;
      if (!isKnown(b) && typeof b !== "string") return -1;
      const sign = falls ? -1 : 1;
      return sign * (typeof a === "string" ? natural.compare(a, b) : a - b);
    };
    this.shown.sort((one, other) => rank(one, other) || natural.compare(one.address, other.address));
    for (const head of this.heads.children) {
      head.setAttribute("aria-sort", head.dataset.name === by ? (falls ? "descending" : "ascending") : "none");
    }
    const zones = new Set(this.nodes.map((node) => node.zone).filter(Boolean)).size;
    const summary = words.length > 0
      ? `${count(this.shown.length)} of ${plural(this.nodes.length, "primary", "primaries")}`
      : [plural(this.nodes.length, "primary", "primaries"), zones ? plural(zones, "zone") : null, this.names?.left ? `names without ${this.names.left}` : null].filter(Boolean).join(" · ");
    if (this.summary.textContent !== summary) this.summary.textContent = summary;
    this.grid.setAttribute("aria-rowcount", String(this.shown.length + 1));
    this.active = Math.min(this.active, this.shown.length - 1);
    this.draw();
  }

  /** Asked of the layout only when the window changed: asking costs more than drawing. */
  measure() {
    this.height = parseFloat(getComputedStyle(this.scroller).getPropertyValue("--row")) || 52;
    this.inSight = this.scroller.clientHeight;
    this.draw();
  }

  draw() {
    const { height, shown } = this;
    if (this.active >= 0) this.grid.setAttribute("aria-activedescendant", `node-${this.active}`);
    else this.grid.removeAttribute("aria-activedescendant");
    this.space.style.height = `${Math.max(shown.length, 1) * height}px`;
    const top = this.scroller.scrollTop;
    const first = Math.max(0, Math.floor(top / height) - MARGIN);
    const last = Math.min(shown.length, Math.ceil((top + this.inSight) / height) + MARGIN);
    const wanted = Math.max(last - first, 0);
    while (this.rows.length < wanted) {
      const row = makeRow();
      this.rows.push(row);
      this.space.append(row.element);
    }
    this.rows.forEach((row, place) => {
      const node = place < wanted ? shown[first + place] : null;
      row.element.hidden = !node;
      if (!node) return;
      row.element.style.transform = `translateY(${(first + place) * height}px)`;
      this.write(row, node, first + place);
    });
    const nobody = this.nodes.length === 0 ? "No primary was seen yet." : "No node is called so.";
    if (shown.length === 0) this.empty ??= this.space.appendChild(h("p", { class: "empty" }));
    if (this.empty) {
      this.empty.hidden = shown.length > 0;
      this.empty.textContent = nobody;
    }
  }

  write(row, node, place) {
    const drain = this.drains.get(node.id);
    const { scale } = this;
    const hue = this.places.get(node.id);
    const full = isKnown(node.memory_max) && node.memory_max > 0;
    row.element.dataset.id = node.id;
    put(row.element, "id", `node-${place}`);
    row.element.setAttribute("aria-rowindex", String(place + 2));
    row.element.setAttribute("aria-selected", String(this.pinned === node.id));
    row.element.classList.toggle("active", place === this.active);
    row.element.classList.toggle("draining", Boolean(drain));
    row.element.classList.toggle("of-slot", node.id === this.ofSlot);
    const colour = hue === undefined ? "transparent" : owner(hue);
    if (row.colour !== colour) row.swatch.style.background = row.colour = colour;
    const name = this.names?.of(node.id) ?? node.address;
    // What is too long loses its middle: pods differ at their end.
    put(row.head, "textContent", name.slice(0, Math.max(name.length - TAIL, 0)));
    put(row.tail, "textContent", name.slice(-TAIL));
    put(row.name, "title", `${node.address}\n${node.id}\n${node.version}`);
    const tags = (node.tags ?? []).filter((tag) => !["primary", "draining"].includes(tag));
    const state = drain
      ? drain.blocked_by ? "drain blocked" : drain.slots_left === 0 ? "drained" : "draining"
      : (node.tags ?? []).includes("draining") ? "draining" : "";
    keep(row.about, [state, node.zone, tags], () => [state ? h("span", { class: "badge plan" }, state) : null, node.zone ? h("span", null, node.zone) : null, tags.map((tag) => h("span", { class: tag === "cordoned" || tag === "suspect" || tag === "loading" ? "badge warn" : "tag" }, tag))]);
    bar(row.cpu, node.cpu, percent(node.cpu), scale.meanCpu);
    put(row.cpu.element, "title", isKnown(node.cpu) ? `${percent(node.cpu)} of one core; the tick is the mean` : "not known");
    bar(row.memory, full ? node.memory_used / node.memory_max : node.memory_used / scale.memory, bytes(node.memory_used), NaN, !full);
    put(row.memory.element, "title", full ? `${bytes(node.memory_used)} of ${bytes(node.memory_max)}` : "no limit is set; the bar is against the fullest node");
    bar(row.slots, node.slots / scale.slots, count(node.slots), scale.meanSlots / scale.slots, true);
    put(row.slots.element, "title", `${plural(node.slots, "slot")}, ${plural(node.keys ?? NaN, "key")}, ${bytes(node.bytes)} in them`);
    put(row.ops, "textContent", short(node.ops));
    put(row.probe, "textContent", micros(node.probe_usec));
    put(row.replicas, "textContent", isKnown(node.replicas) ? String(node.replicas) : UNKNOWN);
    put(row.replicas, "title", isKnown(node.replica_lag) ? `the furthest is ${bytes(node.replica_lag)} behind` : "");
  }

  key(event) {
    if (event.target !== this.grid || event.ctrlKey || event.metaKey || event.altKey) return;
    const page = Math.max(1, Math.floor(this.inSight / this.height) - 1);
    const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -1e9, End: 1e9 };
    if (event.key in steps) {
      this.active = Math.min(Math.max(this.active + steps[event.key], 0), this.shown.length - 1);
      const top = this.active * this.height;
      if (top < this.scroller.scrollTop) this.scroller.scrollTop = top;
      if (top + this.height > this.scroller.scrollTop + this.inSight) this.scroller.scrollTop = top + this.height - this.inSight;
      this.draw();
      const node = this.shown[this.active];
      if (node) {
        this.point(node.id);
        say(`${node.address}, load ${percent(node.cpu)}, memory ${bytes(node.memory_used)}, ${plural(node.slots, "slot")}`);
      }
    } else if (event.key === "Enter" || event.key === " ") {
      const node = this.shown[this.active];
      if (node) this.pin(this.pinned === node.id ? null : node.id);
    } else if (event.key === "Escape") {
      this.pin(null);
      this.point(null);
    } else return;
    event.preventDefault();
  }

  point(id) {
    if (id === this.pointedAt) return;
    this.pointedAt = id;
    this.isolate(id ?? this.pinned);
  }

  pin(id) {
    this.pinned = id;
    this.draw();
    this.isolate(this.pointedAt ?? id);
  }

  /** Shows which row a slot's owner has, without scrolling to it. */
  highlight(id) {
    this.ofSlot = id;
    for (const row of this.rows) row.element.classList.toggle("of-slot", id !== null && row.element.dataset.id === id);
  }
}

function makeRow() {
  const bars = () => {
    const [value, level, mean] = [h("span", { class: "bar-value" }), h("span", { class: "bar-level" }), h("span", { class: "bar-mean", hidden: true })];
    return { value, level, mean, element: h("span", { class: "bar-cell" }, value, h("span", { class: "bar" }, level, mean)) };
  };
  const row = {
    swatch: h("span", { class: "swatch" }), head: h("span", { class: "node-name-head" }), tail: h("span"), about: h("span", { class: "node-about" }),
    cpu: bars(), memory: bars(), slots: bars(),
    ops: h("span"), probe: h("span"), replicas: h("span"),
  };
  row.name = h("span", { class: "node-name" }, row.head, row.tail);
  const cell = (name, ...of) => h("span", { role: "gridcell", class: `cell-${name}` }, ...of);
  row.element = h("div", { class: "node-row", role: "row" },
    cell("node", row.swatch, h("span", { class: "node-who" }, row.name, row.about)),
    cell("cpu", row.cpu.element), cell("memory", row.memory.element), cell("slots", row.slots.element),
    cell("ops", row.ops), cell("probe", row.probe), cell("replicas", row.replicas));
  return row;
}

/** Changes what differs: even the same text would be laid out anew. */
function put(element, property, value) {
  if (element[property] !== value) element[property] = value;
}

function bar({ value, level, mean, element }, share, text, meanShare, relative = false) {
  put(value, "textContent", text);
  put(level.style, "transform", `scaleX(${isKnown(share) ? Math.min(Math.max(share, 0), 1).toFixed(3) : 0})`);
  element.classList.toggle("relative", relative);
  element.classList.toggle("high", !relative && share >= 0.8);
  element.classList.toggle("full", !relative && share >= 0.95);
  put(mean, "hidden", !isKnown(meanShare));
  if (isKnown(meanShare)) put(mean.style, "left", `${(Math.min(meanShare, 1) * 100).toFixed(1)}%`);
}
