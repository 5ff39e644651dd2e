#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# 2 TiB of zeros written at once: what is preserved fills the store, the snapshot goes as the policy says, the write ends
# without an error, memory stays bounded, and another origin of the same store has nothing of it.
# groups: long failure full
# disks: 2T 8M 48M
# memory: 512M
# timeout: 300
. "$SRC/tests/vm/guest/lib.sh"
. "$SRC/tests/vm/guest/cow.sh"

# used_kib: memory that is neither free nor could be.
used_kib() {
	awk '$1 == "MemTotal:" { total = $2 } $1 == "MemAvailable:" { print total - $2 }' /proc/meminfo
}

load_module
check "a store" dmsetup create store --table "0 $(sectors "$DISK2") cow-store $DISK2 2 2 full_wait_ms 500"
origin_make huge store 1 "$DISK0"
origin_make small store 2 "$DISK1"
size=$(blockdev --getsize64 /dev/mapper/huge)
same "the origin has 2 TiB" $((2 << 40)) "$size"
fill /dev/mapper/small 1
small=$(sum /dev/mapper/small)
for at in 0 1048575 2097151; do
	check "data at MiB $at" dd if=/dev/urandom of=/dev/mapper/huge bs=1M seek=$at count=1 oflag=direct status=none
done
check "snapshots of both" dmsetup message store 0 create 1 1 2 2
before=$(used_kib)
# a hole punched into a device is a WRITE_ZEROES that lets the bed's disk stay sparse
fallocate --punch-hole --length $size /dev/mapper/huge &
zeroing=$!
most=$before
while kill -0 $zeroing 2>/dev/null; do
	now=$(used_kib)
	((now > most)) && most=$now
	sleep 0.05
done
check "2 TiB of zeros are written without an error" wait $zeroing
note "memory used: $((before / 1024)) MiB before, at most $((most / 1024)) MiB meanwhile"
# the bitmap of 2 TiB has 64 MiB; in flight are 32 MiB at most
check "memory stays bounded" test $((most - before)) -lt $((128 * 1024))
for at in 0 1048575 2097151; do
	check "zeros at MiB $at" cmp -n 1048576 /dev/zero \
		<(dd if=/dev/mapper/huge bs=1M skip=$at count=1 iflag=direct status=none)
done
same "the origin's own snapshot went, the other's stayed" "2" "$(dmsetup message store 0 snapshots | cut -d' ' -f1)"
dmsetup message store 0 events | grep -q 'dropped 1$' || fail "no event tells of it"
snap_make kept store 2 small read_only
fill /dev/mapper/small 2
same "the other's is exact" "$small" "$(sum /dev/mapper/kept)"
dmsetup remove kept
check "it is deleted" dmsetup message store 0 delete 2
free_all store
