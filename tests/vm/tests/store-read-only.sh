#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# A store that can be read but takes no writes is not activated, and nothing is left behind by the attempts: its device is free,
# the module can be unloaded, and when it can be written again all of it is there.
# groups: failure
# disks: 8M 64M
. "$SRC/tests/vm/guest/lib.sh"
. "$SRC/tests/vm/guest/cow.sh"
. "$SRC/tests/vm/guest/faults.sh"

load_module
bad_make
below_make below "$DISK1"
size=$(sectors "$DISK1")
table="0 $size cow-store /dev/mapper/below 2 2 segment_sectors 256"
check "a store" dmsetup create store --table "$table"
origin_make origin store 1 "$DISK0"
fill /dev/mapper/origin 1
before=$(sum /dev/mapper/origin)
check "a snapshot" dmsetup message store 0 create 1 1
fill /dev/mapper/origin 2
dmsetup remove origin
dmsetup remove store
below_fails below "$DISK1" writes 0 "$size"
for attempt in 1 2 3; do
	refused "a store that cannot be written is activated, attempt $attempt" dmsetup create store --table "$table"
	check "its device is free" dmsetup create free --table "0 8 linear /dev/mapper/below 0"
	dmsetup remove free
done
check "the module is unloaded" rmmod dm-cow-snap
sleep 1
below_works below "$DISK1"
load_module
check "the store is activated when it can be written" dmsetup create store --table "$table"
origin_make origin store 1 "$DISK0"
snap_make snap store 1 origin read_only
same "its snapshot is exact" "$before" "$(sum /dev/mapper/snap)"
