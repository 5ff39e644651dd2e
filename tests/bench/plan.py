# SPDX-License-Identifier: GPL-2.0-or-later
"""What is measured, and the bars that it is held against.

A cell is one kind of load on one kind of devices. It becomes measurements, dictionaries that guest.py carries out:

    cell, round, peer, snapshots   who; snapshots are made one after the other, before the load
    operation                      what is measured: "write" to the origin, "write_snapshot" to the newest one, "read_oldest" and
                                   "read_newest" of snapshots that have half of their blocks from the store, "roll_back" of
                                   WRITTEN_BLOCKS blocks to the snapshot
    depth, rw, bs, fsync           fio's
    seconds                        0: until every block was written
    again                          the blocks were written, and so preserved, before
    over_and_over                  when all blocks were written, they are again, until the time is over
    series                         milliseconds between points of throughput against time; 0: none
    seed                           of fio's random choices: the same for all peers of a round
"""

import dataclasses
import statistics

LINEAR, SNAPSHOT_4K, SNAPSHOT_64K, THIN, COW = "linear", "dm-snapshot-4k", "dm-snapshot-64k", "dm-thin", "cow-snap"
KIB = 1024
MS = 1_000_000


@dataclasses.dataclass(frozen=True)
class Cell:
    name: str
    title: str
    peers: dict                    # of each, the numbers of snapshots
    operation: str = "write"
    depth: int = 32
    rw: str = "randwrite"
    bs: str = "4k"
    fsync: int = 0
    again: bool = False
    over_and_over: bool = False
    seconds: int = 6
    series: int = 0
    delay_ns: int = 4 * MS         # of each command of each device
    cache: bool = False            # a volatile one
    mbps: int = 0                  # of each device; 0: no limit
    together: bool = False         # origin and store on one device
    origin_mib: int = 64
    counted: bool = False          # in a machine whose clock counts the instructions of its one CPU
    most_rounds: int = 99
    quick: dict = dataclasses.field(default_factory=dict)  # the same as peers, of a quick run; none: not in it

    def devices(self, delay_ns):
        return {"origin_mib": self.origin_mib, "delay_ns": delay_ns, "cache": self.cache, "mbps": self.mbps,
                "together": self.together}

    def measurement(self, number, peer, snapshots, seed):
        return {"cell": self.name, "round": number, "peer": peer, "snapshots": snapshots, "operation": self.operation,
                "depth": self.depth, "rw": self.rw, "bs": self.bs, "fsync": self.fsync, "again": self.again,
                "over_and_over": self.over_and_over, "seconds": self.seconds, "series": self.series, "seed": seed}


CELLS = [
    Cell("first-1", "random 4K first writes, depth 1", {LINEAR: [0], COW: [1, 32]}, depth=1, quick={LINEAR: [0], COW: [1]}),
    Cell("first-32", "random 4K first writes, depth 32",
         {LINEAR: [0], SNAPSHOT_4K: [1, 4, 8, 32], SNAPSHOT_64K: [1], THIN: [1, 8, 32], COW: [1, 4, 8, 32]},
         quick={LINEAR: [0], SNAPSHOT_4K: [1], SNAPSHOT_64K: [1], THIN: [1], COW: [1, 8]}),
    Cell("fast-16", "random 4K first writes, depth 16, on a fast device",
         {LINEAR: [0], SNAPSHOT_4K: [1, 4, 8], THIN: [1, 8], COW: [1, 4, 8]}, depth=16, delay_ns=MS // 10),
    Cell("together-32", "random 4K first writes, depth 32, origin and store on one device", {LINEAR: [0], COW: [1]},
         together=True),
    Cell("limited-50", "random 4K first writes, depth 32, devices of 50 MB/s", {LINEAR: [0], SNAPSHOT_4K: [8], COW: [8]},
         delay_ns=0, mbps=50),
    Cell("sequential-200", "sequential 1M first writes, devices of 200 MB/s", {LINEAR: [0], COW: [1]},
         depth=4, rw="write", bs="1m", delay_ns=0, mbps=200, seconds=0, origin_mib=128),
    Cell("fsync-1", "fsync after each 4K first write, volatile caches", {LINEAR: [0], COW: [1]}, depth=1, fsync=1,
         cache=True),
    Cell("preserved", "4K writes of preserved blocks, no delay", {LINEAR: [0], COW: [1]}, depth=16, delay_ns=0, again=True,
         seconds=1, counted=True, quick={LINEAR: [0], COW: [1]}),
    Cell("no-snapshot", "4K writes without a snapshot, no delay", {LINEAR: [0], COW: [0]}, depth=16, delay_ns=0,
         seconds=1, over_and_over=True, counted=True),
    Cell("cpu", "random 4K first writes, no delay", {SNAPSHOT_4K: [1], COW: [1]}, depth=16, delay_ns=0, seconds=0,
         origin_mib=32, counted=True, quick={SNAPSHOT_4K: [1], COW: [1]}),
    *(Cell(f"read-{which}", f"random 4K reads of the {which} of 64 snapshots, no delay", {COW: [64]}, operation=f"read_{which}",
           depth=16, rw="randread", delay_ns=0, seconds=1, origin_mib=32, counted=True) for which in ("oldest", "newest")),
    Cell("snapshot-32", "random 4K writes to a writable snapshot, depth 32", {SNAPSHOT_4K: [1], COW: [1]},
         operation="write_snapshot"),
    Cell("rollback", "copying blocks of 4K back, 1 ms a command", {SNAPSHOT_4K: [1], COW: [1]}, operation="roll_back",
         depth=2, delay_ns=MS, most_rounds=3, quick={SNAPSHOT_4K: [1], COW: [1]}),
    *(Cell(f"depth-{depth}", f"random 4K first writes, depth {depth}", {LINEAR: [0], SNAPSHOT_4K: [1], THIN: [1], COW: [1]},
           depth=depth, seconds=4, most_rounds=2) for depth in (2, 4, 8, 16)),
    Cell("becoming", "random 4K writes while the device becomes preserved, depth 32",
         {LINEAR: [0], SNAPSHOT_4K: [1], THIN: [1], COW: [1]}, seconds=40, series=500, origin_mib=16, over_and_over=True,
         most_rounds=1),
]
DEPTH_CELLS = [cell for cell in CELLS if cell.name.startswith("depth-") or cell.name in ("first-1", "first-32")]
PEERS_OF_PLOTS = [SNAPSHOT_4K, SNAPSHOT_64K, THIN, COW]


class Results:
    """All measurements of a run. Values are medians of ratios of the same round: what disturbs a machine for a while
    disturbs both."""

    def __init__(self, records):
        self.records = [record for record in records if "failed" not in record]
        self.failed = [record for record in records if "failed" in record]

    def of(self, cell, peer, snapshots):
        return {record["round"]: record for record in self.records
                if (record["cell"], record["peer"], record["snapshots"]) == (cell, peer, snapshots)}

    def ratios(self, cell, one, other, value):
        """value(record) of "one" divided by that of "other", both (peer, snapshots), round by round."""
        ones, others = self.of(cell, *one), self.of(cell, *other)
        return [value(ones[number]) / value(others[number]) for number in sorted(set(ones) & set(others))]

    def each(self, cell, one, value):
        return [value(record) for _, record in sorted(self.of(cell, *one).items())]


def iops(record):
    return record["iops"]


def mean_ns(record):
    return record["mean_ns"]


def p99_ns(record):
    return record["p99_ns"]


def cpu_per_write(record):
    return record["cpu_s"] / record["writes"]


def per_write(device, key):
    def value(record):
        return record["ios"][device][key] / record["writes"]
    return value


def bytes_per_write(record):
    return sum(512 * (counts["sectors_read"] + counts["sectors_written"]) for counts in record["ios"].values()) / record["writes"]


def store_bytes_per_byte(record):
    return 512 * record["ios"]["store"]["sectors_written"] / (4 * KIB * record["writes"])


def origin_bytes_read(record):
    return 512 * record["ios"]["origin"]["sectors_read"] / record["writes"]


@dataclasses.dataclass(frozen=True)
class Bar:
    """A value of a cell, and what it must be: at most, or at least."""
    name: str
    cell: str
    values: object                 # a function of Results: one value a round
    at_most: float | None = None
    at_least: float | None = None

    def judge(self, results):
        """None when it was not measured."""
        values = self.values(results)
        if not values:
            return None
        value = statistics.median(values)
        bar = self.at_most if self.at_most is not None else self.at_least
        passed = value <= bar if self.at_most is not None else value >= bar
        return {"name": self.name, "value": value, "min": min(values), "max": max(values), "bar": bar,
                "at": "most" if self.at_most is not None else "least", "pass": passed, "rounds": len(values)}


def _bars():
    def ratio(cell, one, other, value):
        return lambda results: results.ratios(cell, one, other, value)

    def plain(cell, one, value):
        return lambda results: results.each(cell, one, value)

    linear = (LINEAR, 0)
    for snapshots in (1, 32):
        yield Bar(f"first write, depth 1, {snapshots} snapshots: latency to linear", "first-1",
                  ratio("first-1", (COW, snapshots), linear, mean_ns), at_most=3.3)
    for snapshots in (1, 4, 8, 32):
        yield Bar(f"first write, depth 32, {snapshots} snapshots: throughput to linear", "first-32",
                  ratio("first-32", (COW, snapshots), linear, iops), at_least=0.29)
    yield Bar("first write, depth 32: throughput to dm-snapshot, 4 KiB", "first-32",
              ratio("first-32", (COW, 1), (SNAPSHOT_4K, 1), iops), at_least=1.6)
    yield Bar("first write, depth 32: throughput to dm-snapshot, 64 KiB", "first-32",
              ratio("first-32", (COW, 1), (SNAPSHOT_64K, 1), iops), at_least=1.9)
    for snapshots in (1, 8):
        yield Bar(f"first write, depth 32, {snapshots} snapshots: throughput to dm-thin", "first-32",
                  ratio("first-32", (COW, snapshots), (THIN, snapshots), iops), at_least=5)
        yield Bar(f"first write, depth 32, {snapshots} snapshots: p99 latency to dm-thin", "first-32",
                  ratio("first-32", (COW, snapshots), (THIN, snapshots), p99_ns), at_most=1)
    yield Bar("first write, depth 32: reads of the origin a write", "first-32",
              plain("first-32", (COW, 1), per_write("origin", "reads")), at_most=1)
    yield Bar("first write, depth 32: writes to the store a write", "first-32",
              plain("first-32", (COW, 1), per_write("store", "writes")), at_most=0.25)
    yield Bar("first write, depth 32: bytes a write, all devices", "first-32",
              plain("first-32", (COW, 1), bytes_per_write), at_most=14 * KIB)
    yield Bar("first write, depth 32: bytes read from the origin a write", "first-32",
              plain("first-32", (COW, 1), origin_bytes_read), at_most=4.2 * KIB)
    yield Bar("first write, depth 32: store bytes a preserved byte", "first-32",
              plain("first-32", (COW, 1), store_bytes_per_byte), at_most=1.3)
    yield Bar("store space of a snapshot whose epoch preserved nothing, segments", "first-32",
              plain("first-32", (COW, 32), lambda record: record["empty_segments"]), at_most=0)
    yield Bar("reads of the oldest of 64 snapshots, no delay: throughput to the newest", "read-oldest",
              lambda results: [one / other for one, other in zip(results.each("read-oldest", (COW, 64), iops),
                                                                 results.each("read-newest", (COW, 64), iops))], at_least=0.8)
    yield Bar("writes to a writable snapshot, depth 32: throughput to dm-snapshot, 4 KiB", "snapshot-32",
              ratio("snapshot-32", (COW, 1), (SNAPSHOT_4K, 1), iops), at_least=1.5)
    yield Bar("rolling back: blocks a second to dm-snapshot's merge", "rollback",
              ratio("rollback", (COW, 1), (SNAPSHOT_4K, 1), iops), at_least=4)
    for snapshots, bar in ((1, 1.1), (4, 2.2), (8, 4)):
        yield Bar(f"fast device, depth 16, {snapshots} snapshots: throughput to dm-snapshot, 4 KiB", "fast-16",
                  ratio("fast-16", (COW, snapshots), (SNAPSHOT_4K, snapshots), iops), at_least=bar)
    for snapshots in (1, 8):
        yield Bar(f"fast device, depth 16, {snapshots} snapshots: throughput to dm-thin", "fast-16",
                  ratio("fast-16", (COW, snapshots), (THIN, snapshots), iops), at_least=3)
    yield Bar("origin and store on one device, depth 32: throughput to linear", "together-32",
              ratio("together-32", (COW, 1), linear, iops), at_least=0.29)
    yield Bar("8 snapshots, 50 MB/s: throughput to dm-snapshot, 4 KiB", "limited-50",
              ratio("limited-50", (COW, 8), (SNAPSHOT_4K, 8), iops), at_least=4)
    yield Bar("sequential 1M first writes, 200 MB/s: throughput to linear", "sequential-200",
              ratio("sequential-200", (COW, 1), linear, iops), at_least=0.45)
    yield Bar("fsync after each first write: latency to linear", "fsync-1",
              ratio("fsync-1", (COW, 1), linear, mean_ns), at_most=2.3)
    for cell, snapshots, what in (("preserved", 1, "write of a preserved block"), ("no-snapshot", 0, "write without a snapshot")):
        yield Bar(f"{what}, no delay: throughput to linear", cell, ratio(cell, (COW, snapshots), linear, iops), at_least=0.95)
        yield Bar(f"{what}, no delay: CPU time to linear", cell, ratio(cell, (COW, snapshots), linear, cpu_per_write),
                  at_most=1.15)
    yield Bar("first write, no delay: CPU time to dm-snapshot, 4 KiB", "cpu",
              ratio("cpu", (COW, 1), (SNAPSHOT_4K, 1), cpu_per_write), at_most=1)


BARS = list(_bars())
