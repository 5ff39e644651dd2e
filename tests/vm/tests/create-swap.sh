#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# While snapshots of an origin are created, its mapped device gets another table and its own again, and the origin is
# forgotten when nothing holds it: a create is done or refused, and nothing that it works with goes away before it ends.
# groups: failure smp
# disks: 16M 64M
# timeout: 120
. "$SRC/tests/vm/guest/lib.sh"
. "$SRC/tests/vm/guest/cow.sh"
. "$SRC/tests/vm/guest/faults.sh"

message() {
	dmsetup message store 0 "$@" 2>/dev/null
}

# until_told COMMAND...: again and again; counts how often it succeeded, in /run/<its last word>.
until_told() {
	local done=0
	while [[ ! -e /run/enough ]]; do
		"$@" && ((++done))
	done
	echo "$done" >"/run/${*: -1}"
}

# create_and_delete ID: several of them wait for each other, so that one is under way all the time.
create_and_delete() {
	message create "$1" 1 && message delete "$1"
}

forget() {
	message forget 1 && touch /run/forgotten
}

swap() {
	swap_table origin <<<"$origin_table"
	sleep 0.0"$((RANDOM % 10))"
	swap_table origin <<<"0 $size linear $DISK0 0"
}

write_files() {
	dd if=/dev/urandom of=/run/origin/file bs=64k count=16 conv=notrunc status=none
}

load_module
modprobe ext4
store_make store "$DISK1" 2 segment_sectors 128
origin_make origin store 1 "$DISK0"
origin_table=$(dmsetup table origin)
size=$(sectors "$DISK0")
check "an ext4 on the origin" mkfs.ext4 -q /dev/mapper/origin
mkdir -p /run/origin
check "it is mounted" mount /dev/mapper/origin /run/origin
RANDOM=$SEED
until_told write_files &
for id in 1 2 3; do
	until_told create_and_delete "$id" &
done
until_told forget &
# on a busy machine it takes a while until nothing holds the origin
end=$((SECONDS + 25))
swaps=0
while ((SECONDS < end)) || [[ ! -e /run/forgotten ]]; do
	swap >/dev/null
	((++swaps))
done
touch /run/enough
wait
swap_table origin <<<"$origin_table"
creates=$(($(</run/1) + $(</run/2) + $(</run/3)))
note "the table was replaced $((2 * swaps)) times; $creates creates succeeded; forgotten $(</run/forget) times"
check "some creates succeeded" test "$creates" -gt 0
check "the file system is unmounted" umount /run/origin
check "it is sound" e2fsck -fn /dev/mapper/origin
mapfile -t left < <(message snapshots | cut -d' ' -f1)
((${#left[@]} == 0)) || check "what is left is deleted" message delete "${left[@]}"
before=$(sum /dev/mapper/origin)
check "a snapshot" message create 9 1
check "the origin is written" dd if=/dev/urandom of=/dev/mapper/origin bs=64k count=64 oflag=direct status=none
snap_make snap store 9 origin read_only
same "the snapshot is exact" "$before" "$(sum /dev/mapper/snap)"
dmsetup remove snap
check "it is deleted" message delete 9
free_all store
