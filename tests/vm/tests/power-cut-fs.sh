#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# The power is cut while an ext4 and an xfs on origins of one store are written by fio and snapshots of both are
# created and deleted as sets. Each time both file systems recover, all acknowledged snapshots are exact and sound
# and the deleted ones are gone; at the end no space has leaked.
# groups: crash smp both
# disks: 12M 16M 1G
# write-cache: volatile
# check-store: 2
# timeout: 240
. "$SRC/tests/vm/guest/lib.sh"
. "$SRC/tests/vm/guest/cow.sh"

round=0
[[ $(phase) == start ]] || round=$(phase)

# acknowledged WORDS...: durably written down.
acknowledged() {
	printf '%s\n' "$*" >>/bed/acknowledged
	sync /bed/acknowledged
}

# set_sum ID: of both snapshots of a set.
set_sum() {
	local which
	for which in 1 2; do
		snap_make "snap$which" store $(($1 * 2 + which)) "origin$which" read_only >/dev/null
		sum "/dev/mapper/snap$which"
		dmsetup remove "snap$which"
	done | tr '\n' ' '
}

# delete_set ID
delete_set() {
	acknowledged deleting "$1"
	dmsetup message store 0 delete $(($1 * 2 + 1)) $(($1 * 2 + 2)) || fail "set $1 is not deleted"
	acknowledged deleted "$1"
}

# change_sets: creates a set, and deletes the oldest of more than three.
change_sets() {
	local oldest
	id=$((id + 1))
	acknowledged creating "$id"
	dmsetup message store 0 create $((id * 2 + 1)) 1 $((id * 2 + 2)) 2 || return 1
	acknowledged created "$id" "$(set_sum "$id")"
	if (($(sets_of_store | wc -l) > 3)); then
		oldest=$(sets_of_store | head -n 1)
		delete_set "$oldest"
	fi
}

# sets_of_store: the sets that are there; one that is there in part gets a line of its own kind.
sets_of_store() {
	dmsetup message store 0 snapshots | awk '$5 != "active" { print "not active:", $0 }
		{ id = int(($1 - 1) / 2); members[id]++ }
		END { for (id in members) print members[id] == 2 ? id : "in part: " id }' | sort -n
}

# check_sets: what was acknowledged, against what is there.
check_sets() {
	local -A sums=() unsure=()
	local what set rest there
	while read -r what set rest; do
		case $what in
		creating) unsure[$set]=1 ;;
		created)
			sums[$set]=$rest
			unset "unsure[$set]"
			;;
		deleting)
			unset "sums[$set]"
			unsure[$set]=1
			;;
		deleted) unset "unsure[$set]" ;;
		esac
		id=$((set > id ? set : id))
	done </bed/acknowledged
	there=$(sets_of_store)
	for set in $there; do
		if [[ -n ${unsure[$set]-} ]]; then
			note "set $set was being made or deleted: it is there, and goes now"
			delete_set "$set"
		else
			same "set $set is exact" "${sums[$set]-none}" "$(set_sum "$set" | sed 's/ $//')"
			unset "sums[$set]"
		fi
	done
	same "no acknowledged set is missing" "" "${!sums[*]}"
}

# check_file_systems: of the newest set, and of the origins once they have recovered. So small an xfs has one allocation
# group, and no second superblock to compare its geometry with.
check_file_systems() {
	local newest which
	check "the ext4 recovers" mount /dev/mapper/origin1 /run/ext4
	check "the xfs recovers" mount /dev/mapper/origin2 /run/xfs
	check "the ext4 is unmounted" umount /run/ext4
	check "the xfs is unmounted" umount /run/xfs
	check "the ext4 is sound" e2fsck -fn /dev/mapper/origin1
	check "the xfs is sound" xfs_repair -n -o force_geometry /dev/mapper/origin2
	newest=$(sets_of_store | tail -n 1)
	[[ -n $newest ]] || fail "no set has survived"
	snap_make snap1 store $((newest * 2 + 1)) origin1 read_only
	check "the ext4 of a snapshot is sound" e2fsck -fn /dev/mapper/snap1
	# a frozen xfs keeps its log for the next mount to replay
	snap_make snap2 store $((newest * 2 + 2)) origin2
	check "the xfs of a snapshot recovers" mount -o nouuid /dev/mapper/snap2 /run/xfs
	umount /run/xfs
	check "the xfs of a snapshot is sound" xfs_repair -n -o force_geometry /dev/mapper/snap2
	dmsetup remove snap1
	dmsetup remove snap2
	delete_set "$newest"
}

mkdir -p /run/ext4 /run/xfs
modprobe -a ext4 xfs
load_module
if [[ $(phase) == start ]]; then
	check "an ext4" mkfs.ext4 -q "$DISK0"
	check "an xfs" mkfs.xfs -q --unsupported "$DISK1"
	: >/bed/acknowledged
	sync
fi
store_make store "$DISK2" 2 segment_sectors 256
origin_make origin1 store 1 "$DISK0"
origin_make origin2 store 2 "$DISK1"
id=0
if ((round)); then
	check_sets
	check_file_systems
fi
if ((round < ${ROUNDS:-5})); then
	check "the ext4 is mounted" mount /dev/mapper/origin1 /run/ext4
	check "the xfs is mounted" mount /dev/mapper/origin2 /run/xfs
	# at a rate that leaves the emulated CPUs time for what goes on meanwhile
	for mounted in ext4 xfs; do
		fio --name=load --filename="/run/$mounted/load" --size=4M --rw=randwrite --bsrange=4k-32k --fsync=32 --rate_iops=300 \
			--time_based --runtime=1000 --randrepeat=0 --randseed=$((SEED + round)) --output=/dev/null &
	done
	check "a set is created and acknowledged" change_sets
	check "another one" change_sets
	ask_power_cut $((round + 1)) 500 8000
	until_power_cut change_sets
fi
for set in $(sets_of_store); do
	delete_set "$set"
done
free_all store
