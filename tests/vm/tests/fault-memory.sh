#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# No deadlock when memory is short: much of what is left is dirty pages that can only be written back through an origin,
# and every block that is written has to be preserved first.
# groups: failure
# disks: 160M 1G
# memory: 320M
# timeout: 300
. "$SRC/tests/vm/guest/lib.sh"
. "$SRC/tests/vm/guest/cow.sh"

# memory_mib FIELD: of /proc/meminfo.
memory_mib() {
	awk -v field="$1:" '$1 == field { print int($2 / 1024) }' /proc/meminfo
}

# write_files NAME: files, through the page cache.
write_files() {
	local file
	for file in 1 2; do
		dd if=/dev/urandom of="/run/origin/file$1-$file" bs=1M count=24 status=none || return 1
	done
	rm /run/origin/file"$1"-*
}

load_module
modprobe ext4
check "an ext4 on the origin" mkfs.ext4 -q "$DISK0"
store_make store "$DISK1" 2 segment_sectors 256
origin_any origin store 1 "$DISK0"
mkdir -p /run/origin
check "it is mounted" mount "$top" /run/origin
# writers are held back late
echo 45 >/proc/sys/vm/dirty_ratio
echo 35 >/proc/sys/vm/dirty_background_ratio
hog_mib=$(($(memory_mib MemAvailable) - 110))
/usr/bin/python3 -c "
import time
memory = bytearray($hog_mib << 20)
while True:
    for page in range(0, len(memory), 4096):
        memory[page] = 1
    time.sleep(0.2)
" &
hog=$!
while (($(memory_mib MemAvailable) > 125)); do
	kill -0 $hog 2>/dev/null || fail "who takes the memory has gone"
	sleep 0.2
done
note "$(memory_mib MemAvailable) MiB of memory left"
least=$(memory_mib MemFree)
most_dirty=0
for round in 1 2; do
	check "snapshot $round" dmsetup message store 0 create "$round" 1
	write_files a &
	first=$!
	write_files b &
	second=$!
	while kill -0 $first 2>/dev/null; do
		now=$(memory_mib MemFree)
		((now < least)) && least=$now
		now=$(($(memory_mib Dirty) + $(memory_mib Writeback)))
		((now > most_dirty)) && most_dirty=$now
		sleep 0.1
	done
	check "files are written, round $round" wait $first
	check "by two writers" wait $second
done
note "at least $least MiB were free, at most $most_dirty MiB were dirty"
check "memory was short" test "$least" -le 12
kill $hog
check "the file system is unmounted" umount /run/origin
check "it is sound" e2fsck -fn "$top"
for round in 1 2; do
	snap_make snap store "$round" origin
	mkdir -p /run/snapshot
	check "the snapshot is mounted" mount /dev/mapper/snap /run/snapshot
	umount /run/snapshot
	check "it is sound" e2fsck -fn /dev/mapper/snap
	dmsetup remove snap
done
check "all are deleted" dmsetup message store 0 delete 1 2
free_all store
