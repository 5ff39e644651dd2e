#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# LVM's own commands on a mounted logical volume that is interposed: it is extended, refreshed and moved to another
# physical volume under load. Its snapshots stay what they are. They are stale when it was smaller for a while, and when a
# snapshot of LVM's was merged into it. And the physical volume under two mounted logical volumes is interposed: a snapshot
# has what both had.
# groups: interpose
# disks: 32M 256M 32M
# timeout: 300
. "$SRC/tests/vm/guest/lib.sh"
. "$SRC/tests/vm/guest/cow.sh"
. "$SRC/tests/vm/guest/interpose.sh"

lvm_without_udev "$DISK0" "$DISK2"

# unchanged WHAT: the snapshot is what the volume was when it was made.
unchanged() {
	same "$1: the snapshot never changes" "$first" "$(sum /dev/mapper/snap)"
}

# while_loaded WHAT COMMAND...: with fio writing to the file system, and verifying.
while_loaded() {
	local load
	verified_load /run/origin/load 6 &
	load=$!
	sleep 1
	check "$@"
	wait "$load" || { tail -20 /run/fio.log; fail "$1: fio found an error"; }
	unchanged "$1"
}

modprobe -a ext4 dm-mirror dm-snapshot
mount -t tracefs tracefs /sys/kernel/tracing 2>/dev/null
load_module
store_make store "$DISK1" 2 segment_sectors 256
check "a volume group" vgcreate -qq group "$DISK0" "$DISK2"
check "a logical volume" lvcreate -qq -Wn -Zn -L 12M -n volume group "$DISK0"
volume=/dev/mapper/group-volume
mkfs.ext4 -q $volume
mkdir -p /run/origin
mount $volume /run/origin
truncate -s 6M /run/origin/load
make_tree /run/origin/tree
origin_interpose origin store 1 $volume
check "a snapshot" dmsetup message store 0 create 1 1
snap_make snap store 1 origin read_only
first=$(sum /dev/mapper/snap)

while_loaded "lvchange --refresh" lvchange -qq --refresh group/volume
while_loaded "lvextend" lvextend -qq -L 20M group/volume
check "the file system grows" resize2fs $volume
while_loaded "a file system that has grown" true
while_loaded "pvmove" pvmove -qq -i 1 "$DISK0" "$DISK2"
[[ $(dmsetup deps -o devname $volume) == *"${DISK2#/dev/}"* ]] || fail "the volume has not moved"
[[ $(hooks) == 2 ]] || fail "it is not interposed any more"

check "another snapshot" dmsetup message store 0 create 2 1
rm -r /run/origin/tree
sync
unchanged "files deleted"
dmsetup remove snap
check "they are deleted" dmsetup message store 0 delete 1 2

note "a volume that is made smaller and larger again: what its snapshots have not preserved may be something else then"
umount /run/origin
# shrink_and_grow ID WHAT COMMAND...: while the volume is smaller, this alone has to do with it.
shrink_and_grow() {
	check "a snapshot before $2" dmsetup message store 0 create "$1" 1
	check "lvreduce" lvreduce -qq -f -y -L 8M group/volume
	"${@:3}" >/dev/null || fail "$2 fails"
	for ((i = 0; i < 50; i++)); do
		[[ $(states) == *"$1:stale" ]] && break
		sleep 0.1
	done
	same "the snapshot of a smaller volume is stale: $2" "$1:stale" "$(states | grep -o "$1:.*")"
	refused "a snapshot of a smaller volume" dmsetup message store 0 create 99 1
	check "lvextend" lvextend -qq -L 20M group/volume
}
shrink_and_grow 3 "a read" dd if=$volume of=/dev/null iflag=direct bs=4k count=1 status=none
shrink_and_grow 4 "a write" dd if=/dev/zero of=$volume oflag=direct bs=4k count=1 seek=2047 status=none
shrink_and_grow 5 "a look at the origin" dmsetup status origin
check "one more snapshot" dmsetup message store 0 create 6 1
dmsetup status origin >/dev/null
same "it is not stale" "3:stale 4:stale 5:stale 6:active" "$(states)"
dmsetup message store 0 events | grep -q ' stale 1$' || fail "there is no event"
check "they are deleted" dmsetup message store 0 delete 3 4 5 6

note "LVM's own snapshot is merged when the origin is not attached any more, and that is found out"
check "a snapshot of LVM's" lvcreate -qq -s -L 8M -n old group/volume
mount $volume /run/origin
make_tree /run/origin/later
umount /run/origin
check "a snapshot" dmsetup message store 0 create 7 1
check "it is to be merged" lvconvert -qq --merge group/old
[[ $(dmsetup table $volume) != *merge* ]] || fail "it is merged while the volume is an origin"
check "it is detached" dmsetup remove origin
check "the volume goes" lvchange -qq -an group/volume
check "and comes, to be merged" lvchange -qq -ay group/volume
[[ $(dmsetup table $volume) == *merge* ]] || fail "it is not merged: $(dmsetup table $volume)"
check "it is attached again" dmsetup create origin --table "0 24576 cow-origin /dev/mapper/store 1 $volume 1 interpose"
same "its snapshot is stale" "7:stale" "$(states)"
check "it is deleted" dmsetup message store 0 delete 7
check "it is detached" dmsetup remove origin
check "the file system is sound" e2fsck -fn $volume
check "the volume is free" lvchange -qq -an group/volume
free_all store
check "it is forgotten" dmsetup message store 0 forget 1
check "it goes" lvremove -qq -y group/volume

note "a physical volume under mounted logical volumes"
for name in one two; do
	check "the volume $name" lvcreate -qq -Wn -Zn -L 12M -n $name group "$DISK0"
	mkfs.ext4 -q /dev/mapper/group-$name
	mkdir -p /run/$name
	check "$name is mounted" mount /dev/mapper/group-$name /run/$name
	truncate -s 6M /run/$name/load
	make_tree /run/$name/tree
done
origin_interpose origin store 1 "$DISK0"
sync
check "both are frozen" eval 'fsfreeze --freeze /run/one && fsfreeze --freeze /run/two'
before=$(sum "$DISK0")
check "a snapshot of what is below" dmsetup message store 0 create 3 1
check "both go on" eval 'fsfreeze --unfreeze /run/one && fsfreeze --unfreeze /run/two'
for name in one two; do
	verified_load /run/$name/load 4 || { tail -20 /run/fio.log; fail "$name: fio found an error"; }
	rm -r /run/$name/tree
done
check "another snapshot" dmsetup message store 0 create 4 1
[[ $before != "$(sum "$DISK0")" ]] || fail "nothing was written"
snap_make snap store 3 origin read_only
same "the snapshot has what both had" "$before" "$(sum /dev/mapper/snap)"
dmsetup remove snap
check "both are deleted" dmsetup message store 0 delete 3 4
verified_load /run/two/load 3 &
load=$!
sleep 1
check "it is detached under load" dmsetup remove origin
wait "$load" || { tail -20 /run/fio.log; fail "two: fio found an error while it was detached"; }
for name in one two; do
	umount /run/$name
	check "$name is sound" e2fsck -fn /dev/mapper/group-$name
done
check "the group is free" vgchange -qq -an group
free_all store
same "nothing is hooked any more" 0 "$(hooks)"
