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

# snapshot_of_fs ID: a snapshot of the mounted file system; sums[ID] is the origin's checksum at that instant, for one in
# $every. Of some it is that of the snapshot right afterwards: there the file system is frozen by nobody but the kernel.
snapshot_of_fs() {
	local id=$1
	if ((id % every != 1 && every != 1)); then
		dmsetup message store 0 create "$id" 1 || fail "snapshot $id"
		return
	fi
	if ((id % 8 == 3 || id % 16 == 9)); then
		dmsetup message store 0 create "$id" 1 || fail "snapshot $id"
		snap_make snap store "$id" origin read_only >/dev/null
		sums[id]=$(sum /dev/mapper/snap)
		dmsetup remove snap
		return
	fi
	fsfreeze --freeze /run/origin || fail "the file system is not frozen"
	sums[id]=$(sum /dev/mapper/origin)
	dmsetup message store 0 create "$id" 1 || fail "snapshot $id"
	fsfreeze --unfreeze /run/origin || fail "the file system stays frozen"
}

# snapshots_of_fs COUNT LOAD_S: so many snapshots of the mounted file system while fio writes to it, files come and go,
# what is free is trimmed, and other snapshots come and go. Each of up to 8, and one in SUM_EVERY (8) of more, must show
# what the origin was; some are looked at as file systems.
snapshots_of_fs() {
	local count=$1 id load sums=() trees=() every=1
	((count <= 8)) || every=${SUM_EVERY:-8}
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
			fallocate --zero-range --offset 8192 --length 65536 "/run/origin/file$((id % 5))" || fail "no zeros"
		fi
		snapshot_of_fs "$id"
		((id % 5)) || come_and_go store 1
		((id % 9)) || fstrim /run/origin || fail "fstrim"
	done
	check "fio finds what it wrote" wait "$load"
	rm -rf /run/origin/tree /run/origin/load
	check "what is free is trimmed" fstrim /run/origin
	make_tree /run/origin/tree
	sync
	for id in "${!sums[@]}"; do
		snap_make snap store "$id" origin read_only >/dev/null
		[[ ${sums[id]} == "$(sum /dev/mapper/snap)" ]] || fail "snapshot $id of $count is not what the origin was"
		if ((id % 16 == 1)); then
			check "snapshot $id is mounted" mount_snapshot /dev/mapper/snap /run/snapshot
			same "its files are those of its creation" "${trees[id]}" "$(tree_sum /run/snapshot/tree)"
			umount /run/snapshot
		fi
		dmsetup remove snap
		((id % 16 != 1)) || check_snapshot "$id"
	done
	say "ok: $count snapshots are what the origin was"
	for ((id = 1; id <= count; id++)); do
		dmsetup message store 0 delete "$id" || fail "snapshot $id is not deleted"
	done
	all_go store
	free_all store
}

RANDOM=$SEED
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
