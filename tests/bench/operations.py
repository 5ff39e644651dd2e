# SPDX-License-Identifier: GPL-2.0-or-later
"""What is measured of a peer, and that no snapshot is wrong afterwards. See plan.py for the words of a measurement."""

import mmap
import os
import random
import time

from devices import BLOCK, MIB, Failed, checksum, dm_create, dm_remove, run
from loads import Counted, Issued, load, of_job, unsafe_writes
from peers import CowSnap

# That a rollback copies back.
WRITTEN_BLOCKS = 1000
# Of the device on which only its speed is asked.
PLAIN_MIB = 64


def must_be_as_made(before, peer, tops):
    """No write was between making the snapshots and this: each has what its origin has. before: checksums of those looked at.
    Those of their origins, by number."""
    of_paths = peer.looked_at()
    origins = {number: checksum(tops[number]) for number in set(of_paths.values())}
    wrong = [path for path, number in of_paths.items() if before[path] != origins[number]]
    if wrong:
        raise Failed(f"{' '.join(wrong)} is not what the origin was")
    return origins


def must_not_change(before):
    wrong = [path for path, expected in before.items() if checksum(path) != expected]
    if wrong:
        raise Failed(f"{' '.join(wrong)} has changed")


def counted_load(peer, paths, spec, kind="write"):
    counted = Counted(peer.devices)
    job = load(paths, spec, peer.devices.origin_mib)
    return {**of_job(job, kind, spec), **counted.end()}


def write(peer, tops, spec):
    """To the origins: what snapshots have stays."""
    before = {path: checksum(path) for path in peer.looked_at()}
    must_be_as_made(before, peer, tops)
    if spec["again"]:
        # all is preserved before what counts
        run("dd", "if=/dev/urandom", f"of={tops[0]}", "bs=1M", f"count={peer.devices.origin_mib}", "oflag=direct", "status=none")
    result = {}
    if isinstance(peer, CowSnap) and peer.snapshots > 1:
        # of all snapshots but the newest nothing is preserved, and of that one not yet
        total, free = peer.segments()
        result["empty_segments"] = total - free
    if spec["durable"]:
        with Issued(os.stat(peer.devices.store).st_rdev) as issued:
            result |= counted_load(peer, tops, spec)
        result["store_kinds"] = issued.kinds()
        result["store_unsafe_writes"] = unsafe_writes(issued.kinds())
    else:
        result |= counted_load(peer, tops, spec)
    must_not_change(before)
    written = {checksum(top) for top in tops}
    if written & set(before.values()):
        raise Failed("nothing was written")
    return result


def plain(devices, spec):
    """Only how fast a plain device is, on one of its own: what others have on theirs stays."""
    below = devices.extra("plain", PLAIN_MIB)
    top = dm_create("top", f"0 {below.sectors} linear {below.path} 0")
    try:
        return of_job(load([top], spec, PLAIN_MIB), "write", spec)
    finally:
        dm_remove("top")


def differing_blocks(one, other):
    with open(one, "rb") as ones, open(other, "rb") as others:
        count = 0
        while part := ones.read(MIB):
            beside = others.read(MIB)
            count += sum(part[i:i + BLOCK] != beside[i:i + BLOCK] for i in range(0, len(part), BLOCK))
        return count


def write_snapshot(peer, tops, spec):
    """To the newest snapshot: the origin stays, and the snapshot differs from it in the blocks that were written, each once."""
    origins = must_be_as_made({path: checksum(path) for path in peer.looked_at()}, peer, tops)
    result = counted_load(peer, [peer.newest()], spec)
    must_not_change({tops[0]: origins[0]})
    different = differing_blocks(tops[0], peer.newest())
    # fio may leave out what was under way in the end
    if not result["writes"] <= different <= result["writes"] + spec["depth"]:
        raise Failed(f"{result['writes']} blocks were written, {different} differ")
    return result


class Spread:
    """Writes half of all blocks, a part of them after each snapshot; knows what the oldest and the newest one have."""

    def __init__(self, devices, snapshots, seed):
        blocks = devices.origin_mib * MIB // BLOCK
        self._blocks = random.Random(seed).sample(range(blocks), blocks // 2)
        self._share = len(self._blocks) // snapshots
        self._to_come = snapshots
        self.oldest = None
        self.newest = None

    def __call__(self, top):
        self._to_come -= 1
        if self.oldest is None:
            self.oldest = checksum(top)
        if self._to_come == 0:
            self.newest = checksum(top)
        with mmap.mmap(-1, BLOCK) as page:
            device = os.open(top, os.O_WRONLY | os.O_DIRECT)
            for block in self._blocks[:self._share]:
                page[:] = os.urandom(BLOCK)
                os.pwritev(device, [page], block * BLOCK)
            os.close(device)
        del self._blocks[:self._share]


def read_snapshot(peer, spec):
    result = counted_load(peer, [peer.oldest() if spec["operation"] == "read_oldest" else peer.newest()], spec, "read")
    must_not_change({peer.oldest(): peer.between.oldest, peer.newest(): peer.between.newest})
    return result


def roll_back(peer, tops, spec):
    top = tops[0]
    expected = checksum(top)
    words = ["fio", "--name=change", f"--filename={top}", "--direct=1", "--ioengine=libaio", "--iodepth=64", "--rw=randwrite",
             "--bs=4k", "--randrepeat=0", f"--randseed={spec['seed']}", f"--io_size={WRITTEN_BLOCKS * BLOCK}"]
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
