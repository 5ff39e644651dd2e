#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Attaching and detaching again and again under fio with verification, with openers of the device in a loop, while
# another origin keeps the hooks, and without; some cycles with the module loaded and unloaded. Nothing is lost, no count of
# references is left over. Each step of attaching may fail.
# groups: quick interpose both smp
# disks: 32M 128M 8M
# timeout: 500
. "$SRC/tests/vm/guest/lib.sh"
. "$SRC/tests/vm/guest/cow.sh"
. "$SRC/tests/vm/guest/interpose.sh"

cycles=${CYCLES:-4}
reloads=${RELOADS:-2}

# openers DEVICE: until /run/stop is there. On a "change" udevd opens it, too.
openers() {
	while [[ ! -e /run/stop ]]; do
		blkid -p "$1" >/dev/null
		xfs_db -r -c 'sb 0' "$1" >/dev/null 2>&1
		udevadm trigger --settle --action=change "$1"
	done
}

# references: of all modules.
references() {
	awk '$1 != "dm_cow_snap" { print $1, $3 }' /proc/modules | sort
}

# step_fails DEVICE STEP: attaching fails there.
step_fails() {
	echo "$2" >/sys/module/dm_cow_snap/parameters/interpose_fail
	refused "step $2 fails" dmsetup create cycle --table "0 $(sectors "$1") cow-origin /dev/mapper/store 1 $1 1 interpose"
	dmsetup remove --retry cycle 2>/dev/null
	same "step $2 did fail" 0 "$(</sys/module/dm_cow_snap/parameters/interpose_fail)"
}

# writes_to DEVICE: how many there were.
writes_to() {
	local counts device
	device=$(readlink -f "$1")
	read -r -a counts <"/sys/class/block/${device##*/}/stat"
	echo "${counts[4]}"
}

# cycles_of DEVICE FILE COUNT [STEP...]: FILE is written to meanwhile; then attaching fails at each of the steps.
cycles_of() {
	local i load opener before
	rm -f /run/stop
	openers "$1" &
	opener=$!
	# a file has all its blocks before
	[[ -b $2 ]] || dd if=/dev/zero of="$2" bs=1M count=12 conv=fsync status=none
	before=$(writes_to "$1")
	# as verified_load, which says why
	fio --name=load --filename="$2" --size=12M --rw=randwrite --bs=4k --direct=1 --ioengine=libaio --iodepth=8 \
		--io_size=1t --runtime=3600 --verify=crc32c --verify_backlog=64 --verify_fatal=1 --randseed="$SEED" \
		--output=/run/fio.log --eta=never &
	load=$!
	while kill -0 $load && (($(writes_to "$1") < before + 100)); do
		sleep 0.1
	done
	"$BUILD/tests/vm/programs/attach-cycles" store 1 "$1" "$3" $load || { tail -20 /run/fio.log; fail "the cycles of $1"; }
	for i in "${@:4}"; do
		step_fails "$1" "$i"
		kill -0 $load 2>/dev/null || { tail -20 /run/fio.log; fail "fio found an error when step $i had failed"; }
	done
	kill -INT $load
	wait $load
	grep -q 'err= 0' /run/fio.log || { tail -20 /run/fio.log; fail "fio found an error"; }
	touch /run/stop
	wait $opener
	say "ok: $3 cycles of $1"
}

modprobe -a ext4 xfs
mount -t tracefs tracefs /sys/kernel/tracing 2>/dev/null
load_module
/lib/systemd/systemd-udevd --daemon || fail "udevd does not start"
before=$(references)
store_make store "$DISK1" 2 segment_sectors 256
origin_interpose keeper store 9 "$DISK2"
mkdir -p /run/origin

mkfs.ext4 -q "$DISK0"
mount "$DISK0" /run/origin
cycles_of "$DISK0" /run/origin/load "$cycles" 1 2 3 4 5
umount /run/origin
check "the file system is sound" e2fsck -fn "$DISK0"

mkfs.xfs -q -f --unsupported "$DISK0"
mount "$DISK0" /run/origin
cycles_of "$DISK0" /run/origin/load "$cycles"
umount /run/origin
check "the file system is sound" xfs_repair -n "$DISK0"

check "a volume group" vgcreate -qq -y group "$DISK0"
check "a logical volume" lvcreate -qq -Wn -Zn -l 100%FREE -n volume group
cycles_of /dev/mapper/group-volume /dev/mapper/group-volume "$cycles"
check "the group goes" vgremove -qq -y group
check "the disk is nobody's" wipefs -qa "$DISK0"

cycles_of "$DISK0" "$DISK0" "$cycles"
dmsetup remove --retry keeper
same "nothing is hooked" 0 "$(hooks)"
cycles_of "$DISK0" "$DISK0" "$((cycles / 2))"

note "each step of attaching fails once"
fill "$DISK0" 3
now=$(sum "$DISK0")
for step in 1 2 3 4 5; do
	step_fails "$DISK0" $step
	same "nothing is hooked" 0 "$(hooks)"
	same "the device has what it had" "$now" "$(sum "$DISK0")"
	check "it can be written" dd if="$DISK0" of="$DISK0" bs=64k count=4 oflag=direct conv=notrunc status=none
done
cycles_of "$DISK0" "$DISK0" 1

note "with the module loaded and unloaded"
dmsetup remove --retry store
for ((reload = 1; reload <= reloads; reload++)); do
	rmmod dm-cow-snap || fail "the module is not unloaded"
	load_module
	store_make store "$DISK1" >/dev/null
	cycles_of "$DISK0" "$DISK0" 1
	dmsetup remove --retry store
done
same "the references to all modules are as before" "$before" "$(references)"
check "the module is unloaded" rmmod dm-cow-snap
