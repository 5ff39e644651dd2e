# SPDX-License-Identifier: GPL-2.0-or-later
"""Who is measured: each is set up on the same devices, with so many snapshots, and taken down again."""

import subprocess

from devices import dm_create, dm_remove, fill, message, run, wait_until

THIN_BLOCK_SECTORS = 128


class Peer:
    """Something that is written to; setup() first, teardown() last."""

    def __init__(self, devices, snapshots, *, writable=False, between=None, image=None):
        """writable: snapshots are to be written to. between(top): is called when each of them was made. image: a file with
        a store in which they are made already."""
        self.devices = devices
        self.snapshots = snapshots
        self.writable = writable
        self.between = between
        self.image = image

    def setup(self):
        """The devices to write to."""
        raise NotImplementedError

    def looked_at(self):
        """Devices of snapshots, and the number of the origin of each: the oldest, one in the middle and the newest of each origin."""
        return {f"/dev/mapper/snap{i}": i % len(self.devices.origins) for i in self._looked_at()}

    def oldest(self):
        return "/dev/mapper/snap0"

    def newest(self):
        return f"/dev/mapper/snap{self.snapshots - 1}"

    def teardown(self):
        raise NotImplementedError

    def roll_back(self):
        """To the only snapshot; returns when all blocks are copied back. Its device may be gone then."""
        raise NotImplementedError

    def open_some(self, target):
        """Devices of those that are looked at, where snapshots need none to be there: target(number) is the table's."""
        for i in self._looked_at():
            dm_create(f"snap{i}", f"0 {self.devices.origin_sectors} {target(i)}")

    def close_some(self):
        dm_remove(*(f"snap{i}" for i in self._looked_at()))

    def _looked_at(self):
        """Numbers of snapshots: those of several origins take turns."""
        origins = len(self.devices.origins)
        rows = {0, self.snapshots // 2, self.snapshots - 1} if self.snapshots else ()
        return sorted(row * origins + i for row in rows for i in range(origins))

    def _tops(self):
        return [f"top{i or ''}" for i in range(len(self.devices.origins))]


class Linear(Peer):
    def setup(self):
        return [dm_create(top, f"0 {self.devices.origin_sectors} linear {origin} 0")
                for top, origin in zip(self._tops(), self.devices.origins)]

    def teardown(self):
        dm_remove(*self._tops())


class DmSnapshot(Peer):
    CHUNK_SECTORS = 8

    def setup(self):
        for i in range(self.snapshots):
            self._snapshot(i, self._area(i))
        return [dm_create("top", f"0 {self.devices.origin_sectors} snapshot-origin {self.devices.origin}")]

    def _area(self, number):
        devices = self.devices
        if self.image:
            store = devices.store_of(self.image)
            return dm_create(f"area{number}", f"0 {store.sectors} linear {store.path} 0")
        share = devices.store_sectors // self.snapshots // 2048 * 2048
        area = dm_create(f"area{number}", f"0 {share} linear {devices.store} {number * share}")
        run("dd", "if=/dev/zero", f"of={area}", "bs=64k", "count=1", "oflag=direct", "status=none")
        return area

    def _snapshot(self, number, area):
        dm_create(f"snap{number}", f"0 {self.devices.origin_sectors} snapshot {self.devices.origin} {area} P {self.CHUNK_SECTORS}")

    def roll_back(self):
        dm_remove("snap0")
        run("dmsetup", "suspend", "top")
        run("dmsetup", "load", "top", "--table", f"0 {self.devices.origin_sectors} snapshot-merge {self.devices.origin} "
            f"/dev/mapper/area0 P {self.CHUNK_SECTORS}")
        run("dmsetup", "resume", "top")
        def is_merged():
            used, metadata = run("dmsetup", "status", "top").split()[3:5]
            return used.split("/")[0] == metadata
        wait_until(is_merged, "it is merged")

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
        fresh = not self.devices.thin_filled
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
        self.open_some(lambda i: f"thin /dev/mapper/pool {i + 1}")
        return [top]

    def teardown(self):
        self.close_some()
        dm_remove("top")
        for i in range(self.snapshots):
            message("pool", f"delete {i + 1}")
        dm_remove("pool")


class CowSnap(Peer):
    def setup(self):
        devices = self.devices
        if self.image:
            store = devices.store_of(self.image)
            path, sectors = store.path, store.sectors
        else:
            path, sectors = devices.store, devices.store_sectors
            run("dd", "if=/dev/zero", f"of={path}", "bs=1M", "count=1", "oflag=direct", "status=none")
        dm_create("store", f"0 {sectors} cow-store {path} 0")
        tops = [dm_create(top, f"0 {devices.origin_sectors} cow-origin /dev/mapper/store {i + 1} {origin}")
                for i, (top, origin) in enumerate(zip(self._tops(), devices.origins))]
        if not self.image:
            self._make_snapshots(tops)
        self.open_some(lambda i: f"cow-snap /dev/mapper/store {i + 1}{'' if self.writable else ' 1 read_only'}")
        return tops

    def _make_snapshots(self, tops):
        for number in range(self.snapshots):
            message("store", "create " + " ".join(f"{number * len(tops) + i + 1} {i + 1}" for i in range(len(tops))))
            if self.between:
                self.between(tops[0])

    def segments(self):
        """How many there are, and how many of them are free."""
        free, total = run("dmsetup", "status", "store").split()[6].split("/")
        return int(total), int(free)

    def roll_back(self):
        self.close_some()
        self.snapshots = 0
        message("store", "rollback 1 1 2")
        wait_until(lambda: run("dmsetup", "status", "top").split()[8] == "none", "it is rolled back")

    def teardown(self):
        self.close_some()
        dm_remove(*self._tops(), "store")


PEERS = {"linear": Linear, "dm-snapshot-4k": DmSnapshot, "dm-snapshot-64k": DmSnapshot64, "dm-thin": DmThin, "cow-snap": CowSnap}
