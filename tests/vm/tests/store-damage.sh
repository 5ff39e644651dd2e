#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Random damage of an idle store, single bits and single sectors, in the whole range of what it uses and also in committed batches
# of an open segment: the kernel refuses the store, or each block of each snapshot is right or an I/O error, and the origin
# stays as it is and can be written. What cowsnap-store check says agrees: what it passes is activated, and what is refused does not pass.
# groups: failure
# disks: 4M 16M
# timeout: 400
. "$SRC/tests/vm/guest/lib.sh"
. "$SRC/tests/vm/guest/cow.sh"
. "$SRC/tests/vm/guest/faults.sh"

tool=$BUILD/tools/cowsnap-store
RANDOM=$((SEED % 32768))

# start: the store and its origin, quietly; false when the store is refused.
start() {
	dmsetup create store --table "0 $(sectors "$DISK1") cow-store $DISK1 2 2 segment_sectors 256" 2>/dev/null || {
		dmsetup remove store 2>/dev/null
		return 1
	}
	dmsetup create origin --table "0 $(sectors "$DISK0") cow-origin /dev/mapper/store 1 $DISK0" || fail "no origin"
}

stop() {
	dmsetup remove origin && dmsetup remove store || fail "the store cannot be stopped"
}

put() {
	dd if=/dev/urandom of=/dev/mapper/origin bs=4k seek="$1" count="$2" oflag=direct conv=notrunc status=none ||
		fail "the origin cannot be written"
}

# damage: a bit or a sector of what the store uses, at random; what it did is in $did.
damage() {
	local sector=${used[(RANDOM * 32768 + RANDOM) % ${#used[@]}]} byte
	if ((RANDOM % 2)); then
		did="sector $sector"
		dd if=/dev/urandom of="$DISK1" bs=512 seek="$sector" count=1 oflag=direct conv=notrunc status=none
	else
		byte=$((RANDOM % 512))
		did="a bit of byte $byte of sector $sector"
		dd if="$DISK1" of=/run/sector bs=512 skip="$sector" count=1 iflag=direct status=none
		/usr/bin/python3 -c 'import sys
data = bytearray(open("/run/sector", "rb").read())
data[int(sys.argv[1])] ^= 1 << int(sys.argv[2])
open("/run/sector", "wb").write(data)' "$byte" $((RANDOM % 8))
		dd if=/run/sector of="$DISK1" bs=512 seek="$sector" oflag=direct conv=notrunc status=none
	fi
}

# look: each snapshot, against its image.
look() {
	local id wrong unreadable
	for id in 1 2; do
		dmsetup create snap --table "0 $(sectors "$DISK0") cow-snap /dev/mapper/store $id 1 read_only" 2>/dev/null || {
			dmsetup remove snap 2>/dev/null
			continue
		}
		read -r _ unreadable wrong <<<"$(compare "/run/image$id" /dev/mapper/snap)"
		dmsetup remove snap
		((wrong == 0)) || fail "$did: $wrong blocks of snapshot $id are wrong"
		lost=$((lost + unreadable))
	done
}

load_module
start || fail "no store"
fill /dev/mapper/origin 1
for id in 1 2; do
	image /dev/mapper/origin "/run/image$id"
	check "snapshot $id" dmsetup message store 0 create "$id" 1
	for block in 0 40 41 90 300 $((500 + id * 8)); do
		put "$block" 4
	done
done
stop
dd if="$DISK1" of=/run/store bs=1M iflag=direct status=none
dd if="$DISK0" of=/run/origin bs=1M iflag=direct status=none
# the sectors that are not zero
mapfile -t used < <(/usr/bin/python3 -c 'data = open("/run/store", "rb").read()
for i in range(0, len(data), 512):
    if any(data[i:i + 512]):
        print(i // 512)')
note "${#used[@]} sectors of the store are in use"
((${#used[@]} > 200)) || fail "the store uses too little"

refused=0 lost=0 taken=0
for ((round = 1; round <= ${ROUNDS:-15}; round++)); do
	dd if=/run/store of="$DISK1" bs=1M oflag=direct status=none
	dd if=/run/origin of="$DISK0" bs=1M oflag=direct status=none
	damage
	"$tool" check --data "$DISK1" >/run/said 2>&1 </dev/null
	checked=$?
	((checked == 0 || checked == 8)) || fail "$did: check ends with $checked: $(</run/said)"
	if start; then
		taken=$((taken + 1))
		before=$lost
		look
		((checked == 8 || lost == before)) || fail "$did: check passed it, $((lost - before)) blocks are lost"
		put $((RANDOM % 1000)) 2
		look
		stop
	else
		refused=$((refused + 1))
		((checked == 8)) || fail "$did: check passed it, the kernel does not take it"
		same "the origin is as it was" "$(sum_of_input </run/origin)" "$(sum "$DISK0")"
	fi
done
say "ok: ${ROUNDS:-15} damages: $taken stores taken with $lost unreadable blocks, $refused refused, nothing was wrong"
((lost + refused > 0)) || fail "no damage was noticed at all: this shows nothing"
