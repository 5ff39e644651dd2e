# SPDX-License-Identifier: GPL-2.0-or-later
"""Stores with very many exceptions, or snapshots: made on the host, offline, in sparse files, and packed without their holes for a guest,
which unpacks them to a device."""

import dataclasses
import os
import subprocess

from devices import EXTENT

COW_STORE, DM_SNAPSHOT = "cow-store", "dm-snapshot"
SEED = 1


@dataclasses.dataclass(frozen=True)
class Image:
    kind: str                      # COW_STORE or DM_SNAPSHOT
    size_mib: int
    origin_mib: int
    exceptions: int
    snapshots: int

    @property
    def name(self):
        return "-".join(str(value) for value in dataclasses.astuple(self))


def extents(descriptor):
    """Offset and length of all that is no hole."""
    end = 0
    while True:
        try:
            start = os.lseek(descriptor, end, os.SEEK_DATA)
        except OSError:
            # behind the last one
            return
        end = os.lseek(descriptor, start, os.SEEK_HOLE)
        yield start, end - start


def pack(image, packed):
    with open(image, "rb", buffering=0) as source, open(packed, "wb") as to:
        for offset, length in extents(source.fileno()):
            to.write(EXTENT.pack(offset, length))
            to.write(os.pread(source.fileno(), length, offset))


def make(image, program, directory):
    """NAME.packed, and NAME.json: which blocks of the exceptions are stamped. program: make-exceptions."""
    sparse = directory / f"{image.name}.image"
    done = subprocess.run([program, image.kind, sparse, *map(str, dataclasses.astuple(image)[1:]), str(SEED)], stdout=subprocess.PIPE,
                          text=True, check=True)
    (directory / f"{image.name}.json").write_text(done.stdout)
    pack(sparse, directory / f"{image.name}.packed")
    sparse.unlink()
