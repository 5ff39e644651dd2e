# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
# Devices that fail as a test wants it. Sourced behind cow.sh.

# below_make NAME DEVICE: a device on DEVICE that works, until below_fails says otherwise. Needs bad_make first.
below_make() {
	check "a device $1 on $2" dmsetup create "$1" --table "0 $(sectors "$2") linear $2 0"
}

# bad_make: the device whose every sector is an error, for parts of others.
bad_make() {
	modprobe -a dm-delay dm-flakey || fail "no dm-delay or no dm-flakey"
	check "a device that only fails" dmsetup create bad --table "0 $((1 << 21)) error"
}

# swap_table NAME: its table becomes what is on standard input; what is under way is not waited for.
swap_table() {
	dmsetup reload "$1" && dmsetup suspend --noflush --nolockfs "$1" && dmsetup resume "$1" ||
		fail "$1 does not get another table"
}

# below_works NAME DEVICE
below_works() {
	swap_table "$1" <<<"0 $(sectors "$2") linear $2 0"
	note "$1 works"
}

# below_fails NAME DEVICE WHAT FROM COUNT: reads, writes or both of so many sectors from FROM on are errors.
below_fails() {
	local device=$2 from=$4 count=$5 size reader writer
	size=$(sectors "$device")
	case $3 in
	reads) reader="/dev/mapper/bad 0" writer="$device $from" ;;
	writes) reader="$device $from" writer="/dev/mapper/bad 0" ;;
	both) reader="/dev/mapper/bad 0" writer="/dev/mapper/bad 0" ;;
	esac
	{
		((from == 0)) || echo "0 $from linear $device 0"
		echo "$from $count delay $reader 0 $writer 0"
		((from + count == size)) ||
			echo "$((from + count)) $((size - from - count)) linear $device $((from + count))"
	} | swap_table "$1"
	note "$1: $3 of $count sectors from $from on fail"
}

# below_flakey NAME DEVICE UP_S DOWN_S [FEATURES...]: works and fails by turns.
below_flakey() {
	swap_table "$1" <<<"0 $(sectors "$2") flakey $2 0 $3 $4${5:+ $5}"
	note "$1: $3 s working, $4 s not"
}

# image DEVICE FILE: its contents, for compare.
image() {
	dd if="$1" of="$2" bs=1M iflag=direct status=none || fail "$1 cannot be read"
}

# compare IMAGE DEVICE: "<equal> <unreadable> <wrong>" blocks.
compare() {
	/usr/bin/python3 "$SRC/tests/vm/guest/compare-blocks.py" "$1" "$2"
}

# pluggable_make MIB: a disk that can be pulled out, and put in again with all its contents: "$pluggable".
pluggable_make() {
	modprobe sd_mod && modprobe scsi_debug dev_size_mb="$1" max_luns=1 num_tgts=1 || fail "no scsi_debug"
	pluggable_find
}

pluggable_find() {
	local tries
	for ((tries = 0; tries < 100; tries++)); do
		pluggable=$(echo /sys/bus/pseudo/drivers/scsi_debug/adapter*/host*/target*/*/block/*)
		pluggable=/dev/${pluggable##*/}
		[[ -b $pluggable ]] && return
		sleep 0.1
	done
	fail "the disk of scsi_debug is not there"
}

# pull_out: the disk is gone, whoever uses it.
pull_out() {
	echo 1 >"/sys/block/${pluggable##*/}/device/delete"
	note "$pluggable is pulled out"
}

# put_in: the disk is back, perhaps under another name.
put_in() {
	local scan
	for scan in /sys/bus/pseudo/drivers/scsi_debug/adapter*/host*/scsi_host/host*/scan; do
		echo "- - -" >"$scan"
	done
	pluggable_find
	note "the disk is back as $pluggable"
}
