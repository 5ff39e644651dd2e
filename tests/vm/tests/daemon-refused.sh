#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# The real daemon and command line over the real module: wrong names, ids and devices are refused with the exit
# status and the error that scripts rely on, nothing changes by it, and a daemon that was killed finds all again.
# groups: quick daemon
# disks: 64M 32M 32M 32M 64M
# timeout: 240
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
cli_status 2 "--yes" delete first-one
cli_status 5 "snapshot" origin detach --yes one
cli_status 1 "store" store create "$DISK0" --name second
cli_status 2 "belongs to the store" origin attach "$DISK0" --name own
cli_status 1 "attached already" origin attach "$DISK1" --name again
cli_status 3 "/dev/nothing" origin attach /dev/nothing --name x
cli_status 1 "already" origin attach "$DISK3" --name one
mkfs.ext4 -q "$DISK3"
mkdir -p /mnt/used
mount "$DISK3" /mnt/used
cli_status 5 "$DISK3" origin attach "$DISK3" --name x
cli_status 5 "$DISK3" store create "$DISK3" --name x
umount /mnt/used
cli_status 1 "$DISK3" store create "$DISK3" --name x
cli_status 2 "" create
cli_status 2 "" explode
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
