// What the daemon says, kept up to date: the stream, or asking again and again where there is none.
//
// One place holds what was heard (`seen`); views are told which part of it is new. The stream is read by fetch, since
// EventSource cannot carry a token.

import { readHeat, readSlots } from "./binary.js";

const PAGE = 100;
/** So many of the newest are kept, and as many more as a person has asked for: a page may be open for weeks. */
const KEPT = 1000;
const POLL_MS = 2000;
/** The stream says something every 15 s; two such words missed, and a half. */
const SILENCE_MS = 40000;
const BACKOFF_MS = [500, 1000, 2000, 4000, 8000];
const TOKEN = "ballast-token";

export const seen = {
  status: null,
  nodes: [],
  slots: null,
  heat: null,
  cycles: [],
  cyclesEnd: false,
  events: [],
  eventsEnd: false,
  /** Whether the history was read at all: an empty one says nothing before. */
  read: false,
  /** Why nothing moves, or what does. */
  why: null,
  /** `connecting`, `live`, `polling`, `lost` or `locked`; when the daemon was heard last, and when it is tried again. */
  link: { state: "connecting", heardAt: 0, lostAt: 0, retryAt: 0, why: "" },
};

const listeners = new Map();

export function on(topic, listener) {
  if (!listeners.has(topic)) listeners.set(topic, new Set());
  listeners.get(topic).add(listener);
  return () => listeners.get(topic).delete(listener);
}

/** Topics that are new, told of together before the next frame: a burst costs one redraw. */
const fresh = new Set();
let told = false;

function tell(...topics) {
  for (const topic of topics) fresh.add(topic);
  if (told) return;
  told = true;
  const now = () => {
    told = false;
    const topics = [...fresh];
    fresh.clear();
    for (const topic of topics) for (const listener of listeners.get(topic) ?? []) listener();
  };
  // Frames stop in pages that nobody sees; what is new is told of all the same.
  if (document.hidden) setTimeout(now, 250);
  else requestAnimationFrame(now);
}

export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/** Asks a person for a token; set by whoever draws the page. */
let askToken = async () => null;
let asking = null;

export function onLocked(ask) {
  askToken = ask;
}

function headers() {
  let token = null;
  try { token = sessionStorage.getItem(TOKEN); } catch { /* Storage may be forbidden. */ }
  return token ? { Authorization: `Bearer ${token}` } : {};
}

async function unlock(refusal) {
  asking ??= (async () => {
    link({ state: "locked", why: "a token is needed" });
    const token = await askToken(refusal);
    asking = null;
    if (token === null) return false;
    try { sessionStorage.setItem(TOKEN, token); } catch { /* Then it is asked for again. */ }
    return true;
  })();
  return asking;
}

/** An answer of the API, or [`Refused`]. */
async function ask(path, { onAsked, onPaused, ...options } = {}) {
  for (;;) {
    const sent = headers();
    // Not while a person looks for a token.
    onAsked?.();
    const answer = await fetch(new URL(`api/v1/${path}`, document.baseURI), { ...options, headers: sent, cache: "no-store" });
    if (answer.ok) return answer;
    let message = `${answer.status} ${answer.statusText}`;
    try { message = (await answer.json()).error ?? message; } catch { /* No document of ours. */ }
    if (answer.status !== 401) throw new Refused(answer.status, message);
    onPaused?.();
    // Somebody else may have been asked meanwhile.
    if (JSON.stringify(headers()) !== JSON.stringify(sent)) continue;
    if (!(await unlock(sent.Authorization ? message : ""))) throw new Refused(401, message);
  }
}

export async function get(path, options) {
  return (await ask(path, options)).json();
}

/** The same, or null where it does not exist. */
async function perhaps(path, read) {
  try {
    return await read(await ask(path));
  } catch (error) {
    if (error instanceof Refused && error.status !== 401) return null;
    throw error;
  }
}

function link(change) {
  Object.assign(seen.link, change);
  tell("link");
}

function heard(state) {
  const before = seen.link.state;
  seen.link.heardAt = Date.now();
  if (before !== state) link({ state, why: "", lostAt: 0, retryAt: 0 });
}

function takeStatus({ nodes, ...status }) {
  seen.status = { ...status, nodes: undefined };
  tell("status");
  if (nodes) takeNodes({ generation: status.snapshot?.generation ?? 0, nodes });
}

let generation = null;

function takeNodes(word) {
  seen.nodes = word.nodes;
  tell("nodes");
  if (word.generation === generation) return;
  generation = word.generation;
  // Before the first snapshot there are none.
  if (seen.status?.snapshot) fetchSlots();
}

let slotsBusy = false;
let slotsAgain = false;

async function fetchSlots() {
  slotsAgain = slotsBusy;
  if (slotsBusy) return;
  slotsBusy = true;
  try {
    const slots = await perhaps("slots.bin", async (answer) => readSlots(await answer.arrayBuffer()));
    seen.slots = slots;
    tell("slots");
    if (Date.now() - heatAt > heatEvery()) await fetchHeat();
  } catch { /* The link is lost: that is told elsewhere. */ }
  slotsBusy = false;
  if (slotsAgain) fetchSlots();
}

let heatAt = 0;
let resource = "cpu";
const heatEvery = () => Math.min(seen.heat?.seconds ?? 5, 60) * 500;

async function fetchHeat() {
  heatAt = Date.now();
  const wanted = resource;
  const heat = await perhaps(`heat.bin?resource=${wanted}`, async (answer) => readHeat(await answer.arrayBuffer()));
  if (wanted !== resource) return;
  seen.heat = heat;
  tell("heat");
}

const kept = { cycles: KEPT, events: KEPT };

/** Lets go of the oldest; they can be asked for again. */
function trim(name) {
  if (seen[name].length <= kept[name]) return;
  seen[name].length = kept[name];
  seen[`${name}End`] = false;
}

function takeCycle(cycle) {
  const place = seen.cycles.findIndex((one) => one.cycle <= cycle.cycle);
  if (seen.cycles[place]?.cycle === cycle.cycle) seen.cycles[place] = cycle;
  else seen.cycles.splice(place < 0 ? seen.cycles.length : place, 0, cycle);
  trim("cycles");
  tell("cycles");
  fetchWhy();
}

function takeEvent(event) {
  // The history may have told of it already.
  // (0 is the number of those that the history could not keep.)
  if (event.id !== 0 && seen.events.some((one) => one.id === event.id)) return;
  seen.events.unshift(event);
  trim("events");
  tell("events");
}

let whyAt = 0;
let whyTimer = null;

/** At most every few seconds: it reads the history. */
function fetchWhy() {
  clearTimeout(whyTimer);
  whyTimer = setTimeout(async () => {
    whyAt = Date.now();
    try {
      seen.why = await perhaps("explain", async (answer) => (await answer.json()).items?.[0] ?? null);
      tell("why");
    } catch { /* As above. */ }
  }, Math.max(0, whyAt + 4000 - Date.now()));
}

/** The newest history, under what is known of older. */
async function fetchHistory() {
  const before = { cycles: new Set(seen.cycles), events: new Set(seen.events) };
  const [cycles, events] = await Promise.all([get(`cycles?limit=${PAGE}`), get(`events?limit=${PAGE}`)]);
  merge("cycles", cycles.items, "cycle", before.cycles);
  merge("events", events.items, "id", before.events);
  seen.read = true;
  tell("cycles", "events");
  fetchWhy();
}

/** A page of history between what the stream has told meanwhile and what was known `before`. */
function merge(name, page, key, before) {
  const newest = page[0]?.[key] ?? 0;
  const oldest = page.at(-1)?.[key] ?? 0;
  const newer = seen[name].filter((one) => !before.has(one) && (one[key] > newest || one[key] === 0));
  const known = seen[name].filter((one) => before.has(one));
  // What lies between what is known and what came now may be missing after a long silence: then it begins anew.
  const older = known[0]?.[key] >= oldest ? known.filter((one) => one[key] < oldest) : [];
  seen[name] = [...newer, ...page, ...older];
  if (older.length === 0) seen[`${name}End`] = page.length < PAGE;
}

/** More of the past. Daemons that cannot page are asked for a longer list. */
async function older(name, items, key) {
  const last = items.at(-1)?.[key];
  try {
    if (last === undefined) throw new Refused(400, "no place to go on from");
    const more = (await get(`${name}?limit=${PAGE}&before=${last}`)).items;
    return { items: [...items, ...more.filter((one) => one[key] < last)], end: more.length < PAGE };
  } catch (error) {
    if (!(error instanceof Refused) || error.status !== 400) throw error;
    const wanted = Math.min(items.length + PAGE, 1000);
    const all = (await get(`${name}?limit=${wanted}`)).items;
    return { items: all, end: all.length < wanted || wanted === 1000 };
  }
}

export async function olderCycles() {
  const { items, end } = await older("cycles", seen.cycles, "cycle");
  Object.assign(seen, { cycles: items, cyclesEnd: end });
  kept.cycles = Math.max(KEPT, items.length + PAGE);
  tell("cycles");
}

export async function olderEvents() {
  const { items, end } = await older("events", seen.events, "id");
  Object.assign(seen, { events: items, eventsEnd: end });
  kept.events = Math.max(KEPT, items.length + PAGE);
  tell("events");
}

const WORDS = { status: takeStatus, nodes: takeNodes, cycle: takeCycle, happening: takeEvent };

/** Reads the stream until it ends; false where there is none, or not for us: too many listen, or somebody between keeps it back. */
async function readStream() {
  let any = false;
  const ending = new AbortController();
  let silent = false;
  const giveUp = () => { silent = true; ending.abort(); };
  let silence = null;
  try {
    const answer = await ask("stream", { signal: ending.signal, onAsked: () => { silence = setTimeout(giveUp, SILENCE_MS); }, onPaused: () => clearTimeout(silence) });
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    const history = fetchHistory();
    history.catch(() => ending.abort());
    let rest = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return true;
      clearTimeout(silence);
      silence = setTimeout(giveUp, SILENCE_MS);
      heard("live");
      any = true;
      const blocks = (rest + value.replaceAll("\r", "")).split("\n\n");
      rest = blocks.pop();
      for (const block of blocks) takeBlock(block);
    }
  } catch (error) {
    if (error instanceof Refused && [404, 405, 501, 503].includes(error.status)) return false;
    if (silent && !any) return false;
    throw error;
  } finally {
    clearTimeout(silence);
    ending.abort();
  }
}

let retryMs = 0;

function takeBlock(block) {
  let name = "message";
  let data = "";
  for (const line of block.split("\n")) {
    if (line.startsWith("event:")) name = line.slice(6).trim();
    else if (line.startsWith("data:")) data += line.slice(5);
    else if (line.startsWith("retry:")) retryMs = Number(line.slice(6)) || 0;
  }
  if (data !== "" && Object.hasOwn(WORDS, name)) WORDS[name](JSON.parse(data));
}

/** Where there is no stream: the status every two seconds, and the history when it is longer. */
async function poll() {
  // Now and then it is tried whether there is a stream after all: the daemon may have been replaced.
  for (let turn = 0; turn < 30; turn += 1) {
    const status = await get("status");
    heard("polling");
    takeStatus(status);
    if (turn === 0 || status.last_cycle?.cycle !== seen.cycles[0]?.cycle) await fetchHistory();
    await pause(POLL_MS);
  }
}

const pause = (ms) => new Promise((resolve) => { setTimeout(resolve, ms); });

let wake = () => {};

/** Tries at once, instead of when the waiting is over. */
export function tryNow() {
  wake();
}

export async function follow() {
  for (let failures = 0; ; ) {
    const before = seen.link.heardAt;
    let why = "it closed the connection";
    try {
      if (!(await readStream())) await poll();
      else if (seen.link.heardAt !== before) {
        failures = 0;
        // Streams end now and then, in order: that is no outage.
        generation = null;
        await pause(BACKOFF_MS[0] * (0.8 + Math.random() * 0.4));
        continue;
      }
      if (seen.link.state === "polling") continue;
    } catch (error) {
      why = error instanceof Refused ? error.message : "no answer";
      if (seen.link.heardAt !== before) failures = 0;
    }
    // All at once would be hard on a daemon that comes back.
    const wait = Math.max(BACKOFF_MS[Math.min(failures, BACKOFF_MS.length - 1)], failures === 0 ? Math.min(retryMs, 2000) : 0) * (0.8 + Math.random() * 0.4);
    failures += 1;
    generation = null;
    link({ state: "lost", why, lostAt: seen.link.lostAt || Date.now(), retryAt: Date.now() + wait });
    await new Promise((resolve) => { wake = resolve; setTimeout(resolve, wait); });
  }
}
