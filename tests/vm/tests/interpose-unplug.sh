#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Disks are pulled out of the machine, and another one deleted from its SCSI host, while they are interposed, mounted and
# written to. Their users get errors; other origins of the store go on, and what is left can be cleaned up.
# groups: interpose failure
# disks: 32M 128M 16M 32M:nvme
# hotplug: yes
# timeout: 420
. "$SRC/tests/vm/guest/lib.sh"
. "$SRC/tests/vm/guest/cow.sh"
. "$SRC/tests/vm/guest/interpose.sh"

# gone WHAT DEVICE REMOVE...: with a mounted file system on it, under load. The store keeps its snapshot until it is deleted.
gone() {
	local what=$1 device=$2 load tries=0 other_before
	shift 2
	note "$what"
	mkfs.ext4 -q "$device"
	mount "$device" /run/origin
	origin_interpose origin store 1 "$device"
	check "$what: a snapshot" dmsetup message store 0 create 1 1
	snap_make snap store 1 origin read_only
	check "a snapshot of another origin" dmsetup message store 0 create 2 2
	other_before=$(sum "$DISK2")
	fio --name=load --filename=/run/origin/load --size=8M --rw=randwrite --bs=4k --direct=1 --ioengine=libaio --iodepth=8 \
		--time_based --runtime=120 --output=/run/load.log --eta=never &
	load=$!
	sleep 1
	"$@" || fail "$what: it is not removed"
	while [[ -e /sys/class/block/${device#/dev/} ]]; do
		((++tries < 100)) || fail "$what: it is still there"
		sleep 0.2
	done
	if wait "$load"; then
		fail "$what: its users do not notice that it is gone"
	fi
	say "ok: $what: its users get errors"
	refused "$what: what the snapshot has not preserved cannot be read" dd if=/dev/mapper/snap of=/dev/null bs=1M iflag=direct \
		status=none
	same "the store goes on" active "$(status_word store 2)"
	verified_load "$DISK2" 2 || { tail -20 /run/fio.log; fail "the other origin has errors"; }
	snap_make other_snap store 2 other read_only
	same "the other origin's snapshot is exact" "$other_before" "$(sum /dev/mapper/other_snap)"
	dmsetup remove other_snap
	umount /run/origin 2>/dev/null || umount --lazy /run/origin
	check "$what: its snapshot's device is removed" dmsetup remove snap
	check "$what: both snapshots are deleted" dmsetup message store 0 delete 1 2
	check "$what: it is detached" dmsetup remove origin
	check "$what: it is forgotten" dmsetup message store 0 forget 1
	[[ $(hooks) == 2 ]] || fail "the other origin is not interposed any more"
}

delete_scsi() {
	echo 1 >"/sys/class/block/${scsi#/dev/}/device/delete"
}

load_module
modprobe -a ext4 sd_mod nvme
modprobe scsi_debug dev_size_mb=32 || fail "there is no scsi_debug"
scsi=/dev/$(ls /sys/bus/pseudo/drivers/scsi_debug/adapter0/host*/target*/*/block)
nvme=/dev/nvme0n1
mount -t tracefs tracefs /sys/kernel/tracing 2>/dev/null
mkdir -p /run/origin
store_make store "$DISK1" 2 segment_sectors 256
origin_interpose other store 2 "$DISK2"
gone "a SCSI disk that is deleted" "$scsi" delete_scsi
gone "a disk that is pulled out" "$DISK0" unplug 0
preserved "$nvme" "$nvme"
gone "an NVMe disk that is pulled out" "$nvme" unplug 3
check "the other origin is detached" dmsetup remove other
dmsetup message store 0 forget 2
free_all store
check "the store is taken down" dmsetup remove store
check "the module is unloaded" rmmod dm-cow-snap
