#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# An origin that fails: writes get an error only where they would without snapshots. What cannot be read cannot be
# preserved: those blocks of a snapshot are errors from then on, all others stay exact, after an activation too.
# groups: long failure smp
# disks: 16M 128M
# timeout: 300
. "$SRC/tests/vm/guest/lib.sh"
. "$SRC/tests/vm/guest/cow.sh"
. "$SRC/tests/vm/guest/faults.sh"

message() {
	dmsetup message store 0 "$@"
}

# put FROM COUNT: writes so many blocks of 4 KiB to the origin.
put() {
	dd if=/dev/urandom of="$top" bs=4k seek="$1" count="$2" oflag=direct status=none
}

load_module
bad_make
below_make below "$DISK0"
store_make store "$DISK1" 2 segment_sectors 256
origin_any origin store 1 /dev/mapper/below
fill "$top" 1
image "$top" /run/first
check "a snapshot" message create 1 1
snap_make first store 1 origin read_only

# blocks 1024 to 1279 cannot be read
below_fails below "$DISK0" reads 8192 2048
refused "the origin cannot be read there" dd if="$top" of=/dev/null bs=4k skip=1030 count=1 iflag=direct status=none
check "it can be written there, as without a snapshot" put 1100 32
check "and where half is bad" put 1270 20
check "and elsewhere" put 0 64
below_works below "$DISK0"
result=$(compare /run/first /dev/mapper/first)
note "the snapshot: $result (equal, unreadable, wrong)"
read -r equal unreadable wrong <<<"$result"
same "no block of the snapshot is wrong" 0 "$wrong"
check "what was overwritten unread is an error" test "$unreadable" -ge 42
check "little else is (one run read at a time)" test "$unreadable" -le $((42 + 32))
image "$top" /run/second
check "a second snapshot" message create 2 1
snap_make second store 2 origin read_only

# writes to blocks 2048 to 2303 fail
below_fails below "$DISK0" writes 16384 2048
refused "a write that the origin's device refuses is an error" put 2050 4
refused "also when part of it could be written" put 2300 8
check "others are not" put 2304 64
below_works below "$DISK0"
check "it can be written again" put 2100 64
same "no block of the newer snapshot is wrong or unreadable" "4096 0 0" "$(compare /run/second /dev/mapper/second)"
same "the older one is as before" "$equal $unreadable 0" "$(compare /run/first /dev/mapper/first)"

# everything comes and goes, under a load that takes errors; a snapshot made meanwhile is there or not
below_flakey below "$DISK0" 1 1
fio --name=load --filename="$top" --rw=randwrite --bsrange=4k-32k --direct=1 --ioengine=libaio \
	--iodepth=8 --time_based --runtime=7 --randrepeat=0 --randseed="$SEED" --continue_on_error=all --output=/run/fio.log &
load=$!
made=0
for id in 11 12 13 14; do
	sleep 1.3
	message create $id 1 && made=$((made + 1))
done
wait $load || note "fio ended with an error, as it may"
below_works below "$DISK0"
note "$made of 4 snapshots were made meanwhile"
check "a snapshot at the end" message create 20 1
image "$top" /run/last
put 0 512
read -r equal unreadable wrong <<<"$(compare /run/first /dev/mapper/first)"
note "the first snapshot: $equal equal, $unreadable unreadable"
same "no block of the first snapshot is wrong" 0 "$wrong"
read -r _ second_unreadable wrong <<<"$(compare /run/second /dev/mapper/second)"
same "no block of the second snapshot is wrong" 0 "$wrong"
dmsetup remove first
dmsetup remove second
same "the store itself has not failed" active "$(status_word store 2)"

remount
snap_make first store 1 origin read_only
snap_make second store 2 origin read_only
snap_make last store 20 origin read_only
same "after an activation the first is as before" "$equal $unreadable 0" "$(compare /run/first /dev/mapper/first)"
same "and the second" "$((4096 - second_unreadable)) $second_unreadable 0" "$(compare /run/second /dev/mapper/second)"
same "and the last is exact" "4096 0 0" "$(compare /run/last /dev/mapper/last)"
dmsetup remove first
dmsetup remove second
dmsetup remove last
mapfile -t ids < <(message snapshots | cut -d' ' -f1)
check "all are deleted" message delete "${ids[@]}"
free_all store
