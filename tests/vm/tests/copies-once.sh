#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# A write to an origin copies once, however many snapshots there are: counted in sectors at the devices.
# groups: quick
# disks: 16M 128M
. "$SRC/tests/vm/guest/lib.sh"
. "$SRC/tests/vm/guest/cow.sh"

# counter DEVICE FIELD: from its statistics; 3: sectors read, 7: sectors written.
counter() {
	awk -v field="$2" '{ print $field }' "/sys/block/${1##*/}/stat"
}

load_module
store_make store "$DISK1"
origin_make origin store 1 "$DISK0"
fill /dev/mapper/origin 1
for id in 1 2 3 4 5 6 7 8; do
	check "snapshot $id" dmsetup message store 0 create "$id" 1
done
origin_read=$(counter "$DISK0" 3)
origin_written=$(counter "$DISK0" 7)
store_written=$(counter "$DISK1" 7)
blocks=$(($(sectors /dev/mapper/origin) / 8))
check "every block is written twice at random" fio --name=w --filename=/dev/mapper/origin --rw=randwrite --bs=4k \
	--direct=1 --ioengine=libaio --iodepth=16 --randrepeat=0 --randseed="$SEED" --loops=2 --minimal --output=/dev/null
origin_read=$(($(counter "$DISK0" 3) - origin_read))
origin_written=$(($(counter "$DISK0" 7) - origin_written))
store_written=$(($(counter "$DISK1" 7) - store_written))
preserved=$(dmsetup message store 0 snapshots | awk '{ sum += $7 } END { print sum }')
note "$preserved blocks preserved; sectors: origin read $origin_read written $origin_written, store written $store_written"
same "every block is preserved once" "$blocks" "$preserved"
same "the origin is written as often as was asked" $((blocks * 8 * 2)) "$origin_written"
check "at most 1.05 bytes are read for each byte preserved" test $((origin_read * 100)) -le $((preserved * 8 * 105))
check "the store is written once, with room for records" test $((store_written * 100)) -le $((preserved * 8 * 150))
for id in 1 8; do
	snap_make "snap$id" store "$id" origin read_only
done
same "all snapshots show the same" "$(sum /dev/mapper/snap1)" "$(sum /dev/mapper/snap8)"
