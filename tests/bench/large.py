# SPDX-License-Identifier: GPL-2.0-or-later
"""What is measured on large sparse devices, with stores that were made before: pauses, activation, deletion. An origin is zeros at first,
and so is what its snapshots show, but for the stamped blocks of the exceptions (programs/exceptions.h)."""

import mmap
import os
import pathlib
import random
import statistics
import time

from devices import BLOCK, Failed, dm_create, dm_remove, message, wait_until
from loads import Background, of_background
from peers import CowSnap

CREATES = 20
# Between two creates: the writers have made up for the last one.
BETWEEN_S = 0.2
# Writers are looked at for so long before a deletion.
BEFORE_S = 2.0
# And at least for so long from its beginning on: with fewer writes chance would have a part in it.
AT_LEAST_S = 0.25
# Before something is timed: what was done before is not to take its time.
SETTLE_S = 3
# Until memory that was given back is free.
FREE_S = 1
# How many blocks are compared.
SAMPLE = 200
ZEROS = bytes(BLOCK)


def contents_of(block):
    """Of a stamped block."""
    return (block + 1).to_bytes(8, "little") * (BLOCK // 8)


def read_blocks(path, blocks):
    """Past the page cache."""
    device = os.open(path, os.O_RDONLY | os.O_DIRECT)
    try:
        with mmap.mmap(-1, BLOCK) as page:
            for block in blocks:
                if os.preadv(device, [page], block * BLOCK) != BLOCK:
                    raise Failed(f"{path} ends before block {block}")
                yield block, bytes(page)
    finally:
        os.close(device)


def some(blocks, seed):
    blocks = sorted(blocks)
    return random.Random(seed).sample(blocks, min(SAMPLE, len(blocks)))


def must_show(path, blocks, expected):
    """expected(block): its contents."""
    wrong = [block for block, contents in read_blocks(path, blocks) if contents != expected(block)]
    if wrong:
        raise Failed(f"{path} is wrong in {len(wrong)} of {len(blocks)} blocks, in {wrong[0]} first")


def must_have_changed(path, blocks):
    if any(contents == ZEROS for _, contents in read_blocks(path, blocks)):
        raise Failed(f"{path} was not written where fio says that it was")


def written_blocks(background, seed):
    return some({write.offset // BLOCK for write in background.writes}, seed)


def create(peer, tops, spec):
    """The longest latency of a write that was under way while a snapshot was made: the median of some."""
    messages = []
    with Background(tops[0], spec) as background:
        for number in range(CREATES):
            began = time.time()
            message("store", f"create {peer.snapshots + number + 1} 1")
            messages.append((began, time.time()))
            time.sleep(BETWEEN_S)
    stalls = [background.longest(*window) for window in messages]
    if not all(stalls):
        raise Failed("no write was under way while a snapshot was made")
    blocks = written_blocks(background, spec["seed"])
    must_have_changed(tops[0], blocks)
    must_show(peer.newest(), blocks, lambda block: ZEROS)
    return {**of_background(background, messages[0][0], messages[-1][1]), "stall_ns": 1e9 * statistics.median(stalls),
            "longest_stall_ns": 1e9 * max(stalls), "create_ns": 1e9 * statistics.median(end - began for began, end in messages)}


def memory_used():
    """Bytes that the kernel cannot give back."""
    time.sleep(FREE_S)
    pathlib.Path("/proc/sys/vm/drop_caches").write_text("3")
    words = {line.split(":")[0]: int(line.split()[1]) for line in pathlib.Path("/proc/meminfo").read_text().splitlines()}
    return 1024 * (words["MemTotal"] - words["MemFree"] - words["Buffers"] - words["Cached"] - words["SReclaimable"])


def activate(peer, spec, stamped):
    """From the tables to the first block that was read from the snapshot."""
    store = peer.devices.store_of(peer.image)
    # what unpacking it has left is not to be freed meanwhile
    memory_used()
    time.sleep(SETTLE_S)
    counts = store.counts()
    began = time.monotonic()
    peer.setup()
    try:
        must_show(peer.oldest(), stamped[:1], contents_of)
        seconds = time.monotonic() - began
        reads = store.counts()["reads"] - counts["reads"]
        used = memory_used()
        must_show(peer.oldest(), some(stamped, spec["seed"]), contents_of)
    finally:
        peer.teardown()
    return {"iops": 1 / seconds, "bytes_per_s": None, "writes": 1, "mean_ns": 1e9 * seconds, "p50_ns": None, "p99_ns": None,
            "activation_s": seconds, "memory_bytes": used - memory_used(), "store_reads": reads,
            "bitmap_bytes": peer.devices.origin_sectors // 8 // 8 if isinstance(peer, CowSnap) else 0}


def delete(peer, tops, spec, stamped):
    """How fast writers are while the oldest snapshot is deleted, and how fast they were before."""
    total, free = peer.segments()
    dm_remove("snap0")
    # the exceptions' segments; the log's open one stays, and what writers take
    held = total - free
    with Background(tops[0], spec) as background:
        time.sleep(BEFORE_S)
        began = time.time()
        before = peer.segments()[1]
        message("store", "delete 1")
        answered = time.time()
        wait_until(lambda: peer.segments()[1] >= before + held * 9 // 10, "the segments of a snapshot are free")
        freed = time.time()
        time.sleep(max(0, began + AT_LEAST_S - freed))
    until = max(freed, began + AT_LEAST_S)
    blocks = written_blocks(background, spec["seed"])
    # the second is the oldest now, and the origin was as it is when it was made
    dm_create("snap0", f"0 {peer.devices.origin_sectors} cow-snap /dev/mapper/store 2 1 read_only")
    must_have_changed(tops[0], blocks)
    must_show("/dev/mapper/snap0", [*blocks, *some(stamped, spec["seed"])], lambda block: ZEROS)
    return {**of_background(background, began, until), "iops_before": background.rate(began - BEFORE_S, began),
            "answer_s": answered - began, "freed_s": freed - began, "longest_stall_ns": 1e9 * background.longest(began, until)}
