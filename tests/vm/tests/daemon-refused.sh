#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# The real daemon and command line over the real module: wrong names, ids and devices are refused with the exit
# status and the error that scripts rely on, nothing changes by it, and a daemon that was killed finds all again.
# groups: quick daemon
# disks: 64M 32M 32M 32M 64M 4M 32M
# timeout: 400
. "$SRC/tests/vm/guest/lib.sh"
. "$SRC/tests/vm/guest/daemon.sh"

# cli_status STATUS WORDS COMMAND...: the command line ends with STATUS, and its message has WORDS.
cli_status() {
	local expected=$1 words=$2 status
	shift 2
	snapd-cli "$@" >/tmp/cli.out 2>&1 </dev/null
	status=$?
	[[ $status == "$expected" ]] || {
		cat /tmp/cli.out
		fail "'snapd-cli $*' ended with $status, not $expected"
	}
	grep -qiF -- "$words" /tmp/cli.out || {
		cat /tmp/cli.out
		fail "'snapd-cli $*' does not say '$words'"
	}
	say "ok: snapd-cli ${*:1:6}: $status: $(head -n 1 /tmp/cli.out)"
}

all() {
	snapd-cli --json list
	snapd-cli --json origin list
	snapd-cli --json -o name,uuid,snapshots store list
}

daemon_start() {
	cowsnapd >>/bed/cowsnapd.log 2>&1 &
	daemon=$!
	daemon_answers || fail "the daemon does not answer"
}


install_cowsnap
load_module
modprobe loop || fail "no loop devices"
start_system_bus
cli_status 6 "cowsnapd does not run" store list
daemon_start
check "a store" snapd-cli store create "$DISK0" --name main
check "an origin" snapd-cli origin attach "$DISK1" --name one
check "another" snapd-cli origin attach "$DISK2" --name two
origin=/dev/mapper/cowsnap-one
dd if=/dev/urandom of=$origin bs=1M count=32 oflag=direct status=none
check "a set" snapd-cli set create one two --name first
snapd-cli --json list
before=$(all)

cli_status 1 "already" set create one two --name first
for name in "a/b" "$(printf 'a\tb')" "$(printf 'x%.0s' {1..128})" "" . ..; do
	cli_status 2 "name" create one --name "$name"
done
cli_status 3 "nothing" create nothing --name x
cli_status 3 "missing" delete --yes missing
cli_status 4 "--yes" delete first-one
cli_status 5 "snapshot" origin detach --yes one
cli_status 1 "store" store create "$DISK0" --name second
cli_status 2 "belongs to the store" origin attach "$DISK0" --name own
cli_status 1 "attached already" origin attach "$DISK1" --name again
cli_status 3 "/dev/nothing" origin attach /dev/nothing --name x
cli_status 1 "already" origin attach "$DISK3" --name one
mkfs.ext4 -q "$DISK3"
mkdir -p /mnt/used
mount "$DISK3" /mnt/used
cli_status 5 "$DISK3" origin attach "$DISK3" --name x --method stack
cli_status 5 "$DISK3" store create "$DISK3" --name x
umount /mnt/used
cli_status 1 "$DISK3" store create "$DISK3" --name x
cli_status 2 "" create
cli_status 2 "" explode
cli_status 2 "at least 8.0 MiB" store create "$DISK5" --name small
cli_status 1 "named \"main\"" store create "$DISK6" --name main
for name in "a/b" "$(printf 'a\tb')" "$(printf 'x%.0s' {1..128})" "$(printf '\302\205')" ..; do
	cli_status 2 "name" store create "$DISK6" --name "$name"
	cli_status 2 "name" origin attach "$DISK6" --name "$name"
	cli_status 2 "name" set create one=fine two="$name"
done
cli_status 3 "no store" store extend nothing "$DISK6"
cli_status 3 "no origin" origin detach --yes nothing
cli_status 3 "no snapshot" activate nothing
cli_status 3 "no snapshot" show nothing
cli_status 2 "named twice" set create one=x one=y
cli_status 2 "read-only" activate first-one --rw
cli_status 5 "origins" store close main --yes
cli_status 1 "already" store open "$DISK0"
cli_status 3 "no store starts" store open "$DISK6"

# devices that stand on each other
check "a loop device on the store's device" losetup /dev/loop7 "$DISK0"
check "a loop device on an origin's device" losetup /dev/loop6 "$DISK1"
check "a mapped device on an origin's device" dmsetup create upper --table "0 $(blockdev --getsz "$DISK2") linear $DISK2 0"
check "a partition" addpart "$DISK6" 1 2048 16384
cli_status 2 "stand on each other" origin attach /dev/loop7
cli_status 1 "belongs to the store" store create /dev/loop7 --name x
cli_status 1 "stand on each other" origin attach /dev/loop6
cli_status 2 "cannot stand on an origin" store create /dev/loop6 --name x
cli_status 1 "stand on each other" origin attach /dev/mapper/upper
cli_status 2 "cannot stand on an origin" store create /dev/mapper/upper --name x
cli_status 2 "cannot stand on an origin" store create /dev/mapper/cowsnap-one --name x
cli_status 2 "cannot stand on an origin" store extend main /dev/mapper/cowsnap-one
check "a store on a partition" snapd-cli store create "${DISK6}1" --name parted
cli_status 2 "stand on each other" origin attach "$DISK6" --store parted
cli_status 2 "belongs to the store" origin attach "${DISK6}1" --store parted
cli_status 1 "belongs to the store" store extend main "$DISK6"
check "that store is closed" snapd-cli store close parted --yes
losetup -d /dev/loop7
losetup -d /dev/loop6
dmsetup remove upper

# one of several devices of a btrfs
modprobe btrfs || fail "no btrfs"
check "a btrfs of two devices" mkfs.btrfs -q -f --mixed -d single -m single "$DISK3" "$DISK6"
check "it is mounted" mount "$DISK3" /mnt/used
for disk in "$DISK3" "$DISK6"; do
	cli_status 1 "one of the 2 devices of a btrfs" origin attach "$disk" --name x
	cli_status 1 "one of the 2 devices of a btrfs" create "$disk" --name x
done
umount /mnt/used
wipefs -qa "$DISK3" "$DISK6"

# who may, and one daemon at a time
setpriv --reuid=65534 --regid=65534 --clear-groups snapd-cli list >/dev/null || fail "not everybody may read"
setpriv --reuid=65534 --regid=65534 --clear-groups snapd-cli --yes delete first-one 2>/tmp/cli.out
same "only root may change something" 4 $?
cowsnapd >/tmp/second.log 2>&1
same "a second daemon ends" 1 $?
grep -q "another cowsnapd is running" /tmp/second.log || fail "it does not say why: $(</tmp/second.log)"
snapd-cli --json delete --yes missing >/tmp/cli.out 2>/dev/null
same "an error is JSON, too" NotFound "$(jq -r .error.name /tmp/cli.out)"

refused "an option that is not known" busctl call org.cowsnap1 /org/cowsnap1 org.cowsnap1.Manager Refresh \
	"a{sv}" 1 turbo b true
same "nothing has changed" "$before" "$(all)"

check "the snapshot's device" snapd-cli activate first-one
device=$(readlink -f /dev/mapper/cowsnap-snap-first-one)
sum=$(dd if="$device" bs=1M iflag=direct status=none | sha256sum)
exec 9<"$device"
cli_status 5 "first-one" delete --yes first-one
cli_status 5 "first-one" deactivate first-one
exec 9<&-
kill -9 $daemon
wait $daemon 2>/dev/null
dd if=/dev/urandom of=$origin bs=1M count=16 oflag=direct status=none
daemon_start
same "all is found again by a daemon that was killed" "$(grep '"name":' <<<"$before")" "$(all | grep '"name":')"
same "the snapshot is exact" "$sum" "$(dd if="$device" bs=1M iflag=direct status=none | sha256sum)"
check "its device goes" snapd-cli deactivate first-one
check "both are deleted" snapd-cli delete --yes first-one first-two
check "the origins are detached" snapd-cli origin detach --yes one
check "both of them" snapd-cli origin detach --yes two
check "a device of its own again" mkfs.ext4 -q -F "$DISK1"
check "the store is extended" snapd-cli store extend main "$DISK4"
snapd-cli store list

# a store on its own devices, in their order, of a version that is known
check "a store of two devices is closed" snapd-cli store close main --yes
cli_status 2 "same device" store open "$DISK0" "$DISK0"
cli_status 2 "one is missing" store open "$DISK0"
cli_status 3 "no store starts" store open "$DISK4" "$DISK0"
cli_status 2 "is no device of the store" store open "$DISK0" "$DISK4" "$DISK3"
cowsnap-activate "$DISK0" "$DISK4" "$DISK3" 2>/tmp/cli.out && fail "a foreign device is taken into a store"
grep -q "is no device of the store" /tmp/cli.out || fail "cowsnap-activate: $(</tmp/cli.out)"
say "ok: nor does cowsnap-activate take it"
check "a device smaller than before" dmsetup create shorter \
	--table "0 $(($(blockdev --getsz "$DISK4") / 2)) linear $DISK4 0"
cli_status 2 "smaller than before" store open "$DISK0" /dev/mapper/shorter
dmsetup remove shorter
dd if="$DISK0" of=/tmp/super bs=4096 count=17 iflag=direct status=none
/usr/bin/python3 "$SRC/tests/vm/guest/set-version.py" "$DISK0" 77
cli_status 1 "version not known" store open "$DISK0" "$DISK4"
dd if=/tmp/super of="$DISK0" bs=4096 count=17 oflag=direct status=none
for block in 0 16; do
	# all of the UUID: one byte of it may have any value before
	dd if=/dev/zero of="$DISK0" bs=1 seek=$((block * 4096 + 16)) count=16 conv=notrunc,fsync status=none
done
cli_status 8 "superblocks are damaged" store open "$DISK0" "$DISK4"
cli_status 8 "superblocks are damaged" store create "$DISK0" --name x
dd if=/tmp/super of="$DISK0" bs=4096 count=17 oflag=direct status=none
check "the store is opened again" snapd-cli store open "$DISK0" "$DISK4"

# an origin whose device has become smaller
check "a device that can shrink" dmsetup create shrinks --table "0 $(blockdev --getsz "$DISK2") linear $DISK2 0"
check "an origin on it" snapd-cli origin attach /dev/mapper/shrinks --name shrinks
check "a snapshot of it" snapd-cli create shrinks --name kept
kill $daemon
wait $daemon
check "the origin is taken down" dmsetup remove cowsnap-shrinks
dmsetup reload shrinks --table "0 $(($(blockdev --getsz "$DISK2") / 2)) linear $DISK2 0"
dmsetup resume shrinks
daemon_start
cli_status 2 "is smaller than when it was attached" origin attach /dev/mapper/shrinks
cli_status 3 "is not attached" create shrinks --name more
same "it says why" missing "$(snapd-cli --no-headings -o state origin list)"
snapd-cli -o problem show shrinks | grep -q "smaller than before" || fail "$(snapd-cli show shrinks)"
