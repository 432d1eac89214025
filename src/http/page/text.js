// Elements and figures as people read them. Knows no view.
//
// Text of servers, policies and people gets into the page by textContent only, never as markup.

const SVG = "http://www.w3.org/2000/svg";

/** An element: attributes, `on…` listeners, `css` for custom properties, then children (nothing for null and false). */
export function h(tag, attributes, ...children) {
  return furnish(document.createElement(tag), attributes, children);
}

/** The same for pictures. */
export function svg(tag, attributes, ...children) {
  return furnish(document.createElementNS(SVG, tag), attributes, children);
}

function furnish(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "css") for (const [key, of] of Object.entries(value)) element.style.setProperty(key, of);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(4).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** Puts other children into `place`. What had the focus and has a `data-key` keeps it, and open details stay open. */
export function fill(place, ...children) {
  const focused = place.contains(document.activeElement) ? document.activeElement.dataset.key : null;
  const opened = [...place.querySelectorAll("details[open][data-key]")].map((one) => one.dataset.key);
  place.replaceChildren(...children.flat(4).filter(Boolean));
  for (const one of place.querySelectorAll("details[data-key]")) if (opened.includes(one.dataset.key)) one.open = true;
  if (focused) [...place.querySelectorAll("[data-key]")].find((one) => one.dataset.key === focused)?.focus({ preventScroll: true });
}

/** Fills `place` by `make` when `by` differs from what it was filled by last. */
export function keep(place, by, make) {
  const word = JSON.stringify(by);
  if (place.filledBy === word) return;
  place.filledBy = word;
  fill(place, make());
}

/** Says something to those who hear the page. */
export function say(text) {
  const place = document.getElementById("said");
  if (place && place.textContent !== text) place.textContent = text;
}

const known = (value) => typeof value === "number" && Number.isFinite(value);
export const isKnown = known;
export const UNKNOWN = "–";

export function count(value) {
  return known(value) ? Math.round(value).toLocaleString("en") : UNKNOWN;
}

export function plural(value, one, many = `${one}s`) {
  return `${count(value)} ${value === 1 ? one : many}`;
}

/** `1.2k`, `3.4M`: for columns. */
export function short(value) {
  if (!known(value)) return UNKNOWN;
  for (const [unit, size] of [["G", 1e9], ["M", 1e6], ["k", 1e3]]) {
    if (Math.abs(value) >= size * 0.9995) return `${digits(value / size)}${unit}`;
  }
  return Math.abs(value) >= 10 || Number.isInteger(value) ? String(Math.round(value)) : digits(value);
}

/** Three digits that count, without zeros at the end. */
const digits = (value) => String(Number(value.toFixed(Math.abs(value) >= 99.95 ? 0 : Math.abs(value) >= 9.995 ? 1 : 2)));

export function bytes(value) {
  if (!known(value)) return UNKNOWN;
  for (const [unit, size] of [["TiB", 2 ** 40], ["GiB", 2 ** 30], ["MiB", 2 ** 20], ["KiB", 2 ** 10]]) {
    if (Math.abs(value) >= size) return `${digits(value / size)} ${unit}`;
  }
  return `${Math.round(value)} B`;
}

export function ratio(value) {
  return known(value) ? value.toFixed(2) : UNKNOWN;
}

export function percent(value) {
  if (!known(value)) return UNKNOWN;
  const share = value * 100;
  return `${share > 0 && share < 9.95 ? share.toFixed(1) : Math.round(share)}%`;
}

export function micros(value) {
  if (!known(value)) return UNKNOWN;
  if (value < 1000) return `${Math.round(value)} µs`;
  return value < 1e6 ? `${digits(value / 1000)} ms` : `${digits(value / 1e6)} s`;
}

/** How long, in its two largest units. */
export function duration(ms) {
  if (!known(ms)) return UNKNOWN;
  if (ms < 1000) return `${Math.round(ms)} ms`;
  let left = Math.round(ms / 1000);
  const parts = [];
  for (const [unit, size] of [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]]) {
    const whole = Math.floor(left / size);
    left -= whole * size;
    if (whole > 0) parts.push(`${whole} ${unit}`);
    if (parts.length === 2 || (parts.length === 1 && whole === 0)) break;
  }
  return parts.join(" ") || "0 s";
}

/** How long ago, calmly: nothing flickers each second for what is older than a minute. */
export function ago(at, now = Date.now()) {
  const ms = Math.max(0, now - at);
  if (ms < 5000) return "just now";
  if (ms < 60000) return `${Math.floor(ms / 1000)} s ago`;
  if (ms < 3600000) return `${Math.floor(ms / 60000)} min ago`;
  return `${duration(ms)} ago`;
}

const two = (value) => String(value).padStart(2, "0");

export function clock(ms) {
  const at = new Date(ms);
  return `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;
}

export function day(ms) {
  const at = new Date(ms);
  return `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())}`;
}

export function time(ms) {
  return h("time", { datetime: new Date(ms).toISOString(), title: `${day(ms)} ${clock(ms)}`, "data-ago": ms }, ago(ms));
}

/** Lets every shown age grow. */
export function tick(root = document) {
  for (const one of root.querySelectorAll("time[data-ago]")) {
    const text = ago(Number(one.dataset.ago));
    if (one.textContent !== text) one.textContent = text;
  }
}

/** The slots of `1-4 17`. */
export function slotsOf(text) {
  const slots = [];
  for (const part of String(text ?? "").split(/[ ,]+/)) {
    const [first, last] = part.split("-").map(Number);
    if (part === "" || !Number.isInteger(first)) continue;
    for (let slot = first; slot <= Math.min(last ?? first, 16383); slot += 1) slots.push(slot);
  }
  return slots;
}

/** `1-4 17` of slots. */
export function ranges(slots) {
  const sorted = [...slots].sort((one, other) => one - other);
  const parts = [];
  for (let place = 0; place < sorted.length; ) {
    let end = place;
    while (end + 1 < sorted.length && sorted[end + 1] === sorted[end] + 1) end += 1;
    parts.push(end > place ? `${sorted[place]}-${sorted[end]}` : `${sorted[place]}`);
    place = end + 1;
  }
  return parts.join(" ");
}

/** The first `most` of a list, and the rest behind a word that opens it. */
export function folded(items, most, key, what) {
  if (items.length <= most + 1) return items;
  const rest = h("details", { class: "rest", "data-key": key }, h("summary", null, `${count(items.length - most)} ${what} more`));
  // Filled when it is opened: a plan may have a thousand pairs.
  rest.addEventListener("toggle", () => { if (rest.open && rest.childElementCount === 1) rest.append(h("ul", { class: "pairs" }, items.slice(most))); });
  return [...items.slice(0, most), h("li", null, rest)];
}

/** A command that a person may copy. */
export function command(text, label) {
  const button = h("button", { type: "button", class: "copy", "data-key": `copy ${text}`, "aria-label": `Copy: ${text}` }, "Copy");
  button.addEventListener("click", async () => {
    button.textContent = (await copied(text)) ? "Copied" : "Select it";
    say(button.textContent);
    setTimeout(() => { button.textContent = "Copy"; }, 1500);
  });
  return h("div", { class: "command" }, label ? h("span", { class: "command-label" }, label) : null, h("code", null, text), button);
}

async function copied(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    // Browsers give the clipboard to pages of https and of this machine only.
    const area = h("textarea", { class: "unseen", readonly: true }, text);
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    return done;
  }
}

/** A name of a node that fits: what all names share at their end is left out. */
export class Names {
  constructor(nodes = []) {
    this.byId = new Map(nodes.map((node) => [node.id, String(node.address ?? "")]));
    const parts = [...this.byId.values()].map((address) => address.match(/^(.*?)(?::(\d+))?$/));
    const hosts = parts.map((part) => part?.[1] ?? "");
    const ports = new Set(parts.map((part) => part?.[2]));
    const numeric = hosts.some((host) => /^[\d.]+$|:/.test(host));
    this.suffix = numeric || hosts.length < 2 ? "" : shared(hosts);
    this.port = ports.size === 1 && new Set(hosts).size === hosts.length && hosts.length > 1 ? `:${[...ports][0]}` : "";
  }

  full(id) {
    return this.byId.get(id) ?? id?.slice(0, 8) ?? UNKNOWN;
  }

  of(id) {
    return this.cut(this.full(id));
  }

  cut(address) {
    let name = address;
    if (this.port && name.endsWith(this.port)) name = name.slice(0, -this.port.length);
    if (this.suffix) {
      const colon = name.lastIndexOf(":");
      const [host, port] = colon > 0 ? [name.slice(0, colon), name.slice(colon)] : [name, ""];
      if (host.endsWith(this.suffix)) name = host.slice(0, -this.suffix.length) + port;
    }
    return name;
  }

  /** What the names lack, if anything. */
  get left() {
    return this.suffix + this.port;
  }
}

/** The longest `.domain` that all hosts end in. */
function shared(hosts) {
  const parts = hosts[0].split(".");
  for (let from = 1; from < parts.length; from += 1) {
    const suffix = `.${parts.slice(from).join(".")}`;
    if (hosts.every((host) => host.endsWith(suffix))) return suffix;
  }
  return "";
}
