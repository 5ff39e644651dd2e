# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
# What tests of interposed origins share. Sourced behind cow.sh; the store is called "store".

# hooks: how many functions that submit bios somebody has redirected.
hooks() {
	grep -c '^submit_bio_noacct.* [DI]\b' /sys/kernel/tracing/enabled_functions || true
}

# How verified_load has fio do I/O.
load_engine=(--ioengine=libaio)

# verified_load DEVICE SECONDS: writes to it at random and reads back what was written. Each block carries the number of its
# write, so that an old one is found, too. fio checks that number only if all blocks have one size and the run is not
# "time_based"; so it ends when it has written more than it can.
verified_load() {
	fio --name=load --filename="$1" --rw=randwrite --bs=4k --direct=1 "${load_engine[@]}" --iodepth=16 \
		--size=75% --io_size=1t --runtime="$2" --verify=crc32c --verify_backlog=32 --verify_fatal=1 \
		--randrepeat=0 --randseed="$SEED" --output=/run/fio.log --eta=never
}

# preserved DEVICE TOP: interposes an origin on DEVICE while TOP, which is DEVICE or above it, is written to; a snapshot
# of it is exact whatever is written to TOP then; detaches it under load, too.
preserved() {
	local device=$1 top=$2 load before
	verified_load "$top" 3 &
	load=$!
	sleep 1
	origin_interpose origin store 1 "$device"
	wait "$load" || { tail -20 /run/fio.log; fail "$device: fio found an error while it was attached"; }
	before=$(sum "$device")
	check "$device: a snapshot" dmsetup message store 0 create 1 1
	verified_load "$top" 1 || { tail -20 /run/fio.log; fail "$device: fio found an error"; }
	snap_make snap store 1 origin read_only >/dev/null
	same "$device: the snapshot is exact" "$before" "$(sum /dev/mapper/snap)"
	[[ $before != "$(sum "$device")" ]] || fail "$device: nothing was written"
	dmsetup remove snap
	verified_load "$top" 3 &
	load=$!
	sleep 1
	check "$device: a snapshot under load" dmsetup message store 0 create 2 1
	check "$device: both are deleted" dmsetup message store 0 delete 1 2
	check "$device: it is detached under load" dmsetup remove origin
	wait "$load" || { tail -20 /run/fio.log; fail "$device: fio found an error while it was detached"; }
	check "$device: it is forgotten" dmsetup message store 0 forget 1
}

# holder_load FUNCTION: somebody else, who sends those who call the function elsewhere.
holder_load() {
	insmod "${MODULE%/dm-target/*}/tests/vm/modules/hook-holder.ko" "function=$1"
}
