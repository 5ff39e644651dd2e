#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# The module cannot be unloaded while one of its devices is there, and can be again and again when none is; nothing
# keeps a reference that it should have given back.
# groups: quick dmsetup smp both
# disks: 8M 64M
. "$SRC/tests/vm/guest/lib.sh"
. "$SRC/tests/vm/guest/cow.sh"

users() {
	cat /sys/module/dm_cow_snap/refcnt
}

for round in 1 2 3 4; do
	load_module
	same "a new module has no users" 0 "$(users)"
	store_make store "$DISK1" 2 segment_sectors 256
	refused "the module is not unloaded under a store" rmmod dm-cow-snap
	origin_make origin store 1 "$DISK0"
	dmsetup message store 0 create "$round" 1 || fail "snapshot $round"
	before=$(sum /dev/mapper/origin)
	snap_make snap store "$round" origin
	check "the origin is written" fio_verify /dev/mapper/origin 2M randwrite
	same "the snapshot is exact" "$before" "$(sum /dev/mapper/snap)"
	refused "a second table of a snapshot on another device" dmsetup create snap2 \
		--table "0 $(sectors "$DISK0") cow-snap /dev/mapper/store $round"
	refused "the module is not unloaded under a snapshot" rmmod dm-cow-snap
	dmsetup remove snap
	((round % 2)) || check "the snapshots are deleted" dmsetup message store 0 delete $((round - 1)) "$round"
	check "all devices are removed" dmsetup remove origin
	check "all devices are removed" dmsetup remove store
	same "nothing keeps the module" 0 "$(users)"
	check "the module is unloaded" rmmod dm-cow-snap
	for disk in "$DISK0" "$DISK1"; do
		check "the disk is free" dmsetup create free --table "0 8 linear $disk 0"
		dmsetup remove free
	done
done
