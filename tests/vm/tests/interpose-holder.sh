#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Another module has hooked one of the functions, as a live patch does: interposing is refused, with a message that names the
# cause, nothing stays hooked, and stacked origins work. Who comes when the functions are hooked here is refused, and all goes
# on. When the other one has gone, devices are interposed again.
# groups: quick interpose both
# disks: 16M 64M 16M
# timeout: 200
. "$SRC/tests/vm/guest/lib.sh"
. "$SRC/tests/vm/guest/cow.sh"
. "$SRC/tests/vm/guest/interpose.sh"

functions="submit_bio_noacct submit_bio_noacct_nocheck"

# hooked FUNCTION: is it, by anybody?
hooked() {
	grep -q "^$1 .* [DI]\b" /sys/kernel/tracing/enabled_functions
}

# is_exact ORIGIN ID DEVICE TOP: a snapshot of the origin, whose device is written to as TOP.
is_exact() {
	local before
	before=$(sum "$3")
	check "$1: a snapshot" dmsetup message store 0 create "$2" "$2"
	fill "$4" $RANDOM
	[[ $before != "$(sum "$3")" ]] || fail "$1: nothing was written"
	snap_make snap store "$2" "$1" read_only
	same "$1: it is exact" "$before" "$(sum /dev/mapper/snap)"
	dmsetup remove snap
	check "$1: it is deleted" dmsetup message store 0 delete "$2"
}

RANDOM=$SEED
mount -t tracefs tracefs /sys/kernel/tracing 2>/dev/null
load_module
store_make store "$DISK1" 2 segment_sectors 256
origin_make stacked store 2 "$DISK2"

for function in $functions; do
	note "$function has another user"
	check "somebody else hooks it" holder_load $function
	same "one function is hooked" 1 "$(hooks)"
	dmesg --clear
	refused "interposing is" dmsetup create origin --table "0 $(sectors "$DISK0") cow-origin /dev/mapper/store 1 $DISK0 1 interpose"
	dmsetup remove origin 2>/dev/null
	for words in "interpose: $function() cannot be hooked (-16)" "a live patch or another filter has it"; do
		dmesg | grep -qF -- "$words" || fail "the log does not say '$words': $(dmesg | tail -n 5)"
		say "ok: the log says '$words'"
	done
	same "nothing more is hooked" 1 "$(hooks)"
	hooked $function || fail "the other one's hook is gone"
	is_exact stacked 2 "$DISK2" /dev/mapper/stacked
	check "$DISK0 goes on as it is" dd if="$DISK0" of="$DISK0" bs=64k count=16 oflag=direct conv=notrunc status=none
	rmmod hook-holder || fail "the other one does not go"
	same "nothing is hooked" 0 "$(hooks)"
done

note "the other one comes later"
origin_interpose origin store 1 "$DISK0"
same "the functions are hooked" 2 "$(hooks)"
for function in $functions; do
	refused "who wants $function, too," holder_load $function
	same "the functions are hooked" 2 "$(hooks)"
	is_exact origin 1 "$DISK0" "$DISK0"
done
verified_load "$DISK0" 1 || { tail -20 /run/fio.log; fail "fio found an error"; }
check "it is detached" dmsetup remove origin
same "nothing is hooked" 0 "$(hooks)"
check "then the other one is let" holder_load submit_bio_noacct
rmmod hook-holder
check "the module is unloaded" eval 'dmsetup remove stacked && dmsetup remove store && rmmod dm-cow-snap'
