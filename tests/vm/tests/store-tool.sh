#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# cowsnap-store on real devices: a store in use can be looked at and not be written to; what it dumps and restores, the
# kernel activates; both refuse the same damage, and what it has repaired the kernel takes, with every snapshot that stayed exact.
# groups: quick failure
# disks: 16M 64M 64M
# timeout: 240
. "$SRC/tests/vm/guest/lib.sh"
. "$SRC/tests/vm/guest/cow.sh"
. "$SRC/tests/vm/guest/faults.sh"

tool=$BUILD/tools/cowsnap-store

# exits STATUS WHAT WORDS...: cowsnap-store ends like that; what it says is in /run/said.
exits() {
	local expected=$1 what=$2 status
	shift 2
	"$tool" "$@" >/run/said 2>&1 </dev/null
	status=$?
	((status == expected)) || cat /run/said
	same "$what: exit status" "$expected" "$status"
}

# says WORDS: it has said them.
says() {
	grep -qF -- "$1" /run/said || {
		cat /run/said
		fail "cowsnap-store does not say '$1'"
	}
}

put() {
	dd if=/dev/urandom of=/dev/mapper/origin bs=4k seek="$1" count="$2" oflag=direct status=none
}

# start DISK and stop: the store and its origin.
start() {
	store_make store "$1" 2 segment_sectors 256
	origin_make origin store 1 "$DISK0"
}

stop() {
	dmsetup remove origin && dmsetup remove store || fail "the store cannot be stopped"
}

# exact ID IMAGE: a snapshot, through the kernel.
exact() {
	snap_make snap store "$1" origin read_only
	same "snapshot $1 is exact" "4096 0 0" "$(compare "$2" /dev/mapper/snap)"
	dmsetup remove snap
}

# block_of WHAT: "table" or "data": a block of the store, from a dump of it.
block_of() {
	/usr/bin/python3 - "$1" /run/dump <<-'END'
		import json, sys
		dump = json.load(open(sys.argv[2]))
		super = dump["supers"][0]
		region = super["regions"][0]
		if sys.argv[1] == "table":
		    print(region["table_block"])
		else:
		    segment = dump["segments"][0]
		    batch = next(batch for batch in segment["batches"] if batch["crcs"])
		    print(region["segment_block"] + segment["segment"] * super["segment_blocks"] + batch["position"] + 1)
	END
}

# spoil DISK BLOCK
spoil() {
	dd if=/dev/urandom of="$1" bs=4k seek="$2" count=1 oflag=direct status=none
}

load_module
modprobe ext4
start "$DISK1"
fill /dev/mapper/origin 1
image /dev/mapper/origin /run/first
check "a snapshot" dmsetup message store 0 create 1 1
check "blocks are preserved" put 0 300
image /dev/mapper/origin /run/second
check "another snapshot" dmsetup message store 0 create 2 1
check "blocks are preserved" put 200 300
sleep 1

exits 0 "a store in use is looked at" check "$DISK1"
says "what is being written may look like damage"
exits 0 "and dumped" dump --output /run/dump "$DISK1"
exits 5 "it is not repaired" repair --yes "$DISK1"
says "$DISK1 is in use by"
exits 5 "nothing is restored to it" restore --yes --input /run/dump "$DISK1"
exits 5 "nor to its origin's device" restore --yes --input /run/dump "$DISK0"
check "a file system" mkfs.ext4 -q -F "$DISK2"
mkdir -p /run/mounted
mount "$DISK2" /run/mounted || fail "not mounted"
exits 5 "nor to what is mounted" restore --yes --input /run/dump "$DISK2"
says "mounted on /run/mounted"
umount /run/mounted
exits 4 "nor to a file system that nobody said yes to" restore --input /run/dump "$DISK2"
stop

exits 0 "the store passes" check --data "$DISK1"
says "no damage was found"
exits 0 "repair finds nothing to do" repair "$DISK1"
exits 0 "it is dumped" dump --output /run/dump "$DISK1"
exits 0 "and restored" restore --yes --input /run/dump "$DISK2"
exits 0 "what was restored passes" check --data "$DISK2"
"$tool" dump "$DISK2" | cmp - /run/dump || fail "the dump of what was restored is another one"
start "$DISK2"
exact 1 /run/first
exact 2 /run/second
stop

# a block of data
spoil "$DISK2" "$(block_of data)"
exits 0 "damaged data is not looked at" check "$DISK2"
exits 8 "until it is asked for" check --data "$DISK2"
says ": data: block "
says "touches snapshot 1"
start "$DISK2"
snap_make snap store 1 origin read_only
same "the kernel returns an error there, and all else" "4095 1 0" "$(compare /run/first /dev/mapper/snap)"
dmsetup remove snap
exact 2 /run/second
stop
exits 0 "it is repaired" repair --data --yes "$DISK2"
says "to drop: snapshot 1"
exits 0 "and passes" check --data "$DISK2"
start "$DISK2"
same "one snapshot stayed" 2 "$(dmsetup message store 0 snapshots | cut -d' ' -f1)"
exact 2 /run/second
stop

# the superblocks: the kernel would format such a device
dd if=/dev/zero of="$DISK1" bs=64k count=2 oflag=direct status=none
exits 8 "a store without superblocks is no blank device" check "$DISK1"
exits 0 "they are written anew" repair --yes "$DISK1"
start "$DISK1"
exact 1 /run/first
exact 2 /run/second
stop

# the segment table
table=$(block_of table)
spoil "$DISK1" "$table"
exits 0 "one copy of the segment table is enough" check "$DISK1"
says "block $table: segment table: copy 0"
spoil "$DISK1" $((table + 1))
exits 8 "none is not" check "$DISK1"
says "touches snapshots 1, 2"
refused "the kernel says so, too" dmsetup create store --table "0 $(sectors "$DISK1") cow-store $DISK1 2"
exits 0 "it is repaired" repair --yes "$DISK1"
exits 0 "and passes" check --data "$DISK1"
start "$DISK1"
free_all store
check "a new snapshot" dmsetup message store 0 create 3 1
image /dev/mapper/origin /run/third
check "blocks are preserved" put 0 300
exact 3 /run/third
