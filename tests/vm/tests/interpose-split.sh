#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Writes through a partition that a driver splits and sends on in parts: each part is looked for where it is on the disk, also when block
# core has already reckoned with where the partition begins.
# groups: interpose
# disks: 64M 16M 16M
# timeout: 300
. "$SRC/tests/vm/guest/lib.sh"
. "$SRC/tests/vm/guest/cow.sh"
. "$SRC/tests/vm/guest/interpose.sh"

load_module
modprobe raid0 || fail "modules are missing"
store_make store "$DISK0" 2 segment_sectors 256

# so that with several writes at a time there is always one on its way
modprobe dm-delay || fail "modules are missing"
check "a slow disk" dmsetup create slow --table "0 $(sectors "$DISK2") delay $DISK2 0 0 $DISK2 0 200"
# chunks of 64 KiB: a write of 1 MiB becomes 16
check "an array" mdadm --create /dev/md9 --quiet --run --level=0 --raid-devices=2 --chunk=64 --metadata=1.2 "$DISK1" /dev/mapper/slow
blkdiscard --zeroout /dev/md9
check "partitions" sfdisk --quiet /dev/md9 <<<$'label: dos\nstart=2048,size=16384\nstart=18432,size=16384'
udevadm settle 2>/dev/null
first=/dev/md9p1 second=/dev/md9p2
for part in $first $second; do
	IFS=: read -r major minor <"/sys/class/block/${part#/dev/}/dev"
	[[ -b $part ]] || mknod "$part" b "$major" "$minor"
done

note "written: the first partition; what is watched: the second"
origin_interpose second store 2 $second
check "a snapshot" dmsetup message store 0 create 20 2
fill $first 1
same "nothing of the second one is preserved" 0 "$(status_word second 3)"
check "it is deleted" dmsetup message store 0 delete 20

note "written: the second partition, all the time, while the first one is attached"
fio --name=load --filename=$second --rw=randwrite --bs=4k --direct=1 --ioengine=psync --numjobs=8 --runtime=120 --time_based \
	--randrepeat=0 --randseed="$SEED" --output=/run/load.log --eta=never &
load=$!
sleep 2
origin_interpose first store 1 $first
kill -0 $load 2>/dev/null || fail "the load has ended"
kill -INT $load
wait $load

note "written: the first partition; what is watched: both, and the array"
origin_interpose array store 3 /dev/md9
check "snapshots" dmsetup message store 0 create 10 1 21 2 30 3
first_before=$(sum $first) array_before=$(sum /dev/md9)
fill $first 2
snap_make snap10 store 10 first read_only
snap_make snap30 store 30 array read_only
same "the snapshot of the first one is exact" "$first_before" "$(sum /dev/mapper/snap10)"
same "the snapshot of the array, too" "$array_before" "$(sum /dev/mapper/snap30)"
[[ $first_before != "$(sum $first)" ]] || fail "nothing was written"
same "nothing of the second one is preserved" 0 "$(status_word second 3)"
dmsetup remove snap10
dmsetup remove snap30

check "they are deleted" dmsetup message store 0 delete 10 21 30
for name in array first second; do
	check "$name is detached" dmsetup remove $name
done
for id in 1 2 3; do
	dmsetup message store 0 forget $id
done
check "the array is stopped" mdadm --stop --quiet /dev/md9
check "the slow disk is removed" dmsetup remove slow
free_all store
