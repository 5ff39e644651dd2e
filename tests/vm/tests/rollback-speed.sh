#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Copying back is bound by few commands: on disks that take 1 ms for each, a random block of 4 KiB costs at most 2.2 ms. (The
# merge of dm-snapshot takes 8.8 ms a chunk there.)
# groups: long
# memory: 1500M
# timeout: 400
. "$SRC/tests/vm/guest/lib.sh"
. "$SRC/tests/vm/guest/cow.sh"

# slow_disk NAME MIB: in memory, 1 ms a command.
slow_disk() {
	local disk=/sys/kernel/config/nullb/$1 setting
	mkdir "$disk" || fail "no null_blk disk $1"
	for setting in memory_backed=1 "size=$2" blocksize=512 irqmode=2 completion_nsec=1000000 hw_queue_depth=256 power=1; do
		echo "${setting#*=}" >"$disk/${setting%=*}" || fail "null_blk takes no $setting"
	done
	echo "/dev/$1"
}

BLOCKS=4000
modprobe null_blk nr_devices=0 || skip "no null_blk here"
mountpoint -q /sys/kernel/config || mount -t configfs none /sys/kernel/config
load_module
origin_disk=$(slow_disk origin_disk 256)
store_disk=$(slow_disk store_disk 256)
[[ -b $origin_disk ]] || origin_disk=/dev/nullb0 store_disk=/dev/nullb1
store_make store "$store_disk"
origin_make origin store 1 "$origin_disk"
check "a snapshot" dmsetup message store 0 create 1 1
check "random writes" fio --name=w --filename=/dev/mapper/origin --rw=randwrite --bs=4k --direct=1 --ioengine=libaio \
	--iodepth=64 --io_size=$((BLOCKS * 4))k --size=256m --norandommap=0 --randrepeat=0 --randseed="$SEED" --minimal --output=/dev/null
changed=$(status_word origin 3)
begin=$(date +%s%N)
check "a rollback" dmsetup message store 0 rollback 1 1 2
until [[ $(status_word origin 6) == none ]]; do
	sleep 0.05
done
ms=$((($(date +%s%N) - begin) / 1000000))
note "$changed blocks in $ms ms"
((changed >= BLOCKS / 2)) || fail "only $changed blocks were changed"
((ms * 10 <= changed * 22)) || fail "a block takes more than 2.2 ms"
say "ok: a block takes $((ms * 1000 / changed)) us"
check "all go" eval 'dmsetup message store 0 delete 1 2 && dmsetup remove origin && dmsetup remove store'
