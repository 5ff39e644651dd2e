# SPDX-License-Identifier: GPL-2.0-or-later
"""What is measured of a peer, and that no snapshot is wrong afterwards. See plan.py for the words of a measurement."""

import mmap
import os
import random
import time

from devices import BLOCK, MIB, Failed, checksum, run
from loads import Counted, Issued, load, of_job, unsafe_writes
from peers import CowSnap

# That a rollback copies back.
WRITTEN_BLOCKS = 1000


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


def write_snapshot(peer, tops, spec):
    """To the newest snapshot: the origin stays."""
    before = {tops[0]: checksum(tops[0])}
    result = counted_load(peer, [peer.newest()], spec)
    must_not_change(before)
    if before[tops[0]] == checksum(peer.newest()):
        raise Failed("nothing was written")
    return result


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


def read_snapshot(peer, spec):
    result = counted_load(peer, [peer.oldest() if spec["operation"] == "read_oldest" else peer.newest()], spec, "read")
    must_not_change({peer.oldest(): peer.between.oldest})
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
