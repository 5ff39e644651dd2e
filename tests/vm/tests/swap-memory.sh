#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# No deadlock when memory is swapped out to an origin, and dirty pages are written back through another one of the same
# store, while every block that is written has to be preserved first.
# groups: long failure
# disks: 64M 160M 640M
# memory: 320M
# timeout: 300
. "$SRC/tests/vm/guest/lib.sh"
. "$SRC/tests/vm/guest/cow.sh"
. "$SRC/tests/vm/guest/faults.sh"

# memory_kib FIELD: of /proc/meminfo.
memory_kib() {
	awk -v field="$1:" '$1 == field { print $2 }' /proc/meminfo
}

load_module
modprobe ext4
check "an ext4 on the origin" mkfs.ext4 -q "$DISK0"
store_make store "$DISK2" 2 segment_sectors 256
origin_make origin store 1 "$DISK0"
origin_make swap store 2 "$DISK1"
fill /dev/mapper/swap 1
check "a swap area on the other origin" mkswap -q /dev/mapper/swap
sum_origin=$(sum /dev/mapper/origin)
sum_swap=$(sum /dev/mapper/swap)
check "a snapshot of both" dmsetup message store 0 create 1 1 2 2
mkdir -p /run/origin
check "the file system is mounted" mount /dev/mapper/origin /run/origin
check "memory is swapped to the other origin" swapon /dev/mapper/swap
echo 60 >/proc/sys/vm/dirty_ratio
echo 50 >/proc/sys/vm/dirty_background_ratio
note "$(memory_kib MemAvailable) KiB of memory available"

# nearly all there is: held by one process, that goes over it again and again
hog_mib=$((($(memory_kib MemAvailable) >> 10) - 16))
/usr/bin/python3 -c "
import time
memory = bytearray($hog_mib << 20)
end = time.monotonic() + 10
while time.monotonic() < end:
    for page in range(0, len(memory), 4096):
        memory[page] = (memory[page] + 1) % 256
" &
hog=$!
for round in 1 2 3; do
	check "files are written, round $round" dd if=/dev/urandom of=/run/origin/file bs=1M count=24 status=none
	check "and synced" sync /run/origin/file
	check "and removed" rm /run/origin/file
done
check "who uses all memory has lived through it" wait $hog
swapped=$(awk '$1 == "pswpout" { print $2 }' /proc/vmstat)
check "memory was swapped out ($swapped pages)" test "$swapped" -gt 1000
check "swapping ends" swapoff /dev/mapper/swap
check "the file system is unmounted" umount /run/origin
check "it is sound" e2fsck -fn /dev/mapper/origin
dmsetup message store 0 snapshots
snap_make first store 1 origin read_only
same "the snapshot of the file system is exact" "$sum_origin" "$(sum /dev/mapper/first)"
snap_make second store 2 swap read_only
same "and that of the swap area" "$sum_swap" "$(sum /dev/mapper/second)"
dmsetup remove first
dmsetup remove second
check "both are deleted" dmsetup message store 0 delete 1 2
free_all store
