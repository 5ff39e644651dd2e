#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Compares a device, block by block and past the page cache, with what it must hold: compare-blocks.py EXPECTED DEVICE

Prints "<equal> <unreadable> <wrong>", counted in blocks of 4 KiB; the first wrong ones are named on stderr. Unreadable is
what the kernel refuses with EIO.
"""
import errno
import mmap
import os
import sys

BLOCK = 4096
RUN = 64 * 1024


def read_direct(device, buffer, offset, length):
    """The bytes there, or None for EIO."""
    try:
        got = os.preadv(device, [memoryview(buffer)[:length]], offset)
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        return None
    return bytes(buffer[:got])


def main():
    equal = unreadable = wrong = 0
    buffer = mmap.mmap(-1, RUN)
    device = os.open(sys.argv[2], os.O_RDONLY | os.O_DIRECT)
    with open(sys.argv[1], "rb") as expected:
        size = os.fstat(expected.fileno()).st_size
        if os.lseek(device, 0, os.SEEK_END) != size:
            sys.exit(f"{sys.argv[2]} has another size than {sys.argv[1]}")
        for start in range(0, size, RUN):
            run = expected.read(RUN)
            if read_direct(device, buffer, start, len(run)) == run:
                equal += (len(run) + BLOCK - 1) // BLOCK
                continue
            for offset in range(0, len(run), BLOCK):
                block = run[offset:offset + BLOCK]
                found = read_direct(device, buffer, start + offset, len(block))
                if found == block:
                    equal += 1
                elif found is None:
                    unreadable += 1
                else:
                    wrong += 1
                    if wrong <= 8:
                        print(f"block {(start + offset) // BLOCK} is wrong", file=sys.stderr)
    print(equal, unreadable, wrong)


main()
