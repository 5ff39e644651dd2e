#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Attaching and detaching again and again under fio with verification, with openers of the device in a loop, while
# another origin keeps the hooks, and without; some cycles with the module loaded and unloaded. No write is
# lost, no count of references is left over. Each step of attaching may fail.
# groups: quick interpose both smp
# disks: 32M 128M 8M
# timeout: 500
. "$SRC/tests/vm/guest/lib.sh"
. "$SRC/tests/vm/guest/cow.sh"
. "$SRC/tests/vm/guest/interpose.sh"

cycles=${CYCLES:-4}
reloads=${RELOADS:-2}
# Which of the functions that are named after them, in this order; "unhooked" ends with nothing hooked, as "reloads" needs it.
parts=${PARTS:-ext4 xfs volume device unhooked reloads}
# Who uses the device meanwhile, as much as is left: for many cycles in as long as a few.
user=(${NICENESS:+nice -n "$NICENESS"})

# openers DEVICE: until /run/stop is there. On a "change" udevd opens it, too.
openers() {
	while [[ ! -e /run/stop ]]; do
		"${user[@]}" blkid -p "$1" >/dev/null
		"${user[@]}" xfs_db -r -c 'sb 0' "$1" >/dev/null 2>&1
		"${user[@]}" udevadm trigger --settle --action=change "$1"
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
	local counts major minor
	# by its number: without udev a logical volume's node has a name of its own
	read -r major minor < <(stat -L -c '0x%t 0x%T' "$1")
	read -r -a counts <"/sys/dev/block/$((major)):$((minor))/stat"
	echo "${counts[4]}"
}

# load_begins DEVICE [DIRECTORY]: until load_ends DEVICE, or two files in the directory, are written and verified, and DEVICE
# is opened again and again. Two write: fio, and one who never forgets what it has written.
load_begins() {
	local file=$1 other=$1 first=32768 before
	rm -f /run/stop
	openers "$1" &
	opener=$!
	if (($# > 1)); then
		# files have all their blocks before
		file=$2/load other=$2/stamped first=0
		dd if=/dev/zero of="$file" bs=1M count=12 conv=fsync status=none
		dd if=/dev/zero of="$other" bs=1M count=4 conv=fsync status=none
	fi
	before=$(writes_to "$1")
	# as verified_load, which says why
	"${user[@]}" fio --name=load --filename="$file" --size=12M --rw=randwrite --bs=4k --direct=1 --ioengine=libaio --iodepth=8 \
		--io_size=1t --runtime=3600 --verify=crc32c --verify_backlog=64 --verify_fatal=1 --randrepeat=0 --randseed="$SEED" \
		--output=/run/fio.log --eta=never &
	load=$!
	# fio first: while it begins, the other one could write enough for both
	until_written "$1" $((before + 200)) $load
	"${user[@]}" "$BUILD/tests/vm/programs/stamped-writes" "$other" $first 8192 "$SEED" >/run/stamped.log 2>&1 &
	stamped=$!
	until_written "$1" $((before + 600)) $load $stamped
}

# until_written DEVICE WRITES PID...: or until one of the processes has ended.
until_written() {
	local pid
	while (($(writes_to "$1") < $2)); do
		for pid in "${@:3}"; do
			kill -0 "$pid" 2>/dev/null || return 0
		done
		sleep 0.1
	done
}

load_goes_on() {
	kill -0 $load 2>/dev/null && kill -0 $stamped 2>/dev/null
}

# load_failed WHEN
load_failed() {
	tail -n 20 /run/fio.log /run/stamped.log
	fail "$1"
}

# load_ends: fio leaves out what it has not verified yet; the other one reads back all that it has written.
load_ends() {
	load_goes_on || load_failed "who writes has ended"
	kill -INT $load $stamped
	wait $load
	grep -q 'err= 0' /run/fio.log || load_failed "fio found an error"
	wait $stamped || load_failed "a write is lost"
	note "$(</run/stamped.log)"
	touch /run/stop
	wait $opener
}

# cycle DEVICE COUNT
cycle() {
	"$BUILD/tests/vm/programs/attach-cycles" store 1 "$1" "$2" $load $stamped || load_failed "the cycles of $1"
}

# cycles_of DEVICE COUNT [DIRECTORY [STEP...]]: under such a load; then attaching fails at each of the steps.
cycles_of() {
	local step
	load_begins "$1" "${@:3:1}"
	cycle "$1" "$2"
	for step in "${@:4}"; do
		step_fails "$1" "$step"
		load_goes_on || load_failed "when step $step had failed, who writes found an error"
	done
	load_ends
	say "ok: $2 cycles of $1"
}

# on_file_system MAKE CHECK STEP...: words that make one on a device and check it
on_file_system() {
	local make=$1 check=$2
	$make "$DISK0"
	mount "$DISK0" /run/origin
	cycles_of "$DISK0" "$cycles" /run/origin "${@:3}"
	umount /run/origin
	check "the file system is sound" $check "$DISK0"
}

ext4() {
	on_file_system "mkfs.ext4 -q" "e2fsck -fn" 1 2 3 4 5 6 7
}

xfs() {
	on_file_system "mkfs.xfs -q -f --unsupported" "xfs_repair -n"
}

volume() {
	check "a volume group" vgcreate -qq -y group "$DISK0"
	check "a logical volume" lvcreate -qq -Wn -Zn -l 100%FREE -n volume group
	cycles_of /dev/mapper/group-volume "$cycles"
	check "the group goes" vgremove -qq -y group
	check "the disk is nobody's" wipefs -qa "$DISK0"
}

device() {
	cycles_of "$DISK0" "$cycles"
}

unhooked() {
	local step now
	dmsetup remove --retry keeper
	same "nothing is hooked" 0 "$(hooks)"
	cycles_of "$DISK0" "$((cycles / 2))"

	note "each step of attaching fails once"
	fill "$DISK0" 3
	now=$(sum "$DISK0")
	for step in 1 2 3 4 5 6 7; do
		step_fails "$DISK0" $step
		same "nothing is hooked" 0 "$(hooks)"
		same "the device has what it had" "$now" "$(sum "$DISK0")"
		check "it can be written" dd if="$DISK0" of="$DISK0" bs=64k count=4 oflag=direct conv=notrunc status=none
	done
	cycles_of "$DISK0" 1
}

reloads() {
	local reload
	note "with the module loaded and unloaded, under one load for all"
	load_begins "$DISK0"
	dmsetup remove --retry store
	for ((reload = 1; reload <= reloads; reload++)); do
		rmmod dm-cow-snap || fail "the module is not unloaded"
		load_module
		store_make store "$DISK1" >/dev/null
		cycle "$DISK0" 1
		dmsetup remove --retry store
		load_goes_on || load_failed "who writes found an error in reload $reload"
	done
	load_ends
}

modprobe -a ext4 xfs
mount -t tracefs tracefs /sys/kernel/tracing 2>/dev/null
load_module
"${user[@]}" /lib/systemd/systemd-udevd --daemon || fail "udevd does not start"
before=$(references)
store_make store "$DISK1" 2 segment_sectors 256
origin_interpose keeper store 9 "$DISK2"
mkdir -p /run/origin
for part in $parts; do
	$part
done
for left in keeper store; do
	dmsetup info "$left" >/dev/null 2>&1 && dmsetup remove --retry "$left"
done
same "the references to all modules are as before" "$before" "$(references)"
check "the module is unloaded" rmmod dm-cow-snap
