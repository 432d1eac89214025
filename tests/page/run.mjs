// Drives a real Chromium against the page of a running daemon:  node tests/page/run.mjs URL [--shots DIR]
//
// The daemon pauses for two seconds meanwhile: a person's act with a hostile reason has to show, live and as text. Needs
// the packages of package.json: `npm ci` here, or `scripts/toolchains npm:tests/page` and NODE_PATH.
import assert from "node:assert/strict";
import { mkdirSync } from "node:fs";
import http from "node:http";
import { parseArgs } from "node:util";
import { open } from "./browser.mjs";
import { Checks, fits, named, readable, shots, until, watched } from "./checks.mjs";

const { values, positionals } = parseArgs({ options: { shots: { type: "string" } }, allowPositionals: true });
if (positionals.length !== 1) {
  console.error("run.mjs: give the address of a daemon's page, such as http://127.0.0.1:9300/ (its [http] listen), and --shots DIR for pictures");
  process.exit(2);
}
const url = new URL(positionals[0]).href;
if (values.shots) mkdirSync(values.shots, { recursive: true });
const shot = shots(values.shots);

const api = async (path, options) => {
  const answer = await fetch(new URL(`api/v1/${path}`, url), options);
  const body = await answer.json();
  if (!answer.ok) throw new Error(`${path}: ${answer.status} ${body.error}`);
  return body;
};
// Commands are taken on the socket that the daemon names.
const post = async (path, body) => {
  const { socket } = await api("access");
  const answer = await new Promise((resolve, reject) => {
    const request = http.request({ socketPath: socket, path: `/api/v1/${path}`, method: "POST" }, (response) => {
      const parts = [];
      response.on("data", (part) => parts.push(part));
      response.on("end", () => resolve({ code: response.statusCode, body: JSON.parse(Buffer.concat(parts).toString()) }));
    });
    request.on("error", reject);
    request.end(JSON.stringify(body));
  });
  if (answer.code !== 200) throw new Error(`${path}: ${answer.code} ${answer.body.error}`);
  return answer.body;
};

try {
  await api("status");
} catch (error) {
  console.error(`run.mjs: no daemon answers at ${url}: ${error.cause?.message ?? error.message}; start one with [http] listen there`);
  process.exit(2);
}

const checks = new Checks();
const browser = await open();
const { page, context, troubles, leave } = await watched(browser, url);
const text = (selector) => page.locator(selector).first().innerText();
const go = async (view) => {
  await page.evaluate((hash) => { location.hash = hash; }, view);
  await page.locator(`nav a[data-view="${view.split("/")[0]}"][aria-current="page"]`).waitFor();
};

await checks.check("the page comes with a strict content security policy", async () => {
  const answer = await page.goto(url);
  assert.equal(answer.status(), 200);
  const policy = answer.headers()["content-security-policy"] ?? "";
  for (const part of ["default-src 'none'", "script-src 'self'", "style-src 'self'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'none'"]) assert.ok(policy.includes(part), `no ${part} in: ${policy}`);
  assert.ok(!policy.includes("unsafe"), policy);
});

await checks.check("now: mode, reason and what it is at are what the status says", async () => {
  const status = await api("status");
  await until("the mode", async () => (await page.locator(".mode").count()) === 1 && (await text(".mode")) === status.mode);
  assert.ok((await text(".standing")).includes(status.mode_reason));
  assert.ok((await page.title()).includes(status.cluster));
});

await checks.check("now: the link says how it hears", async () => until("live or polling", async () => /^(live|every 2 s)$/.test(await text("#link-text")) && text("#link-text")));

await checks.check("now: every primary has its row", async () => {
  const { nodes } = await until("a snapshot", async () => { const status = await api("status"); return status.nodes.length > 0 && status; }, 60000);
  await until("its rows", async () => (await page.locator(".node-scroll .node-row:visible").count()) === Math.min(nodes.length, (await page.locator(".node-scroll .node-row:visible").count()) || 1));
  const rows = await page.locator(".node-scroll .node-row:visible").allInnerTexts();
  if (nodes.length <= 8) for (const node of nodes) assert.ok(rows.some((row) => row.replaceAll("\n", "").includes(node.address.split(":").at(-1)) || row.replaceAll("\n", "").includes(node.address.split(":")[0])), `${node.address} is not among ${rows.length} rows`);
  return `${nodes.length}`;
});

await checks.check("now: imbalance is shown against its floor, by resource", async () => {
  await until("figures", async () => {
    const { balance } = await api("status");
    const shown = await text(".figure-imbalance");
    const names = Object.keys(balance);
    return names.length > 0 && names.every((name) => shown.includes(name)) && shown.includes("best");
  }, 60000);
});

await checks.check("slot map: what it tells of a slot is what the snapshot says", async () => {
  for (const slot of [0, 129, 8191, 16383]) {
    await until(`slot ${slot}`, async () => {
      await page.locator("input[placeholder='Slot, or key']").fill(String(slot));
      const { owners, primaries, slot_columns: columns } = await api("snapshot");
      const shown = await page.locator(".readout dd").allInnerTexts();
      const keys = Array.isArray(columns.keys) ? columns.keys : columns.keys?.values;
      const rightKeys = shown[3] === Math.round(keys[slot]).toLocaleString("en");
      return shown[0] === String(slot) && shown[1] === (primaries[owners[slot]]?.address ?? "nobody") && rightKeys;
    });
  }
});

await checks.check("slot map: a key is found by its slot, hash tags included", async () => {
  const find = page.locator("input[placeholder='Slot, or key']");
  for (const [key, slot] of [["foo", "12182"], ["{user1000}.following", "3443"], ["foo{}{bar}", "8363"]]) {
    await find.fill(key);
    assert.equal(await page.locator(".readout dd").first().innerText(), slot, key);
  }
  await find.fill("");
});

await checks.check("slot map: by keyboard, and it is said aloud", async () => {
  await page.locator(".map-frame").focus();
  await page.locator("input[placeholder='Slot, or key']").fill("1000");
  await page.locator(".map-frame").focus();
  for (const [key, slot] of [["ArrowRight", 1001], ["ArrowDown", 1129], ["ArrowLeft", 1128], ["ArrowUp", 1000], ["PageDown", 2024], ["Home", 1920], ["End", 2047]]) {
    await page.keyboard.press(key);
    assert.equal(await page.locator(".readout dd").first().innerText(), String(slot), key);
  }
  assert.match(await page.locator("#said").textContent(), /Slot 2047, Owner .*, Load .*, Keys/);
});

await checks.check("slot map: enter, and a click, offer why a slot moved or did not", async () => {
  await page.keyboard.press("Enter");
  const because = async (slot) => {
    const { items } = await api(`explain?slot=${slot}`);
    await until(`the explanation of ${slot}`, async () => (await text(".answer")).toLowerCase().includes(items[0].answer.split(",")[0].toLowerCase()));
    assert.ok((await text(".answer")).includes(`ballast explain --slot ${slot}`));
  };
  await because(2047);
  const box = await page.locator(".map-frame").boundingBox();
  await page.mouse.click(box.x + box.width * (10.5 / 128), box.y + box.height * (3.5 / 128));
  await because(3 * 128 + 10);
  await page.locator(".map-frame").focus();
  await page.keyboard.press("Escape");
  assert.equal(await page.locator(".answer:visible").count(), 0);
});

const picture = () => page.evaluate(() => {
  const canvas = document.querySelector(".map-picture");
  return [...canvas.getContext("2d").getImageData(0, 0, 128, 128).data].reduce((sum, value, place) => (sum * 31 + value * (place % 97)) % 1000000007, 7);
});

await checks.check("slot map: each figure colours it otherwise, and m goes on to the next", async () => {
  const seen = new Set([await picture()]);
  for (const name of ["Load", "Keys", "Bytes", "Last move"]) {
    await page.locator(".map-card .choices").getByRole("button", { name, exact: true }).click();
    seen.add(await picture());
  }
  assert.ok(seen.size >= 4, `${seen.size} different pictures of 5`);
  await page.locator(".map-frame").blur();
  await page.keyboard.press("m");
  assert.equal(await page.locator(".choices button[aria-pressed=true]").innerText(), "Owner");
});

await checks.check("nodes: pointing at one shows its slots alone, enter keeps it so", async () => {
  const before = await picture();
  await page.locator(".node-scroll .node-row:visible").first().hover();
  const alone = await picture();
  assert.notEqual(alone, before);
  await page.mouse.move(2, 2);
  assert.notEqual(await picture(), alone);
  await page.locator(".nodes").focus();
  await page.keyboard.press("ArrowDown");
  await page.keyboard.press("Enter");
  assert.equal(await page.locator(".node-row[aria-selected=true]").count(), 1);
  await page.keyboard.press("Escape");
  assert.equal(await page.locator(".node-row[aria-selected=true]").count(), 0);
});

await checks.check("nodes: a filter leaves those that are meant, and sorting tells its direction", async () => {
  const { nodes } = await api("status");
  const port = nodes[0].address.split(":").at(-1);
  await page.locator("[data-search]").fill(`${nodes[0].id.slice(0, 12)}`);
  await until("one row", async () => (await page.locator(".node-scroll .node-row:visible").count()) === 1);
  assert.ok((await page.locator(".node-scroll .node-row:visible").innerText()).replaceAll("\n", "").includes(port));
  await page.locator("[data-search]").fill("");
  await page.locator(".node-head.cell-slots").click();
  assert.equal(await page.locator(".node-head.cell-slots").getAttribute("aria-sort"), "descending");
  await page.locator(".node-head.cell-slots").click();
  assert.equal(await page.locator(".node-head.cell-slots").getAttribute("aria-sort"), "ascending");
  await page.locator(".node-head.cell-node").click();
});

await checks.check("slots over time: arrow keys read it", async () => {
  await until("the first columns", async () => (await page.locator(".heat-card:visible").count()) === 1, 90000);
  await page.locator(".heat-frame").focus();
  await page.keyboard.press("ArrowDown");
  assert.match(await text(".heat-readout"), /^Slots 32–63, .*\d\d:\d\d: /);
  await page.keyboard.press("Enter");
  assert.equal(await page.locator(".readout dd").first().innerText(), "32");
});

await checks.check("live: another cycle shows without a word of ours", async () => {
  await go("decisions");
  const number = async () => Number((await text(".cycles .cycle-number")).split("–").at(-1));
  await until("the list", async () => (await page.locator(".cycles .cycle-number").count()) > 0, 60000);
  const first = await number();
  return until("a newer cycle", async () => { const now = await number(); return now > first && `${first}, then ${now}`; }, 60000);
});

const HOSTILE = `<img src=x onerror="window.pwned=1"><script>window.pwned=1</script>`;
await checks.check("live: a pause with a hostile reason shows within 5 s, as text", async () => {
  await go("now");
  await post("pause", { reason: HOSTILE, who: "page-test", for_s: 60 });
  try {
    const began = Date.now();
    await until("mode paused, and why", async () => (await text(".mode")) === "paused" && (await text(".standing")).includes(HOSTILE), 5000);
    const took = Date.now() - began;
    await shot(page, "paused");
    return `${took} ms`;
  } finally {
    await post("resume", { reason: HOSTILE, who: "page-test" });
  }
});

await checks.check("live: and so does its end, among the events too", async () => {
  await until("another mode", async () => (await text(".mode")) !== "paused", 8000);
  await go("decisions");
  await until("the event", async () => (await text(".events")).includes(HOSTILE));
  assert.equal(await page.evaluate(() => window.pwned), undefined);
  assert.equal(await page.evaluate(() => document.querySelectorAll("main img, main script").length), 0);
});

await checks.check("decisions: newest first, and each as the API tells it", async () => {
  const { items } = await api("cycles?limit=50");
  const shown = await page.locator(".cycles .cycle-number").allInnerTexts();
  const ends = shown.map((one) => Number(one.split("–").at(-1)));
  assert.deepEqual(ends, [...ends].sort((one, other) => other - one));
  assert.ok(items.some((one) => one.cycle === ends[0]), `${ends[0]} is not among the newest`);
});

let executed = null;
await checks.check("decisions: one opened tells what moved, by pair, why, and what it was to bring", async () => {
  executed = await until("a cycle that moved something", async () => (await api("cycles?limit=100")).items.find((one) => one.outcome === "executed"), 90000);
  await go(`decisions/${executed.cycle}`);
  await until("it", async () => (await text(".detail h2")).includes(String(executed.cycle)) && (await page.locator(".detail .pairs").count()) > 0);
  const [shown, report] = [await text(".detail"), await api(`cycles/${executed.cycle}`)];
  assert.ok(shown.includes(`${executed.slots_moved.toLocaleString("en")} slot`), shown.slice(0, 200));
  assert.equal((await text(".detail .lead")), `${executed.slots_moved.toLocaleString("en")} slot${executed.slots_moved === 1 ? "" : "s"} moved`);
  assert.ok(shown.includes(report.plan.summary));
  assert.ok(shown.includes(report.approved[0].reason));
  for (const of of Object.values(report.predictions)) assert.ok(shown.includes(of.imbalance_before.toFixed(2)), "imbalance before");
  const pairs = new Set(report.approved.map((one) => `${one.from} ${one.to}`)).size;
  assert.ok((await page.locator(".detail .pairs .reasons").count()) === Math.min(pairs, pairs > 7 ? 6 : pairs), "pairs");
  await shot(page, "decision");
});

await checks.check("decisions: the commands to repeat it are there to copy", async () => {
  await context.grantPermissions(["clipboard-read", "clipboard-write"], { origin: new URL(url).origin });
  await page.getByRole("button", { name: `Copy: ballast plan --at ${executed.cycle}` }).click();
  await until("copied", async () => (await page.evaluate(() => navigator.clipboard.readText())) === `ballast plan --at ${executed.cycle}`);
});

await checks.check("decisions: filters and search", async () => {
  await page.getByRole("button", { name: "Moved", exact: true }).click();
  const moved = await page.locator(".cycles .cycle-what").allInnerTexts();
  assert.ok(moved.length > 0 && moved.every((one) => one.includes("moved")), moved.join("; "));
  await page.getByRole("button", { name: "All", exact: true }).click();
  await page.locator("[data-search]").fill(`${executed.policy.digest.slice(0, 16)} ${executed.cycle}`);
  await until("it alone or nearly", async () => (await page.locator(`.cycles a[href="#decisions/${executed.cycle}"]`).count()) === 1);
  await page.locator("[data-search]").fill("no cycle is like this");
  assert.match(await text(".cycles"), /No cycle that was read is like that/);
  await page.locator("[data-search]").fill("");
});

await checks.check("decisions: a cycle that is not kept is told so", async () => {
  leave.network = true;
  await go("decisions/999999");
  await until("the refusal", async () => (await text(".detail")).includes("cycle 999999 is not in the history"));
  // The browser's own word about the 404 may come a little later.
  await page.waitForTimeout(500);
  leave.network = false;
});

await checks.check("policy: digest, source, loads and gauges as the status says", async () => {
  await go("policy");
  const { policy } = await api("status");
  await until("the digest", async () => (await text(".policy")).includes(policy.id.digest));
  const shown = await text(".policy");
  assert.ok(shown.includes(policy.source));
  for (const reload of policy.reloads) assert.ok(shown.includes(reload.detail), reload.detail);
  await until("gauges", async () => (await page.locator(".gauges tr").count()) > 0);
});

await checks.check("keyboard: skip link, views, search, keys, theme", async () => {
  await go("now");
  await page.reload();
  await page.locator(".mode").waitFor();
  await page.keyboard.press("Tab");
  assert.equal(await page.evaluate(() => document.activeElement.className), "skip");
  await page.keyboard.press("2");
  await page.locator(`nav a[data-view=decisions][aria-current=page]`).waitFor();
  await page.locator(".skip").focus();
  await page.keyboard.press("Enter");
  assert.equal(await page.locator(`nav a[data-view=decisions][aria-current=page]`).count(), 1, "the skip link stays in the view");
  await page.keyboard.press("/");
  assert.equal(await page.evaluate(() => document.activeElement.getAttribute("aria-label")), "Search decisions");
  await page.keyboard.press("Escape");
  await page.keyboard.press("3");
  await page.locator(`nav a[data-view=policy][aria-current=page]`).waitFor();
  await page.keyboard.press("?");
  assert.equal(await page.locator("dialog[open]").count(), 1);
  await page.keyboard.press("Escape");
  assert.equal(await page.locator("dialog[open]").count(), 0);
  await page.keyboard.press("?");
  await page.locator("#letters").uncheck();
  await page.keyboard.press("Escape");
  await page.keyboard.press("1");
  assert.equal(await page.locator(`nav a[data-view=policy][aria-current=page]`).count(), 1, "characters do nothing when they are not wanted");
  await page.locator("#keys").click();
  await page.locator("#letters").check();
  await page.keyboard.press("Escape");
  await page.keyboard.press("1");
  await page.locator(`nav a[data-view=now][aria-current=page]`).waitFor();
  const themes = [];
  for (let turn = 0; turn < 3; turn += 1) {
    await page.keyboard.press("t");
    themes.push(await text("#theme"));
  }
  assert.deepEqual(themes, ["Light", "Dark", "Auto"]);
  assert.deepEqual([await page.evaluate(() => document.documentElement.dataset.theme)], ["light"]);
});

await checks.check("keyboard: the whole of a view is reached by tab, and where one is can be seen", async () => {
  const seen = new Set();
  for (let turn = 0; turn < 40; turn += 1) {
    await page.keyboard.press("Tab");
    const at = await page.evaluate(() => {
      const one = document.activeElement;
      const style = getComputedStyle(one);
      return { what: one.dataset.key ?? one.getAttribute("aria-label") ?? one.textContent.slice(0, 30), ring: one === document.body || style.outlineStyle !== "none" };
    });
    assert.ok(at.ring, `no ring around ${at.what}`);
    seen.add(at.what);
  }
  for (const one of ["map", "nodes", "shade owner", "heat"]) assert.ok(seen.has(one), `${one} is not reached: ${[...seen].join(", ")}`);
});

await checks.check("no answer: it is told plainly, with the age of what is shown, and ends by itself", async () => {
  leave.network = true;
  await context.route("**/api/**", (route) => route.abort());
  await page.reload();
  await until("the outage", async () => (await page.locator("#outage:visible").count()) === 1);
  assert.match(await text("#outage"), /The daemon does not answer/);
  await context.unroute("**/api/**");
  await until("it is over", async () => (await page.locator("#outage:visible").count()) === 0 && (await page.locator(".mode").count()) === 1, 20000);
  leave.network = false;
});

for (const [size, viewport] of [["wide", { width: 1440, height: 900 }], ["tablet", { width: 820, height: 1100 }], ["phone", { width: 360, height: 740 }]]) {
  for (const scheme of ["light", "dark"]) {
    await checks.check(`${size}, ${scheme}: every view fits, is readable, and what can be used has a name`, async () => {
      await page.setViewportSize(viewport);
      await page.emulateMedia({ colorScheme: scheme, reducedMotion: "reduce" });
      for (const view of ["now", "decisions", `decisions/${executed?.cycle ?? 1}`, "policy"]) {
        await go(view);
        await page.waitForTimeout(600);
        await fits(page);
        await named(page);
        await readable(page);
        await shot(page, `${view.replace(/\/.*/, "-one")}-${size}-${scheme}`);
      }
      assert.equal(await page.evaluate(() => document.documentElement.dataset.theme), scheme);
    });
  }
}

await checks.check("no error in the console, no violation, no request to elsewhere", async () => assert.deepEqual(troubles, []));

await browser.close();
checks.end();
