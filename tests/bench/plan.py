# SPDX-License-Identifier: GPL-2.0-or-later
"""What is measured, and the bars that it is held against.

A cell is one kind of load on one kind of devices. It becomes measurements, dictionaries that guest.py carries out:

    cell, round, peer, snapshots   who; snapshots are made one after the other, before the load
    operation                      what is measured: "write" to the origins, "plain" the same without a look at what was written,
                                   "write_snapshot" to the newest one, "read_oldest" and
                                   "read_newest" of snapshots that have half of their blocks from the store, "roll_back" of
                                   blocks to the snapshot; on large sparse devices: "create" of snapshots while the origin is
                                   written, "activate", "delete" of the oldest snapshot while the origin is written
    image                          the name of what images.py made: the snapshots are in it; none: they are made
    durable                        it is looked at whether each write to the store is durable when it ends
    depth, rw, bs, fsync           fio's
    seconds                        0: until every block was written
    again                          the blocks were written, and so preserved, before
    apart                          each write is in 64 KiB of its own, in random order: it is the first one there for a peer that
                                   copies so much at once
    over_and_over                  when all blocks were written, they are again, until the time is over
    series                         milliseconds between points of throughput against time; 0: none
    seed                           of fio's random choices: the same for all peers of a round
"""

import dataclasses
import math
import statistics

import images

PEERS = LINEAR, SNAPSHOT_4K, SNAPSHOT_64K, THIN, COW = "linear", "dm-snapshot-4k", "dm-snapshot-64k", "dm-thin", "cow-snap"
KIB = 1024
MS = 1_000_000
MILLION = 1_000_000
BYTES = {"4k": 4 * KIB, "1m": KIB * KIB}
# A cell counts only if the plain device reaches this part of what delay or limit allow: else the machine is measured.
REACHED = 0.9
# When the delay is chosen, for in the cell itself the machine may do worse; one that counts instructions does nearly the same again.
CALIBRATED = 0.95
CALIBRATED_COUNTED = 0.905
# One that is too short for the plain device is raised to a multiple of the step, and where a calibration is not the same each time, by
# this factor at least.
LEAST_RAISE = 1.1
STEP_NS = 10_000
CALIBRATION_SECONDS = 2
CALIBRATION_MIB = 64
# Of a quick run, at most.
QUICK_SECONDS = 2
# Of the plain device, where only whether it reaches its limit is asked.
PLAIN_SECONDS = 1


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
    seconds: int = 4
    series: int = 0
    delay_ns: int = 4 * MS         # of each command of each device
    cache: bool = False            # a volatile one
    mbps: int = 0                  # of each device; 0: no limit
    together: bool = False         # origin and store on one device
    origins: int = 1
    origin_mib: int = 64
    store_mib: int = 0             # of a store beside origins that are large and zeros; 0: as large as needed, with random data
    exceptions: int | None = None  # of the oldest snapshot, in a store that was made before; none: it is made empty
    durable: bool = False
    family: str = ""               # cells of one take turns and have new devices each round
    counted: bool = False          # in a machine whose clock counts the instructions of its one CPU
    most_rounds: int = 99
    quick: dict = dataclasses.field(default_factory=dict)  # the same as peers, of a quick run; none: not in it

    def devices(self, delay_ns):
        areas = max((snapshots for peer in (SNAPSHOT_4K, SNAPSHOT_64K) for snapshots in self.peers.get(peer, [])), default=1)
        return {"origin_mib": self.origin_mib, "delay_ns": delay_ns, "cache": self.cache, "mbps": self.mbps,
                "together": self.together, "origins": self.origins, "store_mib": self.store_mib, "areas": areas}

    @property
    def turns(self):
        """Who is measured in each round: pairs of peer and number of snapshots."""
        return [(peer, snapshots) for peer, counts in self.peers.items() for snapshots in counts]

    def image(self, peer, snapshots):
        if self.exceptions is None or peer == LINEAR:
            return None
        kind = images.DM_SNAPSHOT if peer == SNAPSHOT_4K else images.COW_STORE
        return images.Image(kind, self.store_mib, self.origin_mib, self.exceptions, snapshots)

    def _is_apart(self, peer):
        """Else what such a peer has copied is soon all of the origin, and its writes are first ones no more."""
        return peer in (SNAPSHOT_64K, THIN) and self.operation == "write" and self.rw == "randwrite" and not self.over_and_over

    def measurement(self, number, peer, snapshots, seed):
        image = self.image(peer, snapshots)
        operation, seconds = self.operation, self.seconds
        if peer == LINEAR and operation != "write":
            operation, seconds = "plain", PLAIN_SECONDS
        return {"cell": self.name, "round": number, "peer": peer, "snapshots": snapshots, "operation": operation,
                "depth": self.depth, "rw": self.rw, "bs": self.bs, "fsync": self.fsync, "again": self.again,
                "apart": self._is_apart(peer), "over_and_over": self.over_and_over, "seconds": seconds, "series": self.series, "seed": seed,
                "image": image.name if image else None, "durable": self.durable}

    def calibration(self, delay_ns):
        """The plain device alone, as a group of guest.py's; small, whatever the cell's is, and with data, for null_blk has no memory for
        zeros and must get it with the first write. Cells with the same one need it only once."""
        devices = {**self.devices(delay_ns), "origin_mib": CALIBRATION_MIB, "store_mib": 0, "areas": 1}
        plain = Cell("calibration", "", {}, depth=self.depth, bs=self.bs, fsync=self.fsync, seconds=CALIBRATION_SECONDS)
        return {"devices": devices, "measurements": [plain.measurement(0, LINEAR, 0, 1)]}

    def most_iops(self, delay_ns):
        """What delay or limit allow; None without one."""
        if self.mbps:
            # null_blk's are MiB
            return self.mbps * KIB * KIB / BYTES[self.bs]
        if delay_ns:
            # with fsync a round trip is a write and a flush
            trips = 2 if self.fsync else 1
            return self.origins * self.depth / (delay_ns * trips / 1e9)
        return None

    def is_limit(self, record, delay_ns):
        """Whether the devices are the limit, by a calibration of this cell."""
        return self.reached(record, delay_ns) >= self._enough

    @property
    def _enough(self):
        return CALIBRATED_COUNTED if self.counted else CALIBRATED

    def raised(self, record, delay_ns):
        """The delay to try next, when in this calibration the plain device was not the limit: no longer than what the machine did there
        asks for, as the cell is to be as near to its own delay as the machine allows."""
        reached = self.reached(record, delay_ns)
        if not reached:
            return 2 * delay_ns
        factor = max(1 if self.counted else LEAST_RAISE, self._enough / reached)
        return max(delay_ns + STEP_NS, math.ceil(round(delay_ns * factor / STEP_NS, 6)) * STEP_NS)

    def reached(self, record, delay_ns):
        """Which part of that a measurement of the plain device has; none of it, if it has failed."""
        most = self.most_iops(delay_ns)
        iops = 0 if "failed" in record else record["iops"]
        return iops / most if most else None


def _with_a_million(name, title, peers, operation, **more):
    """On large sparse devices."""
    return Cell(name, title, peers, operation=operation, origin_mib=16 * KIB, store_mib=8 * KIB, exceptions=MILLION, **more)


def _creates(name, title, origin_mib, snapshots):
    return Cell(f"create-{name}", f"creating snapshots under random 4K writes, depth 8, {title}", {LINEAR: [0], COW: [snapshots]},
                operation="create",
                depth=8, origin_mib=origin_mib, store_mib=4 * KIB, exceptions=0, family="create")


CELLS = [
    Cell("first-1", "random 4K first writes, depth 1", {LINEAR: [0], SNAPSHOT_4K: [1], SNAPSHOT_64K: [1], THIN: [1], COW: [1, 32]}, depth=1,
         quick={LINEAR: [0], COW: [1]}),
    Cell("first-32", "random 4K first writes, depth 32",
         {LINEAR: [0], SNAPSHOT_4K: [1, 4, 8, 32], SNAPSHOT_64K: [1], THIN: [1, 8, 32], COW: [1, 4, 8, 32]},
         quick={LINEAR: [0], SNAPSHOT_4K: [1], SNAPSHOT_64K: [1], THIN: [1], COW: [1, 8]}),
    Cell("cached-32", "random 4K first writes, depth 32, volatile caches",
         {LINEAR: [0], SNAPSHOT_4K: [1], SNAPSHOT_64K: [1], THIN: [1], COW: [1]}, cache=True, durable=True),
    Cell("fast-16", "random 4K first writes, depth 16, on a fast device",
         {LINEAR: [0], SNAPSHOT_4K: [1, 4, 8], THIN: [1, 8], COW: [1, 4, 8]}, depth=16, delay_ns=MS // 10, counted=True),
    Cell("together-32", "random 4K first writes, depth 32, origin and store on one device", {LINEAR: [0], COW: [1]},
         together=True),
    Cell("origins-4", "random 4K first writes to 4 origins of one store, depth 32 each", {LINEAR: [0], COW: [1]}, origins=4,
         origin_mib=32),
    Cell("limited-50", "random 4K first writes, depth 32, devices of 50 MB/s", {LINEAR: [0], SNAPSHOT_4K: [8], THIN: [8], COW: [8]},
         delay_ns=0, mbps=50),
    Cell("sequential-200", "sequential 1M first writes, devices of 200 MB/s", {LINEAR: [0], SNAPSHOT_4K: [1], THIN: [1], COW: [1]},
         depth=4, rw="write", bs="1m", delay_ns=0, mbps=200, seconds=0, origin_mib=128),
    Cell("fsync-1", "fsync after each 4K first write, volatile caches", {LINEAR: [0], SNAPSHOT_4K: [1], COW: [1]}, depth=1, fsync=1,
         cache=True),
    Cell("preserved", "4K writes of preserved blocks, no delay", {LINEAR: [0], COW: [1]}, depth=16, delay_ns=0, again=True,
         seconds=1, counted=True, quick={LINEAR: [0], COW: [1]}),
    Cell("no-snapshot", "4K writes without a snapshot, no delay", {LINEAR: [0], COW: [0]}, depth=16, delay_ns=0,
         seconds=1, over_and_over=True, counted=True),
    Cell("cpu", "random 4K first writes, no delay", {LINEAR: [0], SNAPSHOT_4K: [1], THIN: [1], COW: [1]}, depth=16, delay_ns=0, seconds=0,
         origin_mib=128, counted=True, quick={SNAPSHOT_4K: [1], COW: [1]}),
    *(Cell(f"read-{which}", f"random 4K reads of the {which} of 64 snapshots, no delay", {COW: [64]}, operation=f"read_{which}",
           depth=16, rw="randread", delay_ns=0, seconds=1, origin_mib=32, counted=True, family="read")
      for which in ("oldest", "newest")),
    Cell("snapshot-32", "random 4K writes to a writable snapshot, depth 32", {LINEAR: [0], SNAPSHOT_4K: [1], COW: [1]},
         operation="write_snapshot"),
    _creates("small", "4 GiB, 1 snapshot", 4 * KIB, 1),
    _creates("large", "4 TiB, 1 snapshot", 4 * KIB * KIB, 1),
    _creates("many", "4 GiB, 1,000 snapshots", 4 * KIB, 1000),
    _with_a_million("activate", "activation with 1 million random 4K exceptions", {LINEAR: [0], SNAPSHOT_4K: [1], COW: [1]}, "activate",
                    depth=1),
    _with_a_million("delete", "random 4K writes, depth 32, while the oldest of 64 snapshots is deleted, with 1 million exceptions",
                    {LINEAR: [0], COW: [64]}, "delete", family="delete"),
    Cell("rollback", "copying blocks of 4K back, 1 ms a command", {LINEAR: [0], SNAPSHOT_4K: [1], COW: [1]}, operation="roll_back",
         depth=2, delay_ns=MS, quick={LINEAR: [0], SNAPSHOT_4K: [1], COW: [1]}),
    *(Cell(f"depth-{depth}", f"random 4K first writes, depth {depth}", {LINEAR: [0], SNAPSHOT_4K: [1], THIN: [1], COW: [1]},
           depth=depth, seconds=3) for depth in (4, 16)),
    Cell("becoming", "random 4K writes while the device becomes preserved, depth 32",
         {LINEAR: [0], SNAPSHOT_4K: [1], THIN: [1], COW: [1]}, seconds=8, series=250, origin_mib=16, over_and_over=True,
         most_rounds=1, quick={LINEAR: [0], SNAPSHOT_4K: [1], COW: [1]}),
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

    def between(self, one, other, value):
        """The same as ratios() of two cells of a family: both (cell, peer, snapshots)."""
        ones, others = self.of(*one), self.of(*other)
        return [value(ones[number]) / value(others[number]) for number in sorted(set(ones) & set(others))]

    def counts(self, cell, delay_ns):
        """Whether the devices are the limit in this cell, and not the machine: as the plain one has it. Devices without a limit are
        there to measure the machine."""
        if cell.most_iops(delay_ns) is None:
            return True
        reached = self.each(cell.name, (LINEAR, 0), lambda record: cell.reached(record, delay_ns))
        return bool(reached) and statistics.median(reached) >= REACHED

    def failed_of(self, participants):
        """How many measurements of these, (cell, peer, snapshots), have failed: also by a wrong snapshot."""
        return sum((record["cell"], record["peer"], record["snapshots"]) in participants for record in self.failed)


def iops(record):
    return record["iops"]


def mean_ns(record):
    return record["mean_ns"]


def p99_ns(record):
    return record["p99_ns"]


def cpu_per_write(record):
    return record["cpu_s"] / record["writes"]


def _sum(record, is_asked_for, key):
    """I/Os a write, or KiB, of some devices; None where I/Os were not counted."""
    if "ios" not in record:
        return None
    counts = [count for device, count in record["ios"].items() if is_asked_for(device)]
    keys = ("sectors_read", "sectors_written") if key == "bytes" else (key,)
    return sum(count[name] for count in counts for name in keys) * (0.5 if key == "bytes" else 1) / record["writes"]


def _is_origin(device):
    return device.startswith("origin")


def of_origins(key):
    """reads, writes or bytes, in KiB. Of one device for both, all is the others'."""
    return lambda record: _sum(record, _is_origin, key)


def of_others(key):
    return lambda record: _sum(record, lambda device: not _is_origin(device), key)


def flushes(record):
    return _sum(record, lambda device: True, "flushes")


def per_write(device, key):
    return lambda record: record["ios"][device][key] / record["writes"]


def bytes_per_write(record):
    return KIB * _sum(record, lambda device: True, "bytes")


def store_bytes_per_byte(record):
    return 512 * record["ios"]["store"]["sectors_written"] / (4 * KIB * record["writes"])


def stall_ns(record):
    return record["stall_ns"]


def memory_per_exception(record):
    return (record["memory_bytes"] - record["bitmap_bytes"]) / MILLION


def unsafe_store_writes(record):
    return record["store_unsafe_writes"] / record["ios"]["store"]["writes"]


def to_before(record):
    return record["iops"] / record["iops_before"]


def origin_bytes_read(record):
    return 512 * record["ios"]["origin"]["sectors_read"] / record["writes"]


@dataclasses.dataclass(frozen=True)
class Bar:
    """A value of a cell, and what it must be: at most, or at least."""
    name: str
    participants: tuple            # whose measurements it is made of: (cell, peer, snapshots)
    values: object                 # a function of Results: one value a round
    at_most: float | None = None
    at_least: float | None = None

    def judge(self, results, counts=True):
        """It has not passed in a cell that does not count, when a measurement of one that takes part has failed, in whichever round,
        or when there is no value: then that is None."""
        values = self.values(results)
        failed = results.failed_of(self.participants)
        value = statistics.median(values) if values else None
        bar = self.at_most if self.at_most is not None else self.at_least
        passed = value is not None and (value <= bar if self.at_most is not None else value >= bar)
        return {"name": self.name, "value": value, "min": min(values, default=None), "max": max(values, default=None), "bar": bar,
                "at": "most" if self.at_most is not None else "least", "pass": passed and counts and not failed, "counts": counts,
                "failed": failed, "rounds": len(values)}


def _bars():
    def ratio(name, cell, one, other, value, **bar):
        return Bar(name, ((cell, *one), (cell, *other)), lambda results: results.ratios(cell, one, other, value), **bar)

    def plain(name, cell, one, value, **bar):
        return Bar(name, ((cell, *one),), lambda results: results.each(cell, one, value), **bar)

    def between(name, one, other, value, **bar):
        return Bar(name, (one, other), lambda results: results.between(one, other, value), **bar)

    linear = (LINEAR, 0)
    cow = (COW, 1)
    for snapshots in (1, 32):
        yield ratio(f"first write, depth 1, {snapshots} snapshots: latency to linear", "first-1", (COW, snapshots), linear, mean_ns,
                    at_most=3.3)
    for snapshots in (1, 4, 8, 32):
        yield ratio(f"first write, depth 32, {snapshots} snapshots: throughput to linear", "first-32", (COW, snapshots), linear, iops,
                    at_least=0.29)
    yield ratio("first write, depth 32: throughput to dm-snapshot, 4 KiB", "first-32", cow, (SNAPSHOT_4K, 1), iops, at_least=1.6)
    yield ratio("first write, depth 32: throughput to dm-snapshot, 64 KiB", "first-32", cow, (SNAPSHOT_64K, 1), iops, at_least=1.9)
    for snapshots in (1, 8):
        yield ratio(f"first write, depth 32, {snapshots} snapshots: throughput to dm-thin", "first-32", (COW, snapshots), (THIN, snapshots),
                    iops, at_least=5)
        yield ratio(f"first write, depth 32, {snapshots} snapshots: p99 latency to dm-thin", "first-32", (COW, snapshots),
                    (THIN, snapshots), p99_ns, at_most=1)
    # With volatile caches dm-snapshot waits for five commands a write; without them block core leaves out its flush.
    yield ratio("first write, depth 32, volatile caches: throughput to linear", "cached-32", cow, linear, iops, at_least=0.29)
    for peer, title, bar in ((SNAPSHOT_4K, "dm-snapshot, 4 KiB", 1.6), (SNAPSHOT_64K, "dm-snapshot, 64 KiB", 1.9), (THIN, "dm-thin", 5)):
        yield ratio(f"first write, depth 32, volatile caches: throughput to {title}", "cached-32", cow, (peer, 1), iops, at_least=bar)
    yield plain("first write, depth 32: reads of the origin a write", "first-32", cow, per_write("origin", "reads"), at_most=1)
    yield plain("first write, depth 32: writes to the store a write", "first-32", cow, per_write("store", "writes"), at_most=0.25)
    yield plain("first write, depth 32, volatile caches: writes to the store that are not durable when they end, part", "cached-32", cow,
                unsafe_store_writes, at_most=0)
    yield plain("first write, depth 32: bytes a write, all devices", "first-32", cow, bytes_per_write, at_most=14 * KIB)
    yield plain("first write, depth 32: bytes read from the origin a write", "first-32", cow, origin_bytes_read, at_most=4.2 * KIB)
    yield plain("first write, depth 32: store bytes a preserved byte", "first-32", cow, store_bytes_per_byte, at_most=1.3)
    yield plain("store space of a snapshot whose epoch preserved nothing, segments", "first-32", (COW, 32),
                lambda record: record["empty_segments"], at_most=0)
    yield between("reads of the oldest of 64 snapshots, no delay: throughput to the newest", ("read-oldest", COW, 64),
                  ("read-newest", COW, 64), iops, at_least=0.8)
    yield ratio("writes to a writable snapshot, depth 32: throughput to dm-snapshot, 4 KiB", "snapshot-32", cow, (SNAPSHOT_4K, 1), iops,
                at_least=1.5)
    yield ratio("rolling back: blocks a second to dm-snapshot's merge", "rollback", cow, (SNAPSHOT_4K, 1), iops, at_least=4)
    for snapshots, bar in ((1, 1.1), (4, 2.2), (8, 4)):
        yield ratio(f"fast device, depth 16, {snapshots} snapshots: throughput to dm-snapshot, 4 KiB", "fast-16", (COW, snapshots),
                    (SNAPSHOT_4K, snapshots), iops, at_least=bar)
    for snapshots in (1, 8):
        yield ratio(f"fast device, depth 16, {snapshots} snapshots: throughput to dm-thin", "fast-16", (COW, snapshots), (THIN, snapshots),
                    iops, at_least=3)
    yield ratio("origin and store on one device, depth 32: throughput to linear", "together-32", cow, linear, iops, at_least=0.29)
    yield ratio("4 origins on one store, depth 32 each: throughput to 4 linear", "origins-4", cow, linear, iops, at_least=0.27)
    for cell, snapshots, what in (("create-large", 1, "4 TiB to 4 GiB"), ("create-many", 1000, "1,000 snapshots to 1")):
        yield between(f"longest stall of a write while a snapshot is created, {what}", (cell, COW, snapshots), ("create-small", COW, 1),
                      stall_ns, at_most=1.5)
    yield ratio("activation with 1 million exceptions: time to dm-snapshot, 4 KiB", "activate", cow, (SNAPSHOT_4K, 1), mean_ns, at_most=0.5)
    yield plain("memory for 1 million exceptions, bitmap aside: bytes each", "activate", cow, memory_per_exception, at_most=32)
    yield plain("deleting the oldest of 64 snapshots, with 1 million exceptions: throughput to before", "delete", (COW, 64), to_before,
                at_least=0.8)
    yield ratio("8 snapshots, 50 MB/s: throughput to dm-snapshot, 4 KiB", "limited-50", (COW, 8), (SNAPSHOT_4K, 8), iops, at_least=4)
    yield ratio("sequential 1M first writes, 200 MB/s: throughput to linear", "sequential-200", cow, linear, iops, at_least=0.45)
    yield ratio("fsync after each first write: latency to linear", "fsync-1", cow, linear, mean_ns, at_most=2.3)
    for cell, snapshots, what in (("preserved", 1, "write of a preserved block"), ("no-snapshot", 0, "write without a snapshot")):
        yield ratio(f"{what}, no delay: throughput to linear", cell, (COW, snapshots), linear, iops, at_least=0.95)
        yield ratio(f"{what}, no delay: CPU time to linear", cell, (COW, snapshots), linear, cpu_per_write, at_most=1.15)
    yield ratio("first write, no delay: CPU time to dm-snapshot, 4 KiB", "cpu", cow, (SNAPSHOT_4K, 1), cpu_per_write, at_most=1)


BARS = list(_bars())
