#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Gives both superblocks of a store another format version, with checksums that are right: set-version.py DEVICE VERSION"""
import os
import struct
import sys


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


with open(sys.argv[1], "r+b", buffering=0) as device:
    for block in (0, 16):
        device.seek(block * 4096)
        image = bytearray(device.read(4096))
        struct.pack_into("<II", image, 8, 0, int(sys.argv[2]))
        struct.pack_into("<I", image, 8, crc32c(image))
        device.seek(block * 4096)
        device.write(image)
    os.fsync(device.fileno())
