#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Devices of all kinds while they are in use: attached under load, snapshots are exact, detached under load.
# groups: interpose
# disks: 16M 256M 16M 24M 24M
# timeout: 500
. "$SRC/tests/vm/guest/lib.sh"
. "$SRC/tests/vm/guest/cow.sh"
. "$SRC/tests/vm/guest/interpose.sh"

# exact DEVICE...: all that four writers stamp on them, at the instant of each set of snapshots.
exact() {
	local device id=9 origins=()
	for device; do
		blkdiscard --zeroout "$device"
		origin_interpose "raw$id" store $id "$device"
		origins+=(--origin "raw$id:$id:$device")
		((id++))
	done
	check "$*: snapshots are exact" "$BUILD/tests/vm/programs/exact-snapshots" --store store "${origins[@]}" \
		--seed "$SEED" --writers 4 --alignment 8 --most 6 create:3 "steps:${STEPS:-8}" verify delete:all
	while ((--id >= 9)); do
		check "raw$id is detached" dmsetup remove "raw$id"
		dmsetup message store 0 forget $id
	done
}

# linear NAME DEVICE FROM SECTORS
linear() {
	dmsetup create "$1" --table "0 $4 linear $2 $3"
}

load_module
modprobe -a loop raid1 dm-crypt dm-thin-pool sd_mod || fail "modules are missing"
modprobe scsi_debug dev_size_mb=16 || fail "there is no scsi_debug"
mount -t tracefs tracefs /sys/kernel/tracing 2>/dev/null
store_make store "$DISK1" 2 segment_sectors 256

note "virtio"
preserved "$DISK0" "$DISK0"
exact "$DISK0"

note "SCSI"
scsi=/dev/$(ls /sys/bus/pseudo/drivers/scsi_debug/adapter0/host*/target*/*/block)
[[ -b $scsi ]] || fail "there is no SCSI disk"
preserved "$scsi" "$scsi"

note "polled: writes that are taken are not, and who polls for them finds their end"
modprobe null_blk nr_devices=0 || fail "no null_blk"
mount -t configfs configfs /sys/kernel/config 2>/dev/null
polled=/sys/kernel/config/nullb/nullb0
check "a disk of memory" mkdir $polled
for setting in size=16 memory_backed=1 poll_queues=1 power=1; do
	echo "${setting#*=}" >"$polled/${setting%=*}" || fail "it does not get $setting"
done
same "it can be polled" 1 "$(</sys/block/nullb0/queue/io_poll)"
load_engine=(--ioengine=io_uring --hipri)
preserved /dev/nullb0 /dev/nullb0
load_engine=(--ioengine=libaio)
check "it goes" rmdir $polled

note "two partitions of one disk"
check "partitions" sfdisk --quiet "$DISK0" <<<$'label: dos\nstart=2048,size=14336\nstart=16384,size=14336'
parts=("${DISK0}1" "${DISK0}2")
origin_interpose other store 5 "${parts[1]}"
preserved "${parts[0]}" "${parts[0]}"
check "the other partition is detached" dmsetup remove other
dmsetup message store 0 forget 5
exact "${parts[@]}"

note "a loop device over a file of a mounted file system, whose device is interposed, too"
modprobe ext4
mkfs.ext4 -q "$DISK3"
mkdir -p /run/files
mount "$DISK3" /run/files
truncate -s 8M /run/files/image
loop=$(losetup --find --show --direct-io=off /run/files/image)
origin_interpose below store 6 "$DISK3"
check "a snapshot of what is below" dmsetup message store 0 create 60 6
preserved "$loop" "$loop"
check "it is deleted" dmsetup message store 0 delete 60
check "what is below is detached" dmsetup remove below
dmsetup message store 0 forget 6
losetup -d "$loop"
umount /run/files

note "MD RAID1, and a member of it"
check "an array" mdadm --create /dev/md9 --quiet --run --level=1 --raid-devices=2 --bitmap=none --assume-clean --metadata=1.2 \
	"$DISK3" "$DISK4"
udevadm settle 2>/dev/null
[[ -b /dev/md9 ]] || mknod /dev/md9 b 9 9
# else MD itself marks its members clean when writes have ended for a while, which may be between a checksum and a snapshot
echo 0 >/sys/block/md9/md/safe_mode_delay
# what nobody has written yet may differ, and be read from either
check "both members have the same" blkdiscard --zeroout /dev/md9
preserved /dev/md9 /dev/md9
preserved "$DISK3" /dev/md9
exact /dev/md9
check "the array is stopped" mdadm --stop --quiet /dev/md9

note "a logical volume, and the physical volume under it"
linear pv "$DISK3" 0 40960
linear lv /dev/mapper/pv 2048 24576
preserved /dev/mapper/lv /dev/mapper/lv
preserved /dev/mapper/pv /dev/mapper/lv
origin_interpose upper store 7 /dev/mapper/lv
origin_interpose lower store 8 /dev/mapper/pv
check "a set of both, one stacked on the other" dmsetup message store 0 create 70 7 80 8
verified_load /dev/mapper/lv 3 &
load=$!
check "a set under load" dmsetup message store 0 create 71 7 81 8
wait "$load" || fail "fio found an error under a set"
check "all are deleted" dmsetup message store 0 delete 70 71 80 81
dmsetup remove upper
dmsetup remove lower
dmsetup message store 0 forget 7
dmsetup message store 0 forget 8
dmsetup remove lv

note "dm-crypt"
check "an encrypted device" dmsetup create crypt --table \
	"0 24576 crypt aes-xts-plain64 $(printf '%064d' 7) 0 /dev/mapper/pv 0"
preserved /dev/mapper/crypt /dev/mapper/crypt
preserved /dev/mapper/pv /dev/mapper/crypt
dmsetup remove crypt

note "a thin volume"
linear meta "$DISK4" 0 8192
linear data "$DISK4" 8192 32768
check "a pool" dmsetup create pool --table "0 32768 thin-pool /dev/mapper/meta /dev/mapper/data 128 0"
dmsetup message pool 0 create_thin 0
dmsetup create thin --table "0 16384 thin /dev/mapper/pool 0"
preserved /dev/mapper/thin /dev/mapper/thin
for name in thin pool data meta pv; do
	dmsetup remove $name
done

free_all store
same "nothing is hooked any more" 0 "$(hooks)"
