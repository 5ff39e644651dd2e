#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# A full store: no write to the origin fails or waits longer than the policy; the oldest snapshots of the
# waiting origin go, one at a time, with an event; those of other origins and newer ones stay exact. Writes
# to a snapshot get an error instead. Extending gives room while writes wait.
# groups: quick full smp
# disks: 32M 32M 16M 48M
# timeout: 300
. "$SRC/tests/vm/guest/lib.sh"
. "$SRC/tests/vm/guest/cow.sh"

message() {
	dmsetup message store 0 "$@"
}

# store_of SECTORS WAIT: the store on the first so many sectors of its device.
store_table() {
	echo "0 $1 cow-store $DISK3 2 2 full_wait_ms $2"
}

load_module
half=$((32 * 2048))
check "a store of 32 MiB" dmsetup create store --table "$(store_table $half 500)"
origin_make big store 1 "$DISK0"
origin_make second store 2 "$DISK1"
fill /dev/mapper/big 1
fill /dev/mapper/second 2
other=$(sum /dev/mapper/second)
check "a snapshot of the other origin" message create 20 2
check "the oldest snapshot" message create 1 1
dd if=/dev/urandom of=/dev/mapper/big bs=1M count=10 oflag=direct status=none
check "the next one" message create 2 1
dd if=/dev/urandom of=/dev/mapper/big bs=1M seek=10 count=10 oflag=direct status=none
newest=$(sum /dev/mapper/big)
check "the newest one" message create 3 1
snap_make old store 1 big read_only
start=$SECONDS
check "no write fails when the store is full" dd if=/dev/urandom of=/dev/mapper/big bs=1M count=18 oflag=direct status=none
((SECONDS - start < 100)) || fail "the writes waited $((SECONDS - start)) s"
left=$(message snapshots | cut -d' ' -f1 | tr '\n' ' ')
same "the oldest snapshots went, the others stayed" "3 20 " "$left"
message events
message events | grep -q 'dropped 1$' || fail "no event tells of snapshot 1"
message events | grep -q 'full 1$' || fail "no event tells that the store was full"
refused "an open snapshot that was dropped reads as an error" dd if=/dev/mapper/old of=/dev/null bs=4k count=1 iflag=direct status=none
dmsetup remove old
snap_make new store 3 big read_only
same "the newest snapshot is exact" "$newest" "$(sum /dev/mapper/new)"
snap_make elsewhere store 20 second read_only
same "the other origin's snapshot is exact" "$other" "$(sum /dev/mapper/elsewhere)"
dmsetup remove elsewhere

# a snapshot's own writes do not push out anything
snap_make writable store 20 second
refused "a write to a snapshot finds no room" dd if=/dev/urandom of=/dev/mapper/writable bs=1M count=30 oflag=direct status=none
same "and no snapshot went for it" "3 20 " "$(message snapshots | cut -d' ' -f1 | tr '\n' ' ')"
dmsetup remove writable

# extending while writes wait: nothing is dropped
check "a longer wait" dmsetup reload store --table "$(store_table $half 60000)"
dmsetup suspend store && dmsetup resume store
dd if=/dev/urandom of=/dev/mapper/big bs=1M seek=18 count=14 oflag=direct status=none &
writer=$!
sleep 3
kill -0 $writer 2>/dev/null || fail "the writes did not wait for room"
same "the store says that it is full" full "$(status_word store 2)"
check "the store is extended" dmsetup reload store --table "$(store_table "$(sectors "$DISK3")" 60000)"
dmsetup suspend store && dmsetup resume store
wait $writer || fail "a write failed"
say "ok: the writes went on"
same "nothing was dropped" "3 20 " "$(message snapshots | cut -d' ' -f1 | tr '\n' ' ')"
same "the newest snapshot is exact still" "$newest" "$(sum /dev/mapper/new)"
refused "a store does not shrink" dmsetup reload store --table "$(store_table $half 60000)"

# all of it again after an activation
dmsetup remove new
for device in big second store; do dmsetup remove $device; done
check "activation of the extended store" dmsetup create store --table "$(store_table "$(sectors "$DISK3")" 500)"
origin_make big store 1 "$DISK0"
origin_make second store 2 "$DISK1"
snap_make new store 3 big read_only
same "the newest snapshot is exact after activation" "$newest" "$(sum /dev/mapper/new)"
dmsetup remove new
check "deleting the rest" message delete 3 20
free_all store
