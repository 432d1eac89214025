// Prints a line per check, and counts; and what every page has to keep to, whatever it shows.
import assert from "node:assert/strict";
import path from "node:path";

export class Checks {
  passed = 0;
  failed = 0;

  /** Runs `body`; what it throws is why it failed. What it returns is printed beside its name. */
  async check(name, body) {
    try {
      const note = await body();
      this.passed += 1;
      console.log(`ok      ${name}${note ? ` (${note})` : ""}`);
    } catch (error) {
      this.failed += 1;
      console.log(`FAILED  ${name}: ${String(error?.message ?? error).split("\n").slice(0, 6).join(" | ")}`);
    }
  }

  end() {
    console.log(`${this.passed} passed, ${this.failed} failed`);
    process.exitCode = this.failed === 0 && this.passed > 0 ? 0 : 1;
  }
}

/** A page that notes every error, every violation of the content security policy and every request to elsewhere. */
export async function watched(browser, url, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1440, height: 900 }, ...options });
  const home = new URL(url).origin;
  const troubles = [];
  /** Set while a check breaks the link on purpose: browsers tell of that as an error. */
  const leave = { network: false };
  await context.exposeFunction("violated", (what) => troubles.push(`violates the content security policy: ${what}`));
  await context.addInitScript(() => {
    document.addEventListener("securitypolicyviolation", (event) => window.violated(`${event.violatedDirective} ${event.blockedURI}`));
  });
  const page = await context.newPage();
  page.on("console", (message) => {
    if (!["error", "warning"].includes(message.type())) return;
    if (leave.network && /Failed to load resource|ERR_/.test(message.text())) return;
    troubles.push(`${message.type()} in the console: ${message.text()}`);
  });
  page.on("pageerror", (error) => troubles.push(`error: ${error.message}`));
  page.on("request", (request) => {
    if (!request.url().startsWith(home) && !request.url().startsWith("data:")) troubles.push(`asks elsewhere: ${request.url()}`);
  });
  page.setDefaultTimeout(15000);
  return { page, context, troubles, leave };
}

/** Nothing sticks out to the right. */
export async function fits(page) {
  const wide = await page.evaluate(() => {
    const out = [...document.querySelectorAll("main *")].filter((one) => one.getBoundingClientRect().right > innerWidth + 1 && getComputedStyle(one).position !== "absolute");
    return document.documentElement.scrollWidth > innerWidth ? [document.documentElement.scrollWidth, ...out.slice(0, 3).map((one) => one.className || one.tagName)] : null;
  });
  assert.equal(wide, null, `wider than the window: ${wide}`);
}

/** What can be used has a name, pictures have words, and there is one heading of the first rank. */
export async function named(page) {
  const nameless = await page.evaluate(() => {
    const name = (one) => one.getAttribute("aria-label") || one.textContent.trim() || one.labels?.[0]?.textContent || one.title;
    const controls = [...document.querySelectorAll("button, a, input, [tabindex='0']")].filter((one) => !name(one));
    const pictures = [...document.querySelectorAll("img:not([alt]), svg[role=img]:not([aria-label])")];
    const ids = [...document.querySelectorAll("[id]")].map((one) => one.id);
    const twice = ids.filter((id, place) => ids.indexOf(id) !== place);
    return [...controls, ...pictures].map((one) => one.outerHTML.slice(0, 90)).concat(twice.map((id) => `id ${id} twice`));
  });
  assert.deepEqual(nameless, []);
  // What was read in another shape than it has.
  const odd = (await page.locator("body").innerText()).match(/.*(\[object|undefined|\bNaN\b|\bnull\b).*/);
  assert.equal(odd, null, `shown: ${odd?.[0]}`);
  assert.equal(await page.locator("h1").count(), 1, "one h1");
}

/** Words are told from their ground: 4.5 to 1, as WCAG's level AA wants. */
export async function readable(page) {
  const poor = await page.evaluate(() => {
    const style = getComputedStyle(document.documentElement);
    const light = (name) => {
      const hex = style.getPropertyValue(name).trim();
      const [red, green, blue] = [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16) / 255).map((value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4));
      return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
    };
    const ratio = (one, other) => { const [a, b] = [light(one), light(other)].sort((x, y) => y - x); return (a + 0.05) / (b + 0.05); };
    const pairs = [["--ink", "--ground"], ["--ink", "--surface"], ["--soft", "--ground"], ["--soft", "--surface"], ["--soft", "--sunk"], ["--soft", "--accent-soft"], ["--accent", "--surface"], ["--accent", "--sunk"], ["--surface", "--bad"]];
    for (const kind of ["good", "warn", "bad", "plan"]) pairs.push([`--${kind}`, `--${kind}-soft`]);
    return pairs.map(([one, other]) => [one, other, ratio(one, other)]).filter(([, , value]) => !(value >= 4.5)).map(([one, other, value]) => `${one} on ${other} ${value.toFixed(2)}`);
  });
  assert.deepEqual(poor, []);
}

/** Waits until `look` gives something. */
export async function until(what, look, patience = 15000) {
  const end = Date.now() + patience;
  for (;;) {
    const found = await look();
    if (found) return found;
    if (Date.now() > end) throw new Error(`not within ${patience / 1000} s: ${what}`);
    await new Promise((done) => { setTimeout(done, 100); });
  }
}

export function shots(directory) {
  return async (page, name) => {
    if (directory) await page.screenshot({ path: path.join(directory, `page-${name}.png`) });
  };
}
