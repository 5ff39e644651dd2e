#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Inside the guest: measures what /bed/plan.json asks for, in its order, and appends a line of JSON for each measurement to
/bed/results.jsonl.

Devices are null_blk's, with memory behind them: origin and store (for dm-thin: data and metadata). A measurement sets its peer
up on them, with so many snapshots, writes with fio, compares every snapshot that it can name with what it was before, and takes all
down again. See plan.py for the words of a measurement.
"""

import json
import mmap
import os
import pathlib
import random
import subprocess
import sys
import time

BED = pathlib.Path("/bed")
CONFIGFS = pathlib.Path("/sys/kernel/config/nullb")
SECTOR = 512
MIB = 1 << 20
# Of the store: room for two full copies of the origin, and for 32 COW areas that never fill up in a measurement.
STORE_FACTOR = 6
THIN_BLOCK_SECTORS = 128
BLOCK = 4096
# That a rollback copies back.
WRITTEN_BLOCKS = 1000


class Failed(Exception):
    """What went wrong, for the one who reads the results."""


def run(*words, stdin=None):
    done = subprocess.run([str(word) for word in words], input=stdin, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Failed(f"{' '.join(map(str, words))}: {done.stderr.strip() or done.stdout.strip() or done.returncode}")
    return done.stdout


def dm_create(name, table):
    run("dmsetup", "create", name, "--table", table)
    return f"/dev/mapper/{name}"


def dm_remove(*names):
    for name in names:
        run("dmsetup", "remove", name)


def message(device, *words):
    run("dmsetup", "message", device, 0, *words)


class NullDevice:
    """A null_blk device; it is gone with close()."""

    def __init__(self, name, size_mib, *, delay_ns=0, cache=False, mbps=0):
        self._directory = CONFIGFS / name
        before = set(os.listdir("/sys/block"))
        self._directory.mkdir()
        settings = {"size": size_mib, "memory_backed": 1, "submit_queues": 2, "hw_queue_depth": 256, "queue_mode": 2,
                    "irqmode": 2 if delay_ns else 0, "completion_nsec": delay_ns, "blocksize": 512}
        if cache:
            settings["cache_size"] = size_mib
        if mbps:
            settings["mbps"] = mbps
        for key, value in {**settings, "power": 1}.items():
            (self._directory / key).write_text(str(value))
        self.block = (set(os.listdir("/sys/block")) - before).pop()
        self.path = f"/dev/{self.block}"
        self.sectors = size_mib * MIB // SECTOR

    def close(self):
        (self._directory / "power").write_text("0")
        self._directory.rmdir()

    def counts(self):
        """Reads, sectors read, writes, sectors written, flushes since the device is there."""
        words = [int(word) for word in pathlib.Path(f"/sys/block/{self.block}/stat").read_text().split()]
        return {"reads": words[0], "sectors_read": words[2], "writes": words[4], "sectors_written": words[6],
                "flushes": words[15]}


def fill(path, mib):
    """Random data, which no device can leave out."""
    with open(path, "wb", buffering=0) as device:
        for _ in range(mib):
            device.write(os.urandom(MIB))
        os.fsync(device.fileno())


def checksum(path):
    with subprocess.Popen(["dd", f"if={path}", "bs=1M", "iflag=direct", "status=none"], stdout=subprocess.PIPE) as dd:
        digest = subprocess.run(["xxhsum", "-q", "-H2", "-"], stdin=dd.stdout, capture_output=True, text=True, check=True)
    if dd.returncode:
        raise Failed(f"{path} cannot be read")
    return digest.stdout.split()[0]


class Devices:
    """What all peers of some measurements in a row are set up on."""

    def __init__(self, origin_mib, *, delay_ns, cache, mbps, together):
        options = {"delay_ns": delay_ns, "cache": cache, "mbps": mbps}
        self.origin_mib = origin_mib
        self.origin_sectors = origin_mib * MIB // SECTOR
        store_mib = STORE_FACTOR * origin_mib
        if together:
            # one device for both, each a part of it
            self._all = [NullDevice("both", origin_mib + store_mib, **options)]
            both = self._all[0]
            self.origin = dm_create("part-origin", f"0 {self.origin_sectors} linear {both.path} 0")
            self.store_sectors = both.sectors - self.origin_sectors
            self.store = dm_create("part-store", f"0 {self.store_sectors} linear {both.path} {self.origin_sectors}")
            self.counted = {"both": both}
        else:
            origin, store = NullDevice("origin", origin_mib, **options), NullDevice("store", store_mib, **options)
            self._all = [origin, store]
            self.origin, self.store, self.store_sectors = origin.path, store.path, store.sectors
            self.counted = {"origin": origin, "store": store}
        self._together = together
        self._options = options
        self._thin = None
        fill(self.origin, origin_mib)

    @property
    def thin(self):
        """dm-thin's own: data for the volume and its snapshots, and metadata."""
        if not self._thin:
            self._thin = (NullDevice("data", STORE_FACTOR * self.origin_mib, **self._options),
                          NullDevice("meta", 16, **self._options))
            self._all += self._thin
            self.counted |= {"data": self._thin[0], "meta": self._thin[1]}
        return self._thin

    def close(self):
        if self._together:
            dm_remove("part-origin", "part-store")
        for device in self._all:
            device.close()


class Peer:
    """Something that is written to; setup() first, teardown() last."""

    def __init__(self, devices, snapshots, *, writable=False, between=None):
        """writable: snapshots are to be written to. between(top): is called when each of them was made."""
        self.devices = devices
        self.snapshots = snapshots
        self.writable = writable
        self.between = between

    def setup(self):
        """The device to write to."""
        raise NotImplementedError

    def oldest(self):
        """The oldest snapshot's device; None when there is none."""
        return "/dev/mapper/snap0" if self.snapshots else None

    def newest(self):
        return f"/dev/mapper/snap{self.snapshots - 1}" if self.snapshots else None

    def teardown(self):
        raise NotImplementedError

    def roll_back(self):
        """To the only snapshot; returns when all blocks are copied back. Its device may be gone then."""
        raise NotImplementedError

    def open_ends(self, target):
        """Devices of the oldest and the newest snapshot, where snapshots need none to be there: target(number) is the table's."""
        for i in self._ends():
            dm_create(f"snap{i}", f"0 {self.devices.origin_sectors} {target(i)}")

    def close_ends(self):
        dm_remove(*(f"snap{i}" for i in self._ends()))

    def _ends(self):
        return {0, self.snapshots - 1} if self.snapshots else ()


class Linear(Peer):
    def setup(self):
        return dm_create("top", f"0 {self.devices.origin_sectors} linear {self.devices.origin} 0")

    def teardown(self):
        dm_remove("top")


class DmSnapshot(Peer):
    CHUNK_SECTORS = 8

    def setup(self):
        devices = self.devices
        share = devices.store_sectors // max(1, self.snapshots) // 2048 * 2048
        for i in range(self.snapshots):
            area = dm_create(f"area{i}", f"0 {share} linear {devices.store} {i * share}")
            run("dd", "if=/dev/zero", f"of={area}", "bs=64k", "count=1", "oflag=direct", "status=none")
            dm_create(f"snap{i}", f"0 {devices.origin_sectors} snapshot {devices.origin} {area} P {self.CHUNK_SECTORS}")
        return dm_create("top", f"0 {devices.origin_sectors} snapshot-origin {devices.origin}")

    def roll_back(self):
        dm_remove("snap0")
        run("dmsetup", "suspend", "top")
        run("dmsetup", "load", "top", "--table", f"0 {self.devices.origin_sectors} snapshot-merge {self.devices.origin} "
            f"/dev/mapper/area0 P {self.CHUNK_SECTORS}")
        run("dmsetup", "resume", "top")
        while True:
            used, metadata = run("dmsetup", "status", "top").split()[3:5]
            if used.split("/")[0] == metadata:
                return
            time.sleep(0.02)

    def teardown(self):
        dm_remove("top")
        subprocess.run(["dmsetup", "remove", *(f"snap{i}" for i in range(self.snapshots))], capture_output=True, check=False)
        dm_remove(*(f"area{i}" for i in range(self.snapshots)))


class DmSnapshot64(DmSnapshot):
    CHUNK_SECTORS = 128


class DmThin(Peer):
    """The volume is filled once, and stays in the pool from one measurement to the next."""

    def setup(self):
        data, meta = self.devices.thin
        fresh = not getattr(self.devices, "thin_filled", False)
        if fresh:
            run("dd", "if=/dev/zero", f"of={meta.path}", "bs=64k", "count=1", "oflag=direct", "status=none")
        dm_create("pool", f"0 {data.sectors} thin-pool {meta.path} {data.path} {THIN_BLOCK_SECTORS} 0 1 skip_block_zeroing")
        if fresh:
            message("pool", "create_thin 0")
        top = dm_create("top", f"0 {self.devices.origin_sectors} thin /dev/mapper/pool 0")
        if fresh:
            fill(top, self.devices.origin_mib)
            self.devices.thin_filled = True
        for i in range(self.snapshots):
            run("dmsetup", "suspend", "top")
            message("pool", f"create_snap {i + 1} 0")
            run("dmsetup", "resume", "top")
        self.open_ends(lambda i: f"thin /dev/mapper/pool {i + 1}")
        return top

    def teardown(self):
        self.close_ends()
        dm_remove("top")
        for i in range(self.snapshots):
            message("pool", f"delete {i + 1}")
        dm_remove("pool")


class CowSnap(Peer):
    def setup(self):
        devices = self.devices
        run("dd", "if=/dev/zero", f"of={devices.store}", "bs=1M", "count=1", "oflag=direct", "status=none")
        dm_create("store", f"0 {devices.store_sectors} cow-store {devices.store} 0")
        top = dm_create("top", f"0 {devices.origin_sectors} cow-origin /dev/mapper/store 1 {devices.origin}")
        for i in range(self.snapshots):
            message("store", f"create {i + 1} 1")
            if self.between:
                self.between(top)
        self.open_ends(lambda i: f"cow-snap /dev/mapper/store {i + 1}{'' if self.writable else ' 1 read_only'}")
        return top

    def free_segments(self):
        return int(run("dmsetup", "status", "store").split()[6].split("/")[0])

    def roll_back(self):
        self.close_ends()
        self.snapshots = 0
        message("store", "rollback 1 1 2")
        while run("dmsetup", "status", "top").split()[8] != "none":
            time.sleep(0.02)

    def teardown(self):
        self.close_ends()
        dm_remove("top", "store")


PEERS = {"linear": Linear, "dm-snapshot-4k": DmSnapshot, "dm-snapshot-64k": DmSnapshot64, "dm-thin": DmThin, "cow-snap": CowSnap}


def cpu_seconds():
    """Of all CPUs, whatever was done in them."""
    words = pathlib.Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    user, nice, system, _, _, irq, softirq = (int(word) for word in words[:7])
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


def difference(after, before):
    return {device: {key: after[device][key] - before[device][key] for key in after[device]} for device in before}


def load(path, spec, *, seconds):
    output = pathlib.Path("/run/fio.json")
    words = ["fio", "--name=load", f"--filename={path}", "--direct=1", "--ioengine=libaio", f"--iodepth={spec['depth']}",
             f"--rw={spec['rw']}", f"--bs={spec['bs']}", f"--randseed={spec['seed']}", "--output-format=json", f"--output={output}"]
    if spec["fsync"]:
        words.append(f"--fsync={spec['fsync']}")
    if seconds:
        words.append(f"--runtime={seconds}")
        if spec["again"] or spec["over_and_over"]:
            words.append("--time_based")
    if spec["series"]:
        words += ["--write_iops_log=/run/series", f"--log_avg_msec={spec['series']}"]
    run(*words)
    return json.loads(output.read_text())["jobs"][0]


def series():
    """Pairs of milliseconds and I/Os a second."""
    log = pathlib.Path("/run/series_iops.1.log")
    return [[int(word) for word in line.split(",")[:2]] for line in log.read_text().splitlines()]


class Counted:
    """I/Os of all devices and CPU time, from its making to end()."""

    def __init__(self, devices):
        self._devices = devices
        self._before = self._counts()
        self._cpu = cpu_seconds()

    def _counts(self):
        return {name: device.counts() for name, device in self._devices.counted.items()}

    def end(self):
        cpu = cpu_seconds() - self._cpu
        run("sync")
        return {"cpu_s": cpu, "ios": difference(self._counts(), self._before)}


def of_job(job, kind, spec):
    """What fio measured of its reads or writes."""
    part = job[kind]
    percentile = part["clat_ns"].get("percentile", {})
    result = {"iops": part["iops"], "bytes_per_s": part["bw_bytes"], "writes": part["total_ios"],
              "mean_ns": part["lat_ns"]["mean"], "p50_ns": percentile.get("50.000000"), "p99_ns": percentile.get("99.000000")}
    if spec["fsync"]:
        result["mean_ns"] += job["sync"]["lat_ns"]["mean"]
    if spec["series"]:
        result["series"] = series()
    return result


def must_not_change(before):
    wrong = [path for path, expected in before.items() if checksum(path) != expected]
    if wrong:
        raise Failed(f"{' '.join(wrong)} has changed")


def write(peer, top, spec):
    """To the origin: what snapshots have stays."""
    looked_at = {path for path in (peer.oldest(), peer.newest()) if path}
    before = {path: checksum(path) for path in looked_at}
    if spec["again"]:
        # all is preserved before what counts
        run("dd", "if=/dev/urandom", f"of={top}", "bs=1M", f"count={peer.devices.origin_mib}", "oflag=direct", "status=none")
    free = peer.free_segments() if isinstance(peer, CowSnap) else 0
    counted = Counted(peer.devices)
    job = load(top, spec, seconds=spec["seconds"])
    result = {**of_job(job, "write", spec), **counted.end()}
    must_not_change(before)
    if looked_at and before[peer.newest()] == checksum(top):
        raise Failed("nothing was written")
    if isinstance(peer, CowSnap) and peer.snapshots > 1:
        # of all snapshots but the newest nothing was preserved
        total = int(run("dmsetup", "status", "store").split()[6].split("/")[1])
        result["empty_segments"] = total - free
    return result


def write_snapshot(peer, top, spec):
    """To the newest snapshot: the origin stays."""
    before = {top: checksum(top)}
    counted = Counted(peer.devices)
    job = load(peer.newest(), spec, seconds=spec["seconds"])
    result = {**of_job(job, "write", spec), **counted.end()}
    must_not_change(before)
    if before[top] == checksum(peer.newest()):
        raise Failed("nothing was written")
    return result


def read_snapshot(path, peer, spec):
    counted = Counted(peer.devices)
    job = load(path, spec, seconds=spec["seconds"])
    return {**of_job(job, "read", spec), **counted.end()}


class Spread:
    """Writes half of all blocks, a part of them after each snapshot; knows what the oldest one has."""

    def __init__(self, devices, snapshots, seed):
        blocks = devices.origin_mib * MIB // BLOCK
        self._blocks = random.Random(seed).sample(range(blocks), blocks // 2)
        self._share = len(self._blocks) // snapshots
        self.oldest = None

    def __call__(self, top):
        if self.oldest is None:
            self.oldest = checksum(top)
        with mmap.mmap(-1, BLOCK) as page:
            device = os.open(top, os.O_WRONLY | os.O_DIRECT)
            for block in self._blocks[:self._share]:
                page[:] = os.urandom(BLOCK)
                os.pwritev(device, [page], block * BLOCK)
            os.close(device)
        del self._blocks[:self._share]


def roll_back(peer, top, spec):
    expected = checksum(top)
    words = ["fio", "--name=change", f"--filename={top}", "--direct=1", "--ioengine=libaio", "--iodepth=64", "--rw=randwrite",
             "--bs=4k", f"--randseed={spec['seed']}", f"--io_size={WRITTEN_BLOCKS * BLOCK}"]
    run(*words)
    if checksum(top) == expected:
        raise Failed("nothing was written")
    counted = Counted(peer.devices)
    began = time.monotonic()
    peer.roll_back()
    seconds = time.monotonic() - began
    result = counted.end()
    must_not_change({top: expected, peer.devices.origin: expected})
    return {"iops": WRITTEN_BLOCKS / seconds, "bytes_per_s": WRITTEN_BLOCKS * BLOCK / seconds, "writes": WRITTEN_BLOCKS,
            "mean_ns": 1e9 * seconds / WRITTEN_BLOCKS, "p50_ns": None, "p99_ns": None, **result}


def measure(devices, spec):
    operation = spec["operation"]
    reads = operation in ("read_oldest", "read_newest")
    between = Spread(devices, spec["snapshots"], spec["seed"]) if reads else None
    peer = PEERS[spec["peer"]](devices, spec["snapshots"], writable=operation == "write_snapshot", between=between)
    top = peer.setup()
    try:
        if reads:
            result = read_snapshot(peer.oldest() if operation == "read_oldest" else peer.newest(), peer, spec)
            must_not_change({peer.oldest(): between.oldest})
            return result
        return {"write": write, "write_snapshot": write_snapshot, "roll_back": roll_back}[operation](peer, top, spec)
    finally:
        peer.teardown()


def main():
    plan = json.loads((BED / "plan.json").read_text())
    module = os.environ["MODULE"]
    needs = [name for name in run("modinfo", "-F", "depends", module).strip().split(",") if name]
    # udev loads it where the CPU can do that
    subprocess.run(["modprobe", "--quiet", "crc32c-intel"], check=False)
    run("modprobe", "-a", "dm-mod", "null_blk", "dm-snapshot", "dm-thin-pool", *needs)
    run("insmod", module)
    if not CONFIGFS.exists():
        run("mount", "-t", "configfs", "configfs", "/sys/kernel/config")
    with open(BED / "results.jsonl", "a", encoding="utf-8") as results:
        for group in plan["groups"]:
            devices = Devices(**group["devices"])
            for spec in group["measurements"]:
                began = time.monotonic()
                try:
                    result = measure(devices, spec)
                except Failed as error:
                    result = {"failed": str(error)}
                print(f"{time.monotonic():8.2f} {spec['cell']} round {spec['round']} {spec['peer']} {spec['snapshots']}: "
                      f"{result.get('failed') or round(result['iops'])}, {time.monotonic() - began:.1f} s", flush=True)
                results.write(json.dumps({**spec, "devices": group["devices"], **result}) + "\n")
                results.flush()
            devices.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
