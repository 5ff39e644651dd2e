#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# A snapshot that was dropped while its device is there: the device is an error, and the store does not forget the origin
# before it has gone, not even when the origin's own device has another table by then.
# groups: quick full smp
# disks: 16M 8M
. "$SRC/tests/vm/guest/lib.sh"
. "$SRC/tests/vm/guest/cow.sh"
. "$SRC/tests/vm/guest/faults.sh"

message() {
	dmsetup message store 0 "$@"
}

load_module
store_make store "$DISK1" 4 segment_sectors 128 full_wait_ms 100
origin_make origin store 1 "$DISK0"
check "a snapshot" message create 1 1
snap_make snap store 1 origin read_only
check "the store is filled" dd if=/dev/urandom of=/dev/mapper/origin bs=64k count=256 oflag=direct status=none
same "the snapshot was dropped" "" "$(message snapshots)"
swap_table origin <<<"0 $(sectors "$DISK0") linear $DISK0 0"
same "the origin is not attached" 0 "$(message origins | cut -d' ' -f3)"
refused "the origin is forgotten while the snapshot's device is there" message forget 1
refused "the device is read" dd if=/dev/mapper/snap of=/dev/null bs=4k count=1 iflag=direct status=none
same "it says that it is lost" lost "$(status_word snap 1)"
dmsetup remove snap
check "the origin is forgotten" message forget 1
same "nothing is known of it" "" "$(message origins)"
