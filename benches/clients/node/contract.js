// What is asked of a load program, and what it answers: benches/clients/README.md.

import { createInterface } from "node:readline";

const PHASES = ["quiet", "moving", "after"];

// Milliseconds that the requests under way at the end may take. What is not answered by then counts as unanswered.
const GRACE = 2000;

// The client has recovered if so much of what was due in the last five seconds was answered well.
const WELL = 0.99;
const LAST = 5000;

// One request in so many writes.
const WRITE_EVERY = 4;

export function options(words) {
  const asked = { rate: 1000, seconds: null, keys: 20000, seeds: [] };
  for (let n = 0; n < words.length; n += 2) {
    const [name, value] = [words[n], words[n + 1]];
    if (name === "--seeds") {
      asked.seeds = value.split(",").map((seed) => ({ host: seed.split(":")[0], port: Number(seed.split(":")[1]) }));
    } else if (["--rate", "--seconds", "--keys"].includes(name)) {
      asked[name.slice(2)] = Number(value);
    } else {
      throw new Error(`${name} is unknown`);
    }
  }
  return asked;
}

const nameOf = (key) => `client:${key}`;

/** The keys, and which version of each was last acknowledged. */
class Keys {
  constructor(count) {
    this.acknowledged = new Array(count).fill(1);
    // A write is under way, or one came to an unknown end and may yet arrive: versions would not rise one by one.
    this.closed = new Array(count).fill(false);
    this.turn = 0;
  }

  /** Whether to write, which key, and the version to write or the least to be read. */
  choose() {
    const turn = this.turn++;
    // Steps by a prime through all keys scatter neighbours.
    const key = (turn * 7919) % this.acknowledged.length;
    const write = turn % WRITE_EVERY === 0 && !this.closed[key];
    if (write) {
      this.closed[key] = true;
    }
    return { write, key, version: this.acknowledged[key] + (write ? 1 : 0) };
  }

  /** A write was acknowledged. One that was not keeps its key from being written again. */
  acknowledge(key, version) {
    this.acknowledged[key] = version;
    this.closed[key] = false;
  }
}

/** Sends the load over `client`, whose `get` and `set` return promises, and prints the report. */
export async function load(name, client, asked) {
  const keys = new Keys(asked.keys);
  for (let start = 0; start < asked.keys; start += 100) {
    const some = Array.from({ length: Math.min(100, asked.keys - start) }, (_, n) => start + n);
    await Promise.all(some.map((key) => client.set(nameOf(key), "1")));
  }
  const run = { phase: 0, sent: 0, stopped: false, done: [], errors: {}, complaint: null, lost: 0 };
  follow(run, asked);
  console.log("ready");
  const begun = performance.now();
  const due = (number) => (number * 1000) / asked.rate;

  const request = async (phase, at) => {
    const { write, key, version } = keys.choose();
    let well = true;
    try {
      if (write) {
        await client.set(nameOf(key), String(version));
        keys.acknowledge(key, version);
      } else {
        const seen = await client.get(nameOf(key));
        // Less than was acknowledged before the read: a lost write.
        run.lost += seen === null || Number(seen) < version ? 1 : 0;
      }
    } catch (error) {
      well = false;
      const kind = kindOf(error);
      run.errors[kind] = (run.errors[kind] ?? 0) + 1;
      run.complaint ??= String(error);
    }
    run.done.push({ phase, due: at, ended: performance.now() - begun, well });
  };

  while (!run.stopped) {
    await pause(1);
    while (due(run.sent) <= performance.now() - begun) {
      request(run.phase, due(run.sent));
      run.sent += 1;
    }
  }
  await pause(GRACE);
  console.log(JSON.stringify(report(name, run, due(run.sent), asked.rate)));
}

function follow(run, asked) {
  if (asked.seconds !== null) {
    setTimeout(() => (run.stopped = true), asked.seconds * 1000);
    return;
  }
  const lines = createInterface({ input: process.stdin });
  lines.on("line", (line) => {
    const phase = PHASES.indexOf(line.replace("phase ", ""));
    if (phase >= 0) {
      run.phase = phase;
    }
  });
  lines.on("close", () => (run.stopped = true));
}

function report(client, run, lastDue, rate) {
  const well = run.done.filter((done) => done.well);
  const start = Math.max(0, lastDue - LAST);
  const lately = well.filter((done) => done.due >= start).length;
  const ends = [0, lastDue, ...well.map((done) => done.ended)].sort((a, b) => a - b);
  return {
    client,
    requests: run.sent,
    answered_well: well.length,
    errors: run.errors,
    complaint: run.complaint,
    unanswered: run.sent - run.done.length,
    stall_ms: ends.slice(1).reduce((most, end, n) => Math.max(most, end - ends[n]), 0),
    latency_max_ms: well.reduce((most, done) => Math.max(most, done.ended - done.due), 0),
    phases: Object.fromEntries(PHASES.map((name, phase) => [name, ofPhase(well, phase)])),
    recovered: lately >= ((lastDue - start) / 1000) * rate * WELL,
    lost: run.lost,
  };
}

function ofPhase(well, phase) {
  const latencies = well.filter((done) => done.phase === phase).map((done) => done.ended - done.due);
  latencies.sort((a, b) => a - b);
  const at = (part) => latencies[Math.min(Math.floor(latencies.length * part), latencies.length - 1)] ?? null;
  return { requests: latencies.length, p50_ms: at(0.5), p99_ms: at(0.99), p999_ms: at(0.999), max_ms: at(1) };
}

/** A few words that many errors share: the server's code (MOVED, CLUSTERDOWN) where it is one of its errors. */
function kindOf(error) {
  const code = /^[A-Z]{3,}/.exec(error.message ?? "");
  return code ? code[0] : error.constructor.name;
}

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
