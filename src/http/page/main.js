// Ballast's page: three views of what the daemon says, live. Read-only: where something could be done, it shows the command.

import { follow, on, onLocked, seen, tryNow } from "./live.js";
import { nowView } from "./now.js";
import { decisionsView } from "./decisions.js";
import { policyView } from "./policy.js";
import { ago, clock, duration, fill, h, say, tick } from "./text.js";

const VIEWS = { now: nowView, decisions: decisionsView, policy: policyView };
const THEME = "ballast-theme";

const content = document.getElementById("content");
let view = null;
let viewName = "";

function route() {
  const [name, ...rest] = location.hash.slice(1).split("/");
  // The skip link leads to what is shown.
  if (name === content.id && view) return;
  const wanted = Object.hasOwn(VIEWS, name) ? name : "now";
  if (wanted === viewName && view?.go) return view.go(rest.join("/"));
  if (wanted === viewName) return;
  view?.leave();
  viewName = wanted;
  view = VIEWS[wanted](rest.join("/"));
  fill(content, view.element);
  for (const link of document.querySelectorAll("nav a")) {
    if (link.dataset.view === wanted) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  title();
  window.scrollTo(0, 0);
}

function title() {
  const { status } = seen;
  document.title = [status && ["halted", "paused"].includes(status.mode) ? status.mode : null, view?.title, status?.cluster, "Ballast"].filter(Boolean).join(" · ");
  document.getElementById("cluster").textContent = status?.cluster ?? "";
}

// What the link to the daemon is like, and how old what is shown is.
const outage = document.getElementById("outage");
const outageText = h("span");
outage.append(outageText, h("button", { type: "button", class: "button", onclick: tryNow }, "Try now"));

function drawLink() {
  const { link, status } = seen;
  const at = status?.snapshot?.taken_at_ms;
  const stale = Boolean(at && status.activity !== "migrating" && Date.now() - at > status.stale_after_ms);
  const words = { connecting: "connecting", live: "live", polling: "every 2 s", lost: "no answer", locked: "locked" }[link.state];
  const state = link.state === "live" && stale ? "stale" : link.state;
  const place = document.getElementById("link");
  place.dataset.state = state;
  place.title = link.state === "polling" ? "This daemon has no live stream; it is asked every two seconds" : "";
  const text = state === "stale" ? `seen ${ago(at)}` : words;
  const label = document.getElementById("link-text");
  if (label.textContent !== text) label.textContent = text;
  const silent = link.state === "lost" && Date.now() - link.lostAt > 1500;
  document.documentElement.classList.toggle("silent", silent);
  outage.hidden = !silent;
  if (silent) {
    const shown = link.heardAt ? `What you see is from ${clock(link.heardAt)}, ${duration(Date.now() - link.heardAt)} old.` : "Nothing was heard from it yet.";
    const wait = Math.max(0, Math.ceil((link.retryAt - Date.now()) / 1000));
    const told = `The daemon does not answer (${link.why}). ${shown} ${wait > 0 ? `Trying again in ${wait} s.` : "Trying…"}`;
    if (outageText.textContent !== told) outageText.textContent = told;
  }
}

setInterval(() => {
  tick();
  drawLink();
}, 1000);

// Light, dark, or as the system has it.
const systemDark = matchMedia("(prefers-color-scheme: dark)");
const themes = { auto: "Auto", light: "Light", dark: "Dark" };
let theme = "auto";
try { theme = localStorage.getItem(THEME) ?? "auto"; } catch { /* As the system has it. */ }

function dress() {
  const dark = theme === "dark" || (theme !== "light" && systemDark.matches);
  document.documentElement.dataset.theme = dark ? "dark" : "light";
  const button = document.getElementById("theme");
  button.textContent = themes[theme] ?? themes.auto;
  button.setAttribute("aria-label", `Theme: ${button.textContent}. Change it`);
  button.title = "Theme (t)";
  // Canvases do not follow the style sheet by themselves.
  view?.dress?.();
}

function nextTheme() {
  const names = Object.keys(themes);
  theme = names[(names.indexOf(theme) + 1) % names.length];
  try { localStorage.setItem(THEME, theme); } catch { /* It holds for this visit. */ }
  dress();
  say(`Theme ${themes[theme]}`);
}

document.getElementById("theme").addEventListener("click", nextTheme);
systemDark.addEventListener("change", dress);

// Keys.
const KEYS = [
  ["1 2 3", "now, decisions, policy"],
  ["/", "filter or search"],
  ["s", "find a slot, or a key's slot"],
  ["m", "colour slots by the next figure"],
  ["t", "theme: as the system, light, dark"],
  ["arrows", "in the maps and lists: from place to place"],
  ["enter", "on the slot map: why that slot moved, or did not"],
  ["esc", "close, or end isolating a node"],
  ["?", "these keys"],
];
const LETTERS = "ballast-letters";
let letters = true;
try { letters = localStorage.getItem(LETTERS) !== "off"; } catch { /* They work. */ }
const lettersBox = h("input", {
  type: "checkbox", id: "letters", onchange: () => {
    letters = lettersBox.checked;
    try { localStorage.setItem(LETTERS, letters ? "on" : "off"); } catch { /* It holds for this visit. */ }
  },
});
lettersBox.checked = letters;
const help = h("dialog", { class: "dialog", "aria-labelledby": "help-title" },
  h("h2", { id: "help-title" }, "Keys"),
  h("dl", { class: "keys" }, KEYS.map(([key, what]) => h("div", null, h("dt", null, key.split(" ").map((one) => h("kbd", null, one))), h("dd", null, what)))),
  h("p", { class: "small" }, h("label", { for: "letters" }, lettersBox, " Single characters do this")),
  h("p", { class: "quiet small" }, "This page only reads. What changes something is a command, which it shows."),
  h("button", { type: "button", class: "button", onclick: () => help.close() }, "Close"));
help.addEventListener("click", (event) => { if (event.target === help) help.close(); });
document.body.append(help);
document.getElementById("keys").addEventListener("click", () => help.showModal());

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
  if (document.querySelector("dialog[open]") || event.target.closest("input, textarea, select")) {
    if (event.key === "Escape" && event.target.matches("input")) event.target.blur();
    return;
  }
  // Whoever speaks to the machine, or has tremors, may not want them (WCAG 2.1.4).
  if (!letters && event.key.length === 1) return;
  const places = Object.keys(VIEWS);
  if (places[Number(event.key) - 1]) location.hash = places[Number(event.key) - 1];
  else if (event.key === "?") help.showModal();
  else if (event.key === "t") nextTheme();
  else if (event.key === "/") content.querySelector("[data-search]")?.focus();
  else if (!view?.key(event)) return;
  event.preventDefault();
});

// A token, where the daemon wants one.
onLocked((refusal) => new Promise((answer) => {
  const input = h("input", { type: "password", id: "token", class: "search", autocomplete: "off", spellcheck: "false" });
  let answered = false;
  const done = (token) => { answered = true; dialog.close(); dialog.remove(); answer(token); };
  const dialog = h("dialog", { class: "dialog", "aria-labelledby": "token-title" },
    h("h2", { id: "token-title" }, "A token is needed"),
    h("p", null, "This daemon answers only to those who have a token. It is kept until this tab is closed."),
    refusal ? h("p", { class: "stayed" }, refusal) : null,
    h("label", { for: "token" }, "Token"), input,
    h("div", { class: "dialog-buttons" }, h("button", { type: "button", class: "button primary", onclick: () => input.value && done(input.value.trim()) }, "Use it")));
  input.addEventListener("keydown", (event) => { if (event.key === "Enter" && input.value) done(input.value.trim()); });
  // Without a token there is nothing to show: the dialog stays.
  dialog.addEventListener("cancel", (event) => event.preventDefault());
  // A browser may close it all the same, at the second Escape.
  dialog.addEventListener("close", () => { if (dialog.isConnected && !answered) dialog.showModal(); });
  document.body.append(dialog);
  dialog.showModal();
}));

on("link", drawLink);
on("status", () => { title(); drawLink(); });
addEventListener("hashchange", route);
dress();
route();
follow();

// For tests/page/scale.mjs, which measures redraws; nothing here changes anything.
Object.defineProperty(window, "ballastPage", { value: { seen, view: () => view } });
