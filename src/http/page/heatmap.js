// Slots × time: each row 32 slots, each column a minute, brighter where more was asked of them.

import { HEAT, heat, pixel, styleRgb } from "./colour.js";
import { clock, day, h, micros, say } from "./text.js";

/** So many columns fill the width at least: a young daemon's few minutes are not stretched over it. */
const COLUMNS_MIN = 120;

/** 64 columns of 512 bytes are 32 KiB. */
const BLOCK = 64;

export class HeatMap {
  /** `chosen(first slot of a row)` is called when a row is chosen. */
  constructor({ chosen }) {
    this.heat = null;
    this.at = null;
    this.picture = h("canvas", { class: "heat-picture", "aria-hidden": "true" });
    this.cross = h("div", { class: "heat-cross", hidden: true });
    this.frame = h("div", {
      class: "heat-frame", tabindex: "0", role: "application", "aria-label": "Load of slots over time",
      "aria-describedby": "heat-keys", "data-key": "heat",
    }, this.picture, this.cross);
    this.times = h("div", { class: "heat-times", "aria-hidden": "true" });
    this.readout = h("p", { class: "heat-readout" });
    this.scale = h("div", { class: "scale" });
    const place = (event) => {
      const box = this.frame.getBoundingClientRect();
      const share = (value, size, most) => Math.min(Math.max(Math.floor((value / size) * most), 0), most - 1);
      return this.heat && {
        column: share(event.clientX - box.left, box.width, this.width),
        row: share(event.clientY - box.top, box.height, this.heat.rows),
      };
    };
    this.frame.addEventListener("pointermove", (event) => this.point(place(event)));
    this.frame.addEventListener("pointerleave", () => this.point(null));
    this.frame.addEventListener("click", (event) => { const at = place(event); if (at) chosen(at.row * this.slotsPerRow); });
    this.frame.addEventListener("keydown", (event) => {
      if (!this.heat || event.ctrlKey || event.metaKey || event.altKey) return;
      const at = this.at ?? { column: this.width - 1, row: 0 };
      const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1], PageUp: [0, -32], PageDown: [0, 32], Home: [-this.width, 0], End: [this.width, 0] };
      if (event.key in steps) {
        const [dx, dy] = steps[event.key];
        this.point({ column: Math.min(Math.max(at.column + dx, 0), this.width - 1), row: Math.min(Math.max(at.row + dy, 0), this.heat.rows - 1) });
        say(this.words());
      } else if (event.key === "Enter" || event.key === " ") chosen(at.row * this.slotsPerRow);
      else return;
      event.preventDefault();
    });
  }

  get slotsPerRow() {
    return 16384 / this.heat.rows;
  }

  set(heat) {
    this.heat = heat;
    this.draw();
    this.point(this.at);
  }

  draw() {
    const { heat } = this;
    if (!heat) return;
    const { rows, columns, levels } = heat;
    this.width = Math.max(columns, COLUMNS_MIN);
    this.before = this.width - columns;
    Object.assign(this.picture, { width: this.width, height: rows });
    const context = this.picture.getContext("2d", { willReadFrequently: true });
    const image = context.createImageData(this.width, rows);
    const pixels = new Uint32Array(image.data.buffer);
    const colours = new Uint32Array(256);
    colours[0] = pixel(styleRgb("--nothing"));
    for (let level = 1; level < 256; level += 1) colours[level] = HEAT[level];
    pixels.fill(colours[0]);
    // Answers come by columns, pictures by rows: in blocks, so that what is read stays in the cache.
    for (let block = 0; block < columns; block += BLOCK) {
      const end = Math.min(block + BLOCK, columns);
      for (let row = 0; row < rows; row += 1) {
        const to = row * this.width + this.before;
        for (let column = block; column < end; column += 1) pixels[to + column] = colours[levels[column * rows + row]];
      }
    }
    context.putImageData(image, 0, 0);
    this.drawTimes();
    this.drawScale();
  }

  timeOf(column) {
    return this.heat.startAt + (column - this.before) * this.heat.seconds * 1000;
  }

  drawTimes() {
    const marks = window.innerWidth < 600 ? 3 : 7;
    const label = (share) => {
      const at = this.timeOf(Math.round(share * (this.width - 1)));
      return h("span", null, share === 1 ? "now" : clock(at).slice(0, 5));
    };
    this.times.replaceChildren(...Array.from({ length: marks }, (_, place) => label(place / (marks - 1))));
  }

  drawScale() {
    const canvas = h("canvas", { width: 128, height: 1, class: "band", "aria-hidden": "true" });
    const context = canvas.getContext("2d");
    for (let x = 0; x < 128; x += 1) {
      context.fillStyle = `rgb(${heat(x / 127).join(" ")})`;
      context.fillRect(x, 0, 1, 1);
    }
    this.scale.replaceChildren(
      h("span", null, `${micros(this.heat.least)}/s`), canvas, h("span", null, `${micros(this.heat.most)}/s`),
      h("span", { class: "none" }, "nothing, or not known"),
    );
  }

  point(at) {
    this.at = at;
    this.cross.hidden = !at || !this.heat;
    if (!this.cross.hidden) {
      this.cross.style.left = `${((at.column + 0.5) / this.width) * 100}%`;
      this.cross.style.top = `${((at.row + 0.5) / this.heat.rows) * 100}%`;
    }
    this.readout.textContent = this.words() || "Point at a place to read it; click to show its slots on the map.";
  }

  words() {
    const { heat, at } = this;
    if (!heat || !at) return "";
    const first = at.row * this.slotsPerRow;
    const value = at.column < this.before ? NaN : heat.value(at.column - this.before, at.row);
    const when = this.timeOf(at.column);
    const date = day(when) === day(Date.now()) ? "" : `${day(when)} `;
    return `Slots ${first}–${first + this.slotsPerRow - 1}, ${date}${clock(when).slice(0, 5)}: ${Number.isNaN(value) ? "nothing, or not known" : `${micros(value)}/s of cpu`}`;
  }
}
