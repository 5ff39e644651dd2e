#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Wrong table lines, messages and devices are refused, the kernel's log names the cause, and nothing changes:
# in the end the store and its snapshot are as they were.
# groups: quick refused smp both
# disks: 16M 64M 32M 4M 32M
# timeout: 300
. "$SRC/tests/vm/guest/lib.sh"
. "$SRC/tests/vm/guest/cow.sh"

# no WHAT CAUSE COMMAND...: the command fails, and the kernel's log says CAUSE.
no() {
	local what=$1 cause=$2
	shift 2
	dmesg -C
	"$@" >/tmp/no.out 2>&1 && fail "$what: '$*' succeeded"
	dmesg | grep -qF -- "$cause" || {
		dmesg
		cat /tmp/no.out
		fail "$what: the log does not say '$cause'"
	}
	say "ok: $what: $cause"
}

# table LINE...: tries to make a device "bad" of this table.
table() {
	dmsetup create bad --table "$*"
}

# message WORDS...: to the store.
message() {
	dmsetup message store 0 "$@"
}

load_module
modprobe loop || fail "no loop devices"
store_size=$(sectors "$DISK1")
origin_size=$(sectors "$DISK0")
store_make store "$DISK1" 2 segment_sectors 512
origin_make origin store 7 "$DISK0"
fill /dev/mapper/origin 1
before=$(sum /dev/mapper/origin)
check "a snapshot" message create 5 7
check "another one" message create 6 7
dd if=/dev/urandom of=/dev/mapper/origin bs=1M count=8 oflag=direct status=none
snap_make snap store 5 origin read_only
lists=$(message snapshots; message origins)
small=$(sectors "$DISK2")

# cow-store
no "too few arguments" "Needed: <dev>" table 0 "$small" cow-store "$DISK2"
no "a target of another name" "unknown target type" table 0 "$small" cow-shop "$DISK2" 2
no "something behind the arguments" "number of features is not a number" table 0 "$small" cow-store "$DISK2" 2 extra
no "something behind the features" "does not match" table 0 "$small" cow-store "$DISK2" 2 0 extra
no "low water is no number" "low water mark is not a number" table 0 "$small" cow-store "$DISK2" x
no "a negative number" "low water mark is not a number" table 0 "$small" cow-store "$DISK2" -1
no "the count of features is no number" "number of features is not a number" table 0 "$small" cow-store "$DISK2" 2 x
no "too few features" "does not match" table 0 "$small" cow-store "$DISK2" 2 2 full_wait_ms
no "too many features" "does not match" table 0 "$small" cow-store "$DISK2" 2 1 full_wait_ms 5
no "an unknown feature" "feature 'turbo'" table 0 "$small" cow-store "$DISK2" 2 1 turbo
no "a feature without value" "feature 'full_wait_ms'" table 0 "$small" cow-store "$DISK2" 2 1 full_wait_ms
no "a segment size that is no power of two" "feature 'segment_sectors'" \
	table 0 "$small" cow-store "$DISK2" 2 2 segment_sectors 129
no "a device that is not there" "cannot be opened" table 0 "$small" cow-store /dev/nothing 2
no "a device too small for a store" "too small" table 0 "$(sectors "$DISK3")" cow-store "$DISK3" 2
no "more than the device has" "smaller than the table says" table 0 $((small + 8)) cow-store "$DISK2" 2
no "two stores on one device" "Another cow-store" table 0 "$store_size" cow-store "$DISK1" 2
no "a store on an origin's device" "in use by another mapped device" table 0 "$origin_size" cow-store "$DISK0" 2
check "a device on the store's device" dmsetup create upper --table "0 $store_size linear $DISK1 0"
no "the store once more, through a device on its device" "is active already" \
	table 0 "$store_size" cow-store /dev/mapper/upper 2
check "a loop device on the store's device" losetup /dev/loop7 "$DISK1"
no "the store once more, through a loop device" "is active already" table 0 "$store_size" cow-store /dev/loop7 2
dd if=/dev/urandom of="$DISK2" bs=4k count=1 oflag=direct status=none
first=$(sum "$DISK2")
no "a device with unknown contents" "not a store" table 0 "$small" cow-store "$DISK2" 2
same "unknown contents are left alone" "$first" "$(sum "$DISK2")"

# cow-origin
no "too few arguments" "Needed: <store>" table 0 "$small" cow-origin /dev/mapper/store 8
no "an origin id of 0" "origin id is not" table 0 "$small" cow-origin /dev/mapper/store 0 "$DISK2"
no "an origin id that is no number" "origin id is not" table 0 "$small" cow-origin /dev/mapper/store 1x "$DISK2"
no "a store that is none" "not a cow-store" table 0 "$small" cow-origin "$DISK3" 8 "$DISK2"
no "an unknown feature" "feature 'turbo'" table 0 "$small" cow-origin /dev/mapper/store 8 "$DISK2" 1 turbo
# User Mode Linux has nothing to hook functions with.
unhooked=
grep -qw ftrace_set_filter_ip /proc/kallsyms || unhooked="Writes cannot be interposed here"
no "a device to interpose that is not there" "cannot be opened: missing?" \
	table 0 "$small" cow-origin /dev/mapper/store 8 /dev/nothing 1 interpose
no "the store's own device to interpose" "${unhooked:-The store is on this device}" \
	table 0 "$(sectors "$DISK1")" cow-origin /dev/mapper/store 8 "$DISK1" 1 interpose
no "a wrong length" "not the size of the origin" table 0 $((small - 8)) cow-origin /dev/mapper/store 8 "$DISK2"
no "a wrong length of one that is not known yet, interposed" "${unhooked:-not the size of the origin}" \
	table 0 $((small - 8)) cow-origin /dev/mapper/store 8 "$DISK2" 1 interpose
no "a length beyond the device" "smaller than the length" table 0 $((small + 8)) cow-origin /dev/mapper/store 8 "$DISK2"
no "an origin in use" "missing, or in use" table 0 "$origin_size" cow-origin /dev/mapper/store 8 /dev/mapper/nothing
no "an origin attached already" "attached already" table 0 "$origin_size" cow-origin /dev/mapper/store 7 "$DISK0"
no "a known id with another size" "origin 7 has $origin_size sectors" table 0 "$small" cow-origin /dev/mapper/store 7 "$DISK2"
no "a store on its own origin" "The store is on this device" table 0 "$store_size" cow-origin /dev/mapper/store 8 "$DISK1"
no "a store as its own origin" "The store is on this device" \
	table 0 "$store_size" cow-origin /dev/mapper/store 8 /dev/mapper/store
no "a store below its own origin, by a mapped device" "The store is on this device" \
	table 0 "$store_size" cow-origin /dev/mapper/store 8 /dev/mapper/upper
no "a store below its own origin, by a loop device" "The store is on this device" \
	table 0 "$store_size" cow-origin /dev/mapper/store 8 /dev/loop7
dmsetup remove upper
losetup -d /dev/loop7
check "a partition" addpart "$DISK4" 1 2048 16384
check "a store on a partition" dmsetup create parted --table "0 16384 cow-store ${DISK4}1 2"
no "a store's disk as an origin" "in use" table 0 "$(sectors "$DISK4")" cow-origin /dev/mapper/store 8 "$DISK4"
no "the disk of a store as its own origin" "in use" \
	table 0 "$(sectors "$DISK4")" cow-origin /dev/mapper/parted 1 "$DISK4"
no "a store on the disk of another" "in use" table 0 "$(sectors "$DISK4")" cow-store "$DISK4" 2
no "another store's device as an origin" "in use by another mapped device" \
	table 0 16384 cow-origin /dev/mapper/store 8 "${DISK4}1"
dmsetup remove parted
no "an origin under a second id" "in use by another mapped device" \
	table 0 "$origin_size" cow-origin /dev/mapper/store 8 "$DISK0"
check "a device on another" dmsetup create upper --table "0 $small linear $DISK2 0"
no "a device that another mapped device has" "in use by another mapped device" \
	table 0 "$small" cow-origin /dev/mapper/store 8 "$DISK2"
no "a store on a device that another mapped device has" "in use by another mapped device" \
	table 0 "$small" cow-store "$DISK2" 2
dmsetup remove upper
no "something behind the arguments" "number of features is not a number" \
	table 0 "$small" cow-origin /dev/mapper/store 8 "$DISK2" extra
no "a store that is missing" "store's device cannot be opened" table 0 "$small" cow-origin /dev/nothing 8 "$DISK2"
no "an origin that is missing" "cannot be opened: missing" \
	table 0 "$small" cow-origin /dev/mapper/store 8 /dev/nothing
check "the table of an origin that is there is loaded again" dmsetup reload origin --table "$(dmsetup table origin)"
check "and dropped" dmsetup clear origin
mkfs.ext4 -q -F "$DISK2"
mkdir -p /mnt/used
mount "$DISK2" /mnt/used
no "a mounted device" "missing, or in use" table 0 "$small" cow-origin /dev/mapper/store 8 "$DISK2"
no "a store on a mounted device" "cannot be opened" table 0 "$small" cow-store "$DISK2" 2
umount /mnt/used

# cow-snap
no "too few arguments" "Needed: <store>" table 0 "$origin_size" cow-snap /dev/mapper/store
no "a snapshot id of 0" "snapshot id is not" table 0 "$origin_size" cow-snap /dev/mapper/store 0
no "a snapshot id that is no number" "snapshot id is not" table 0 "$origin_size" cow-snap /dev/mapper/store x
no "something behind the arguments" "number of features" table 0 "$origin_size" cow-snap /dev/mapper/store 6 extra
no "a store that is missing" "store's device cannot be opened" table 0 "$origin_size" cow-snap /dev/nothing 6
no "a store that is none" "not a cow-store" table 0 "$origin_size" cow-snap "$DISK2" 6
no "an unknown snapshot" "no snapshot with this id" table 0 "$origin_size" cow-snap /dev/mapper/store 66
no "a snapshot with a device" "has a cow-snap already" table 0 "$origin_size" cow-snap /dev/mapper/store 5
no "a wrong length" "not the size of the snapshot's origin" table 0 "$small" cow-snap /dev/mapper/store 5
no "an unknown feature" "feature 'fast'" table 0 "$origin_size" cow-snap /dev/mapper/store 5 1 fast

# messages
no "an unknown message" "unknown message 'explode'" message explode
no "an empty message" "mpty message" message ""
no "create with something behind a pair" "pairs of" message create 9 7 10
no "a list after something that is no number" "takes one number" message events x
no "a loss without a set" "lost" message lost
no "a loss that is none" "loss_recorded" message loss_recorded now
no "create without ids" "pairs of" message create
no "create with half a pair" "pairs of" message create 9
no "an id that is no number" "'nine' is not an id" message create nine 7
no "an id of 0" "'0' is not an id" message create 0 7
no "an id that is too large" "'4294967295' is not an id" message create 4294967295 7
no "a snapshot id in use" "there is a snapshot 5 already" message create 5 7
no "an unknown origin" "there is no origin 70" message create 9 70
no "an origin twice in a set" "origin 7 is named twice" message create 9 7 10 7
no "deleting nothing" "a snapshot id is needed" message delete
no "deleting an unknown snapshot" "there is no snapshot 99" message delete 99
no "deleting an open snapshot" "snapshot 5 has a cow-snap" message delete 5
no "deleting one good and one bad: none" "there is no snapshot 99" message delete 6 99
no "forgetting an unknown origin" "there is no origin 70" message forget 70
no "forgetting an origin with snapshots" "origin 7" message forget 7
no "watching nothing" "are needed" message watch 7
no "watching an unknown origin" "no cow-origin of origin 70" message watch 70 8
no "watching what is no sector" "'8:row' is not <sector>" message watch 7 8 8:row
no "watching something before a number" "'+8' is not <sector>" message watch 7 +8
no "watching no number" "':raw' is not <sector>" message watch 7 :raw
no "watching behind the end" "not all of the sectors are in origin 7" message watch 7 8 99999999999
no "watching too much at once" "at most 64" message watch 7 $(seq 1 65)
dmsetup message store 0 watch 7 $(seq 8 8 320) || fail "40 places are not watched"
no "watching too much in all" "no more than 64 places" message watch 7 $(seq 328 8 520)
no "a list with too many numbers" "takes one number" message snapshots 1 2
refused "removing an origin with an open snapshot" dmsetup remove origin
refused "removing a store with origins" dmsetup remove store
refused "unloading the module in use" rmmod dm-cow-snap

same "nothing changed in the lists" "$lists" "$(message snapshots; message origins)"
same "nothing changed in the snapshot" "$before" "$(sum /dev/mapper/snap)"

# the same store, smaller or damaged
dmsetup remove snap
dmsetup remove origin
dmsetup remove store
no "a device smaller than before" "fewer than the store on it uses" table 0 $((store_size / 2)) cow-store "$DISK1" 2
dd if="$DISK1" of=/tmp/super bs=4096 count=17 iflag=direct status=none
# spoil OFFSET: one byte of the store, in the middle of a structure.
spoil() {
	printf '\377' | dd of="$DISK1" bs=1 seek="$1" count=1 conv=notrunc,fsync status=none
}
spoil 20
store_make store "$DISK1"
dmsetup remove store
say "ok: one damaged superblock is enough"
spoil 20
spoil $((16 * 4096 + 20))
no "two damaged superblocks" "superblocks of the store are damaged" table 0 "$store_size" cow-store "$DISK1" 2
dd if=/tmp/super of="$DISK1" bs=4096 count=17 oflag=direct status=none
/usr/bin/python3 "$SRC/tests/vm/guest/set-version.py" "$DISK1" 77
no "another version" "version not known here" table 0 "$store_size" cow-store "$DISK1" 2
dd if=/tmp/super of="$DISK1" bs=4096 count=17 oflag=direct status=none
store_make store "$DISK1"
origin_make origin store 7 "$DISK0"
snap_make snap store 5 origin read_only
same "after all that the snapshot is exact" "$before" "$(sum /dev/mapper/snap)"
