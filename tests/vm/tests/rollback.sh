#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# An origin that is rolled back shows the snapshot at once and can be written; afterwards its own device has the same. All
# other snapshots stay exact, also what was there before, and a rollback to that brings all back. Cancelled, scheduled,
# interrupted: what was asked for comes out. While it is half done its own device begins with a marker.
# groups: quick exact
# disks: 32M 24M 160M
# write-cache: volatile
# check-store: 2
# timeout: 600
. "$SRC/tests/vm/guest/lib.sh"
. "$SRC/tests/vm/guest/cow.sh"

# rolled_back ORIGIN: waits until all is copied back.
rolled_back() {
	local tries=0
	until [[ $(status_word "$1" 6) == none ]]; do
		((++tries < 600)) || fail "the rollback of $1 does not end: $(dmsetup status "$1")"
		sleep 0.1
	done
}

# exact ORIGIN ID SUM...: snapshots have these contents.
exact() {
	local origin=$1
	shift
	while (($#)); do
		snap_make snap store "$1" "$origin" read_only
		same "snapshot $1 is exact" "$2" "$(sum /dev/mapper/snap)"
		check "it is closed" dmsetup remove snap
		shift 2
	done
}

# change DEVICE SEED: 3 MiB of it, here and there.
change() {
	local i
	for i in 0 5 11 17 23 29; do
		openssl enc -aes-128-ctr -nosalt -pass "pass:$2-$i" -in /dev/zero 2>/dev/null |
			dd of="$1" bs=128k iflag=fullblock oflag=seek_bytes,direct seek=$(((i * 1024 + $2 * 148) * 1024)) count=4 \
				conv=notrunc status=none || fail "$1 is not written"
	done
}

message() {
	dmsetup message store 0 "$@"
}

# writes_take MS: each one to what is below raw, from now on.
writes_take() {
	dmsetup suspend lower &&
		dmsetup load lower --table "0 $(sectors "$DISK0") delay $DISK0 0 0 $DISK0 0 $1" &&
		dmsetup resume lower || fail "writes do not take $1 ms"
}

modprobe ext4
mkdir -p /run/mounted
load_module
store_make store "$DISK2" 2 segment_sectors 256
check "a device that can be slow" dmsetup create lower --table "0 $(sectors "$DISK0") delay $DISK0 0 0 $DISK0 0 0"
origin_make raw store 1 /dev/mapper/lower

note "raw"
fill /dev/mapper/raw 1
sums=()
for id in 1 2 3; do
	sums[id]=$(sum /dev/mapper/raw)
	check "snapshot $id" message create $id 1
	change /dev/mapper/raw $id
done
now=$(sum /dev/mapper/raw)
check "a rollback to snapshot 2" message rollback 1 2 10
same "the origin shows it at once" "${sums[2]}" "$(sum /dev/mapper/raw)"
rolled_back raw
same "its own device has it" "${sums[2]}" "$(sum "$DISK0")"
exact raw 1 "${sums[1]}" 2 "${sums[2]}" 3 "${sums[3]}" 10 "$now"
check "a rollback to what was before" message rollback 1 10 11
change /dev/mapper/raw 4
written=$(sum /dev/mapper/raw)
rolled_back raw
same "what was written meanwhile is there" "$written" "$(sum "$DISK0")"
exact raw 1 "${sums[1]}" 3 "${sums[3]}" 10 "$now" 11 "${sums[2]}"

note "half done"
writes_take 300
check "a rollback" message rollback 1 1 20
same "it is not done at once" running "$(status_word raw 6)"
refused "a snapshot" message create 50 1
refused "another rollback" message rollback 1 2 51
refused "the snapshot that is needed goes" message delete 1
refused "the snapshot of what was before goes" message delete 20
check "its device is suspended" dmsetup suspend raw
same "it is not done" running "$(status_word raw 6)"
check "its own device begins with a marker" eval 'head -c 4096 "$DISK0" | grep -q "rollback of this device"'
check "it goes on" dmsetup resume raw
same "the origin shows the snapshot" "${sums[1]}" "$(sum /dev/mapper/raw)"
writes_take 0
rolled_back raw
same "its own device has it" "${sums[1]}" "$(sum "$DISK0")"
check "what was before is deleted" message delete 20
change /dev/mapper/raw 5
now=$(sum /dev/mapper/raw)
writes_take 300
check "a rollback that is to be cancelled" message rollback 1 3 12
check "it is written meanwhile" dd if=/dev/urandom of=/dev/mapper/raw bs=64k seek=400 count=1 oflag=direct status=none
same "it is not done" running "$(status_word raw 6)"
[[ $(sum /dev/mapper/raw) != "${sums[3]}" ]] || fail "what was written is not shown"
check "it is cancelled" message cancel 1
same "that is not done at once either" running "$(status_word raw 6)"
same "the origin shows what was before" "$now" "$(sum /dev/mapper/raw)"
refused "what is being cancelled is not cancelled" message cancel 1
writes_take 0
rolled_back raw
same "its own device has it" "$now" "$(sum "$DISK0")"
exact raw 1 "${sums[1]}" 2 "${sums[2]}" 3 "${sums[3]}" 12 "$now"

note "scheduled"
now=$(sum /dev/mapper/raw)
check "scheduled, and not" eval 'message rollback 1 1 13 schedule && message cancel 1'
check "scheduled" message rollback 1 1 13 schedule
same "nothing has changed" "$now" "$(sum /dev/mapper/raw)"
table=$(dmsetup table raw)
check "it is taken down" dmsetup remove raw
refused "it is interposed" dmsetup create raw --table "$table 1 interpose"
check "it is activated" dmsetup create raw --table "$table"
same "the origin shows the snapshot" "${sums[1]}" "$(sum /dev/mapper/raw)"
rolled_back raw
exact raw 1 "${sums[1]}" 2 "${sums[2]}" 13 "$now"

note "an ext4, and what was written to the snapshot"
check "an ext4" mkfs.ext4 -q "$DISK1"
origin_make ext4 store 2 "$DISK1"
check "it is mounted" mount /dev/mapper/ext4 /run/mounted
make_tree /run/mounted/tree
before=$(tree_sum /run/mounted/tree)
check "snapshot 100" message create 100 2
snap_make snap store 100 ext4
check "the snapshot is mounted" eval 'mkdir -p /run/snap && mount /dev/mapper/snap /run/snap'
echo "of the snapshot" >/run/snap/file
check "and closed" eval 'umount /run/snap && dmsetup remove snap'
rm -r /run/mounted/tree
check "it is unmounted" umount /run/mounted
check "a rollback" message rollback 2 100 101
check "it is mounted" mount /dev/mapper/ext4 /run/mounted
same "the files are back" "$before" "$(tree_sum /run/mounted/tree)"
same "with what the snapshot had" "of the snapshot" "$(cat /run/mounted/file)"
echo "written meanwhile" >/run/mounted/new
check "it is unmounted" umount /run/mounted
rolled_back ext4
check "both are taken down" eval 'dmsetup remove ext4 && dmsetup remove raw'
check "its own device is whole" e2fsck -fn "$DISK1"
check "and has the files" eval 'mount -o ro "$DISK1" /run/mounted && grep -q meanwhile /run/mounted/new && umount /run/mounted'
check "the store is taken down" eval 'dmsetup remove store && dmsetup remove lower'
