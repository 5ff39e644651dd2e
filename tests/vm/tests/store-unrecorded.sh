#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# A store that takes no writes at all any more, not even that its snapshots are lost: writes to its origin wait until
# that has been recorded elsewhere, or as long as the table says. When it works again, its snapshots are lost: by the
# module's memory, and, where the module was unloaded, by what user space tells it.
# groups: quick failure smp
# disks: 16M 48M
# timeout: 200
. "$SRC/tests/vm/guest/lib.sh"
. "$SRC/tests/vm/guest/cow.sh"

message() {
	dmsetup message store 0 "$@"
}

# below TARGET...: what the store's device is from now on.
below() {
	echo "0 $(sectors "$DISK1") $*" | dmsetup reload below
	dmsetup suspend --noflush below
	dmsetup resume below
}

# store_and_origin [FEATURES...]
store_and_origin() {
	store_make store /dev/mapper/below 2 "$@"
	origin_make origin store 1 "$DISK0"
}

state() {
	message snapshots | awk -v id="$1" '$1 == id {print $5}'
}

# write_origin PART: a part that was not written before, so that it has to be preserved.
write_origin() {
	dd if=/dev/urandom of=/dev/mapper/origin bs=64k count=8 seek=$((8 * $1)) oflag=direct status=none
}

# lost_snapshot ID: it is known to be lost, and reads as errors.
lost_snapshot() {
	same "snapshot $1 is lost" lost "$(state "$1")"
	snap_make snap store "$1" origin read_only
	refused "and is not shown" dd if=/dev/mapper/snap of=/dev/null bs=4k count=1 iflag=direct status=none
	dmsetup remove snap
}

load_module
check "a device below the store" dmsetup create below --table "0 $(sectors "$DISK1") linear $DISK1 0"
store_and_origin loss_wait_ms 600000
fill /dev/mapper/origin 1
check "a snapshot" message create 1 1
write_origin 0
refused "a loss is not recorded before it happens" message loss_recorded

below error
write_origin 1 &
writer=$!
for ((i = 0; i < 100; i++)); do
	message events | grep -q ' unrecorded ' && break
	sleep 0.1
done
last_set=$(message events | awk '$2 == "unrecorded" {print $3}')
check "an event tells the last set" test "$last_set" -ge "$(message snapshots | cut -d' ' -f4)"
same "the store says that it has failed" failed "$(status_word store 2)"
sleep 1
check "the write waits" kill -0 "$writer"
check "the loss is recorded elsewhere" message loss_recorded
check "the write goes on, without an error" wait "$writer"
check "the origin can be written" write_origin 2
check "saying it again does no harm" message loss_recorded
refused "a store that fails takes no message about a loss" message lost "$last_set"
after=$(sum /dev/mapper/origin)
dmsetup remove origin
dmsetup remove store

below linear "$DISK1" 0
store_and_origin loss_wait_ms 500
same "the origin has all that was written" "$after" "$(sum /dev/mapper/origin)"
lost_snapshot 1
check "a new one" message create 2 1
same "which is exact" active "$(state 2)"

below error
check "no one records the loss: the write waits as long as it may, then goes on" write_origin 3
last_set=$(message events | awk '$2 == "unrecorded" {print $3}')
dmsetup remove origin
dmsetup remove store
check "the module is unloaded, and forgets" rmmod dm-cow-snap
below linear "$DISK1" 0
load_module
store_make store /dev/mapper/below
same "the store alone cannot know" active "$(state 2)"
refused "a loss needs the number of a set" message lost
refused "a number" message lost x
refused "a possible one" message lost 18446744073709551615
check "it is told" message lost "$last_set"
check "and told again" message lost "$last_set"
origin_make origin store 1 "$DISK0"
lost_snapshot 2
check "a third one" message create 3 1
check "it is told once more" message lost "$last_set"
same "which is not about the new one" active "$(state 3)"
remount
same "nor later" active "$(state 3)"
lost_snapshot 1
check "all are deleted" message delete 1 2 3
free_all store
