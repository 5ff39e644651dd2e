#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Writes that device-mapper splits, and requeues in part when it suspends, go through an interposer once: a thin volume whose blocks
# are not there yet is attached and detached while such writes wait for them.
# groups: interpose
# disks: 64M 32M 16M
# timeout: 500
. "$SRC/tests/vm/guest/lib.sh"
. "$SRC/tests/vm/guest/cow.sh"
. "$SRC/tests/vm/guest/interpose.sh"

# Large writes to blocks that are not there, again and again, until $going is gone.
provision() {
	while [[ -e $going ]]; do
		blkdiscard /dev/mapper/thin
		fio --name=provision --filename=/dev/mapper/thin --rw=write --bs=1M --direct=1 --ioengine=libaio --iodepth=8 \
			--output=/run/provision.log --eta=never || return 1
	done
}

load_module
modprobe -a dm-thin-pool dm-delay || fail "modules are missing"
mount -t tracefs tracefs /sys/kernel/tracing 2>/dev/null
store_make store "$DISK0" 2 segment_sectors 256
dmsetup create meta --table "0 $(sectors "$DISK2") delay $DISK2 0 40"
dmsetup create data --table "0 $(sectors "$DISK1") delay $DISK1 0 20"
dd if=/dev/zero of=/dev/mapper/meta bs=64k count=1 oflag=direct status=none
check "a pool" dmsetup create pool --table "0 $(sectors /dev/mapper/data) thin-pool /dev/mapper/meta /dev/mapper/data 128 0"
dmsetup message pool 0 create_thin 0
dmsetup create thin --table "0 32768 thin /dev/mapper/pool 0"

going=/run/going
touch $going
provision &
load=$!
for ((i = 1; i <= 6; i++)); do
	sleep 0.5
	origin_interpose origin store 1 /dev/mapper/thin
	check "a snapshot" timeout 60 dmsetup message store 0 create "$i" 1
	check "it is suspended" dmsetup suspend --noflush thin
	dmsetup message store 0 delete "$i"
	timeout 60 dmsetup remove origin &
	detached=$!
	sleep 0.3
	check "it is resumed" dmsetup resume thin
	wait $detached || fail "it is not detached"
	say "ok: it is detached, $i"
done
rm $going
wait $load || { tail -20 /run/provision.log; fail "a write failed"; }
dmsetup message store 0 forget 1

note "and a snapshot is exact that was made while they wait"
blkdiscard --zeroout /dev/mapper/thin
origin_interpose origin store 1 /dev/mapper/thin
before=$(sum /dev/mapper/thin)
check "a snapshot" dmsetup message store 0 create 50 1
fio --name=provision --filename=/dev/mapper/thin --rw=write --bs=1M --direct=1 --ioengine=libaio --iodepth=8 --output=/run/provision.log &
load=$!
for ((i = 0; i < 5; i++)); do
	dmsetup suspend --noflush thin
	dmsetup resume thin
	sleep 0.2
done
wait $load || fail "a write failed"
snap_make snap store 50 origin read_only
same "it is" "$before" "$(sum /dev/mapper/snap)"
[[ $before != "$(sum /dev/mapper/thin)" ]] || fail "nothing was written"
dmsetup remove snap
dmsetup message store 0 delete 50
dmsetup remove origin
dmsetup message store 0 forget 1

# Each part of these writes but the first ones waits for room in the pool, so it is certain that parts are requeued. They come back
# while the gate is closed for detaching, which waits for the writes they are parts of.
note "what waits for room in a pool is requeued, and comes back while the origin is detached"
check "the thin volume goes" dmsetup remove thin
check "the pool goes" dmsetup remove pool
dd if=/dev/zero of=/dev/mapper/meta bs=64k count=1 oflag=direct status=none
pool=(thin-pool /dev/mapper/meta /dev/mapper/data 128 0)
check "a small pool" dmsetup create pool --table "0 4096 ${pool[*]}"
dmsetup message pool 0 create_thin 0
dmsetup create thin --table "0 32768 thin /dev/mapper/pool 0"
origin_interpose origin store 1 /dev/mapper/thin
check "a snapshot" dmsetup message store 0 create 60 1
fio --name=provision --filename=/dev/mapper/thin --size=8M --rw=write --bs=1M --direct=1 --ioengine=libaio --iodepth=8 \
	--verify=crc32c --verify_fatal=1 --output=/run/provision.log --eta=never &
load=$!
for ((i = 0; i < 100; i++)); do
	[[ $(dmsetup status pool) != *out_of_data_space* ]] || break
	sleep 0.1
done
((i < 100)) || fail "the pool does not get full"
check "it is suspended" dmsetup suspend --noflush thin
timeout 60 dmsetup remove origin &
detached=$!
sleep 0.5
kill -0 $detached || fail "it is detached under writes that have not ended"
dmsetup suspend pool
dmsetup reload pool --table "0 32768 ${pool[*]}"
check "the pool gets larger" dmsetup resume pool
check "it is resumed" dmsetup resume thin
wait $detached || fail "it is not detached"
wait $load || { tail -20 /run/provision.log; fail "a write failed"; }
dmsetup message store 0 delete 60
free_all store
