#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Origins whose size is no multiple of a block, a store whose size is no multiple of a segment, and stores and
# origins of different logical block sizes.
# groups: exact smp
# disks: 8M 8M:4096 600M 600M:4096
# timeout: 300
. "$SRC/tests/vm/guest/lib.sh"
. "$SRC/tests/vm/guest/cow.sh"

exercise() {
	check "$1" "$BUILD/tests/vm/programs/exact-snapshots" --store store --origin origin:1 --seed "$SEED" --most 6 "${@:2}"
}

# cut_off NAME DEVICE SECTORS: a device without the last sectors of that one.
cut_off() {
	check "a device $1 of odd size" dmsetup create "$1" --table "0 $(($(sectors "$2") - $3)) linear $2 0"
}

load_module
cut_off odd "$DISK0" 3
cut_off odd_store "$DISK2" 8195
store_make store /dev/mapper/odd_store 2 segment_sectors 512
origin_make origin store 1 /dev/mapper/odd
block=$(blockdev --getss /dev/mapper/origin)
same "the origin keeps its logical block size" 512 "$block"
exercise "snapshots of an odd origin are exact" "steps:${STEPS:-20}" delete:all
free_all store
dmsetup remove origin
dmsetup remove store

store_make store "$DISK3" 2 segment_sectors 256
origin_make origin store 1 /dev/mapper/odd
same "the origin keeps its logical block size above a store of 4 KiB blocks" 512 "$(blockdev --getss /dev/mapper/origin)"
exercise "snapshots in a store of 4 KiB blocks are exact" "steps:${STEPS:-20}" delete:all
free_all store
dmsetup remove origin
dmsetup remove store

check "the store's start is wiped" blkdiscard -z -l 1048576 /dev/mapper/odd_store
store_make store /dev/mapper/odd_store 2 segment_sectors 256
origin_make origin store 1 "$DISK1"
same "an origin of 4 KiB blocks keeps them" 4096 "$(blockdev --getss /dev/mapper/origin)"
exercise "snapshots of an origin of 4 KiB blocks are exact" --alignment 8 "steps:${STEPS:-20}" delete:all
free_all store
