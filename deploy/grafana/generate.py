#!/usr/bin/env python3
"""Writes ballast.json, the Grafana dashboard: what it shows is in ROWS.

    generate.py            writes deploy/grafana/ballast.json
    generate.py --check    says whether ballast.json is what this script gives; exit code 1 when it is not

Needs grafana-foundation-sdk, which scripts/toolchains fetches, pinned. scripts/check-dashboard runs every query below
against a Prometheus that scrapes a daemon at work.
"""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
JSON = HERE / "ballast.json"
# The epoch says for which Grafana; without it pip takes the build for Grafana 10.1.
SDK = "grafana-foundation-sdk==1769699379!11.6.0"

WIDTH = 24
STAT_HEIGHT, GRAPH_HEIGHT = 5, 8

# What belongs to the process carries no cluster: it is of this cluster when its daemon is.
OURS = 'and on (job, instance) ballast_cluster_up{cluster="$cluster"}'
CLUSTER = 'cluster="$cluster"'
NODE = 'cluster="$cluster", node=~"$node"'
PROBE = f"ballast_probe_duration_seconds_bucket{{{CLUSTER}}}[$__rate_interval]"
ROUNDS = "ballast_migrate_batch_duration_seconds"

# Modes as numbers, so that one stat shows the one of the daemon that acts.
MODES = {
    0: ("no leader", "red"),
    1: ("dry-run", "blue"),
    2: ("auto", "green"),
    3: ("approval", "purple"),
    4: ("paused", "yellow"),
    5: ("halted", "red"),
}


@dataclass(frozen=True)
class Query:
    expr: str
    legend: str
    # When it is right that nothing comes of it; else scripts/check-dashboard demands at least one series.
    empty_unless: str = ""


@dataclass(frozen=True)
class Panel:
    title: str
    description: str
    unit: str
    queries: tuple[Query, ...]
    width: int = 8
    stat: bool = False
    # Stats: value to (text, colour), and from which value on which colour.
    mappings: dict | None = None
    thresholds: tuple[tuple[float | None, str], ...] = ((None, "green"),)
    # Stats: names instead of values.
    names: bool = False
    # Graphs.
    stacked: bool = False
    bottom: float | None = 0


def quantile(share: float, by: str, bucket: str) -> str:
    return f"histogram_quantile({share}, sum by ({', '.join(filter(None, (by, 'le')))}) (rate({bucket})))"


def bucket(family: str) -> str:
    return f"{family}_bucket{{{CLUSTER}}}[$__rate_interval]"


def rate(by: str, counter: str, more: str = "") -> str:
    matchers = ", ".join(filter(None, (CLUSTER, more)))
    return f"sum by ({by}) (rate({counter}{{{matchers}}}[$__rate_interval]))" if by else (
        f"sum(rate({counter}{{{matchers}}}[$__rate_interval]))"
    )


def mode_as_number() -> str:
    follower = f'ballast_mode{{{CLUSTER}, mode="follower"}} * 0'
    others = (f'(ballast_mode{{{CLUSTER}, mode="{name}"}} == 1) * {number}' for number, (name, _) in MODES.items() if number)
    return f"max({' or '.join((follower, *others))})"


ROWS: list[tuple[str, list[Panel]]] = [
    (
        "Now",
        [
            Panel(
                "Mode",
                "Of the daemon that acts. dry-run also outside change windows; halted: by itself, until somebody resumes it.",
                "none",
                (Query(mode_as_number(), "mode"),),
                width=3, stat=True, mappings=MODES,
            ),  # fmt: skip
            Panel(
                "Imbalance against floor",
                "Largest utilisation ÷ mean, divided by the least that any placement of the slots could reach. 1: as even as can be.",
                "none",
                (
                    Query(
                        f"max by (resource) (ballast_cluster_imbalance_ratio{{{CLUSTER}}} / "
                        f"ballast_cluster_imbalance_floor_ratio{{{CLUSTER}}})",
                        "{{resource}}",
                    ),
                ),
                width=6, stat=True, thresholds=((None, "green"), (1.15, "yellow"), (1.25, "red")),
            ),  # fmt: skip
            Panel(
                "Moves",
                "Slots that are being moved, and slots of this cycle's plan whose migration has not begun.",
                "short",
                (
                    Query(f"sum(ballast_moves_in_progress{{{CLUSTER}}})", "in progress"),
                    Query(f"sum(ballast_moves_pending{{{CLUSTER}}})", "pending"),
                ),
                width=4, stat=True, thresholds=((None, "text"), (1, "blue")),
            ),  # fmt: skip
            Panel(
                "Time left",
                "Until this cycle's moves are done, by bytes where they are known, else by keys, else by slots.",
                "s",
                (Query(f"max(ballast_moves_eta_seconds{{{CLUSTER}}})", "time left"),),
                width=3, stat=True, mappings={0: ("–", "text")}, thresholds=((None, "blue"),),
            ),  # fmt: skip
            Panel(
                "Shards wanted − present",
                "Above 0: nobody has added what is wanted. Below 0: a node is being emptied, or may go.",
                "short",
                (Query(f"max(ballast_shards_desired{{{CLUSTER}}} - ballast_shards{{{CLUSTER}}})", "wanted − present"),),
                width=3, stat=True, thresholds=((None, "blue"), (0, "green"), (1, "yellow")),
            ),  # fmt: skip
            Panel(
                "Probe p99",
                "Round trip of our own probe to the primaries: what a client feels while nothing moves, and while slots move.",
                "s",
                (Query(quantile(0.99, "phase", PROBE), "{{phase}}"),),
                width=5, stat=True, thresholds=((None, "green"), (0.005, "yellow"), (0.025, "red")),
            ),  # fmt: skip
        ],
    ),
    (
        "Load",
        [
            Panel(
                "Imbalance",
                "Largest utilisation ÷ mean over the primaries; 1 is even. Floor: the least that could be reached. Predicted: after the moves of the last cycle.",
                "none",
                (
                    Query(f"max by (resource) (ballast_cluster_imbalance_ratio{{{CLUSTER}}})", "{{resource}}"),
                    Query(f"max by (resource) (ballast_cluster_imbalance_floor_ratio{{{CLUSTER}}})", "{{resource}} floor"),
                    Query(f"max by (resource) (ballast_plan_predicted_imbalance_ratio{{{CLUSTER}}})", "{{resource}} predicted"),
                ),
                bottom=1,
            ),
            Panel(
                "CPU",
                "Part of a core that a primary's main thread uses.",
                "percentunit",
                (Query(f'max by (node) (ballast_node_load_ratio{{{NODE}, resource="cpu"}})', "{{node}}"),),
            ),
            Panel(
                "Memory",
                "What a primary uses, and what it may use where that is limited.",
                "bytes",
                (
                    Query(f"max by (node) (ballast_node_memory_used_bytes{{{NODE}}})", "{{node}}"),
                    Query(f"max by (node) (ballast_node_memory_max_bytes{{{NODE}}})", "{{node}} limit"),
                ),
            ),
            Panel(
                "Network",
                "Bytes to and from a primary's clients.",
                "Bps",
                (Query(f"max by (node, direction) (ballast_node_network_bytes_per_second{{{NODE}}})", "{{node}} {{direction}}"),),
            ),
            Panel(
                "Slots",
                "That a primary serves. All together they are 16,384.",
                "short",
                (Query(f"max by (node) (ballast_node_slots{{{NODE}}})", "{{node}}"),),
                stacked=True,
            ),  # fmt: skip
            Panel(
                "Hottest slots",
                "Part of a core that each of the sixteen hottest slots uses. One that alone is above a node's mean cannot be evened.",
                "percentunit",
                (Query(f"max by (slot) (ballast_hot_slot_cpu_seconds_per_second{{{CLUSTER}}})", "{{slot}}"),),
                stacked=True,
            ),  # fmt: skip
        ],
    ),
    (
        "Moves",
        [
            Panel(
                "Slots done",
                "Slots whose migration ended, in a second. stayed: they are where they were, and the next cycle plans anew.",
                "cps",
                (Query(rate("method, result", "ballast_moves_total"), "{{method}} {{result}}"),),
            ),
            Panel(
                "Bytes moved",
                "In a second, estimated; those of atomic migrations when they end.",
                "Bps",
                (Query(rate("", "ballast_move_bytes_total"), "bytes"),),
            ),
            Panel(
                "Time of a migration",
                "One batch of slots from one primary to another.",
                "s",
                (
                    Query(quantile(0.5, "method", bucket("ballast_move_duration_seconds")), "{{method}} p50"),
                    Query(quantile(0.99, "method", bucket("ballast_move_duration_seconds")), "{{method}} p99"),
                ),
            ),
            Panel(
                "Pace",
                "The part of the configured pace that was taken when slots last moved, and the part of the time that moves rested, by reason.",
                "percentunit",
                (
                    Query(f"max(ballast_move_pace_ratio{{{CLUSTER}}})", "pace taken"),
                    Query(rate("reason", "ballast_move_throttled_seconds_total"), "rested: {{reason}}"),
                ),
            ),
            Panel(
                "Eased and repeated",
                "How often in a second the pace was eased for clients, and steps were tried again, by reason.",
                "cps",
                (
                    Query(rate("reason", "ballast_move_eased_total"), "eased: {{reason}}"),
                    Query(rate("reason", "ballast_move_retries_total"), "repeated: {{reason}}"),
                ),
            ),
            Panel(
                "Drains",
                "Slots left on nodes that shall leave. 0: may be switched off.",
                "short",
                (Query(f"max by (node) (ballast_node_drain_slots_remaining{{{NODE}}})", "{{node}}"),),
            ),
        ],
    ),
    (
        "Harm to clients",
        [
            Panel(
                "Probe",
                "Round trip of our own probe to the primaries, while nothing moves and while slots move: did we hurt anybody?",
                "s",
                (
                    Query(quantile(0.5, "phase", PROBE), "{{phase}} p50"),
                    Query(quantile(0.99, "phase", PROBE), "{{phase}} p99"),
                ),
            ),
            Panel(
                "Rounds of MIGRATE",
                "A server answers nobody else meanwhile. Classic migrations only; migration.max_block bounds one key's.",
                "s",
                (
                    Query(quantile(0.5, "", bucket(ROUNDS)), "p50"),
                    Query(quantile(0.99, "", bucket(ROUNDS)), "p99"),
                ),
            ),
            Panel(
                "Errors of servers",
                "What servers told clients, by kind. MOVED and ASK are followed; TRYAGAIN, CLUSTERDOWN and OOM hurt.",
                "cps",
                (Query(rate("kind", "ballast_server_errors_total"), "{{kind}}"),),
            ),
            Panel(
                "Replication lag",
                "Of a primary's slowest replica. Moves rest while it grows.",
                "bytes",
                (Query(f"max by (node) (ballast_node_replication_lag_bytes{{{NODE}}})", "{{node}}"),),
                width=12,
            ),
            Panel(
                "Open and uncovered slots",
                "Open: half-moved, as while they move. Uncovered: nobody serves them.",
                "short",
                (Query(f'max by (state) (ballast_cluster_slots{{{CLUSTER}, state!="served"}})', "{{state}}"),),
                width=12,
            ),
        ],
    ),
    (
        "Policy",
        [
            Panel(
                "Cycles",
                "By how they ended, in a second. refused: the guard let nothing through.",
                "cps",
                (Query(rate("outcome", "ballast_plans_total"), "{{outcome}}"),),
                width=6,
            ),
            Panel(
                "Held back by the guard",
                "Moves in a second, by the check that held them back (docs/limits.md).",
                "cps",
                (Query(rate("guard", "ballast_plan_moves_rejected_total"), "{{guard}}"),),
                width=6,
            ),
            Panel(
                "Calls",
                "Of the policy, by what it answered, in a second.",
                "cps",
                (Query(rate("result", "ballast_policy_calls_total"), "{{result}}"),),
                width=6,
            ),
            Panel(
                "Broken promises",
                "Imbalance that came about ÷ the predicted one − 1, of the last plan that was carried out. Above 0: it came out worse.",
                "percentunit",
                (Query(f"max by (resource) (ballast_plan_prediction_error_ratio{{{CLUSTER}}})", "{{resource}}"),),
                width=6, bottom=None,
            ),  # fmt: skip
        ],
    ),
    (
        "Collector",
        [
            Panel(
                "Nodes",
                "By what they are and do, as last seen; how many shards are wanted, and how many nodes stand by.",
                "short",
                (
                    Query(f"max by (role, state) (ballast_cluster_nodes{{{CLUSTER}}})", "{{role}} {{state}}"),
                    Query(f"max(ballast_shards_desired{{{CLUSTER}}})", "shards wanted"),
                    Query(f"max(ballast_standby_nodes{{{CLUSTER}}})", "standby"),
                ),
            ),
            Panel(
                "Looks that failed",
                "In a second, by what could not be asked.",
                "cps",
                (Query(rate("source", "ballast_collect_errors_total"), "{{source}}"),),
            ),
            Panel(
                "Time of a cycle's parts",
                "Seeing the cluster, each node of it, and asking the policy; 99 in 100 are as fast.",
                "s",
                (
                    Query(quantile(0.99, "source", bucket("ballast_collect_duration_seconds")), "looking, {{source}} p99"),
                    Query(quantile(0.99, "", bucket("ballast_policy_call_duration_seconds")), "policy p99"),
                ),
            ),
        ],
    ),
    (
        "Self",
        [
            Panel(
                "Versions",
                "Of the daemon, of the policy in use, and of the servers.",
                "none",
                (
                    Query(f"max by (version, revision) (ballast_build_info {OURS})", "Ballast {{version}} {{revision}}"),
                    Query(
                        f'label_replace(max by (policy, version, digest) (ballast_policy_info{{{CLUSTER}}}), "short", "$1", "digest", "(.{{12}}).*")',
                        "{{policy}} {{version}} {{short}}",
                    ),
                    Query(f"max by (version) (ballast_node_info{{{CLUSTER}, version!=\"\"}})", "servers: {{version}}"),
                ),
                stat=True, names=True, thresholds=((None, "text"),),
            ),  # fmt: skip
            Panel(
                "Cost",
                "Part of a core that the daemon uses; 1 is one core.",
                "percentunit",
                (Query(f"rate(process_cpu_seconds_total[$__rate_interval]) {OURS}", "{{instance}}"),),
            ),
            Panel(
                "Memory of the daemon",
                "All of it, and what the policy holds.",
                "bytes",
                (
                    Query(f"process_resident_memory_bytes {OURS}", "{{instance}}"),
                    Query(f"max(ballast_policy_memory_bytes{{{CLUSTER}}})", "policy"),
                ),
            ),
            Panel(
                "Leaders",
                "Daemons that act: 1, or something is wrong. Changes: how often in an hour another took over.",
                "short",
                (
                    Query(f"sum(ballast_leader{{{CLUSTER}}})", "leaders"),
                    Query(f"sum(increase(ballast_leader_transitions_total{{{CLUSTER}}}[1h]))", "changes"),
                ),
            ),
            Panel(
                "Webhooks",
                "Calls in a second, by what became of them. dropped: not taken for an hour.",
                "cps",
                (Query(rate("hook, result", "ballast_webhook_calls_total"), "{{hook}} {{result}}", "a [[webhook]] is configured"),),
            ),
            Panel(
                "HTTP",
                "Requests in a second, by answer, and streams that are open.",
                "short",
                (
                    Query(f"sum by (code) (rate(ballast_http_requests_total[$__rate_interval]) {OURS})", "{{code}}"),
                    Query(f"sum(ballast_http_streams {OURS})", "streams"),
                ),
            ),
        ],
    ),
]

# Marks over all graphs: name, colour, expression, text. Each is there for a minute from when it happened.
MARKS: list[tuple[str, str, str, str]] = [
    (
        "Mode", "purple",
        f"(ballast_mode{{{CLUSTER}}} == 1) unless (ballast_mode{{{CLUSTER}}} offset 1m == 1)",
        "mode {{mode}}",
    ),
    (
        "Plans", "blue",
        f'sum by (cluster) (increase(ballast_plans_total{{{CLUSTER}, outcome=~"executed|incomplete"}}[1m])) > 0',
        "a plan was carried out",
    ),
    (
        "Policy", "green",
        f"ballast_policy_info{{{CLUSTER}}} unless ballast_policy_info{{{CLUSTER}}} offset 1m",
        "policy {{policy}} {{version}} {{digest}}",
    ),
    (
        "Refused reloads", "red",
        f'sum by (cluster) (increase(ballast_policy_reloads_total{{{CLUSTER}, result="failure"}}[1m])) > 0',
        "a policy was refused",
    ),
    (
        "Configuration", "orange",
        f"(time() - ballast_config_last_reload_success_timestamp_seconds < 60) {OURS}",
        "{{instance}} took up a configuration",
    ),
]  # fmt: skip

# Asked for when the dashboard is opened: name, label, query, whether several can be chosen.
VARIABLES: list[tuple[str, str, str, bool]] = [
    ("cluster", "Cluster", "label_values(ballast_cluster_up, cluster)", False),
    ("node", "Node", 'label_values(ballast_node_slots{cluster="$cluster"}, node)', True),
]


def render() -> str:
    from grafana_foundation_sdk.builders import dashboard as boards
    from grafana_foundation_sdk.cog.encoder import JSONEncoder
    from grafana_foundation_sdk.models.common import BigValueTextMode
    from grafana_foundation_sdk.models.dashboard import DashboardCursorSync, DataSourceRef, VariableRefresh, VariableSort

    source = DataSourceRef(type_val="prometheus", uid="${datasource}")
    board = (
        boards.Dashboard("Ballast")
        .uid("ballast")
        .description("Ballast evens the load of a Redis or Valkey Cluster: what it does, and whether clients feel it.")
        .tags(["ballast", "redis", "valkey"])
        .readonly()
        .refresh("30s")
        .time("now-3h", "now")
        .timezone("browser")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .with_variable(boards.DatasourceVariable("datasource").label("Data source").type("prometheus"))
    )
    for name, label, query, several in VARIABLES:
        variable = (
            boards.QueryVariable(name)
            .label(label)
            .datasource(source)
            .query({"query": query, "refId": name})
            # When the range of time changes: a node that left is there in the past.
            .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
            .sort(VariableSort.ALPHABETICAL_ASC)
            .multi(several)
        )
        board.with_variable(variable.include_all(True).all_value(".*") if several else variable)
    for name, colour, _, _ in MARKS:
        board.annotation(boards.AnnotationQuery().name(name).datasource(source).enable(True).icon_color(colour))

    panel_id, y = 0, 0
    for title, panels in ROWS:
        panel_id += 1
        board.with_row(boards.Row(title).id(panel_id).grid_pos(at(0, y, WIDTH, 1)))
        x, y, height = 0, y + 1, STAT_HEIGHT if all(panel.stat for panel in panels) else GRAPH_HEIGHT
        for panel in panels:
            panel_id += 1
            if x + panel.width > WIDTH:
                x, y = 0, y + height
            drawn = (stat(panel, BigValueTextMode) if panel.stat else graph(panel)).datasource(source)
            drawn.id(panel_id).title(panel.title).description(panel.description).unit(panel.unit)
            board.with_panel(targets(drawn, panel, source).grid_pos(at(x, y, panel.width, height)))
            x += panel.width
        y += height
    document = json.loads(JSONEncoder(sort_keys=True).encode(board.build()))
    # What the builder of annotations does not know.
    for mark, (_, _, expr, text) in zip(document["annotations"]["list"], MARKS, strict=True):
        mark |= {"expr": expr, "step": "30s", "titleFormat": text, "textFormat": "", "useValueForTime": False}
    return json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def at(x: int, y: int, width: int, height: int):
    from grafana_foundation_sdk.models.dashboard import GridPos

    return GridPos(x=x, y=y, w=width, h=height)


def targets(drawn, panel: Panel, source):
    from grafana_foundation_sdk.builders.prometheus import Dataquery

    for letter, query in zip("ABCDEF", panel.queries, strict=False):
        target = Dataquery().datasource(source).ref_id(letter).expr(query.expr).legend_format(query.legend)
        drawn.with_target(target.instant() if panel.stat and panel.names else target)
    return drawn


def stat(panel: Panel, text_mode):
    from grafana_foundation_sdk.builders import common, dashboard, stat
    from grafana_foundation_sdk.models.common import BigValueGraphMode
    from grafana_foundation_sdk.models.dashboard import Threshold, ThresholdsMode, ValueMap, ValueMappingResult

    steps = [Threshold(value=value, color=colour) for value, colour in panel.thresholds]
    drawn = (
        stat.Panel()
        .thresholds(dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps))
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .graph_mode(BigValueGraphMode.NONE if panel.mappings or panel.names else BigValueGraphMode.AREA)
        .text_mode(text_mode.NAME if panel.names else text_mode.VALUE_AND_NAME if len(panel.queries) > 1 or "{{" in panel.queries[0].legend else text_mode.VALUE)
        .no_value("–")
    )
    if panel.unit == "none" and not panel.mappings:
        drawn.decimals(2)
    if panel.mappings:
        results = {str(value): ValueMappingResult(text=text, color=colour) for value, (text, colour) in panel.mappings.items()}
        drawn.mappings([ValueMap(options=results)])
    return drawn


def graph(panel: Panel):
    from grafana_foundation_sdk.builders import common, timeseries
    from grafana_foundation_sdk.models.common import LegendDisplayMode, LegendPlacement, SortOrder, StackingMode, TooltipDisplayMode, VisibilityMode

    drawn = (
        timeseries.Panel()
        .line_width(1)
        .fill_opacity(40 if panel.stacked else 8)
        .show_points(VisibilityMode.NEVER)
        .legend(common.VizLegendOptions().show_legend(True).display_mode(LegendDisplayMode.LIST).placement(LegendPlacement.BOTTOM))
        .tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI).sort(SortOrder.DESCENDING))
    )
    if panel.stacked:
        drawn.stacking(common.StackingConfig().mode(StackingMode.NORMAL))
    return drawn if panel.bottom is None else drawn.axis_soft_min(panel.bottom)


def sdk() -> str:
    command = [HERE.parent.parent / "scripts" / "toolchains", f"pypi:{SDK}"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise SystemExit("generate.py: scripts/toolchains could not fetch grafana-foundation-sdk: is the index of pip reachable?")
    return done.stdout.strip()


def main(arguments: list[str]) -> int:
    if arguments not in ([], ["--check"]):
        print(__doc__.strip(), file=sys.stderr)
        return 2
    sys.path.insert(0, sdk())
    text = render()
    if not arguments:
        JSON.write_text(text)
        return 0
    if not JSON.is_file() or JSON.read_text() != text:
        print("generate.py: ballast.json is not what generate.py gives: run deploy/grafana/generate.py and commit", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
