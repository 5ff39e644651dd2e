# SPDX-License-Identifier: GPL-2.0-or-later
"""One log, in one order, of what several disks were told to write and when each write had ended.

    recorder = Recorder([(image, size_bytes), ...], log, seed)
    ... QEMU is given recorder.fds, as NBD connections ...
    recorder.stop()

The log has the format of dm-log-writes (Documentation/admin-guide/device-mapper/log-writes.rst), as QEMU's blklogwrites
writes it for one disk. The disks stand in it one behind the other. An entry is made when a request has come in; when it has
ended, and before the guest hears of it, a mark is made that says which one. So what stands behind that mark was sent after
the end. Writes and flushes end late at random, so that whoever does not wait for them is seen.

Talks NBD as its oldest handshake has it (https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md). Knows nothing of
QEMU's command line or of tests.
"""

import heapq
import os
import random
import select
import socket
import struct
import threading
import time

import volatile_cache

MARK = 8

HELLO = struct.Struct(">8sQQI124x")
HELLO_MAGIC = b"NBDMAGIC"
OLD_STYLE = 0x00420281861253
HAS_FLAGS = 1
SEND_FLUSH = 4

REQUEST = struct.Struct(">IHHQQI")
REQUEST_MAGIC = 0x25609513
REPLY = struct.Struct(">IIQ")
REPLY_MAGIC = 0x67446698
READ, WRITE, DISCONNECT, FLUSH = range(4)
EINVAL = 22

# How often, and how late, a write or a flush ends.
LATE = 0.3
LATE_S = 0.02


class _Disk:
    def __init__(self, image, size_bytes, first_sector):
        self.file = os.open(image, os.O_RDWR)
        self.size_bytes = size_bytes
        self.first_sector = first_sector
        self.server, self.client = socket.socketpair()
        self.received = bytearray()


class Recorder:
    """Serves the disks from a thread of its own until it is stopped or QEMU has gone."""

    def __init__(self, disks, log, seed):
        self._random = random.Random(seed)
        self._log = open(log, "wb")
        self._entries = 0
        self._late = []             # (when, number of the entry, disk, handle)
        self._disks = []
        first_sector = 0
        for image, size_bytes in disks:
            self._disks.append(_Disk(image, size_bytes, first_sector))
            first_sector += size_bytes // volatile_cache.SECTOR_BYTES
        self._write_super()
        for number, disk in enumerate(self._disks):
            self._mark(f"disk {number} {disk.first_sector} {disk.size_bytes // volatile_cache.SECTOR_BYTES}")
            disk.server.sendall(HELLO.pack(HELLO_MAGIC, OLD_STYLE, disk.size_bytes, HAS_FLAGS | SEND_FLUSH))
        self.failure = None
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    @property
    def fds(self):
        """For each disk the end of its connection that QEMU gets."""
        return [disk.client.fileno() for disk in self._disks]

    def started(self):
        """QEMU has its ends: that it goes is to be seen."""
        for disk in self._disks:
            disk.client.close()

    def stop(self):
        """After QEMU has gone. Raises what went wrong while serving."""
        self.started()
        self._thread.join()
        self._write_super()
        self._log.close()
        for disk in self._disks:
            disk.server.close()
            os.close(disk.file)
        if self.failure:
            raise volatile_cache.LogError(f"the write log: {self.failure}")

    # The log

    def _write_super(self):
        self._log.seek(0)
        self._log.write(volatile_cache.SUPER.pack(volatile_cache.LOG_MAGIC, volatile_cache.LOG_VERSION, self._entries,
                                                  volatile_cache.SECTOR_BYTES).ljust(volatile_cache.SECTOR_BYTES, b"\0"))
        self._log.seek(0, os.SEEK_END)

    def _entry(self, sector, sectors, flags, inline=b"", data=b""):
        head = volatile_cache.ENTRY.pack(sector, sectors, flags, len(inline)) + inline
        self._log.write(head.ljust(volatile_cache.SECTOR_BYTES, b"\0"))
        self._log.write(data)
        self._entries += 1
        return self._entries - 1

    def _mark(self, text):
        self._entry(0, 0, MARK, inline=text.encode())

    # The disks

    def _serve(self):
        try:
            while self._disks_open():
                self._serve_once()
        except (OSError, ValueError) as error:
            self.failure = error

    def _disks_open(self):
        return [disk for disk in self._disks if disk.received is not None]

    def _serve_once(self):
        timeout = max(0, self._late[0][0] - time.monotonic()) if self._late else None
        open_disks = {disk.server: disk for disk in self._disks_open()}
        for server in select.select(list(open_disks), [], [], timeout)[0]:
            disk = open_disks[server]
            try:
                received = server.recv(1 << 20)
            except ConnectionResetError:
                received = b""
            if received:
                disk.received += received
                self._take_requests(disk)
            else:
                disk.received = None
        while self._late and self._late[0][0] <= time.monotonic():
            _, entry, disk, handle = heapq.heappop(self._late)
            self._end(entry, disk, handle)

    def _take_requests(self, disk):
        while disk.received is not None and len(disk.received) >= REQUEST.size:
            magic, _, kind, handle, offset, length = REQUEST.unpack_from(disk.received)
            if magic != REQUEST_MAGIC:
                raise ValueError("a request that is none")
            size = REQUEST.size + (length if kind == WRITE else 0)
            if len(disk.received) < size:
                return
            data = bytes(disk.received[REQUEST.size:size])
            del disk.received[:size]
            self._perform(disk, kind, handle, offset, length, data)

    def _perform(self, disk, kind, handle, offset, length, data):
        if kind == DISCONNECT:
            disk.received = None
        elif kind == READ:
            self._reply(disk, handle, os.pread(disk.file, length, offset))
        elif kind == WRITE:
            os.pwrite(disk.file, data, offset)
            sector, rest = divmod(offset, volatile_cache.SECTOR_BYTES)
            if rest or length % volatile_cache.SECTOR_BYTES:
                raise ValueError("a write of a part of a sector")
            self._end_some_time(self._entry(disk.first_sector + sector, length // volatile_cache.SECTOR_BYTES, 0,
                                            data=data), disk, handle)
        elif kind == FLUSH:
            self._end_some_time(self._entry(disk.first_sector, 0, volatile_cache.FLUSH), disk, handle)
        else:
            self._reply(disk, handle, error=EINVAL)

    def _end_some_time(self, entry, disk, handle):
        if self._random.random() < LATE:
            heapq.heappush(self._late, (time.monotonic() + self._random.random() * LATE_S, entry, disk, handle))
        else:
            self._end(entry, disk, handle)

    def _end(self, entry, disk, handle):
        self._mark(f"ended {entry}")
        self._reply(disk, handle)

    @staticmethod
    def _reply(disk, handle, data=b"", error=0):
        try:
            disk.server.sendall(REPLY.pack(REPLY_MAGIC, error, handle) + data)
        except (BrokenPipeError, ConnectionResetError):
            pass                    # QEMU was killed; its end is seen when nothing more is received
