#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Devices that cannot be interposed are refused, by name, and go on as they are.
# groups: quick interpose both
# disks: 16M 64M 16M
# hotplug: yes
# kernel-words: memmap=32M!512M
# timeout: 200
. "$SRC/tests/vm/guest/lib.sh"
. "$SRC/tests/vm/guest/cow.sh"

# not_interposed DEVICE WHY: refused, with these words in the kernel's log; it can be read as before.
not_interposed() {
	[[ -b $1 ]] || fail "there is no $1"
	dmesg --clear
	refused "$1 is refused" dmsetup create origin --table "0 $(sectors "$1") cow-origin /dev/mapper/store 1 $1 1 interpose"
	dmsetup remove origin 2>/dev/null
	dmesg | grep -qF -- "$2" || fail "the log does not say '$2': $(dmesg | tail -n 5)"
	say "ok: the log says '$2'"
	check "$1 goes on as it is" dd if="$1" of=/dev/null bs=4k count=1 iflag=direct status=none
}

load_module
store_make store "$DISK1"

note "read-only"
check "a disk is read-only" blockdev --setro "$DISK0"
not_interposed "$DISK0" "The origin's device is read-only"
blockdev --setrw "$DISK0"

note "zoned"
modprobe null_blk nr_devices=1 zoned=1 zone_size=4 gb=1 memory_backed=0 || fail "no null_blk"
not_interposed /dev/nullb0 "A zoned device cannot be an origin"
rmmod null_blk

note "with integrity metadata"
modprobe sd_mod
modprobe scsi_debug dev_size_mb=16 dif=1 dix=1 || fail "no scsi_debug"
scsi=/dev/$(ls /sys/bus/pseudo/drivers/scsi_debug/adapter0/host*/target*/*/block)
not_interposed "$scsi" "A device with integrity metadata cannot be interposed"

note "with DAX, in use"
modprobe -a nd_e820 nd_pmem ext4 || fail "no persistent memory"
for ((tries = 0; tries < 100; tries++)); do
	[[ -b /dev/pmem0 ]] && break
	sleep 0.1
done
mkfs.ext4 -q -b 4096 /dev/pmem0
mkdir -p /run/dax
check "it is mounted with DAX" mount -o dax=always /dev/pmem0 /run/dax
not_interposed /dev/pmem0 "A device with DAX cannot be interposed"
umount /run/dax
check "a mapped device on it" dmsetup create over --table "0 16384 linear /dev/pmem0 0"
not_interposed /dev/mapper/over "A device with DAX cannot be interposed"
dmsetup remove over

note "counts nothing"
if [[ $KERNEL == 6.1 ]]; then
	modprobe brd rd_nr=1 rd_size=16384 || fail "no brd"
	not_interposed /dev/ram0 "A device with rw_page cannot be interposed"
	modprobe linear || fail "no linear"
	check "an array" mdadm --create /dev/md8 --quiet --run --level=linear --raid-devices=2 --metadata=1.2 "$DISK0" "$DISK2"
	[[ -b /dev/md8 ]] || mknod /dev/md8 b 9 8
	not_interposed /dev/md8 "A device whose driver counts nothing cannot be interposed"
	check "it is stacked" dmsetup create origin --table "0 $(sectors /dev/md8) cow-origin /dev/mapper/store 1 /dev/md8"
	dmsetup remove origin
	check "the array is stopped" mdadm --stop --quiet /dev/md8
else
	note "kernels from 6.12 on have neither rw_page nor MD's linear"
fi
check "a RAID0" mdadm --create /dev/md9 --quiet --run --level=0 --raid-devices=2 --metadata=1.2 "$DISK0" "$DISK2"
[[ -b /dev/md9 ]] || mknod /dev/md9 b 9 9
echo 0 >/sys/block/md9/queue/iostats || fail "iostats is not switched off"
not_interposed /dev/md9 "write 1 to its queue/iostats"
echo 1 >/sys/block/md9/queue/iostats
check "with iostats it is not" dmsetup create origin \
	--table "0 $(sectors /dev/md9) cow-origin /dev/mapper/store 9 /dev/md9 1 interpose"
dmsetup remove origin
check "the array is stopped" mdadm --stop --quiet /dev/md9

note "twice"
check "a disk is interposed" dmsetup create origin --table "0 $(sectors "$DISK0") cow-origin /dev/mapper/store 2 $DISK0 1 interpose"
refused "another origin on it is refused" dmsetup create second \
	--table "0 $(sectors "$DISK0") cow-origin /dev/mapper/store 3 $DISK0 1 interpose"
dmsetup remove second 2>/dev/null
refused "the store's own device is" dmsetup create second \
	--table "0 $(sectors "$DISK1") cow-origin /dev/mapper/store 4 $DISK1 1 interpose"
dmsetup remove second 2>/dev/null
check "it is detached" dmsetup remove origin
check "the module is unloaded" eval 'dmsetup remove store && rmmod dm-cow-snap'
