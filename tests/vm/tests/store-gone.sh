#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# A store's device is pulled out while its origin is written: the origin goes on without an error and loses nothing, the
# snapshots are errors, all can be taken down; and another store can be used for the same origin afterwards.
# groups: long failure smp
# disks: 16M 64M
# timeout: 240
. "$SRC/tests/vm/guest/lib.sh"
. "$SRC/tests/vm/guest/cow.sh"
. "$SRC/tests/vm/guest/faults.sh"

message() {
	dmsetup message store 0 "$@"
}

load_module
pluggable_make 64
store_make store "$pluggable" 2 segment_sectors 256
origin_make origin store 1 "$DISK0"
fill /dev/mapper/origin 1
image /dev/mapper/origin /run/first
check "two snapshots" message create 1 1 && check "two snapshots" message create 2 1
snap_make first store 1 origin read_only
snap_make written store 2 origin
check "one of them is written" dd if=/dev/urandom of=/dev/mapper/written bs=64k count=8 oflag=direct status=none
check "some blocks are preserved" dd if=/dev/urandom of=/dev/mapper/origin bs=64k count=32 oflag=direct status=none
same "the snapshot is exact" "4096 0 0" "$(compare /run/first /dev/mapper/first)"

fio_verify /dev/mapper/origin 8M randwrite --time_based --runtime=10 --verify_backlog=64 &
load=$!
sleep 2
pull_out
check "blocks are written that are not preserved yet" dd if=/dev/urandom of=/dev/mapper/origin bs=64k seek=128 count=32 \
	oflag=direct status=none
same "the store has failed" failed "$(status_word store 2)"
check "the origin is written and read without an error" wait $load
refused "the snapshot is an error" dd if=/dev/mapper/first of=/dev/null bs=4k count=1 iflag=direct status=none
refused "so is the one that was written" dd if=/dev/mapper/written of=/dev/null bs=4k count=1 iflag=direct status=none
refused "it cannot be written any more" dd if=/dev/zero of=/dev/mapper/written bs=4k count=1 oflag=direct status=none
refused "no snapshot can be made" message create 3 1
check "the origin can be read" dd if=/dev/mapper/origin of=/dev/null bs=1M iflag=direct status=none
image /dev/mapper/origin /run/last
for device in first written origin store; do
	check "$device is taken down" dmsetup remove $device
done
check "the module is unloaded" rmmod dm-cow-snap
load_module
store_make store "$DISK1" 2 segment_sectors 256
origin_make origin store 1 "$DISK0"
same "the origin has all that was written" "4096 0 0" "$(compare /run/last /dev/mapper/origin)"
check "a snapshot in another store" message create 1 1
snap_make first store 1 origin read_only
fill /dev/mapper/origin 2
same "is exact" "4096 0 0" "$(compare /run/last /dev/mapper/first)"
dmsetup remove first
check "it is deleted" message delete 1
free_all store
