# SPDX-License-Identifier: GPL-2.0-or-later
"""What all peers are set up on: null_blk devices with memory behind them, that take a given time for each command."""

import os
import pathlib
import struct
import subprocess
import time

CONFIGFS = pathlib.Path("/sys/kernel/config/nullb")
SECTOR = 512
BLOCK = 4096
MIB = 1 << 20
# Of the store: room for two full copies of the origin, and more.
STORE_FACTOR = 6
# In front of each extent of a packed image: where it belongs, and how long it is, in bytes.
EXTENT = struct.Struct("<QQ")
# Nothing that is waited for takes so long.
WAIT_LIMIT_S = 600


class Failed(Exception):
    """What went wrong, for the one who reads the results."""


def run(*words, stdin=None):
    done = subprocess.run([str(word) for word in words], input=stdin, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Failed(f"{' '.join(map(str, words))}: {done.stderr.strip() or done.stdout.strip() or done.returncode}")
    return done.stdout


def wait_until(is_so, what):
    end = time.monotonic() + WAIT_LIMIT_S
    while not is_so():
        if time.monotonic() > end:
            raise Failed(f"not in {WAIT_LIMIT_S} s: {what}")
        time.sleep(0.02)


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


def unpack(path, device):
    """Writes what images.py has packed to a device of zeros."""
    with open(path, "rb") as packed, open(device, "r+b", buffering=0) as to:
        while head := packed.read(EXTENT.size):
            offset, length = EXTENT.unpack(head)
            to.seek(offset)
            to.write(packed.read(length))
        os.fsync(to.fileno())
    run("blockdev", "--flushbufs", device)


def area_mib(origin_mib):
    """Of dm-snapshot's area for a copy of all of the origin: with a chunk for each 256 exceptions, and a header."""
    return origin_mib + origin_mib // 256 + 2


class Devices:
    """The origins, the store, and what peers ask for besides."""

    def __init__(self, origin_mib, *, delay_ns, cache, mbps, together, origins, store_mib, areas):
        """store_mib: 0 for a store as large as copies need, and origins with random data. Else the origins are zeros, and are large.
        areas: so many of dm-snapshot's, each for a full copy, are in that store at most."""
        self._options = {"delay_ns": delay_ns, "cache": cache, "mbps": mbps}
        self.origin_mib = origin_mib
        self.origin_sectors = origin_mib * MIB // SECTOR
        self.store_mib = store_mib or max(STORE_FACTOR * origin_mib * origins, areas * area_mib(origin_mib))
        self.counted = {}
        self._extra = {}
        self._images = {}
        # Whether dm-thin's pool has the volume, filled.
        self.thin_filled = False
        self.parts = []
        if together:
            # one device for both, each a part of it
            both = self._make("both", origin_mib + self.store_mib)
            self.store_sectors = both.sectors - self.origin_sectors
            self.origins = [self._part("part-origin", both, 0, self.origin_sectors)]
            self.store = self._part("part-store", both, self.origin_sectors, self.store_sectors)
        else:
            made = [self._make(f"origin{i or ''}", origin_mib) for i in range(origins)]
            store = self._make("store", self.store_mib)
            self.origins = [origin.path for origin in made]
            self.store, self.store_sectors = store.path, store.sectors
        self.origin = self.origins[0]
        if not store_mib:
            for origin in self.origins:
                fill(origin, origin_mib)

    def _make(self, name, size_mib):
        self.counted[name] = NullDevice(name, size_mib, **self._options)
        return self.counted[name]

    def _part(self, name, device, start, sectors):
        self.parts.append(name)
        return dm_create(name, f"0 {sectors} linear {device.path} {start}")

    def extra(self, name, size_mib, make=None):
        """One more, which stays; make(device) when it is new."""
        if name not in self._extra:
            self._extra[name] = self._make(name, size_mib)
            if make:
                make(self._extra[name])
        return self._extra[name]

    @property
    def thin(self):
        """dm-thin's own: data for the volume and its snapshots, and metadata."""
        return self.extra("data", STORE_FACTOR * self.origin_mib), self.extra("meta", 16)

    def store_of(self, image):
        """The store with what is packed in that file; each file has a device of its own."""
        name = self._images.setdefault(image, f"image{len(self._images)}")
        return self.extra(name, self.store_mib, lambda device: unpack(image, device.path))

    def close(self):
        dm_remove(*self.parts)
        for device in self.counted.values():
            device.close()
