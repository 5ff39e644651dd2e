#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# `dmsetup remove --force` puts an error in the place of a device that is in use. On an origin under load its snapshots
# stay exact; on the store the origins go on preserving, and the store comes back with its table; on a snapshot nobody
# else sees it. Afterwards all can be taken down, and is whole when activated again.
# groups: long failure smp
# disks: 16M 128M
# timeout: 300
. "$SRC/tests/vm/guest/lib.sh"
. "$SRC/tests/vm/guest/cow.sh"
. "$SRC/tests/vm/guest/faults.sh"

message() {
	dmsetup message store 0 "$@"
}

# load_start: fio on the origin; it takes errors.
load_start() {
	fio --name=load --filename=/dev/mapper/origin --rw=randwrite --bsrange=4k-32k --direct=1 --ioengine=libaio \
		--iodepth=8 --time_based --runtime=100 --randrepeat=0 --randseed="$SEED" --continue_on_error=all --output=/run/fio.log &
	load=$!
	sleep 1
}

load_end() {
	kill -INT $load
	wait $load
}

# removed_by_force NAME: its table is an error now; the device is there still, because it is in use.
removed_by_force() {
	dmsetup remove --force "$1" 2>&1
	same "$1 is an error" error "$(dmsetup table "$1" | cut -d' ' -f3)"
}

load_module
store_make store "$DISK1" 2 segment_sectors 256
origin_make origin store 1 "$DISK0"
store_table=$(dmsetup table store)
origin_table=$(dmsetup table origin)
fill /dev/mapper/origin 1
image /dev/mapper/origin /run/first
check "a snapshot" message create 1 1
snap_make first store 1 origin read_only

load_start
removed_by_force store
sleep 1
refused "no message reaches the store" message snapshots
check "the origin is written and preserved all the same" dd if=/dev/urandom of=/dev/mapper/origin bs=64k count=32 \
	oflag=direct status=none
same "the snapshot is exact" "4096 0 0" "$(compare /run/first /dev/mapper/first)"
swap_table store <<<"$store_table"
same "the store is back with its table" active "$(status_word store 2)"
check "it takes messages" message create 2 1

removed_by_force origin
sleep 1
load_end
image "$DISK0" /run/now
refused "the origin is an error" dd if=/dev/mapper/origin of=/dev/null bs=4k count=1 iflag=direct status=none
same "its snapshot is exact" "4096 0 0" "$(compare /run/first /dev/mapper/first)"
refused "no snapshot can be made of it" message create 3 1
note "the store: $(message origins) $(dmsetup status store)"
swap_table origin <<<"$origin_table"
same "the origin is back with its table" "4096 0 0" "$(compare /run/now /dev/mapper/origin)"
image /dev/mapper/origin /run/third
check "a snapshot can be made" message create 3 1

exec 9</dev/mapper/first
removed_by_force first
refused "the snapshot's device is an error" dd if=/dev/mapper/first of=/dev/null bs=4k count=1 iflag=direct status=none
exec 9<&-
check "it goes when nobody has it open" dmsetup remove first
load_start
sleep 1
load_end
snap_make first store 1 origin read_only
snap_make third store 3 origin read_only
same "the first snapshot is exact" "4096 0 0" "$(compare /run/first /dev/mapper/first)"
same "and the third" "4096 0 0" "$(compare /run/third /dev/mapper/third)"
image /dev/mapper/origin /run/now

# nobody has them open: they go at once, in the right order or not
dmsetup remove first
dmsetup remove third
removed_by_force store
check "the origin goes" dmsetup remove --force origin
check "the store goes" dmsetup remove --force store
check "the module is unloaded" rmmod dm-cow-snap
load_module
check "the store is activated again" dmsetup create store --table "$store_table"
check "and the origin" dmsetup create origin --table "$origin_table"
snap_make first store 1 origin read_only
snap_make third store 3 origin read_only
same "the origin is whole" "4096 0 0" "$(compare /run/now /dev/mapper/origin)"
same "the first snapshot too" "4096 0 0" "$(compare /run/first /dev/mapper/first)"
same "and the third" "4096 0 0" "$(compare /run/third /dev/mapper/third)"
dmsetup remove first
dmsetup remove third
check "all are deleted" message delete 1 2 3
free_all store
