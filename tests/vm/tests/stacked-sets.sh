#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Sets of origins that are stacked on each other: nothing waits for a device that was stopped before it. And the caches that are
# flushed are volatile.
# groups: interpose exact
# disks: 16M 64M
# timeout: 400
. "$SRC/tests/vm/guest/lib.sh"
. "$SRC/tests/vm/guest/cow.sh"
. "$SRC/tests/vm/guest/interpose.sh"

# of_both FIRST SECOND: a set of origins 1 and 2, under a load to the upper one, is exact.
of_both() {
	local load lower upper
	verified_load "$written" 4 &
	load=$!
	sleep 1
	check "a set under load" timeout 60 dmsetup message store 0 create "$1" 1 "$2" 2
	wait "$load" || fail "fio found an error"
	dmsetup message store 0 delete "$1" "$2"
	check "a set of an idle one" timeout 60 dmsetup message store 0 create "$1" 1 "$2" 2
	lower=$(sum "$base") upper=$(sum "$written")
	verified_load "$written" 1 || fail "fio found an error"
	check "snapshot device snap-lower" dmsetup create snap-lower \
		--table "0 $(sectors "$DISK0") cow-snap /dev/mapper/store $1 1 read_only"
	check "snapshot device snap-upper" dmsetup create snap-upper \
		--table "0 $(sectors "$written") cow-snap /dev/mapper/store $2 1 read_only"
	same "the lower one's is exact" "$lower" "$(sum /dev/mapper/snap-lower)"
	same "the upper one's is exact" "$upper" "$(sum /dev/mapper/snap-upper)"
	dmsetup remove snap-lower
	dmsetup remove snap-upper
	dmsetup message store 0 delete "$1" "$2"
}

load_module
mount -t tracefs tracefs /sys/kernel/tracing 2>/dev/null
store_make store "$DISK1" 2 segment_sectors 256
same "the disk has a volatile cache" "write back" "$(cat "/sys/block/${DISK0##*/}/queue/write_cache")"

note "an origin on an origin"
origin_make lower store 1 "$DISK0"
base=/dev/mapper/lower
origin_make upper store 2 /dev/mapper/lower
written=/dev/mapper/upper
of_both 10 20
dmsetup remove upper
dmsetup message store 0 forget 2

note "an origin on a device on an origin"
dmsetup create between --table "0 24576 linear /dev/mapper/lower 2048"
origin_make upper store 2 /dev/mapper/between
of_both 11 21
dmsetup remove upper
dmsetup message store 0 forget 2

note "an origin that is interposed above a stacked one: refused, and nothing hangs or stays stopped"
origin_interpose upper store 2 /dev/mapper/between
refused "a set of both" timeout 100 dmsetup message store 0 create 12 1 22 2
dmesg | grep -E "create: (the cache of|writes to the device of) origin 2" || fail "the kernel does not say why"
written=/dev/mapper/between
verified_load "$written" 1 || fail "fio found an error"
check "each alone" dmsetup message store 0 create 13 1
check "and the other" dmsetup message store 0 create 23 2
dmsetup message store 0 delete 13 23
dmsetup remove upper
dmsetup remove between
dmsetup remove lower
dmsetup message store 0 forget 2
dmsetup message store 0 forget 1

base=$DISK0
note "an origin stacked on one that was interposed before, and after"
origin_interpose lower store 1 "$DISK0"
dmsetup create between --table "0 24576 linear $DISK0 2048"
origin_make upper store 2 /dev/mapper/between
written=/dev/mapper/upper
of_both 14 24
dmsetup remove lower
origin_interpose lower store 1 "$DISK0"
of_both 15 25
dmsetup remove upper
dmsetup remove lower
dmsetup remove between
free_all store
