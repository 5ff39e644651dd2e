#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# What tests of block devices need works in a guest: device-mapper, ext4, xfs, fio.
# kernels: 6.12
# groups: bed quick
# disks: 512M
# timeout: 180
. "$SRC/tests/vm/guest/lib.sh"

modprobe dm-mod || fail "no device-mapper"
size_sectors=$(blockdev --getsz "$DISK0")
check "a linear device" dmsetup create linear --table "0 $size_sectors linear $DISK0 0"
check "its node is there" test -b /dev/mapper/linear
mkdir -p /mnt/file-system

for type in ext4 xfs; do
	force=-f
	[[ $type == ext4 ]] && force=-F
	check "mkfs.$type" "mkfs.$type" -q "$force" /dev/mapper/linear
	check "mount $type" mount -t "$type" /dev/mapper/linear /mnt/file-system
	check "write and verify on $type" fio --name=verify --directory=/mnt/file-system --size=16M --rw=randwrite --bs=4k \
		--ioengine=libaio --iodepth=8 --direct=1 --verify=crc32c --end_fsync=1 --minimal --output=/dev/null
	check "fstrim on $type" fstrim /mnt/file-system
	check "umount $type" umount /mnt/file-system
done
check "remove the linear device" dmsetup remove linear
