# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
# What verify-ext4 and verify-xfs have in common. They set: make_fs DEVICE, mount_snapshot and
# mount_writable DEVICE DIRECTORY, check_fs DEVICE.
#
# A snapshot is made writable for that: an xfs that is frozen keeps its log for the next mount to replay.

# check_snapshot ID: its file system can be mounted for writing, and is sound then.
check_snapshot() {
	snap_make snap store "$1" origin
	check "it is mounted for writing" mount_writable /dev/mapper/snap /run/snapshot
	umount /run/snapshot
	check_fs /dev/mapper/snap
	dmsetup remove snap
}

# snapshots_of_fs COUNT: so many snapshots of the mounted file system while fio writes to it, files come and go, and
# what is free is trimmed; a few are looked at as file systems, all as devices.
snapshots_of_fs() {
	local count=$1 id load sums=() trees=()
	fio_verify /run/origin/load 12M randwrite --runtime="$2" --time_based &
	load=$!
	for ((id = 1; id <= count; id++)); do
		if ((id % 16 == 1)); then
			rm -rf /run/origin/tree
			make_tree /run/origin/tree
			printf '%s\n' "$id" >/run/origin/tree/number
			trees[id]=$(tree_sum /run/origin/tree)
		else
			printf '%s\n' "$id" >"/run/origin/file$((id % 5))"
		fi
		dmsetup message store 0 create "$id" 1 || fail "snapshot $id"
		if ((id % 16 == 1)); then
			snap_make snap store "$id" origin read_only >/dev/null
			sums[id]=$(sum /dev/mapper/snap)
			dmsetup remove snap
		fi
		((id % 9)) || fstrim /run/origin || fail "fstrim"
	done
	check "fio finds what it wrote" wait "$load"
	rm -rf /run/origin/tree /run/origin/load
	check "what is free is trimmed" fstrim /run/origin
	make_tree /run/origin/tree
	sync
	for ((id = 1; id <= count; id += 16)); do
		snap_make snap store "$id" origin read_only >/dev/null
		same "snapshot $id of $count is what the origin was" "${sums[id]}" "$(sum /dev/mapper/snap)"
		check "it is mounted" mount_snapshot /dev/mapper/snap /run/snapshot
		same "its files are those of its creation" "${trees[id]}" "$(tree_sum /run/snapshot/tree)"
		umount /run/snapshot
		dmsetup remove snap
		check_snapshot "$id"
	done
	for ((id = 1; id <= count; id++)); do
		dmsetup message store 0 delete "$id" || fail "snapshot $id is not deleted"
	done
	free_all store
}

mkdir -p /run/origin /run/snapshot
load_module
make_fs "$DISK0"
store_make store "$DISK1" 2 segment_sectors 256
origin_make origin store 1 "$DISK0"
check "the origin is mounted" mount /dev/mapper/origin /run/origin
for count in ${COUNTS:-1 8 64}; do
	snapshots_of_fs "$count" "${LOAD_S:-6}"
done
check "the origin is unmounted" umount /run/origin
check_fs /dev/mapper/origin
