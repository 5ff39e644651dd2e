#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# What is written to a snapshot stays in it: the origin and other snapshots do not see it, although the snapshot's
# file system is mounted and written while the origin is written, and it survives a reload of the module.
# groups: overlay smp
# disks: 48M 512M
# timeout: 300
. "$SRC/tests/vm/guest/lib.sh"
. "$SRC/tests/vm/guest/cow.sh"

load_module
modprobe ext4
check "a file system on the origin" mkfs.ext4 -q "$DISK0"
store_make store "$DISK1" 2 segment_sectors 256
origin_make origin store 1 "$DISK0"
mkdir -p /run/origin /run/snapshot
check "it is mounted" mount /dev/mapper/origin /run/origin
make_tree /run/origin/tree
tree=$(tree_sum /run/origin/tree)
sync
check "three snapshots are created" dmsetup message store 0 create 1 1 && dmsetup message store 0 create 2 1 &&
	dmsetup message store 0 create 3 1
snap_make plain store 1 origin read_only
snap_make written store 2 origin
snap_make raw store 3 origin
before=$(sum /dev/mapper/plain)

check "the snapshot is mounted for writing" mount /dev/mapper/written /run/snapshot
fio_verify /run/origin/load 6M randwrite &
check "a verified load on the mounted snapshot" fio_verify /run/snapshot/load 6M randwrite
check "a verified load on a raw snapshot" fio_verify /dev/mapper/raw 8M randwrite --bsrange=512-64k --blockalign=512
check "a verified load on the origin meanwhile" wait $!
rm -r /run/snapshot/tree/*
make_tree /run/snapshot/tree2
tree2=$(tree_sum /run/snapshot/tree2)
same "the origin's files are untouched" "$tree" "$(tree_sum /run/origin/tree)"
check "the snapshot is unmounted" umount /run/snapshot
same "another snapshot is untouched" "$before" "$(sum /dev/mapper/plain)"
written=$(sum /dev/mapper/written)
raw=$(sum /dev/mapper/raw)
check "the origin is unmounted" umount /run/origin
check "the origin's file system is sound" e2fsck -fn /dev/mapper/origin
origin=$(sum /dev/mapper/origin)
dmsetup remove plain
dmsetup remove written
dmsetup remove raw

remount
snap_make plain store 1 origin read_only
snap_make written store 2 origin
snap_make raw store 3 origin read_only
same "after a reload the origin is the same" "$origin" "$(sum /dev/mapper/origin)"
same "and the plain snapshot" "$before" "$(sum /dev/mapper/plain)"
same "and the written file system" "$written" "$(sum /dev/mapper/written)"
same "and the written raw snapshot" "$raw" "$(sum /dev/mapper/raw)"
check "the written file system is sound" e2fsck -fn /dev/mapper/written
check "it is mounted again" mount -o ro /dev/mapper/written /run/snapshot
same "its files are there" "$tree2" "$(tree_sum /run/snapshot/tree2)"
umount /run/snapshot
dmsetup remove plain
dmsetup remove written
dmsetup remove raw
check "all are deleted" dmsetup message store 0 delete 2 1 3
free_all store
