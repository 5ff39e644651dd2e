#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# An origin in front of a device that is in use: what is written to a mounted file system, to the raw device, to a
# partition and to the whole disk is preserved; detaching leaves the device as it was; the hooks go with the last one. From 6.12
# on this kernel lets nobody open a device for writing on which a file system is mounted.
# groups: quick interpose both smp
# disks: 32M 256M 16M
# kernel-words: bdev_allow_write_mounted=0
# timeout: 300
. "$SRC/tests/vm/guest/lib.sh"
. "$SRC/tests/vm/guest/cow.sh"
. "$SRC/tests/vm/guest/interpose.sh"

load_module
modprobe ext4
mount -t tracefs tracefs /sys/kernel/tracing 2>/dev/null
store_make store "$DISK1" 2 segment_sectors 256
same "nothing is hooked" 0 "$(hooks)"

mkdir -p /run/origin /run/snapshot
mkfs.ext4 -q "$DISK0"
check "a file system is mounted" mount "$DISK0" /run/origin
make_tree /run/origin/tree
origin_interpose origin store 1 "$DISK0"
same "the functions are hooked" 2 "$(hooks)"
before=$(tree_sum /run/origin/tree)
check "a snapshot" dmsetup message store 0 create 1 1
rm -rf /run/origin/tree
make_tree /run/origin/other
sync
fstrim /run/origin
check "another snapshot" dmsetup message store 0 create 2 1
snap_make snap store 1 origin read_only
check "the snapshot is mounted" mount -o ro,noload /dev/mapper/snap /run/snapshot
same "its files are those of its creation" "$before" "$(tree_sum /run/snapshot/tree)"
[[ ! -e /run/snapshot/other ]] || fail "the snapshot has later files"
umount /run/snapshot
first=$(sum /dev/mapper/snap)
fio_verify /run/origin/load 12M randwrite
same "it never changes" "$first" "$(sum /dev/mapper/snap)"
dmsetup remove snap
refused "the cow-origin's own device takes no writes" dd if=/dev/zero of=/dev/mapper/origin bs=4k count=1 \
	oflag=direct status=none
refused "a second one in front of the same device" dmsetup create second \
	--table "0 $(sectors "$DISK0") cow-origin /dev/mapper/store 2 $DISK0 1 interpose"
dmsetup remove second 2>/dev/null
check "the snapshots are deleted" dmsetup message store 0 delete 1 2
check "it is detached" dmsetup remove origin
same "nothing is hooked any more" 0 "$(hooks)"
make_tree /run/origin/after
umount /run/origin
check "the file system is sound" e2fsck -fn "$DISK0"

# raw, and through a partition and the whole disk at once
check "the origin is known again" dmsetup message store 0 forget 1
check "a table of partitions" sfdisk --quiet "$DISK2" <<<$'label: dos\nstart=2048,size=8192\nstart=10240,size=8192'
part=${DISK2}1
origin_interpose whole store 3 "$DISK2"
origin_interpose part store 4 "$part"
check "snapshots of both" dmsetup message store 0 create 30 3 40 4
whole_before=$(sum "$DISK2")
part_before=$(sum "$part")
fill "$part" 5
same "the whole disk has what the partition has" "$(sum "$part")" \
	"$(dd if="$DISK2" bs=512 skip=2048 count=8192 status=none | sum_of_input)"
snap_make snap3 store 30 whole read_only
snap_make snap4 store 40 part read_only
same "writes to the partition are preserved for the whole disk" "$whole_before" "$(sum /dev/mapper/snap3)"
same "and for the partition" "$part_before" "$(sum /dev/mapper/snap4)"
check "snapshots of both" dmsetup message store 0 create 31 3 41 4
part_now=$(sum "$part")
fill "$DISK2" 6
dmsetup remove snap3
dmsetup remove snap4
snap_make snap3 store 30 whole read_only
snap_make snap4 store 41 part read_only
same "writes to the whole disk are preserved for it" "$whole_before" "$(sum /dev/mapper/snap3)"
same "and for the partition" "$part_now" "$(sum /dev/mapper/snap4)"
dmsetup remove snap3
dmsetup remove snap4

# Those who trace the hooked functions do not come between. What would let writes pass is refused.
tracing=/sys/kernel/tracing
echo 'submit_bio_noacct*' >$tracing/set_ftrace_filter
for tracer in function function_graph; do
	# a kernel of few options has only the first one
	[[ $tracer == function ]] || grep -qw $tracer $tracing/available_tracers || continue
	check "a snapshot" dmsetup message store 0 create 32 3
	whole_before=$(sum "$DISK2")
	echo $tracer >$tracing/current_tracer
	same "nobody is sent elsewhere by tracing" 2 "$(hooks)"
	fill "$DISK2" $tracer
	grep -q submit_bio_noacct $tracing/trace || fail "nothing was traced"
	snap_make snap3 store 32 whole read_only
	same "writes are preserved while $tracer traces" "$whole_before" "$(sum /dev/mapper/snap3)"
	echo nop >$tracing/current_tracer
	dmsetup remove snap3
	check "it is deleted" dmsetup message store 0 delete 32
done
echo >$tracing/set_ftrace_filter
refused "hooks are not switched off" eval 'echo 0 >/proc/sys/kernel/ftrace_enabled'
check "all are deleted" dmsetup message store 0 delete 30 31 40 41
check "the lower one is detached" dmsetup remove whole
check "the other one is detached" dmsetup remove part
same "nothing is hooked any more" 0 "$(hooks)"
check "what is not origins any more" dmsetup message store 0 forget 3
dmsetup message store 0 forget 4
free_all store

# the promise itself: all that four writers stamp, at the instant of each snapshot
blkdiscard --zeroout "$DISK2"
origin_interpose raw store 1 "$DISK2"
check "snapshots are exact" "$BUILD/tests/vm/programs/exact-snapshots" --store store --origin "raw:1:$DISK2" \
	--seed "$SEED" --writers 4 --most 8 create:6 "steps:${STEPS:-30}" verify delete:all
dmsetup remove raw
check "the module is unloaded" eval 'dmsetup remove store && rmmod dm-cow-snap'
