#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# A store that fails: the origin goes on without an error, its snapshots read as errors from then on, and a
# store that works again later does not present them as exact.
# groups: quick failure smp
# disks: 16M 48M
# timeout: 200
. "$SRC/tests/vm/guest/lib.sh"
. "$SRC/tests/vm/guest/cow.sh"

message() {
	dmsetup message store 0 "$@"
}

# backing GOOD: the store's device, of which only the first GOOD sectors work.
backing() {
	local size good=$1
	size=$(sectors "$DISK1")
	echo "0 $good linear $DISK1 0"
	((good == size)) || echo "$good $((size - good)) error"
}

load_module
size=$(sectors "$DISK1")
check "a device below the store" dmsetup create below --table "0 $size linear $DISK1 0"
store_make store /dev/mapper/below
origin_any origin store 1 "$DISK0"
fill "$top" 1
before=$(sum "$top")
check "a snapshot" message create 1 1
dd if=/dev/urandom of="$top" bs=64k count=8 oflag=direct status=none
snap_make snap store 1 origin read_only
same "it is exact" "$before" "$(sum /dev/mapper/snap)"

# the segments fail, the control record does not
backing 8192 | dmsetup reload below
dmsetup suspend --noflush below
dmsetup resume below
fill "$top" 3
same "the store says so" failed "$(status_word store 2)"
message events | grep -q ' failed ' || fail "no event tells"
refused "the snapshot is an error" dd if=/dev/mapper/snap of=/dev/null bs=4k count=1 iflag=direct status=none
refused "no snapshot can be made" message create 2 1
check "the origin can be written still" dd if=/dev/urandom of="$top" bs=64k count=4 oflag=direct status=none
after=$(sum "$top")
dmsetup remove snap
dmsetup remove origin
dmsetup remove store

# it works again
backing "$size" | dmsetup reload below
dmsetup suspend --noflush below
dmsetup resume below
store_make store /dev/mapper/below
origin_any origin store 1 "$DISK0"
same "the origin has all that was written" "$after" "$(sum "$top")"
message snapshots
same "the snapshot is known to be lost" lost "$(message snapshots | cut -d' ' -f5)"
snap_make snap store 1 origin read_only
refused "and is not shown" dd if=/dev/mapper/snap of=/dev/null bs=4k count=1 iflag=direct status=none
dmsetup remove snap
check "it can be deleted" message delete 1
free_all store
now=$(sum "$top")
check "and a new one made" message create 3 1
snap_make snap store 3 origin read_only
dd if=/dev/urandom of="$top" bs=64k count=8 oflag=direct status=none
same "which is exact" "$now" "$(sum /dev/mapper/snap)"
