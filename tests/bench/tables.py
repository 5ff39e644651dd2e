# SPDX-License-Identifier: GPL-2.0-or-later
"""Results as text."""

import math
import statistics

import plan


def number(value):
    if value is None:
        return "none"
    if value == 0:
        return "0"
    return f"{value:.{max(0, 2 - math.floor(math.log10(abs(value))))}f}"


def spread(values):
    return f"{number(statistics.median(values))} ({number(min(values))} to {number(max(values))})"


def named(peer, snapshots):
    return f"{peer}, {snapshots} snapshot{'' if snapshots == 1 else 's'}"


def devices_of(cell, delay_ns):
    """counted: by a clock that counts instructions, a nanosecond each."""
    limits = f"{delay_ns / plan.MS:g} ms a command" if delay_ns else f"{cell.mbps} MB/s" if cell.mbps else "no delay"
    return limits + (", counted" if cell.counted else "")


# Of a measurement: heading, and value; None where there is none.
COLUMNS = [
    ("I/Os a second", plan.iops),
    ("p50 ms", lambda record: record["p50_ns"] and record["p50_ns"] / plan.MS),
    ("p99 ms", lambda record: record["p99_ns"] and record["p99_ns"] / plan.MS),
    ("CPU us", lambda record: 1e6 * plan.cpu_per_write(record) if "cpu_s" in record else None),
    ("orig. reads", plan.of_origins("reads")),
    ("orig. writes", plan.of_origins("writes")),
    ("orig. KiB", plan.of_origins("bytes")),
    ("other reads", plan.of_others("reads")),
    ("other writes", plan.of_others("writes")),
    ("other KiB", plan.of_others("bytes")),
    ("flushes", plan.flushes),
]


def row(records):
    for _, value in COLUMNS:
        values = [found for record in records if (found := value(record)) is not None]
        yield number(statistics.median(values)) if values else ""


def print_measurements(results, cells, delays):
    for cell in cells:
        print(f"\n{cell.title} ({devices_of(cell, delays[cell.name])}); I/Os and KiB are those of a write")
        print(f"  {'':30}" + "".join(f"{heading:>14}" for heading, _ in COLUMNS))
        for peer, snapshots in cell.turns:
            records = list(results.of(cell.name, peer, snapshots).values())
            print(f"  {named(peer, snapshots):30}" + ("".join(f"{text:>14}" for text in row(records)) if records else " failed"))


def print_ratios(results, cells):
    """Of throughput: each peer to linear, and cow-snap to each with as many snapshots."""
    print(f"\n{'throughput to':66}{'linear':>28}{'the peer':>28}")
    for cell in cells:
        for peer, snapshots in cell.turns:
            to_linear = results.ratios(cell.name, (peer, snapshots), (plan.LINEAR, 0), plan.iops)
            of_cow = results.ratios(cell.name, (plan.COW, snapshots), (peer, snapshots), plan.iops) if peer != plan.COW else []
            if peer != plan.LINEAR and (to_linear or of_cow):
                print(f"  {cell.name:16}{named(peer, snapshots):48}{spread(to_linear) if to_linear else '':>28}"
                      + (f"{spread(of_cow) + ' cow-snap':>36}" if of_cow else ""))


def print_bars(judged):
    print(f"\n{'':90}{'value':>9}  {'(min to max)':>18}   bar")
    for bar in judged:
        around = "" if bar["value"] is None else f"({number(bar['min'])} to {number(bar['max'])})"
        line = f"{bar['name']:90}{number(bar['value']):>9}  {around:>18}   at {bar['at']} {number(bar['bar'])}   {verdict(bar).upper()}"
        print(line.rstrip())


def verdict(bar):
    """What is to be said of a bar that is not passed."""
    if bar["pass"]:
        return ""
    if bar["failed"]:
        return f"failed: {bar['failed']} measurements"
    if bar["value"] is None:
        return "not measured"
    return "missed" if bar["counts"] else "does not count: the plain device does not reach its limit"


def markdown(judged):
    """The bars as a table for a README."""
    lines = ["| what | devices | seen, median (min to max) | bar |", "|---|---|---|---|"]
    for bar in judged:
        said = verdict(bar)
        lines.append(f"| {bar['name']} | {bar['devices']} | {number(bar['value'])} ({number(bar['min'])} to {number(bar['max'])}) | "
                     f"at {bar['at']} {number(bar['bar'])}{f', **{said}**' if said else ''} |")
    return "\n".join(lines) + "\n"
