#!/usr/bin/env python3
"""Draws what scripts/check-dashboard recorded: the dashboard's panels, from the dashboard's queries, not by Grafana.

    draw.py FILE.png < RECORD

Needs matplotlib, which scripts/toolchains fetches, pinned.
"""

import importlib.util
import json
import math
import re
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
MATPLOTLIB = [
    "matplotlib==3.11.2", "numpy==2.4.6", "contourpy==1.3.3", "cycler==0.12.1", "fonttools==4.68.0", "kiwisolver==1.5.1",
    "packaging==26.4", "pillow==13.0.0", "pyparsing==3.3.3", "python-dateutil==4.0.0",
]  # fmt: skip
PAPER, INK, FAINT, LINE = "#181b1f", "#d8d9da", "#8e8e8e", "#2c3235"
SERIES = ["#73bf69", "#f2cc0c", "#5794f2", "#ff9830", "#b877d9", "#f2495c", "#37872d", "#8ab8ff", "#ffb357", "#ca95e5"]
COLOURS = {"green": "#73bf69", "yellow": "#f2cc0c", "red": "#f2495c", "blue": "#5794f2", "purple": "#b877d9", "text": INK}
LEGEND = 6


def libraries() -> None:
    command = [HERE.parent.parent / "scripts" / "toolchains", *(f"pypi:{pin}" for pin in MATPLOTLIB)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise SystemExit("draw.py: scripts/toolchains could not fetch matplotlib: is the index of pip reachable?")
    sys.path[:0] = done.stdout.split("\n")[:-1]


def generator():
    spec = importlib.util.spec_from_file_location("generate", HERE / "generate.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["generate"], sys.dont_write_bytecode = module, True
    spec.loader.exec_module(module)
    return module


def shown(value: float, unit: str) -> str:
    """A number as Grafana shows it in that unit."""
    if unit == "s":
        return f"{value * 1e3:.3g} ms" if abs(value) < 1 else f"{value:.3g} s"
    if unit == "percentunit":
        return f"{value * 100:.3g}%"
    if unit in ("bytes", "Bps"):
        step = 1024 if unit == "bytes" else 1000
        power = min(int(math.log(abs(value), step)), 3) if abs(value) >= 1 else 0
        name = ["B", "KiB", "MiB", "GiB"][power] if unit == "bytes" else ["B/s", "kB/s", "MB/s", "GB/s"][power]
        return f"{value / step**power:.3g} {name}"
    number = f"{value:,.0f}" if value == int(value) or abs(value) >= 1000 else f"{value:.3g}"
    return f"{number}/s" if unit == "cps" else number


def name(legend: str, labels: dict) -> str:
    return re.sub(r"\{\{(\w+)\}\}", lambda found: labels.get(found[1], ""), legend)


def series_of(panel, row: str, record: dict) -> list[tuple[str, list, list]]:
    found = []
    # A stat shows what is there at the end.
    end = record["ended"] - 15 if panel.names else record["began"]
    for query in panel.queries:
        of_query = next((one for one in record["queries"] if one[0] == f"{row}: {panel.title}" and one[1] == query.expr), None)
        for one in of_query[3] if of_query else []:
            if one["values"][-1][0] < end:
                continue
            times = [at - record["began"] for at, _ in one["values"]]
            values = [float(value) if math.isfinite(float(value)) else math.nan for _, value in one["values"]]
            found.append((name(query.legend, one["metric"]), times, values))
    return found


def last(values: list) -> float:
    return next((value for value in reversed(values) if not math.isnan(value)), math.nan)


def draw(record: dict, picture: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plot

    plot.rcParams.update({"font.size": 6.5, "text.color": INK, "axes.edgecolor": LINE, "axes.labelcolor": FAINT, "font.family": "DejaVu Sans"})
    module = generator()
    unit_x, unit_y, heading = 0.5, 0.165, 0.3
    rows = [(title, panels, height_of(panels, module)) for title, panels in module.ROWS]
    total = sum(heading + lines * height * unit_y for _, _, (lines, height) in rows) + 0.45
    figure = plot.figure(figsize=(module.WIDTH * unit_x, total), facecolor="#111217")
    inch_x, inch_y = 1 / (module.WIDTH * unit_x), 1 / total
    y = total - 0.3
    figure.text(0.008, (y + 0.1) * inch_y, "Ballast", fontsize=11, weight="bold")
    figure.text(0.075, (y + 0.105) * inch_y, "the demo's cluster; drawn from the dashboard's queries, not by Grafana", fontsize=7, color=FAINT)
    for title, panels, (_, height) in rows:
        y -= heading
        figure.text(0.008, (y + 0.1) * inch_y, f"▾ {title}", fontsize=8, weight="bold")
        x = 0
        for panel in panels:
            if x + panel.width > module.WIDTH:
                x, y = 0, y - height * unit_y
            box = (
                (x * unit_x + 0.05) * inch_x, (y - height * unit_y + 0.05) * inch_y,
                (panel.width * unit_x - 0.1) * inch_x, (height * unit_y - 0.1) * inch_y,
            )  # fmt: skip
            found = series_of(panel, title, record)
            frame = figure.add_axes(box, facecolor=PAPER, xticks=[], yticks=[])
            frame.text(0.04 / (panel.width * unit_x), 0.975, panel.title, transform=frame.transAxes, va="top", fontsize=7, weight="bold")
            if not found:
                frame.text(0.5, 0.45, "no data", transform=frame.transAxes, ha="center", color=FAINT)
            elif panel.stat:
                stat(frame, panel, found)
            else:
                graph(figure, box, panel, found, record)
            x += panel.width
        y -= height * unit_y
    figure.savefig(picture, dpi=100, facecolor=figure.get_facecolor())
    smaller(picture)


def height_of(panels: list, module) -> tuple[int, int]:
    x, lines = 0, 1
    for panel in panels:
        if x + panel.width > module.WIDTH:
            x, lines = 0, lines + 1
        x += panel.width
    return lines, module.STAT_HEIGHT if all(panel.stat for panel in panels) else module.GRAPH_HEIGHT


def stat(frame, panel, found: list) -> None:
    if panel.names:
        for place, (label, _, _) in enumerate(found[:4]):
            frame.text(0.5, 0.75 - place * 0.17, label, transform=frame.transAxes, ha="center", va="center", fontsize=7.5)
        return
    for place, (label, _, values) in enumerate(found):
        value = last(values)
        colour = next((colour for start, colour in reversed(panel.thresholds) if start is None or value >= start), "text")
        text = f"{value:.2f}" if panel.unit == "none" else shown(value, panel.unit)
        if panel.mappings and value in panel.mappings:
            text, colour = panel.mappings[value]
        x = (place + 0.5) / len(found)
        frame.text(x, 0.47, text, transform=frame.transAxes, ha="center", va="center", fontsize=13, weight="bold", color=COLOURS[colour])
        if len(found) > 1:
            frame.text(x, 0.15, label, transform=frame.transAxes, ha="center", va="center", color=FAINT)


def graph(figure, box, panel, found: list, record: dict) -> None:
    left, bottom, width, height = box
    axes = figure.add_axes((left + width * 0.13, bottom + height * 0.3, width * 0.84, height * 0.53), facecolor=PAPER)
    found.sort(key=lambda one: -max((value for value in one[2] if not math.isnan(value)), default=0))
    if panel.stacked:
        end = int(record["ended"] - record["began"]) + 1
        layers = []
        for _, times, values in found:
            layer = [0.0] * end
            for at, value in zip(times, values, strict=True):
                layer[min(round(at), end - 1)] = 0 if math.isnan(value) else value
            layers.append(layer)
        axes.stackplot(range(end), layers, colors=SERIES, alpha=0.7, linewidth=0)
    else:
        for place, (_, times, values) in enumerate(found):
            axes.plot(times, values, color=SERIES[place % len(SERIES)], linewidth=0.9, marker="." if len(times) < 8 else None, markersize=3)
        bottom_now, top = axes.get_ylim()
        if panel.bottom is not None:
            axes.set_ylim(min(panel.bottom, bottom_now) if bottom_now < 0 else panel.bottom, max(top, panel.bottom + 1e-9))
    axes.set_xlim(0, record["ended"] - record["began"])
    axes.grid(color=LINE, linewidth=0.5)
    axes.tick_params(colors=FAINT, length=0, labelsize=5.5)
    axes.yaxis.set_major_locator(locator())
    axes.yaxis.set_major_formatter(lambda value, _: shown(value, panel.unit))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0f}s")
    axes.spines[:].set_visible(False)
    for place, (label, _, _) in enumerate(found[:LEGEND]):
        column, line = place % 3, place // 3
        at = (left + width * (0.02 + column * 0.325), bottom + height * (0.135 - line * 0.085))
        figure.text(at[0], at[1], "━", color=SERIES[place % len(SERIES)], fontsize=6)
        more = f"  +{len(found) - LEGEND}" if place == LEGEND - 1 and len(found) > LEGEND else ""
        figure.text(at[0] + width * 0.035, at[1], (label[:22] + more), fontsize=5.5, color=INK)


def locator():
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(4)


def smaller(picture: Path) -> None:
    from PIL import Image

    Image.open(picture).convert("RGB").quantize(96, dither=Image.Dither.NONE).save(picture, optimize=True)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        print(__doc__.strip(), file=sys.stderr)
        sys.exit(2)
    libraries()
    draw(json.load(sys.stdin), Path(sys.argv[1]))
