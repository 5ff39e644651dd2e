#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# The bed boots the kernel it was asked for, with two CPUs, the host's userland, the disks declared and a share.
# groups: bed quick
# disks: 64M 32M:4096
. "$SRC/tests/vm/guest/lib.sh"

note "$(uname -a)"
note "up for $(cut -d' ' -f1 /proc/uptime) s"
[[ $(uname -r) == "$KERNEL".* ]] || fail "asked for kernel $KERNEL, runs $(uname -r)"
same "two CPUs" 2 "$(nproc)"
same "size of the first disk" $((64 << 20)) "$(blockdev --getsize64 "$DISK0")"
same "logical blocks of the first disk" 512 "$(blockdev --getss "$DISK0")"
same "size of the second disk" $((32 << 20)) "$(blockdev --getsize64 "$DISK1")"
same "logical blocks of the second disk" 4096 "$(blockdev --getss "$DISK1")"
check "disks take discards" blkdiscard "$DISK0"
check "the share can be written" touch /bed/here
check "the source is there" test -r "$SRC/tests/vm/guest/lib.sh"
check "the root can be written, for this boot" touch /usr/share/here
