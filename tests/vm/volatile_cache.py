# SPDX-License-Identifier: GPL-2.0-or-later
"""What a power cut leaves of a disk with a volatile write cache.

QEMU's blklogwrites driver logs every write, discard and flush in the format of dm-log-writes. After a cut the disk is
rebuilt from its contents before the boot and the log: all up to the last flush is there, and of what came after, any part
in units of a sector. Knows the log's format, nothing of QEMU's command line or of tests.
"""

import struct
import subprocess

LOG_MAGIC = 0x6A736677736872
LOG_VERSION = 1
SECTOR_BYTES = 512
SUPER = struct.Struct("<QQQI")
ENTRY = struct.Struct("<QQQQ")

FLUSH = 1
FUA = 2
DISCARD = 4

# How much of what was not flushed survives: between almost nothing and almost all.
SURVIVAL = (0.0, 0.1, 0.5, 0.9, 0.99)


class LogError(Exception):
    """A log that is not what blklogwrites writes."""


def before_boot(image, base, log):
    """Keeps the contents of image in base, and makes the log empty."""
    copy(image, base)
    log.write_bytes(b"")


def after_cut(image, base, log, rng):
    """Makes image what the cut has left; a sentence about that."""
    entries = list(read(log))
    flushed = max((number + 1 for number, entry in enumerate(entries) if entry[2] & FLUSH), default=0)
    survival = rng.choice(SURVIVAL)
    copy(base, image)
    lost = kept = 0
    with open(image, "r+b") as disk, open(log, "rb") as data:
        for number, (sector, sectors, flags, data_offset, data_bytes) in enumerate(entries):
            if flags & DISCARD:
                # A discard promises nothing about what is read afterwards: one that was not flushed may as well be lost.
                if number < flushed:
                    zero(disk, sector, sectors)
                continue
            data.seek(data_offset)
            if number < flushed or flags & FUA:
                disk.seek(sector * SECTOR_BYTES)
                disk.write(data.read(data_bytes))
                continue
            # Whole requests mostly survive or vanish; now and then one is torn.
            torn = rng.random() < 0.1
            survives = rng.random() < survival
            for one in range(data_bytes // SECTOR_BYTES):
                contents = data.read(SECTOR_BYTES)
                if rng.random() < survival if torn else survives:
                    disk.seek((sector + one) * SECTOR_BYTES)
                    disk.write(contents)
                    kept += 1
                else:
                    lost += 1
    return f"{len(entries)} requests, {len(entries) - flushed} of them not flushed: {lost} sectors lost, {kept} kept"


def copy(source, target):
    """A copy that stays sparse."""
    subprocess.run(["cp", "--sparse=always", "--reflink=auto", source, target], check=True)


def zero(disk, sector, sectors):
    left = sectors * SECTOR_BYTES
    disk.seek(sector * SECTOR_BYTES)
    while left:
        length = min(left, 1 << 20)
        disk.write(bytes(length))
        left -= length


def read(path):
    """The log's entries: (sector, sectors, flags, offset of the data in the log, bytes of data that are there)."""
    size = path.stat().st_size
    if size < SUPER.size:
        return
    with open(path, "rb") as log:
        superblock = log.read(SUPER.size)
        magic, version, _, sector_bytes = SUPER.unpack(superblock)
        # It is written with the first flush.
        if any(superblock) and (magic, version, sector_bytes) != (LOG_MAGIC, LOG_VERSION, SECTOR_BYTES):
            raise LogError(f"{path}: no log of version {LOG_VERSION} with {SECTOR_BYTES}-byte sectors")
        # The number of entries in the superblock lags behind; a sector of zeroes is where the log ends.
        offset = SECTOR_BYTES
        while offset + SECTOR_BYTES <= size:
            log.seek(offset)
            sector, sectors, flags, _ = ENTRY.unpack(log.read(ENTRY.size))
            if not sectors and not flags:
                return
            data_offset = offset + SECTOR_BYTES
            data_bytes = 0 if flags & DISCARD else sectors * SECTOR_BYTES
            yield sector, sectors, flags, data_offset, max(0, min(data_bytes, size - data_offset))
            offset = data_offset + data_bytes
