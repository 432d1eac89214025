// A stand-in for a daemon, for sizes and scenes that no machine of ours can play for real: a thousand primaries, a halt, a
// plan that waits, a token. It serves the page's own files and answers of the API's shapes with made-up figures. What the
// page shows of a real daemon, run.mjs tests.
import { readFile } from "node:fs/promises";
import http from "node:http";
import path from "node:path";
import { fileURLToPath } from "node:url";

const PAGE = fileURLToPath(new URL("../../src/http/page/", import.meta.url));
const SLOTS = 16384;
const TYPES = { ".html": "text/html; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8", ".svg": "image/svg+xml" };
/** As the daemon sends it. */
export const POLICY =
  "default-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'";

/** Numbers from a seed, the same each time. */
function random(seed) {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
}

const hex = (next, length) => Array.from({ length }, () => Math.floor(next() * 16).toString(16)).join("");

/** A cluster of `count` primaries in `scene`: `calm`, `busy`, `halted`, `waiting`, `unseen` or `hostile`. */
export function world(count, scene = "calm", seed = 1) {
  const next = random(seed);
  const now = Date.now();
  const hostile = scene === "hostile" ? `<script>window.pwned=1</script><img src=x onerror="window.pwned=1">` : "";
  const long = count > 100 || scene === "halted";
  const nodes = Array.from({ length: scene === "unseen" ? 0 : count }, (_, place) => ({
    id: hex(next, 40),
    address: long ? `valkey-production-leader-${place}.valkey-production-headless.payments.svc.cluster.local:6379` : `10.4.${1 + (place % 3)}.${17 + place}:6379`,
    version: "valkey 9.1.2", zone: `eu-west-1${"abc"[place % 3]}${hostile}`, tags: place % 7 === 3 ? ["primary", "spot"] : ["primary"],
    slots: 0, keys: 0, bytes: 0, cpu: 0.34 + next() * 0.3 + (place === 0 ? 0.4 : 0), ops: 21000 + next() * 9000, net_in: 2e6, net_out: 9e6,
    memory_used: (3 + next() * 3) * 2 ** 30, memory_max: 8 * 2 ** 30, probe_usec: 180 + next() * 500, replicas: 1 + (place % 2), replica_lag: next() * 4000,
  })).sort((one, other) => (one.id < other.id ? -1 : 1));
  const owners = new Uint16Array(SLOTS).fill(65535);
  const cpu = new Float32Array(SLOTS).fill(NaN);
  const keys = new Float32Array(SLOTS).fill(NaN);
  const size = new Float32Array(SLOTS).fill(NaN);
  const movedAt = new Uint32Array(SLOTS);
  const order = nodes.map((_, place) => place).sort(() => next() - 0.5);
  for (let slot = 0; slot < SLOTS && nodes.length > 0; slot += 1) {
    const moved = next() < 0.06;
    owners[slot] = moved ? Math.floor(next() * nodes.length) : order[Math.floor((slot / SLOTS) * nodes.length)];
    if (moved) movedAt[slot] = now / 1000 - Math.exp(next() * 13);
    cpu[slot] = next() < 0.25 ? 0 : Math.exp(next() * 2 + (next() < 0.01 ? 5 : 2));
    keys[slot] = Math.floor(600 + next() * 900);
    size[slot] = keys[slot] * (90 + next() * 900);
    const node = nodes[owners[slot]];
    node.slots += 1;
    node.keys += keys[slot];
    node.bytes += size[slot];
  }
  const policy = { name: "balance", version: "0.1.0", digest: hex(next, 64) };
  const [a, b, c] = [0, 1, 2].map((place) => nodes[Math.min(place, nodes.length - 1)]);
  const prediction = (before, after, floor = 1) => ({ imbalance_before: before, imbalance_after: after, floor });
  const summary = `213 slots, 8.4 MB: cpu 1.47 -> 1.11, memory 1.45 -> 1.08${hostile}`;
  const cycleOf = (cycle, outcome, more = {}) => ({
    cycle, started_at_ms: now - (240 - cycle) * 10000, mode: "auto", generation: cycle, policy, summary: outcome === "no-change" ? "balanced: cpu 1.07, memory 1.08, network 1.15" : summary, outcome,
    moves_proposed: 0, moves_approved: 0, refusals: [], slots_moved: 0, slots_stayed: 0, keys_moved: 0, bytes_moved: 0,
    predictions: { cpu: prediction(1.07, 1.07), memory: prediction(1.08, 1.08), network: prediction(1.15, 1.15) }, realised: null, shadows: [shadow(cycle)], scaling: null,
    timings: { collect_ms: 168, policy_ms: 58, review_ms: 5, migrate_ms: 0 }, ...more,
  });
  const shadow = (cycle) => ({ name: "next", policy: { ...policy, version: "0.2.0" }, failure: null, summary: `balanced by another way${hostile}`, proposed: 41, approved: 38, refused: { "cool-down": 3 }, bytes: 5.1e6, predictions: { cpu: prediction(1.31, 1.06) }, disagreement: Math.abs(Math.sin(cycle / 9)) * 0.5, call_ms: 40, memory_bytes: 7.2e6 });
  const refusals = [{ check: "cool-down", slots: 12, reason: `12 slots moved less than 10m ago${hostile}` }, { check: "move-cap", slots: 31, reason: "more than 256 moves for one node in a cycle" }];
  const moved = { moves_proposed: 256, moves_approved: 213, slots_moved: 213, keys_moved: 214000, bytes_moved: 8.4e6, refusals, predictions: { cpu: prediction(1.47, 1.11, 1.02), memory: prediction(1.45, 1.08), network: prediction(1.58, 1.16) }, timings: { collect_ms: 168, policy_ms: 58, review_ms: 5, migrate_ms: 14060 } };
  const OTHERS = {
    231: ["executed", moved], 219: ["refused", { moves_proposed: 8, refusals: [{ check: "minimum-gain", slots: 8, reason: "the gain of 0.004 is below 0.01" }] }],
    205: ["incomplete", { ...moved, slots_moved: 190, slots_stayed: 23, reason: `23 slots stayed: 10.4.1.17:6379 answered LOADING${hostile}` }],
    188: ["policy-failed", { policy, summary: null, kind: "deadline", reason: "the policy took longer than 200ms" }],
    171: ["not-collected", { policy: null, summary: null, generation: null, predictions: {}, reason: "no seed answers: connection refused" }], 160: ["planned", { ...moved, mode: "dry-run", slots_moved: 0, keys_moved: 0 }],
  };
  const cycles = scene === "unseen" ? [] : Array.from({ length: 240 }, (_, place) => 240 - place).map((cycle) => cycleOf(cycle, ...(OTHERS[cycle] ?? ["no-change"])));
  if (cycles.length > 0) cycles[6].realised = { cycle: 231, imbalance: { cpu: [1.11, 1.09], memory: [1.08, 1.13], network: [1.16, 1.15] } };
  const event = (id, minutes, of) => ({ id, at_ms: now - minutes * 60000, ...of });
  const events = [
    event(8, 3, { event: "mode", from: "paused", to: "auto", who: "ann", why: `release is out${hostile}` }), event(7, 41, { event: "mode", from: "auto", to: "paused", who: "ann", why: "release 4.2" }),
    event(6, 60, { event: "policy-refused", source: "'/etc/ballast/balance.wasm'", why: "policy '/etc/ballast/balance.wasm' refused at stage recognise: it is cut short: it ends at byte 246311, inside a section" }),
    event(5, 90, { event: "policy-loaded", policy, source: "'/etc/ballast/balance.wasm'" }), event(4, 200, { event: "drain-begun", node: hex(next, 40), address: "10.4.1.40:6379", forget: true, who: "autoscaler", why: "scale in" }),
    event(3, 1500, { event: "emptied", address: "10.4.1.40:6379" }), event(2, 1600, { event: "config-loaded", needs_restart: [] }), event(1, 1601, { event: "started", version: "0.1.0" }),
  ];
  const reload = (minutes, accepted, detail) => ({ at_ms: now - minutes * 60000, accepted, detail });
  const refused = reload(60, false, "policy '/etc/ballast/balance.wasm' refused at stage recognise: it is cut short: it ends at byte 246311, inside a section; write it to another name and rename it, so that nobody sees half of it");
  const status = {
    apiVersion: "ballast/v1", kind: "Status", cluster: `payments${hostile}`, version: "0.1.0", started_at_ms: now - 1601 * 60000, mode: scene === "halted" ? "halted" : scene === "waiting" ? "approval" : "auto",
    mode_reason: scene === "halted"
      ? "halted by ballast: three cycles in a row ended with slots that did not move as planned. Slot 8231 is open on valkey-production-leader-4.valkey-production-headless.payments.svc.cluster.local:6379 (migrating) and not on its target, whose process is another one since (run id b9ad83803cb4ca2d, was 185469af4a7833dd): both copies may be live. Find out which of them clients wrote to last, then `ballast fix`; `ballast resume` lets the daemon go on."
      : `the configuration says auto${hostile}`,
    lease: null, activity: scene === "busy" ? "migrating" : "idle", drains: [], scaling: { shards: count, wanted: count, growth: 0, reason: "48% of cpu is used", waits: null }, scale: { shards: count, desired_shards: count, wanted_shards: count, reason: "48% of cpu is used; nothing drains", draining: [], blocked_by: null }, waiting: null,
    policy: { id: policy, source: "'/etc/ballast/balance.wasm'", calls: 8412, faults_in_a_row: 0, failure: null, standing_in: null, since_ms: now - 90 * 60000, faults: 2, memory_bytes: 7602176, last_reload: reload(55, true, "balance 0.1.0"), reloads: [reload(55, true, `balance 0.1.0 sha256:${policy.digest.slice(0, 12)}`), refused, reload(90, true, `balance 0.1.0 sha256:${policy.digest.slice(0, 12)}${hostile}`)] },
    promoted: null, shadows: [{ name: "next", source: "'/etc/ballast/next.wasm'", policy: { ...policy, version: "0.2.0" }, since_ms: now - 7200000, refused: null, calls: 720, faults: 0, memory_bytes: 7.2e6 }], config: { path: "/etc/ballast/daemon.toml", last_reload: null, needs_restart: [] },
    snapshot: scene === "unseen" ? null : { generation: 240, taken_at_ms: now - 2000, window_s: 18, primaries: count, replicas: count, open_slots: 0, problems: [] }, stale_after_ms: 3600000, nodes,
    balance: scene === "unseen" ? {} : { cpu: { imbalance: 1.47, floor: 1.02 }, memory: { imbalance: 1.14, floor: 1 }, network: { imbalance: 1.05, floor: 1 } }, last_cycle: cycles[0] ?? null, migrations: [], moving: null, stuck: false, open_slots: [], recovery: null,
    totals: { cycles: 240, policy_calls: 240, slots_moved: 8412, keys_moved: 8.1e6, bytes_moved: 6.2e9 },
  };
  if (scene === "busy") {
    const migration = (source, target, slots, done, keys) => ({ source: source.id, target: target.id, protocol: "atomic", began_by: "daemon", reason: `cpu of ${source.address} is 1.47 of the mean${hostile}`, slots, slots_moved: 0, keys_moved: Math.round(keys * done), keys_total: keys, bytes_moved: keys * done * 600, bytes_total: keys * 600, step: "transfer", step_since_ms: now - 3000, started_at_ms: now - 9000, told_at_ms: now, finished: false });
    status.migrations = [migration(a, b, "100-163 4112", 0.62, 71000), migration(a, c, "9000-9031", 0.18, 33000)];
    status.moving = { slots_moved: 116, slots_waiting: 97, keys_moved: 51000, bytes_moved: 4.1e7, total: { slots: 310, keys: 250000, bytes: 1.5e8 }, keys_per_s: 21000, bytes_per_s: 1.1e7, eta_ms: 14000 };
    status.open_slots = [{ slot: 4112, node: a.id, direction: { migrating: b.id } }, { slot: 4112, node: b.id, direction: { importing: a.id } }];
    status.snapshot.problems = [{ problem: "replica-unreachable", node: "10.4.9.9:6379", detail: "connection refused" }];
    c.tags = [...c.tags, "draining"];
    status.drains = [{ id: c.id, address: c.address, since_ms: now - 400000, who: "autoscaler", why: "scale in", forget: true, emptied: false, slots_left: c.slots, keys_left: c.keys, bytes_left: c.bytes, blocked_by: null }];
  }
  if (scene === "halted") status.snapshot.problems = [{ problem: "disagreement", node: a.address, other: b.address, slots: "8231" }, { problem: "primary-unreachable", node: b.address, detail: "timed out after 1s" }];
  if (scene === "waiting") status.waiting = { plan: "3fa9c1d2e4b5", cycle: 240, since_ms: now - 130000, until_ms: now + 3000000, summary, slots: 213, bytes: 8.4e6, approved_by: null };
  const reportOf = (cycle) => {
    const { moves_proposed: proposed, moves_approved: approved } = cycle;
    const at = (place) => nodes[place % nodes.length];
    const moves = Array.from({ length: approved }, (_, place) => ({ slot: (place * 37) % SLOTS, from: at(place % 3).id, to: at(3 + (place % 5)).id, reason: `cpu of ${at(place % 3).address} is 1.47 of the mean${hostile}` }));
    return {
      ...cycle, outcome: { outcome: cycle.outcome, kind: cycle.kind, reason: cycle.reason }, reason: undefined, kind: undefined, snapshot: { generation: cycle.generation }, approved: moves, addresses: Object.fromEntries(nodes.slice(0, 8).map((node) => [node.id, node.address])),
      plan: cycle.summary === null ? null : { policy, generation: cycle.generation, summary: cycle.summary, moves: Array.from({ length: proposed }, (_, place) => ({ slot: place, target: 0, reason: "" })), gauges: [["imbalance", 1.4740197], ["floor", 1.02], ["bytes-to-move", 8387810.6], ["work", 1241226]] },
      log: cycle.summary === null ? [] : [`looked at ${nodes.length} primaries${hostile}`, "the network is not known of all"],
      refusals: cycle.refusals.map((refusal) => ({ ...refusal, slots: Array.from({ length: refusal.slots }, (_, place) => place * 3) })),
      migrations: cycle.slots_moved ? [0, 1].map((place) => ({ source: at(place).id, target: at(3 + place).id, protocol: "atomic", moved: place ? "3-95" : "200-319", stayed: place && cycle.slots_stayed ? [[97, `LOADING${hostile}`], [98, `LOADING${hostile}`]] : [], keys: 107000, bytes: 4.2e6, duration_ms: 7030, pace: { share: 0.48, least_share: 0.4, probes: 109, slow_probes: 5, tolerated_ms: 4.7, eased: { latency: 5 } } })) : [],
    };
  };
  const heat = heatOf(next, scene === "unseen" ? 0 : 1440);
  return { nodes, owners, cpu, keys, size, movedAt, cycles, events, status, reportOf, heat, hostile };
}

function heatOf(next, columns) {
  const levels = new Uint8Array(columns * 512);
  const base = Array.from({ length: 512 }, (_, row) => 30 + 60 * next() + (row > 200 && row < 230 ? 90 : 0));
  for (let column = 0; column < columns; column += 1) {
    const tide = 30 * Math.sin(column / 180);
    for (let row = 0; row < 512; row += 1) {
      const burst = column > 700 && column < 820 && row > 380 && row < 400 ? 80 : 0;
      levels[column * 512 + row] = column < 200 ? 0 : Math.min(Math.max(base[row] + tide + burst + next() * 30, 1), 255);
    }
  }
  return { columns, levels };
}

function slotsBin({ nodes, owners, cpu, keys, size, movedAt, status }) {
  const text = Buffer.from(JSON.stringify(nodes.map(({ id, address, zone }) => ({ id, address, zone }))));
  const list = Buffer.concat([text, Buffer.alloc((4 - (text.length % 4)) % 4, " ")]);
  const head = Buffer.alloc(24);
  head.write("BSL1");
  head.writeUInt32LE(list.length, 4);
  head.writeBigUInt64LE(BigInt(status.snapshot?.taken_at_ms ?? 0), 8);
  head.writeBigUInt64LE(BigInt(status.snapshot?.generation ?? 0), 16);
  return Buffer.concat([head, list, ...[owners, cpu, keys, size, movedAt].map((column) => Buffer.from(column.buffer))]);
}

function heatBin({ heat }) {
  const head = Buffer.alloc(32);
  head.write("BHT1");
  [512, heat.columns, 60].forEach((value, place) => head.writeUInt32LE(value, 4 + 4 * place));
  head.writeBigUInt64LE(BigInt(Date.now() - heat.columns * 60000), 16);
  head.writeFloatLE(12, 24);
  head.writeFloatLE(98000, 28);
  return Buffer.concat([head, Buffer.from(heat.levels.buffer)]);
}

/** Serves `of` on a free port of this machine. */
export async function serve(of, { token = null, stream = true } = {}) {
  const streams = new Set();
  const say = (response, event, data) => response.write(`event: ${event}\ndata: ${JSON.stringify(data)}\n\n`);
  let silent = false;
  const server = http.createServer(async (request, response) => {
    const { pathname, searchParams } = new URL(request.url, "http://fixture");
    const json = (status, body) => { response.writeHead(status, { "content-type": "application/json" }); response.end(JSON.stringify(body)); };
    const missing = (error) => json(404, { apiVersion: "ballast/v1", kind: "Error", error });
    if (silent) return request.socket.destroy();
    if (!pathname.startsWith("/api/")) {
      const name = pathname === "/" ? "index.html" : pathname.replace(/^\/page\//, "");
      try {
        const body = await readFile(path.join(PAGE, path.basename(name)));
        response.writeHead(200, { "content-type": TYPES[path.extname(name)], "content-security-policy": POLICY, "x-content-type-options": "nosniff" });
        response.end(body);
      } catch { missing(`${pathname} does not exist`); }
      return;
    }
    if (token && request.headers.authorization !== `Bearer ${token}`) return json(401, { apiVersion: "ballast/v1", kind: "Error", error: "the token is missing or wrong" });
    const [, , , name, id] = pathname.split("/");
    const paged = (items, key) => {
      const before = Number(searchParams.get("before") ?? Infinity);
      return { items: items.filter((item) => item[key] < before).slice(0, Number(searchParams.get("limit") ?? 20)) };
    };
    switch (name) {
      case "status": return json(200, of.status);
      case "cycles": {
        if (!id) return json(200, paged(of.cycles, "cycle"));
        const cycle = of.cycles.find((one) => one.cycle === Number(id));
        return cycle ? json(200, of.reportOf(cycle)) : missing(`cycle ${id} is not in the history`);
      }
      case "events": return json(200, paged(of.events, "id"));
      case "explain": {
        const slot = searchParams.get("slot");
        const answer = slot ? `slot ${slot} moved from 10.4.1.17:6379 to 10.4.2.18:6379, 9m ago, in cycle 231${of.hostile}` : of.status.snapshot ? "nothing moves: the policy is content" : "nothing moves: the cluster cannot be seen";
        return json(200, { items: of.cycles.length || slot === null ? [{ answer, because: [{ topic: "cycle", text: "cycle 240, 2s ago: nothing to move" }, { topic: "policy", text: `balance 0.1.0: balanced: cpu 1.07${of.hostile}` }, { topic: "imbalance", text: "cpu 1.07 (at best 1.00), memory 1.08 (at best 1.00)" }] }] : [] });
      }
      case "slots.bin": return of.nodes.length ? response.end(slotsBin(of)) : missing("no snapshot was taken yet");
      case "heat.bin": return of.heat.columns ? response.end(heatBin(of)) : missing("nothing was measured yet");
      case "stream": {
        if (!stream) return missing("no stream");
        response.writeHead(200, { "content-type": "text/event-stream" });
        response.write("retry: 1000\n\n");
        const { nodes, ...status } = of.status;
        say(response, "status", status);
        say(response, "nodes", { generation: of.status.snapshot?.generation ?? 0, nodes });
        streams.add(response);
        request.on("close", () => streams.delete(response));
        return undefined;
      }
      default: return missing(`${pathname} does not exist`);
    }
  });
  await new Promise((done) => { server.listen(0, "127.0.0.1", done); });
  return {
    url: `http://127.0.0.1:${server.address().port}/`,
    say: (event, data) => streams.forEach((response) => say(response, event, data)),
    /** From now on nobody answers, or somebody does again. */
    silence: (wanted) => { silent = wanted; if (wanted) server.closeAllConnections(); },
    close: () => { server.closeAllConnections(); server.close(); },
  };
}
