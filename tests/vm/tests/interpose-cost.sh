#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# What writes to a device cost that nobody has attached: nothing is hooked while no device is; while another device is
# attached, each write takes less than 2 % more instructions. They are counted, by the machine's clock.
# groups: interpose
# disks: 16M 128M
# clock: instructions
# timeout: 600
. "$SRC/tests/vm/guest/lib.sh"
. "$SRC/tests/vm/guest/cow.sh"
. "$SRC/tests/vm/guest/interpose.sh"

WRITES=4000
ROUNDS=7

# instructions: of one write, of many to a device that answers at once.
instructions() {
	echo $(($("$BUILD/tests/vm/programs/count-writes" /dev/nullb0 $WRITES "$SEED") / WRITES))
}

# median NUMBERS...
median() {
	printf '%s\n' "$@" | sort -n | sed -n "$((($# + 1) / 2))p"
}

load_module
modprobe null_blk nr_devices=1 gb=1 queue_mode=2 irqmode=0 submit_queues=1 || fail "there is no null_blk"
mount -t tracefs tracefs /sys/kernel/tracing 2>/dev/null
store_make store "$DISK1" 2 segment_sectors 256
instructions >/dev/null
alone=() beside=()
for ((round = 0; round < ROUNDS; round++)); do
	same "nothing is hooked while nothing is attached" 0 "$(hooks)"
	alone+=("$(instructions)")
	origin_interpose origin store 1 "$DISK0"
	[[ $(hooks) != 0 ]] || fail "nothing is hooked"
	beside+=("$(instructions)")
	dmsetup remove origin
	dmsetup message store 0 forget 1
done
before=$(median "${alone[@]}")
after=$(median "${beside[@]}")
note "instructions of a write while nothing is attached: ${alone[*]}; while another device is: ${beside[*]}"
say "a write takes $before instructions, and $after while another device is attached"
((before > 500)) || fail "so few instructions are no write: the clock does not count them"
((after > before)) || fail "a hook that costs nothing was not called"
((after * 100 < before * 102)) || fail "that is 2 % more, or still more than that"
free_all store
