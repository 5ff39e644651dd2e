#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Cow-origins that are removed, suspended or given another table while a snapshot of them is created, whose freezing and thawing writes
# to them; and devices that are made while somebody who has locked the disk waits for a write.
# groups: interpose
# disks: 64M 64M 24M
# timeout: 300
. "$SRC/tests/vm/guest/lib.sh"
. "$SRC/tests/vm/guest/cow.sh"
. "$SRC/tests/vm/guest/interpose.sh"

# create_and SECONDS COMMAND...: a create, and the command that many seconds later, while it freezes.
create_and() {
	local create after=$1
	shift
	dd if=/dev/urandom of=/run/origin/file bs=4k count=64 conv=notrunc status=none
	dmsetup message store 0 create 1 1 &
	create=$!
	sleep "$after"
	kill -0 $create 2>/dev/null || fail "the create is over before \"$*\""
	ends 60 "$* while a snapshot is created" "$@"
	ends 60 "the create" wait_for $create
	dmsetup message store 0 delete 1 2>/dev/null || say "ok: no snapshot was created"
}

# wait_for PID: until it is no more, whatever came of it. (A child's child cannot be waited for.)
wait_for() {
	while [[ -d /proc/$1 && $(ps -o stat= -p "$1") != Z* ]]; do sleep 0.1; done
}

to_another() {
	dmsetup suspend origin && dmsetup load origin --table "0 $(sectors /dev/mapper/slow) zero" && dmsetup resume origin
}

load_module
modprobe -a dm-delay ext4 || fail "modules are missing"
store_make store "$DISK1"
check "a slow disk" dmsetup create slow --table "0 $(sectors "$DISK0") delay $DISK0 0 0 $DISK0 0 0"
mkfs.ext4 -q /dev/mapper/slow
mkdir -p /run/origin
mount /dev/mapper/slow /run/origin || fail "it is not mounted"
dmsetup suspend slow
dmsetup load slow --table "0 $(sectors "$DISK0") delay $DISK0 0 0 $DISK0 0 700"
check "its writes take 0.7 s" dmsetup resume slow

origin_interpose origin store 1 /dev/mapper/slow
create_and 0.4 dmsetup remove origin
origin_interpose origin store 1 /dev/mapper/slow
create_and 1.2 dmsetup remove origin
origin_interpose origin store 1 /dev/mapper/slow
create_and 0.8 to_another
check "the other table goes" dmsetup remove origin
origin_interpose origin store 1 /dev/mapper/slow
create_and 0.6 dmsetup suspend origin
refused "no snapshot of one that is suspended" dmsetup message store 0 create 1 1
check "it goes on" dmsetup resume origin
check "with a snapshot" dmsetup message store 0 create 1 1
check "that is deleted" dmsetup message store 0 delete 1
check "it is removed" dmsetup remove origin
umount /run/origin

# sync locks the disk of the origin's mapped device while it waits for what is written there, and that waits for room, which is
# made by a work that needs what those who make a cow-snap have
note "a cow-snap, while sync waits for a write that waits for room"
check "the store goes" dmsetup remove store
check "another store" dd if=/dev/zero of="$DISK1" bs=1M count=1 oflag=direct status=none
check "of 16 MiB" dmsetup create store --table "0 $((16 * 2048)) cow-store $DISK1 2 2 full_wait_ms 3000"
origin_make stacked store 2 "$DISK2"
check "a snapshot" dmsetup message store 0 create 2 2
check "a newer one" dmsetup message store 0 create 3 2
size=$(sectors /dev/mapper/stacked) # opening it would wait for sync
dd if=/dev/urandom of=/dev/mapper/stacked bs=1M count=22 status=none &
writer=$!
for ((i = 0; i < 100; i++)); do
	[[ $(status_word store 2) == full ]] && break
	sync &
	sleep 0.1
done
same "the store is full" full "$(status_word store 2)"
sync &
syncer=$!
sleep 0.3
dmsetup create snap --table "0 $size cow-snap /dev/mapper/store 3 1 read_only" &
snap=$!
ends 60 "the cow-snap" wait_for $snap
ends 60 "the writer" wait_for $writer
ends 60 "sync" wait_for $syncer
dmsetup message store 0 events | grep -q 'dropped 2$' || fail "no event tells that room was made"
if [[ -e /dev/mapper/snap ]]; then check "it is removed" dmsetup remove snap; fi
