// The map of all 16384 slots: 128 a row, by owner, load, keys, bytes or age of the last move.
//
// Drawn as one small picture that the browser enlarges: a redraw is a loop over 16384 pixels. What is chosen and what is
// moving lies on a second canvas above it.

import { HEAT, HUES, heat, isDark, over, owner, ownerRgb, pixel, styleRgb } from "./colour.js";
import { ago, bytes, count, h, isKnown, micros, say, UNKNOWN } from "./text.js";

const SIDE = 128;
const SLOTS = SIDE * SIDE;
/** The oldest move that still has a colour of its own: a week. */
const AGE_MAX_S = 7 * 86400;
const AGE_MIN_S = 30;

export const SHADES = [
  ["owner", "Owner"],
  ["cpu", "Load"],
  ["keys", "Keys"],
  ["bytes", "Bytes"],
  ["age", "Last move"],
];

const FIGURE = { cpu: (value) => `${micros(value)}/s`, keys: count, bytes };

export class SlotMap {
  /** `chosen(slot)` is called when a slot is to be explained, `pointed(node id or null)` when one's owner is pointed at. */
  constructor({ chosen, pointed }) {
    this.slots = null;
    this.shade = "owner";
    this.at = null;
    this.marked = null;
    this.isolated = null;
    this.moving = [];
    this.names = null;
    this.pointed = pointed;
    this.picture = h("canvas", { width: SIDE, height: SIDE, class: "map-picture", "aria-hidden": "true" });
    this.above = h("canvas", { class: "map-above", "aria-hidden": "true" });
    this.frame = h("div", {
      class: "map-frame", tabindex: "0", role: "application", "aria-label": "Slot map, 128 slots a row",
      "aria-describedby": "map-keys", "data-key": "map",
    }, this.picture, this.above);
    this.readout = h("dl", { class: "readout" });
    this.scale = h("div", { class: "scale" });
    const slotAt = (event) => {
      const box = this.frame.getBoundingClientRect();
      const [x, y] = [event.clientX - box.left - this.frame.clientLeft, event.clientY - box.top - this.frame.clientTop];
      const place = (value, size) => Math.min(Math.max(Math.floor((value / size) * SIDE), 0), SIDE - 1);
      return place(y, this.frame.clientHeight) * SIDE + place(x, this.frame.clientWidth);
    };
    this.frame.addEventListener("pointermove", (event) => this.point(slotAt(event)));
    this.frame.addEventListener("pointerleave", () => this.point(this.marked));
    this.frame.addEventListener("click", (event) => { this.mark(slotAt(event)); chosen(this.marked); });
    this.frame.addEventListener("keydown", (event) => this.key(event, chosen));
    this.frame.addEventListener("focus", () => { if (this.at === null) this.point(this.marked ?? 0); });
    new ResizeObserver(() => this.drawAbove()).observe(this.frame);
  }

  key(event, chosen) {
    const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -SIDE, ArrowDown: SIDE, PageUp: -8 * SIDE, PageDown: 8 * SIDE };
    const at = this.at ?? 0;
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key in steps) this.point(Math.min(Math.max(at + steps[event.key], 0), SLOTS - 1), true);
    else if (event.key === "Home") this.point(at - (at % SIDE), true);
    else if (event.key === "End") this.point(at - (at % SIDE) + SIDE - 1, true);
    else if (event.key === "Enter" || event.key === " ") { this.mark(at); chosen(at); }
    else if (event.key === "Escape") { this.mark(null); chosen(null); }
    else return;
    event.preventDefault();
  }

  set({ slots = this.slots, shade = this.shade, isolated = this.isolated, moving = this.moving, names = this.names }) {
    Object.assign(this, { slots, shade, isolated, moving, names });
    this.draw();
    this.drawAbove();
    this.tell();
  }

  mark(slot) {
    this.marked = slot;
    this.point(slot);
  }

  point(slot, aloud = false) {
    if (slot === this.at && !aloud) return;
    this.at = slot;
    this.drawAbove();
    this.tell();
    this.pointed(slot === null || !this.slots ? null : this.slots.nodes[this.slots.owners[slot]]?.id ?? null);
    if (aloud) say(this.words());
  }

  /** 0 to 1 for the figures of a column, by their logarithm; NaN where there is nothing to show. */
  spread(values) {
    let least = Infinity;
    let most = 0;
    for (const value of values) {
      if (value > most) most = value;
      if (value > 0 && value < least) least = value;
    }
    // Three powers of ten are enough: what is colder is cold.
    least = Math.max(least, most / 1000);
    const width = Math.log(most / least);
    return { least, most, share: (value) => (value > 0 ? (width > 0 ? Math.log(value / least) / width : 1) : value === 0 ? 0 : NaN) };
  }

  draw() {
    // Its pixels are made here, not by the graphics card: it is kept where they are.
    const context = this.picture.getContext("2d", { willReadFrequently: true });
    const image = context.createImageData(SIDE, SIDE);
    const pixels = new Uint32Array(image.data.buffer);
    const ground = styleRgb("--ground");
    const nothing = pixel(styleRgb("--nothing"));
    if (!this.slots) {
      pixels.fill(nothing);
    } else {
      const { owners, movedAt, nodes } = this.slots;
      if (this.shade === "owner") {
        const dim = isDark() ? 0.94 : 1;
        const colours = nodes.map((_, place) => {
          const colour = ownerRgb(place);
          // Hues repeat; the lightness of every other round differs a little.
          return pixel(over(colour, ground, Math.floor(place / HUES) % 2 === 0 ? dim : 0.72));
        });
        for (let slot = 0; slot < SLOTS; slot += 1) pixels[slot] = colours[owners[slot]] ?? nothing;
        this.span = null;
      } else if (this.shade === "age") {
        const now = Date.now() / 1000;
        const width = Math.log(AGE_MAX_S / AGE_MIN_S);
        for (let slot = 0; slot < SLOTS; slot += 1) {
          const age = now - movedAt[slot];
          const share = 1 - Math.log(Math.max(age, AGE_MIN_S) / AGE_MIN_S) / width;
          pixels[slot] = movedAt[slot] === 0 ? nothing : HEAT[Math.round(Math.min(Math.max(share, 0), 1) * 255)];
        }
        this.span = null;
      } else {
        const values = this.slots[this.shade];
        const span = this.spread(values);
        for (let slot = 0; slot < SLOTS; slot += 1) {
          const share = span.share(values[slot]);
          pixels[slot] = Number.isNaN(share) ? nothing : HEAT[Math.min(Math.max(Math.round(share * 255), 0), 255)];
        }
        this.span = span;
      }
      if (this.isolated !== null) this.dim(pixels, ground);
    }
    context.putImageData(image, 0, 0);
    this.drawScale();
  }

  /** Leaves only the isolated node's slots in full colour. */
  dim(pixels, ground) {
    const place = this.slots.nodes.findIndex((node) => node.id === this.isolated);
    // It has left meanwhile.
    if (place < 0) return;
    for (let slot = 0; slot < SLOTS; slot += 1) {
      if (this.slots.owners[slot] === place) continue;
      const colour = [pixels[slot] & 255, (pixels[slot] >> 8) & 255, (pixels[slot] >> 16) & 255];
      pixels[slot] = pixel(over(colour, ground, 0.13));
    }
  }

  drawAbove() {
    const dense = window.devicePixelRatio || 1;
    const side = Math.round(this.frame.clientWidth * dense);
    if (side === 0) return;
    if (this.above.width !== side) this.above.width = this.above.height = side;
    const context = this.above.getContext("2d");
    const cell = side / SIDE;
    context.clearRect(0, 0, side, side);
    const [ink, paper] = [styleRgb("--ink"), styleRgb("--ground")].map((colour) => `rgb(${colour.join(" ")})`);
    const ring = (slot, reach, width) => {
      const [x, y] = [(slot % SIDE) * cell, Math.floor(slot / SIDE) * cell];
      context.lineWidth = width + 2 * dense;
      context.strokeStyle = paper;
      context.strokeRect(x - reach, y - reach, cell + 2 * reach, cell + 2 * reach);
      context.lineWidth = width;
      context.strokeStyle = ink;
      context.strokeRect(x - reach, y - reach, cell + 2 * reach, cell + 2 * reach);
    };
    context.fillStyle = ink;
    for (const slot of this.moving) {
      context.fillStyle = paper;
      context.fillRect((slot % SIDE) * cell, Math.floor(slot / SIDE) * cell, cell, cell);
      context.fillStyle = ink;
      context.fillRect((slot % SIDE) * cell + cell * 0.22, Math.floor(slot / SIDE) * cell + cell * 0.22, cell * 0.56, cell * 0.56);
    }
    if (this.marked !== null) ring(this.marked, 3 * dense, 2 * dense);
    if (this.at !== null && this.at !== this.marked) ring(this.at, 1.5 * dense, 1.5 * dense);
  }

  facts(slot) {
    const { slots } = this;
    const node = slots.nodes[slots.owners[slot]];
    const moved = slots.movedAt[slot];
    return [
      ["Slot", String(slot)],
      ["Owner", node ? node.address : "nobody", node ? slots.owners[slot] : null],
      ["Load", isKnown(slots.cpu[slot]) ? FIGURE.cpu(slots.cpu[slot]) : UNKNOWN],
      ["Keys", count(slots.keys[slot])],
      ["Bytes", bytes(slots.bytes[slot])],
      ["Last move", moved ? ago(moved * 1000) : "not seen"],
    ];
  }

  words() {
    if (!this.slots || this.at === null) return "";
    return this.facts(this.at).map(([name, value]) => `${name} ${value}`).join(", ");
  }

  tell() {
    const facts = this.slots && this.at !== null
      ? this.facts(this.at)
      : ["Slot", "Owner", "Load", "Keys", "Bytes", "Last move"].map((name) => [name, UNKNOWN]);
    if (this.readout.childElementCount === 0) {
      this.readout.append(...facts.map(([name]) => h("div", { class: `fact fact-${name.toLowerCase().replace(" ", "-")}` }, h("dt", null, name), h("dd"))));
    }
    facts.forEach(([, value, place], index) => {
      const cell = this.readout.children[index].lastElementChild;
      if (cell.textContent !== value) cell.textContent = value;
      cell.title = value;
      if (index === 1) {
        cell.classList.toggle("with-hue", place !== null && place !== undefined);
        cell.style.setProperty("--hue", place === null || place === undefined ? "transparent" : owner(place));
      }
    });
  }

  drawScale() {
    const word = [this.shade, this.slots?.nodes.length, this.span?.least, this.span?.most, isDark()].join();
    if (this.scale.word === word) return;
    this.scale.word = word;
    const band = (from, to) => {
      const canvas = h("canvas", { width: 128, height: 1, class: "band", "aria-hidden": "true" });
      const context = canvas.getContext("2d");
      for (let x = 0; x < 128; x += 1) {
        context.fillStyle = `rgb(${heat(x / 127).join(" ")})`;
        context.fillRect(x, 0, 1, 1);
      }
      return [h("span", null, from), canvas, h("span", null, to)];
    };
    const nodes = this.slots?.nodes.length ?? 0;
    const none = h("span", { class: "none" }, this.shade === "age" ? "not seen to move" : "not known");
    let parts;
    if (!this.slots) parts = [h("span", null, "Slots are shown as soon as the cluster was seen.")];
    else if (this.shade === "owner") parts = [h("span", null, nodes > HUES ? `${count(nodes)} primaries; ${HUES} hues repeat: point at a node to see its slots alone` : "Point at a node to see its slots alone")];
    else if (this.shade === "age") parts = [...band("a week ago", "now"), none];
    else if (!isKnown(this.span?.least)) parts = [h("span", null, "Not known yet"), none];
    else parts = [...band(FIGURE[this.shade](this.span.least), FIGURE[this.shade](this.span.most)), none];
    this.scale.replaceChildren(...parts);
  }
}
