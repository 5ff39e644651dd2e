#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# The power is cut again and again while an origin is rolled back, forth and back. Each time it shows the one or the other
# state, the new one if that was acknowledged; copying goes on, and all snapshots are exact.
# groups: crash
# disks: 16M 320M
# write-cache: volatile
# check-store: 1
# timeout: 600
. "$SRC/tests/vm/guest/lib.sh"
. "$SRC/tests/vm/guest/cow.sh"

message() {
	dmsetup message store 0 "$@"
}

# exact: all snapshots are as /bed/sums has them.
exact() {
	local id expected
	while read -r id expected; do
		message snapshots | grep -q "^$id " || continue
		snap_make snap store "$id" origin read_only
		same "snapshot $id is exact" "$expected" "$(sum /dev/mapper/snap)"
		check "it is closed" dmsetup remove snap
	done </bed/sums
}

load_module
store_make store "$DISK1" 2 segment_sectors 256
origin_make origin store 1 "$DISK0"
round=0
if [[ $(phase) == start ]]; then
	fill /dev/mapper/origin 1
	check "snapshot 1" message create 1 1
	echo "1 $(sum /dev/mapper/origin)" >/bed/sums
	fill /dev/mapper/origin 2
	check "snapshot 2" message create 2 1
	echo "2 $(sum /dev/mapper/origin)" >>/bed/sums
	sum /dev/mapper/origin >/bed/shown
else
	round=$(phase)
	shown=$(sum /dev/mapper/origin)
	note "round $round: $(status_word origin 6) $(status_word origin 9)"
	if [[ -e /bed/acknowledged ]]; then
		same "what was acknowledged is shown" "$(cat /bed/wanted)" "$shown"
	else
		[[ $shown == "$(cat /bed/wanted)" || $shown == "$(cat /bed/shown)" ]] || fail "it shows neither the one nor the other"
	fi
	exact
	tries=0
	until [[ $(status_word origin 6) == none ]]; do
		((++tries < 600)) || fail "the rollback does not end: $(dmsetup status origin)"
		sleep 0.1
	done
	same "its own device has it" "$shown" "$(sum "$DISK0")"
	exact
	echo "$shown" >/bed/shown
fi
if ((round < ${ROUNDS:-4})); then
	target=$((round % 2 + 1))
	awk -v id=$target '$1 == id { print $2 }' /bed/sums >/bed/wanted
	echo "$((100 + round)) $(cat /bed/shown)" >>/bed/sums
	rm -f /bed/acknowledged
	sync
	ask_power_cut $((round + 1)) 50 2500
	check "a rollback" message rollback 1 $target $((100 + round))
	touch /bed/acknowledged
	sync
	sleep infinity
fi
check "all snapshots go" eval 'message snapshots | cut -d" " -f1 | xargs dmsetup message store 0 delete'
free_all store
check "it is taken down" eval 'dmsetup remove origin && dmsetup remove store'
