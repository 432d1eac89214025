// The page at sizes and in scenes that no cluster of ours can play:  node tests/page/scale.mjs [--shots DIR]
//
// The answers are made up by fixture.mjs; the page and the browser are the real ones. Measures what a redraw of 16384
// slots and 1000 primaries costs, and frames while figures change and somebody scrolls.
import assert from "node:assert/strict";
import { mkdirSync } from "node:fs";
import { parseArgs } from "node:util";
import { open } from "./browser.mjs";
import { Checks, fits, named, shots, until, watched } from "./checks.mjs";
import { serve, world } from "./fixture.mjs";

const { values } = parseArgs({ options: { shots: { type: "string" } } });
if (values.shots) mkdirSync(values.shots, { recursive: true });
const shot = shots(values.shots);

/** A frame at 60 Hz: what a redraw may take at most, in the middle of many. */
const FRAME_MS = 1000 / 60;

const checks = new Checks();
const browser = await open();

async function visit(of, body, { options = {}, served = {}, hash = "now" } = {}) {
  const server = await serve(of, served);
  const watch = await watched(browser, server.url, options);
  try {
    await watch.page.goto(`${server.url}#${hash}`);
    await body({ ...watch, server });
    assert.deepEqual(watch.troubles, []);
  } finally {
    await watch.context.close();
    server.close();
  }
}

const middle = (sorted, share = 0.5) => sorted[Math.min(Math.floor(sorted.length * share), sorted.length - 1)];

for (const count of [3, 1000]) {
  const of = world(count, count > 100 ? "busy" : "calm");
  await checks.check(`${count} primaries: a redraw of everything is less than a frame`, async () => {
    let note = "";
    await visit(of, async ({ page }) => {
      await until("slots", () => page.evaluate(() => Boolean(window.ballastPage.seen.slots && window.ballastPage.seen.heat)));
      const times = await page.evaluate(async () => {
        const times = [];
        const view = window.ballastPage.view();
        for (let turn = 0; turn < 60; turn += 1) {
          view.map.set({ shade: ["owner", "cpu", "age"][turn % 3] });
          const began = performance.now();
          view.redraw();
          // The canvas is drawn, and the layout done, within the time that is measured.
          document.body.getBoundingClientRect();
          times.push(performance.now() - began);
          await new Promise((done) => { requestAnimationFrame(done); });
        }
        return times.sort((one, other) => one - other);
      });
      note = `a quarter of them below ${middle(times, 0.25).toFixed(1)} ms, half below ${middle(times).toFixed(1)} ms, 95% below ${middle(times, 0.95).toFixed(1)} ms`;
      // The quickest quarter: the machine that tests is shared, and others' turns are no cost of ours.
      assert.ok(middle(times, 0.25) < FRAME_MS, note);
      await page.evaluate(() => window.ballastPage.view().map.set({ shade: "owner" }));
      await shot(page, `scale-${count}`);
    });
    return note;
  });

  await checks.check(`${count} primaries: only rows in sight exist`, async () => {
    await visit(of, async ({ page }) => {
      await until("rows", async () => (await page.locator(".node-scroll .node-row").count()) > 0);
      const rows = await page.locator(".node-scroll .node-row").count();
      assert.ok(rows <= 24, `${rows} rows`);
      await page.locator(".nodes").focus();
      await page.keyboard.press("End");
      assert.equal(await page.locator(".node-row.active").getAttribute("aria-rowindex"), String(count + 1));
    });
  });

  await checks.check(`${count} primaries: frames while figures change and somebody scrolls and points`, async () => {
    let note = "";
    await visit(of, async ({ page, server }) => {
      await until("slots", () => page.evaluate(() => Boolean(window.ballastPage.seen.slots)));
      const { nodes } = of;
      let generation = 1000;
      const feed = setInterval(() => {
        generation += 1;
        server.say("nodes", { generation, nodes: nodes.map((node, place) => ({ ...node, cpu: 0.3 + 0.2 * Math.sin(place + generation / 3) })) });
      }, 500);
      const frames = await page.evaluate(async () => {
        const { map } = window.ballastPage.view();
        const scroller = document.querySelector(".node-scroll");
        const frames = [];
        let last = performance.now();
        for (let turn = 0; turn < 180; turn += 1) {
          scroller.scrollTop += 37;
          map.point((turn * 131) % 16384);
          await new Promise((done) => { requestAnimationFrame(done); });
          const now = performance.now();
          frames.push(now - last);
          last = now;
        }
        return frames.sort((one, other) => one - other);
      });
      clearInterval(feed);
      note = `half of them ${middle(frames).toFixed(1)} ms apart, 95% at most ${middle(frames, 0.95).toFixed(1)} ms, the longest ${middle(frames, 1).toFixed(0)} ms`;
      // Three frames, for the same reason. A redraw that janks takes ten.
      assert.ok(middle(frames) < 3 * FRAME_MS, note);
    });
    return note;
  });
}

const SCENES = [["one primary", 1, "calm"], ["no snapshot yet", 3, "unseen"], ["halted, with a long reason and long names", 6, "halted"], ["a plan waits", 3, "waiting"], ["much moves", 8, "busy"]];
for (const [what, count, scene] of SCENES) {
  await checks.check(`${what}: fits at 360 and 1440 in every view, without an error`, async () => {
    for (const viewport of [{ width: 360, height: 740 }, { width: 1440, height: 900 }]) {
      for (const hash of ["now", "decisions", "decisions/205", "policy"]) {
        if (scene === "unseen" && hash.includes("/")) continue;
        await visit(world(count, scene), async ({ page }) => {
          await page.waitForTimeout(500);
          await fits(page);
          await named(page);
          if (hash === "now") await shot(page, `scene-${scene}-${count}-${viewport.width}`);
        }, { options: { viewport }, hash });
      }
    }
  });
}

await checks.check("halted: the reason is whole, and the way on is there to copy", async () => {
  const of = world(3, "halted");
  await visit(of, async ({ page }) => {
    await until("the reason", async () => (await page.locator(".standing").innerText()).includes(of.status.mode_reason));
    assert.equal(await page.locator(".attention .note.bad").count(), 3);
    assert.match(await page.locator(".attention").innerText(), /ballast resume --reason/);
  });
});

await checks.check("a plan that waits: the command that approves it", async () => {
  await visit(world(3, "waiting"), async ({ page }) => {
    await until("it", async () => (await page.locator(".attention").innerText()).includes("ballast approve 3fa9c1d2e4b5 --reason"));
  });
});

await checks.check("hostile text of policies, people, servers and zones is text in every view", async () => {
  const of = world(8, "hostile");
  for (const hash of ["now", "decisions", "decisions/231", "decisions/205", "policy"]) {
    await visit(of, async ({ page }) => {
      await until("the text", async () => (await page.locator("main").innerText()).includes("<script>window.pwned=1</script>"));
      if (hash === "now") {
        await page.locator(".map-frame").click();
        await until("the explanation", async () => (await page.locator(".answer").innerText()).includes("<script>"));
      }
      await page.waitForTimeout(300);
      assert.equal(await page.evaluate(() => window.pwned), undefined);
      assert.equal(await page.locator("main script, main img").count(), 0);
    }, { hash });
  }
});

await checks.check("a token is asked for, refused when wrong, kept for the tab, and sent with every request", async () => {
  await visit(world(3), async ({ page, leave }) => {
    leave.network = true;
    await page.locator("dialog[open] #token").fill("wrong");
    await page.keyboard.press("Enter");
    await until("the refusal", async () => (await page.locator("dialog[open]").innerText()).includes("missing or wrong"));
    await page.locator("dialog[open] #token").fill("right");
    await page.keyboard.press("Enter");
    await until("the page", async () => (await page.locator(".mode").count()) === 1 && (await page.locator("#link-text").innerText()) === "live");
    await until("slots", () => page.evaluate(() => Boolean(window.ballastPage.seen.slots && window.ballastPage.seen.cycles.length)));
    await page.reload();
    await until("the page again, unasked", async () => (await page.locator(".mode").count()) === 1);
    assert.equal(await page.locator("dialog[open]").count(), 0);
  }, { served: { token: "right" } });
});

await checks.check("a daemon without a stream is asked every two seconds", async () => {
  const of = world(3);
  await visit(of, async ({ page, leave }) => {
    leave.network = true;
    await until("polling", async () => (await page.locator("#link-text").innerText()) === "every 2 s");
    of.status.mode_reason = "another reason";
    await until("what is new", async () => (await page.locator(".standing").innerText()).includes("another reason"), 6000);
    await until("slots", () => page.evaluate(() => Boolean(window.ballastPage.seen.slots)));
  }, { served: { stream: false } });
});

await checks.check("silence: what is shown stays, its age is told, and it goes on by itself", async () => {
  await visit(world(3), async ({ page, server, leave }) => {
    await until("live", async () => (await page.locator("#link-text").innerText()) === "live");
    leave.network = true;
    server.silence(true);
    await until("the outage", async () => /does not answer .* old\. Trying again in \d+ s/.test(await page.locator("#outage").innerText()), 10000);
    assert.equal(await page.locator(".mode").count(), 1);
    server.silence(false);
    await page.getByRole("button", { name: "Try now" }).click();
    await until("live again", async () => (await page.locator("#link-text").innerText()) === "live" && (await page.locator("#outage:visible").count()) === 0);
  });
});

await checks.check("older cycles are read when they are asked for", async () => {
  await visit(world(3), async ({ page }) => {
    await until("a hundred", () => page.evaluate(() => window.ballastPage.seen.cycles.length === 100));
    await page.getByRole("button", { name: "Show older" }).first().click();
    await until("more", () => page.evaluate(() => window.ballastPage.seen.cycles.length === 200));
    await page.getByRole("button", { name: "Show older" }).first().click();
    await until("all", () => page.evaluate(() => window.ballastPage.seen.cycles.length === 240 && window.ballastPage.seen.cyclesEnd));
  }, { hash: "decisions" });
});

await browser.close();
checks.end();
