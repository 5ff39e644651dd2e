#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# The module's allocations fail: each one of those that a table or a message makes, in turn, then any at random under load.
# Nothing crashes, hangs or leaks; what was refused has changed nothing and works when asked for again; writes to the origin
# never fail; snapshots stay exact, and only a store that fails at the same time loses them, and says so.
# groups: failure
# disks: 16M 128M 8M
# timeout: 300
. "$SRC/tests/vm/guest/lib.sh"
. "$SRC/tests/vm/guest/cow.sh"
. "$SRC/tests/vm/guest/faults.sh"
. "$SRC/tests/uml/guest/failures.sh"

message() {
	dmsetup message store 0 "$@"
}

# there DEVICE: is it one of the mapped devices?
there() {
	local file name
	for file in /sys/block/dm-*/dm/name; do
		read -r name <"$file"
		[[ $name != "$1" ]] || return 0
	done
	return 1
}

# removed DEVICE STATUS: a device that is there exactly if making it returned 0 is taken down again.
removed() {
	if (($2 == 0)); then
		dmsetup remove "$1" || fail "$1 is not there, although it was made"
	elif there "$1"; then
		fail "$1 is there, although making it failed"
	fi
}

# A device that was formatted would not be again; one that was not is blank still.
undo_blank_store() {
	removed other "$1"
	(($1)) || dd if=/dev/zero of="$DISK2" bs=64k count=2 oflag=direct status=none
}

undo_store() {
	removed store "$1"
}

undo_origin() {
	removed origin "$1"
}

undo_snap() {
	removed snap "$1"
}

# known: the ids of the snapshots that the store knows.
known() {
	local id
	while read -r id _; do
		printf '%s ' "$id"
	done < <(message snapshots)
}

undo_create() {
	if (($1 == 0)); then
		message delete 2 || fail "what was created cannot be deleted"
	elif [[ $(known) != "1 " ]]; then
		fail "a snapshot is there although creating it failed: $(known)"
	fi
}

undo_delete() {
	if (($1 == 0)); then
		message create 3 1 || fail "what was deleted cannot be made again"
	elif [[ $(known) != "1 3 " ]]; then
		fail "a snapshot is gone although deleting it failed: $(known)"
	fi
}

# exact_still: snapshot 1, and the store has not failed.
exact_still() {
	same "the store is at work" active "$(status_word store 2)"
	snap_make snap store 1 origin read_only
	same "the snapshot is exact" "$before" "$(sum /dev/mapper/snap)"
	dmsetup remove snap
}

load_module
failures_in_module
bad_make
below_make below "$DISK1"
size=$(sectors "$DISK1")
store_table="0 $size cow-store /dev/mapper/below 2 4 segment_sectors 256 loss_wait_ms 1000"
origin_table="0 $(sectors "$DISK0") cow-origin /dev/mapper/store 1 $DISK0"
snap_table="0 $(sectors "$DISK0") cow-snap /dev/mapper/store 1"

# one after the other; the reserves are filled by hundreds of the same
no_failures_in cow_io_init
each_failure "formatting a store" undo_blank_store dmsetup create other --table "0 $(sectors "$DISK2") cow-store $DISK2 2"
check "a store" dmsetup create store --table "$store_table"
each_failure "a new origin" undo_origin dmsetup create origin --table "$origin_table"
check "the origin" dmsetup create origin --table "$origin_table"
fill /dev/mapper/origin 1
before=$(sum /dev/mapper/origin)
check "a snapshot" message create 1 1
check "some blocks are preserved" dd if=/dev/urandom of=/dev/mapper/origin bs=64k count=32 oflag=direct status=none
each_failure "creating a snapshot" undo_create dmsetup message store 0 create 2 1
check "a snapshot to be deleted" message create 3 1
each_failure "deleting a snapshot" undo_delete dmsetup message store 0 delete 3
each_failure "a snapshot's device" undo_snap dmsetup create snap --table "$snap_table"
exact_still
check "it is deleted" message delete 3
dmsetup remove origin
each_failure "attaching a known origin" undo_origin dmsetup create origin --table "$origin_table"
# all that a new origin itself needs, also where one way to have it is tried after the other
count_failures
failures_in_module cow_origin_new
failures 100
refused "an origin without memory for it is attached" dmsetup create other \
	--table "0 $(sectors "$DISK2") cow-origin /dev/mapper/store 2 $DISK2"
failures 0
count_failures
check "allocations did fail ($failed_now)" test "$failed_now" -ge 1
origin_make other store 2 "$DISK2"
dmsetup remove other
failures_in_module
no_failures_in cow_io_init
dmsetup remove store
each_failure "activating the store" undo_store dmsetup create store --table "$store_table"
check "the store is activated" dmsetup create store --table "$store_table"
check "the origin is there" dmsetup create origin --table "$origin_table"
exact_still
no_failures_in

# any of them, under load
for percent in 2 20 60; do
	count_failures
	check "a snapshot device to be written" dmsetup create snap --table "$snap_table"
	now=$(sum /dev/mapper/origin)
	check "a snapshot" message create "1$percent" 1
	failures "$percent"
	fio_verify /dev/mapper/snap 2M randwrite &
	overlay=$!
	fio_verify /dev/mapper/origin 12M randwrite --time_based --runtime=4 --verify_backlog=64 &
	load=$!
	made=0
	while kill -0 $load 2>/dev/null; do
		message create 100 1 2>/dev/null && ((++made)) && until message delete 100 2>/dev/null; do sleep 0.1; done
		sleep 0.1
	done
	check "no write to the origin fails when $percent % of the allocations do" wait $load
	check "nor one to a snapshot" wait $overlay
	failures 0
	dmsetup remove snap
	count_failures
	note "$percent %: $failed_now allocations failed, $made snapshots were made meanwhile"
	check "they did fail" test "$failed_now" -ge 50
	snap_make now store "1$percent" origin read_only
	failures "$percent"
	same "a snapshot from before is exact, read while allocations fail" "$now" "$(sum /dev/mapper/now)"
	failures 0
	dmsetup remove now
	same "the store is at work" active "$(status_word store 2)"
done

# none succeeds for a while: writes wait, or get along with what is reserved
check "a snapshot" message create 200 1
now=$(sum /dev/mapper/origin)
count_failures
failures 100
fio_verify /dev/mapper/origin 8M randwrite &
load=$!
sleep 3
failures 0
check "no write fails when no allocation succeeds for 3 s" wait $load
count_failures
check "they did fail ($failed_now)" test "$failed_now" -ge 10
snap_make now store 200 origin read_only
same "the snapshot from before is exact" "$now" "$(sum /dev/mapper/now)"
dmsetup remove now
origin_sum=$(sum /dev/mapper/origin)
remount
same "the origin has all that was written" "$origin_sum" "$(sum /dev/mapper/origin)"
failures_in_module
snap_make now store 200 origin read_only
same "the snapshot is exact after an activation" "$now" "$(sum /dev/mapper/now)"
dmsetup remove now

# the store fails at the same time: its snapshots are lost, and it is told so when there is memory again
count_failures
failures 60
below_fails below "$DISK1" writes 0 "$size"
check "no write to the origin fails when its store does, and memory lacks" \
	dd if=/dev/urandom of=/dev/mapper/origin bs=64k count=256 oflag=direct status=none
failures 0
count_failures
check "allocations did fail ($failed_now)" test "$failed_now" -ge 1
same "the store says that it failed" failed "$(status_word store 2)"
origin_sum=$(sum /dev/mapper/origin)
below_works below "$DISK1"
dmsetup remove origin
dmsetup remove store
check "the store is activated" dmsetup create store --table "$store_table"
check "the origin is there" dmsetup create origin --table "$origin_table"
same "the origin has all that was written" "$origin_sum" "$(sum /dev/mapper/origin)"
same "all snapshots are lost" lost "$(message snapshots | cut -d' ' -f5 | sort -u)"
mapfile -t ids < <(message snapshots | cut -d' ' -f1)
check "they are deleted" message delete "${ids[@]}"
free_all store
note "$injected_faults allocations failed"
