#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Suspending and resuming each mapped device under load, and creating snapshots meanwhile, neither loses nor
# delays anything for good; a store is extended while blocks are preserved.
# groups: quick suspend smp
# disks: 16M 256M
# timeout: 300
. "$SRC/tests/vm/guest/lib.sh"
. "$SRC/tests/vm/guest/cow.sh"

load_module
half=$((160 * 2048))
check "a store" dmsetup create store --table "0 $half cow-store $DISK1 2 2 segment_sectors 256"
origin_make origin store 1 "$DISK0"
fill /dev/mapper/origin 1
before=$(sum /dev/mapper/origin)
check "a snapshot" dmsetup message store 0 create 1 1
snap_make first store 1 origin read_only
snap_make_rw() {
	check "snapshot $1" dmsetup message store 0 create "$1" 1
}
fio --name=load --filename=/dev/mapper/origin --rw=randwrite --bs=4k --direct=1 --ioengine=libaio --iodepth=8 \
	--io_size=1t --runtime=15 --verify=crc32c --verify_backlog=64 --verify_fatal=1 --randrepeat=0 --randseed="$SEED" \
	--output=/tmp/fio.log &
load=$!
id=2
for round in 1 2 3 4; do
	for device in origin store first; do
		dmsetup suspend $device || fail "$device is not suspended"
		sleep 0.1
		dmsetup resume $device || fail "$device is not resumed"
	done
	snap_make_rw $id
	id=$((id + 1))
	dmsetup suspend --noflush --nolockfs origin
	snap_make_rw $id
	id=$((id + 1))
	dmsetup resume origin
	say "ok: round $round"
done
check "the store is extended under load" dmsetup reload store \
	--table "0 $(sectors "$DISK1") cow-store $DISK1 2"
dmsetup suspend store && dmsetup resume store
wait $load || { tail -20 /tmp/fio.log; fail "fio found an error"; }
say "ok: fio verified all it wrote"
same "the first snapshot is exact" "$before" "$(sum /dev/mapper/first)"
newest=$(sum /dev/mapper/origin)
snap_make_rw 100
snap_make last store 100 origin read_only
fill /dev/mapper/origin 9
same "the last snapshot is exact" "$newest" "$(sum /dev/mapper/last)"
dmsetup remove last
dmsetup remove first
mapfile -t snapshots < <(dmsetup message store 0 snapshots | cut -d' ' -f1)
check "all snapshots are deleted at once" dmsetup message store 0 delete "${snapshots[@]}"
free_all store
