# SPDX-License-Identifier: GPL-2.0-or-later
"""Plots of a run's results, as SVG and PNG, drawn by gnuplot."""

import statistics
import subprocess

import plan

FORMATS = {"svg": "svg size 800,500 dynamic background 'white'", "png": "pngcairo size 800,500"}
NAMES = {plan.LINEAR: "no snapshots (linear)", plan.SNAPSHOT_4K: "dm-snapshot, 4 KiB", plan.SNAPSHOT_64K: "dm-snapshot, 64 KiB",
         plan.THIN: "dm-thin, 64 KiB", plan.COW: "cow-snap"}
# Of each, the same in all plots: of its line, and of its points.
STYLES = {NAMES[peer]: (f"lc rgb '{colour}' lw {width}", f"pt {point}") for peer, colour, width, point in (
    (plan.LINEAR, "#707070", 1, 1), (plan.SNAPSHOT_4K, "#0060b0", 1, 4), (plan.SNAPSHOT_64K, "#50a8e0", 1, 8), (plan.THIN, "#d08000", 1, 6),
    (plan.COW, "#b01030", 2, 7))}


def _draw(directory, name, settings, curves):
    """curves: of each name, its points, rows of numbers: x, y, and for error bars lowest and highest. What was not drawn."""
    curves = {title: rows for title, rows in curves.items() if rows}
    if not curves:
        return [name]
    script = ["set key outside below", "set grid", *settings]
    for number, rows in enumerate(curves.values()):
        script += [f"$data{number} << EOD", *(" ".join(f"{value:g}" for value in row) for row in rows), "EOD"]
    plots = []
    for number, (title, rows) in enumerate(curves.items()):
        line, points = STYLES[title]
        style = f"linespoints {line} {points}" if len(rows[0]) > 2 or len(rows) < 30 else f"lines {line}"
        plots.append(f"$data{number} using 1:2 with {style} title '{title}'")
        if len(rows[0]) > 2:
            plots.append(f"$data{number} using 1:2:3:4 with yerrorbars {line} {points} notitle")
    for suffix, terminal in FORMATS.items():
        subprocess.run(["gnuplot"], text=True, check=True, input="\n".join(
            [f"set terminal {terminal}", f"set output '{directory / name}.{suffix}'", *script, "plot " + ", ".join(plots), ""]))
    return []


def _row(x, values):
    return [x, statistics.median(values), min(values), max(values)]


def _by_snapshots(results, directory):
    curves = {}
    for peer in plan.PEERS_OF_PLOTS:
        counts = sorted({record["snapshots"] for record in results.records
                         if record["cell"] == "first-32" and record["peer"] == peer})
        curves[NAMES[peer]] = [_row(count, values) for count in counts
                               if (values := results.ratios("first-32", (peer, count), (plan.LINEAR, 0), plan.iops))]
    return _draw(directory, "throughput-by-snapshots",
          ["set title 'Random 4 KiB first writes, depth 32'", "set xlabel 'snapshots'", "set logscale x 2",
           "set ylabel 'throughput to the plain device'", "set yrange [0:]"], curves)


def _by_depth(results, directory):
    curves = {}
    for peer in [plan.LINEAR, *plan.PEERS_OF_PLOTS]:
        rows = []
        for cell in plan.DEPTH_CELLS:
            snapshots = 0 if peer == plan.LINEAR else 1
            values = results.ratios(cell.name, (peer, snapshots), (plan.LINEAR, 0), plan.mean_ns)
            if values:
                rows.append(_row(cell.depth, values))
        curves[NAMES[peer]] = sorted(rows)
    return _draw(directory, "latency-by-depth",
          ["set title 'Random 4 KiB first writes, one snapshot'", "set xlabel 'queue depth'", "set logscale x 2",
           "set ylabel 'mean latency to the plain device'", "set yrange [0:]"], curves)


def _by_time(results, directory):
    curves = {}
    for peer in [plan.LINEAR, *plan.PEERS_OF_PLOTS]:
        found = results.of("becoming", peer, 0 if peer == plan.LINEAR else 1)
        if found:
            curves[NAMES[peer]] = [[ms / 1000, value] for ms, value in found[min(found)]["series"]]
    return _draw(directory, "throughput-by-time",
          ["set title 'Random 4 KiB writes while the device becomes preserved, depth 32, one snapshot'",
           "set xlabel 'seconds'", "set ylabel 'I/Os a second'", "set yrange [0:]"], curves)


def draw(results, directory):
    """Those for which there are results; the names of the others."""
    directory.mkdir(parents=True, exist_ok=True)
    return [name for plot in (_by_snapshots, _by_depth, _by_time) for name in plot(results, directory)]
