#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Origins of one store that stand on each other: what the upper one's driver has to write to the lower one, before it takes a
# write, is preserved there while that write waits. An array and its member (superblock, bitmap, resync), a loop device and the disk
# of its file.
# groups: interpose
# disks: 24M 256M 24M 24M
# timeout: 300
. "$SRC/tests/vm/guest/lib.sh"
. "$SRC/tests/vm/guest/cow.sh"
. "$SRC/tests/vm/guest/interpose.sh"

write_one() {
	dd if=/dev/urandom of="$1" bs=4k seek="$2" count=1 oflag=direct conv=notrunc status=none
}

write_many() {
	fio --name=many --filename="$1" --rw=randwrite --bs=4k --direct=1 --ioengine=libaio --iodepth=256 --iodepth_batch=64 \
		--randrepeat=0 --randseed="$SEED" --size=12M --io_size=4M --output=/run/fio.log
}

# exact_pair WHAT UPPER LOWER COMMAND...: snapshots of both at one instant are what both were, after the command. (With
# LOWER_MOVES the lower one is written to all the time.)
exact_pair() {
	local upper lower
	sync
	upper=$(sum "$2")
	lower=$(sum "$3")
	check "$1: snapshots of both" dmsetup message store 0 create 1 1 2 2
	ends 60 "$1" "${@:4}"
	snap_make snap1 store 1 upper read_only
	snap_make snap2 store 2 lower read_only
	same "$1: the upper one's" "$upper" "$(sum /dev/mapper/snap1)"
	[[ ${LOWER_MOVES-} ]] || same "$1: the lower one's" "$lower" "$(sum /dev/mapper/snap2)"
	[[ $lower != "$(sum "$3")" ]] || fail "$1: nothing was written"
	check "$1: they are removed" eval 'dmsetup remove snap1 && dmsetup remove snap2'
	check "$1: they are deleted" dmsetup message store 0 delete 1 2
}

# quiet: nothing was written to the array for so long that its superblock says so, or that its bitmap does.
quiet() {
	local i
	if [[ $bitmap == internal ]]; then
		sleep 4
		return
	fi
	for ((i = 0; i < 100; i++)); do
		[[ $(</sys/block/md9/md/array_state) == clean ]] && return
		sleep 0.1
	done
	fail "the array does not become clean: $(</sys/block/md9/md/array_state)"
}

write_while_repaired() {
	write_many /dev/md9
	[[ $(</sys/block/md9/md/sync_action) == repair ]] || fail "it is not repaired any more"
}

load_module
modprobe -a raid1 loop ext4 || fail "modules are missing"
store_make store "$DISK1" 2 segment_sectors 256

# With a bitmap the array never becomes clean here: only its bitmap is written before a write.
for bitmap in none internal; do
	note "an array with the bitmap \"$bitmap\", and its member"
	check "an array" mdadm --create /dev/md9 --quiet --run --assume-clean --level=1 --raid-devices=2 --bitmap=$bitmap \
		"$DISK0" --write-mostly "$DISK2"
	if [[ $bitmap == internal ]]; then
		echo 1 >/sys/block/md9/md/bitmap/time_base
		echo 0 >/sys/block/md9/md/safe_mode_delay
	fi
	origin_interpose upper store 1 /dev/md9
	origin_interpose lower store 2 "$DISK2"
	fill /dev/md9 "$SEED"
	quiet
	exact_pair "a write to an array that was quiet" /dev/md9 "$DISK2" write_one /dev/md9 77
	quiet
	exact_pair "many writes" /dev/md9 "$DISK2" write_many /dev/md9
	quiet
	# what the second mirror has is read by nobody; repairing writes it
	dd if=/dev/urandom of="$DISK2" bs=1M seek=12 count=8 oflag=direct conv=notrunc status=none
	echo 400 >/sys/block/md9/md/sync_speed_max
	echo 400 >/sys/block/md9/md/sync_speed_min
	echo repair >/sys/block/md9/md/sync_action
	LOWER_MOVES=1 exact_pair "many writes while it is repaired" /dev/md9 "$DISK2" write_while_repaired
	echo idle >/sys/block/md9/md/sync_action
	check "both are detached" eval 'dmsetup remove upper && dmsetup remove lower'
	check "both are forgotten" eval 'dmsetup message store 0 forget 1 && dmsetup message store 0 forget 2'
	check "the array is stopped" mdadm --stop --quiet /dev/md9
	mdadm --zero-superblock "$DISK0" "$DISK2"
done

note "a loop device, and the disk of its file"
mkfs.ext4 -q "$DISK3"
mkdir -p /run/files
mount "$DISK3" /run/files
fallocate -l 12M /run/files/image
loop=$(losetup --find --show --direct-io=on /run/files/image)
origin_interpose upper store 1 "$loop"
origin_interpose lower store 2 "$DISK3"
fill "$loop" "$SEED"
sync
LOWER_MOVES=1 exact_pair "many writes" "$loop" "$DISK3" write_many "$loop" # freezing writes, too
check "both are detached" eval 'dmsetup remove upper && dmsetup remove lower'
losetup --detach "$loop"
umount /run/files
check "the file system is sound" e2fsck -fn "$DISK3"
free_all store
