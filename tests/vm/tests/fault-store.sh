#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# A store that cannot be read, returns wrong bits, loses writes that it acknowledged, or fails now and then: the origin
# never gets an error, and what a snapshot shows is exact or an error, never wrong, after an activation too.
# groups: failure smp
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
	dd if=/dev/urandom of=/dev/mapper/origin bs=4k seek="$1" count="$2" oflag=direct status=none
}

# never_wrong WHAT IMAGE DEVICE: sets equal and unreadable.
never_wrong() {
	local wrong
	read -r equal unreadable wrong <<<"$(compare "$2" "$3")"
	note "$1: $equal equal, $unreadable unreadable"
	same "$1: nothing is wrong" 0 "$wrong"
}

load_module
bad_make
below_make below "$DISK1"
size=$(sectors "$DISK1")
store_make store /dev/mapper/below 2 segment_sectors 256
origin_make origin store 1 "$DISK0"
fill /dev/mapper/origin 1
image /dev/mapper/origin /run/first
check "a snapshot" message create 1 1
snap_make first store 1 origin read_only
check "some blocks are preserved" put 0 512

# what is there cannot be read
below_fails below "$DISK1" reads 512 $((size - 512))
check "the origin can be written while the store cannot be read" put 512 512
never_wrong "the store cannot be read" /run/first /dev/mapper/first
same "what is preserved cannot be read, the rest can" "3072 1024" "$equal $unreadable"
below_works below "$DISK1"
same "when it can be read again, the snapshot is exact" "4096 0 0" "$(compare /run/first /dev/mapper/first)"

# what is read has wrong bits: a MiB of the store is other data
sleep 1
check "a part of the store is kept" dd if="$DISK1" of=/run/kept bs=4k skip=1024 count=256 iflag=direct status=none
check "and spoiled" dd if=/dev/urandom of="$DISK1" bs=4k seek=1024 count=256 oflag=direct status=none
never_wrong "the store returns wrong bits" /run/first /dev/mapper/first
check "wrong bits are errors" test "$unreadable" -ge 64
same "it tells that it saw damage" damaged "$(status_word first 1)"
check "the bits are right again" dd if=/run/kept of="$DISK1" bs=4k seek=1024 oflag=direct status=none
same "so is the snapshot" "4096 0 0" "$(compare /run/first /dev/mapper/first)"
dmsetup remove first

# writes that were acknowledged do not happen for a while; later ones prove that they were acknowledged
image /dev/mapper/origin /run/second
check "a second snapshot" message create 2 1
check "some blocks are preserved" put 0 8
below_flakey below "$DISK1" 0 1000 "1 drop_writes"
check "some are lost" put 100 48
sleep 1
below_works below "$DISK1"
check "more are preserved" put 200 48
sleep 1
snap_make second store 2 origin read_only
never_wrong "writes to the store were lost" /run/second /dev/mapper/second
check "what was lost is an error" test "$unreadable" -ge 48
dmsetup remove second
remount
snap_make second store 2 origin read_only
never_wrong "the same after an activation" /run/second /dev/mapper/second
check "what was lost is an error still" test "$unreadable" -ge 48
snap_make first store 1 origin read_only
never_wrong "the older snapshot" /run/first /dev/mapper/first
dmsetup remove first
dmsetup remove second
check "both are deleted" message delete 1 2

# the store fails now and then, under a load that is verified
check "a third snapshot" message create 3 1
snap_make third store 3 origin read_only
below_flakey below "$DISK1" 1 1
check "the origin is written and read without an error" fio_verify /dev/mapper/origin 8M randwrite --time_based \
	--runtime=6 --verify_backlog=64
same "the store has failed" failed "$(status_word store 2)"
refused "its snapshot is an error" dd if=/dev/mapper/third of=/dev/null bs=4k count=1 iflag=direct status=none
below_works below "$DISK1"
refused "and stays one" dd if=/dev/mapper/third of=/dev/null bs=4k count=1 iflag=direct status=none
image /dev/mapper/origin /run/last
dmsetup remove third
remount
same "the origin has all that was written" "4096 0 0" "$(compare /run/last /dev/mapper/origin)"
check "the snapshot is deleted" message delete 3
free_all store
