// Who decides: which policy, since when, what it cost, what it wrote, and what its shadows would have done.

import { get, on, seen } from "./live.js";
import { bytes, command, count, fill, h, isKnown, keep, percent, plural, ratio, short, svg, time, UNKNOWN } from "./text.js";

/** So many cycles are drawn of a shadow's disagreement. */
const SPARK = 60;

export function policyView() {
  const main = h("section", { class: "card", "aria-labelledby": "policy-title" });
  const reloads = h("section", { class: "card", "aria-labelledby": "reloads-title" });
  const wrote = h("section", { class: "card", "aria-labelledby": "wrote-title" });
  const shadows = h("section", { class: "card", "aria-labelledby": "shadows-title" });
  const config = h("section", { class: "card", "aria-labelledby": "config-title" });
  const element = h("div", { class: "policy" }, h("h1", { class: "unseen" }, "Policy"),
    h("div", { class: "column" }, main, reloads, config), h("div", { class: "column" }, wrote, shadows));
  /** The newest cycle with a plan that is shown, whole. */
  let report = null;

  function draw() {
    const { status } = seen;
    if (!status) return;
    const { policy } = status;
    keep(main, [policy, status.promoted], () => [
      h("div", { class: "card-head" }, h("h2", { id: "policy-title" }, policy.id ? `${policy.id.name} ${policy.id.version}` : "No policy is loaded"),
        policy.failure ? h("span", { class: "badge bad" }, "failed") : policy.id ? h("span", { class: "badge good" }, "deciding") : null),
      status.promoted ? h("p", { class: "said" }, `The shadow ${status.promoted} decides in the configured policy's place.`) : null,
      policy.failure ? h("p", { class: "note bad" }, policy.failure) : null,
      policy.standing_in ? h("p", { class: "said" }, `Standing in: ${policy.standing_in.name} ${policy.standing_in.version}.`) : null,
      h("dl", { class: "facts" },
        fact("Digest", policy.id ? h("code", { class: "digest" }, `sha256:${policy.id.digest}`) : UNKNOWN),
        fact("Source", h("span", { class: "path" }, policy.source || UNKNOWN)),
        fact("In use since", policy.since_ms ? time(policy.since_ms) : UNKNOWN),
        fact("Calls", count(policy.calls)),
        fact("Faults", `${count(policy.faults)} since it was loaded${policy.faults_in_a_row ? `, ${count(policy.faults_in_a_row)} in a row` : ""}`),
        fact("Memory", bytes(policy.memory_bytes))),
    ]);
    keep(reloads, policy.reloads, () => [
      h("div", { class: "card-head" }, h("h2", { id: "reloads-title" }, "Loads"), h("span", { class: "quiet small" }, "the newest first")),
      policy.reloads?.length
        ? h("ol", { class: "events" }, policy.reloads.map((one) => h("li", { class: "event" },
          h("span", { class: `mark ${one.accepted ? "good" : "bad"}`, "aria-hidden": "true" }),
          h("span", { class: "event-time quiet" }, time(one.at_ms)),
          h("div", { class: "event-what" }, h("p", null, one.accepted ? "Accepted" : "Refused; what was there went on"), h("p", { class: "quiet small" }, one.detail)))))
        : h("p", { class: "empty" }, "Nothing was loaded yet."),
    ]);
    const { config: settings } = status;
    keep(config, [settings, status.version, status.started_at_ms], () => [
      h("div", { class: "card-head" }, h("h2", { id: "config-title" }, "Configuration")),
      h("dl", { class: "facts" },
        fact("File", h("span", { class: "path" }, settings.path ?? "none")),
        fact("Last reload", settings.last_reload ? [time(settings.last_reload.at_ms), settings.last_reload.accepted ? ", accepted" : ", refused"] : "none since the start"),
        settings.last_reload && !settings.last_reload.accepted ? fact("Why", settings.last_reload.detail) : null,
        settings.needs_restart?.length ? fact("Wait for a restart", settings.needs_restart.join(", ")) : null,
        fact("Daemon", `ballast ${status.version}, up since `, time(status.started_at_ms))),
      command("ballast config show", "all settings in force"),
    ]);
  }

  function drawWrote() {
    const plan = report?.plan;
    keep(wrote, [report?.cycle ?? null], () => [
      h("div", { class: "card-head" }, h("h2", { id: "wrote-title" }, "What the last plan said"), report ? h("a", { class: "small", href: `#decisions/${report.cycle}` }, `cycle ${report.cycle}`) : null),
      plan ? [
        h("p", { class: "said" }, plan.summary || "no summary"),
        plan.gauges?.length
          ? h("table", { class: "gauges" }, h("caption", { class: "unseen" }, "Gauges"), h("tbody", null, plan.gauges.map(([name, value]) => h("tr", null, h("th", { scope: "row" }, name), h("td", null, Number.isInteger(value) ? count(value || 0) : Math.abs(value) >= 1000 ? short(value) : value.toPrecision(4))))))
          : h("p", { class: "quiet" }, "It wrote no gauges."),
        report.log?.length
          ? h("ul", { class: "log", "aria-label": "What it logged" }, report.log.map((line) => h("li", null, line)))
          : h("p", { class: "quiet small" }, "It logged nothing."),
      ] : h("p", { class: "empty" }, "No plan was made yet."),
    ]);
  }

  function drawShadows() {
    const { status } = seen;
    const latest = status?.last_cycle?.shadows ?? [];
    keep(shadows, [status?.shadows, seen.cycles[0]?.cycle], () => [
      h("div", { class: "card-head" }, h("h2", { id: "shadows-title" }, "Shadows"), h("span", { class: "quiet small" }, "asked beside it, never obeyed")),
      status?.shadows?.length
        ? h("ul", { class: "shadows" }, status.shadows.map((one) => shadow(one, latest.find((report) => report.name === one.name))))
        : h("p", { class: "empty" }, "None is configured. A ", h("code", null, "[[shadow]]"), " in the configuration is asked each cycle, and what it would have done is shown here."),
    ]);
  }

  function shadow(one, last) {
    const past = seen.cycles.slice(0, SPARK).map((cycle) => cycle.shadows?.find((report) => report.name === one.name)?.disagreement).filter(isKnown).reverse();
    return h("li", { class: "shadow" },
      h("div", { class: "card-head" }, h("h3", null, one.name, one.policy ? h("span", { class: "quiet" }, ` ${one.policy.name} ${one.policy.version}`) : h("span", { class: "badge warn" }, "not loaded")),
        h("span", { class: "number" }, last ? percent(last.disagreement) : UNKNOWN, h("span", { class: "quiet small" }, " disagrees"))),
      past.length > 1 ? spark(past) : null,
      last?.failure ? h("p", { class: "stayed" }, h("span", { class: "badge bad" }, last.failure[0]), ` ${last.failure[1]}`) : null,
      last && !last.failure ? h("p", null, last.summary || "no summary") : null,
      last && !last.failure ? h("p", { class: "quiet small" }, [
        `would move ${plural(last.approved, "slot")} of ${count(last.proposed)} proposed`, bytes(last.bytes),
        ...Object.entries(last.predictions ?? {}).map(([name, of]) => `${name} ${ratio(of.imbalance_before)} → ${ratio(of.imbalance_after)}`),
        ...Object.entries(last.refused ?? {}).map(([check, slots]) => `${count(slots)} held back by ${check}`),
      ].join(" · ")) : null,
      one.refused ? h("p", { class: "stayed" }, h("span", { class: "badge warn" }, "newest refused"), ` ${one.refused}`) : null,
      h("p", { class: "quiet small" }, [`${plural(one.calls, "call")}, ${plural(one.faults, "fault")}`, bytes(one.memory_bytes), one.source].join(" · ")),
      command(`ballast policy promote ${one.name} --reason …`, "lets it decide"));
  }

  /** The newest cycle that has a plan; asked for when there is a newer one. */
  async function fetchPlan() {
    const newest = seen.cycles.find((one) => one.summary !== null && one.summary !== undefined);
    if (!newest || newest.cycle === report?.cycle) return;
    try {
      report = await get(`cycles/${newest.cycle}`);
      drawWrote();
    } catch { /* The link tells. */ }
  }

  const stops = [on("status", () => { draw(); drawShadows(); }), on("cycles", () => { fetchPlan(); drawShadows(); })];
  draw();
  drawWrote();
  drawShadows();
  fetchPlan();
  return { element, title: "Policy", key: () => false, leave: () => stops.forEach((stop) => stop()) };
}

const fact = (name, ...value) => h("div", null, h("dt", null, name), h("dd", null, ...value));

/** Disagreement over the last cycles, 0 to 1. */
function spark(values) {
  const step = 300 / (values.length - 1);
  const points = values.map((value, place) => `${(place * step).toFixed(1)},${(28 - value * 26).toFixed(1)}`).join(" ");
  return svg("svg", { viewBox: "0 0 300 30", class: "spark", role: "img", preserveAspectRatio: "none", "aria-label": `Disagreement over ${values.length} cycles, now ${percent(values.at(-1))}` },
    svg("polyline", { points, class: "spark-line" }));
}
