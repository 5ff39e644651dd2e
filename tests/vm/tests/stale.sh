#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# What is written to an origin while no cow-origin is in front of it is found out, in the same boot and over reboots and
# power cuts: its snapshots are stale from then on. Without such writes none ever is, whenever the power fails.
# groups: quick interpose
# disks: 24M 16M 16M 128M
# write-cache: volatile
# check-store: 3
# timeout: 400
. "$SRC/tests/vm/guest/lib.sh"
. "$SRC/tests/vm/guest/cow.sh"

# write_at DEVICE MIB: changes a block there.
write_at() {
	dd if=/dev/urandom of="$1" bs=4k seek=$(($2 * 256)) count=1 oflag=direct conv=notrunc status=none || fail "$1 is not written"
}

# touch_mounted DEVICE [OPTIONS...]: mounts it, writes and unmounts.
touch_mounted() {
	mount "${@:2}" "$1" /run/mounted || fail "$1 is not mounted"
	date >"/run/mounted/file-$RANDOM" || fail "$1 is not written"
	umount /run/mounted || fail "$1 is not unmounted"
}

# swap_table NAME TABLE: while the device stays there.
swap_table() {
	dmsetup suspend "$1" && dmsetup load "$1" --table "$2" && dmsetup resume "$1" || fail "$1 gets no other table"
}

# both_there: an ext4 on a stacked origin, an xfs on an interposed one.
both_there() {
	store_make store "$DISK3" 2 segment_sectors 256
	origin_make ext4 store 1 "$DISK0"
	origin_interpose xfs store 2 "$DISK1"
}

both_gone() {
	check "all are removed" eval 'dmsetup remove ext4 && dmsetup remove xfs && dmsetup remove store'
}

# come_and_go_mounted: what changes the file systems' superblocks, again and again.
come_and_go_mounted() {
	touch_mounted /dev/mapper/ext4 && touch_mounted "$DISK1"
}

mkdir -p /run/mounted
modprobe -a ext4 xfs
load_module

case $(phase) in
start)
	check "an ext4" mkfs.ext4 -q "$DISK0"
	store_make store "$DISK3" 2 segment_sectors 256

	note "stacked, an ext4"
	origin_make ext4 store 1 "$DISK0"
	touch_mounted /dev/mapper/ext4
	check "a snapshot" dmsetup message store 0 create 10 1
	touch_mounted /dev/mapper/ext4
	same "it is active" "10:active" "$(states)"
	check "removed" dmsetup remove ext4
	blkid "$DISK0" >/dev/null
	origin_make ext4 store 1 "$DISK0"
	same "not written meanwhile" "10:active" "$(states)"
	check "removed" dmsetup remove ext4
	touch_mounted "$DISK0"
	origin_make ext4 store 1 "$DISK0"
	same "mounted meanwhile" "10:stale" "$(states)"
	dmsetup message store 0 events | grep -q ' stale 1$' || fail "there is no event"
	check "a later snapshot" dmsetup message store 0 create 11 1
	same "it is not stale" "10:stale 11:active" "$(states)"
	snap_make snap store 10 ext4 read_only
	same "the device of a stale one says so" stale "$(status_word snap 1)"
	check "what it has can be read" dd if=/dev/mapper/snap of=/dev/null bs=1M status=none
	dmsetup remove snap
	check "removed" dmsetup remove ext4
	origin_make ext4 store 1 "$DISK0"
	same "and it stays so" "10:stale 11:active" "$(states)"

	note "the table of a mapped device in use"
	table=$(dmsetup table ext4)
	swap_table ext4 "0 $(sectors "$DISK0") linear $DISK0 0"
	swap_table ext4 "$table"
	same "linear and back" "10:stale 11:active" "$(states)"
	check "mounted" mount /dev/mapper/ext4 /run/mounted
	swap_table ext4 "$table"
	swap_table ext4 "$table"
	same "another cow-origin" "10:stale 11:active" "$(states)"
	date >/run/mounted/before
	swap_table ext4 "0 $(sectors "$DISK0") linear $DISK0 0"
	date >/run/mounted/native
	sync
	swap_table ext4 "$table"
	same "linear, written, and back" "10:stale 11:stale" "$(states)"
	check "unmounted" umount /run/mounted
	check "a snapshot of a suspended origin" eval \
		'dmsetup suspend ext4 && dmsetup message store 0 create 12 1 && dmsetup resume ext4'
	same "it is active" "10:stale 11:stale 12:active" "$(states)"
	check "a snapshot of one that is suspended and then removed" eval \
		'dmsetup suspend ext4 && dmsetup message store 0 create 13 1 && dmsetup remove ext4'
	write_at "$DISK0" 10
	origin_make ext4 store 1 "$DISK0"
	same "it is stale" "10:stale 11:stale 12:stale 13:stale" "$(states)"

	note "rolling back to a stale one"
	write_at /dev/mapper/ext4 12
	now=$(sum "$DISK0")
	for words in "" " schedule"; do
		dmesg --clear
		refused "without force${words:+,}$words" eval "dmsetup message store 0 rollback 1 13 14$words 2>/dev/null"
		dmesg | grep -q 'snapshot 13 is stale' || fail "the log does not say why: $(dmesg | tail -n 5)"
	done
	same "no rollback is there" none "$(status_word ext4 6)"
	same "nothing was created" "10:stale 11:stale 12:stale 13:stale" "$(states)"
	same "the origin has what it had" "$now" "$(sum /dev/mapper/ext4)"
	snap_make snap store 13 ext4 read_only
	stale=$(sum /dev/mapper/snap)
	dmsetup remove snap
	[[ $stale != "$now" ]] || fail "the snapshot has what the origin has"
	check "with force it begins" dmsetup message store 0 rollback 1 13 14 force
	same "the origin has what the snapshot has" "$stale" "$(sum /dev/mapper/ext4)"
	for ((tries = 0; tries < 600; tries++)); do
		[[ $(status_word ext4 6) == none ]] && break
		sleep 0.1
	done
	same "all is copied back" none "$(status_word ext4 6)"
	check "all are deleted" dmsetup message store 0 delete 10 11 12 13 14
	check "removed" dmsetup remove ext4

	note "raw, stacked"
	origin_make raw store 3 "$DISK2"
	check "a snapshot" dmsetup message store 0 create 30 3
	write_at /dev/mapper/raw 9
	check "removed" dmsetup remove raw
	origin_make raw store 3 "$DISK2"
	same "not written meanwhile" "30:active" "$(states)"
	check "removed" dmsetup remove raw
	write_at "$DISK2" 9
	origin_make raw store 3 "$DISK2"
	same "a block in the middle was written" "30:stale" "$(states)"
	check "deleted" dmsetup message store 0 delete 30
	check "removed" dmsetup remove raw
	check "forgotten" dmsetup message store 0 forget 3

	note "a partition, interposed"
	check "partitions" sfdisk --quiet "$DISK2" <<<$'label: dos\nstart=2048,size=14336\nstart=16384,size=14336'
	part=${DISK2}1
	check "an ext4" mkfs.ext4 -q "$part"
	origin_interpose part store 4 "$part"
	check "mounted" mount "$part" /run/mounted
	check "a snapshot" dmsetup message store 0 create 40 4
	date >/run/mounted/file
	check "unmounted" umount /run/mounted
	check "removed" dmsetup remove part
	write_at "${DISK2}2" 4
	origin_interpose part store 4 "$part"
	same "only the other partition was written" "40:active" "$(states)"
	check "mounted to be read" mount -o ro "$part" /run/mounted
	check "removed while mounted" dmsetup remove part
	cat /run/mounted/file >/dev/null
	origin_interpose part store 4 "$part"
	same "not written meanwhile" "40:active" "$(states)"
	check "mounted to be written" mount -o remount,rw /run/mounted
	date >/run/mounted/file
	same "it is in front" "40:active" "$(states)"
	check "removed while mounted" dmsetup remove part
	date >/run/mounted/file
	sync
	origin_interpose part store 4 "$part"
	same "written meanwhile" "40:stale" "$(states)"
	check "unmounted" umount /run/mounted
	check "deleted" dmsetup message store 0 delete 40
	check "removed" dmsetup remove part
	check "forgotten" dmsetup message store 0 forget 4
	check "the store is removed" dmsetup remove store

	note "power cuts in front of mounted file systems"
	check "an xfs" mkfs.xfs -q --unsupported "$DISK1"
	both_there
	check "snapshots" dmsetup message store 0 create 10 1 20 2
	ask_power_cut 1 500 3000
	until_power_cut come_and_go_mounted
	;;
[123])
	both_there
	same "after a power cut" "10:active 20:active" "$(states)"
	check "the ext4 recovers" touch_mounted /dev/mapper/ext4
	check "the xfs recovers" touch_mounted "$DISK1"
	if [[ $(phase) != 3 ]]; then
		ask_power_cut $(($(phase) + 1)) 200 3000
		until_power_cut come_and_go_mounted
	fi
	check "the ext4 is mounted" mount /dev/mapper/ext4 /run/mounted
	mkdir -p /run/xfs
	check "the xfs is mounted" mount "$DISK1" /run/xfs
	reboot_to rebooted
	;;
rebooted)
	both_there
	same "after a reboot without removing anything" "10:active 20:active" "$(states)"
	check "the ext4 recovers" touch_mounted /dev/mapper/ext4
	check "the xfs recovers" touch_mounted "$DISK1"
	both_gone
	reboot_to left
	;;
left)
	both_there
	same "after a clean end" "10:active 20:active" "$(states)"
	check "later snapshots" dmsetup message store 0 create 11 1 21 2
	both_gone
	reboot_to native
	;;
native)
	touch_mounted "$DISK0"
	touch_mounted "$DISK1"
	reboot_to found
	;;
found)
	both_there
	same "a boot between wrote to them" "10:stale 11:stale 20:stale 21:stale" "$(states)"
	check "new ones" dmsetup message store 0 create 12 1 22 2
	check "the ext4 is mounted" mount /dev/mapper/ext4 /run/mounted
	mkdir -p /run/xfs
	check "the xfs is mounted" mount "$DISK1" /run/xfs
	date >/run/mounted/file
	date >/run/xfs/file
	sync
	ask_power_cut native-after-cut 100
	sleep 60
	;;
native-after-cut)
	touch_mounted "$DISK0"
	touch_mounted "$DISK1"
	reboot_to found-after-cut
	;;
found-after-cut)
	both_there
	same "a boot between recovered and wrote to them" \
		"10:stale 11:stale 12:stale 20:stale 21:stale 22:stale" "$(states)"
	check "all are deleted" dmsetup message store 0 delete 10 11 12 20 21 22
	check "new ones" dmsetup message store 0 create 13 1 23 2
	check "mounted" mount /dev/mapper/ext4 /run/mounted
	date >/run/mounted/file
	sync
	ask_power_cut checked 100
	sleep 60
	;;
checked)
	e2fsck -fp "$DISK0" >/dev/null
	write_at "$DISK1" 12
	both_there
	same "written in this boot before" "13:stale 23:stale" "$(states)"
	check "deleted" dmsetup message store 0 delete 13 23
	free_all store
	;;
esac
