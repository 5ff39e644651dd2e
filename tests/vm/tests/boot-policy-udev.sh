#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# udev's rules leave the devices of fail-closed origins alone until these are attached, at boot or by the daemon later: they are
# not SYSTEMD_READY, nor are their partitions, and LVM activates nothing on them.
# groups: interpose daemon
# kernels: 6.12
# disks: 48M 64M 48M 24M
# timeout: 300
. "$SRC/tests/vm/guest/lib.sh"
. "$SRC/tests/vm/guest/cow.sh"
. "$SRC/tests/vm/guest/daemon.sh"

stop_daemon() {
	kill "$daemon"
	wait "$daemon" 2>/dev/null
}

# udev_starts: with the rules of the packages, and as at boot: withholding comes first.
udev_starts() {
	install -D -m 644 -t /etc/udev/rules.d "$SRC"/packaging/udev/*.rules
	check "what is to be withheld is written down" cowsnap-activate --withhold
	env -u DM_DISABLE_UDEV /lib/systemd/systemd-udevd --daemon || fail "udevd does not start"
	udevadm trigger --type=devices --action=add --subsystem-match=block
	settled
}
settled() {
	udevadm settle --timeout=100 || fail "udev is not done"
}

# ready DEVICE: what systemd is told; nothing is as good as 1.
ready() {
	local line
	line=$(udevadm info --query=property --name="$1" | grep '^SYSTEMD_READY=')
	echo "${line#SYSTEMD_READY=}"
}
is_withheld() {
	same "$1 is withheld" 0 "$(ready "$1")"
}
# udevd notices some time later that a device that it watches was closed by its writer.
is_ready() {
	local tries=0
	while [[ $(ready "$1") == 0 ]] && ((++tries < 50)); do
		sleep 0.2
	done
	[[ $(ready "$1") != 0 ]] || fail "$1 is withheld: $(cowsnap-activate --withheld "$1")"
	say "ok: $1 is ready"
}
volumes() {
	dmsetup ls --target linear | grep -c '^group-volume' || true
}

install_cowsnap
case $(phase) in
start)
	load_module
	start_system_bus
	daemon_start
	cli "created the store main" store create "$DISK1" --name main
	echo 'size=20M, type=83' | sfdisk --quiet "$DISK0" || fail "no partition on $DISK0"
	# There is no udevd in this boot.
	lvm_without_udev
	lvm pvcreate --quiet "$DISK2" && lvm vgcreate --quiet group "$DISK2" &&
		lvm lvcreate --quiet --zero n --wipesignatures n --extents 4 --name volume group || fail "no volume"
	for disk in "$DISK0" "$DISK2"; do
		cli "attached $disk" origin attach "$disk" --method interpose --boot-policy fail-closed
	done
	cli "attached $DISK3" origin attach "$DISK3" --method interpose
	stop_daemon
	reboot_to boot
	;;
boot)
	load_module
	mkdir -p /run/lvm /run/lock/lvm
	udev_starts
	is_withheld "$DISK0"
	is_withheld "${DISK0}1"
	is_withheld "$DISK2"
	is_ready "$DISK1"
	is_ready "$DISK3"
	same "no volume is activated on what is withheld" 0 "$(volumes)"
	note "what cannot be told is withheld"
	cp /run/cowsnap/withheld.json /run/withheld.json
	echo '{' >/run/cowsnap/withheld.json
	udevadm trigger --type=devices --action=change --subsystem-match=block
	settled
	is_withheld "$DISK0"
	is_withheld "$DISK2"
	cp /run/withheld.json /run/cowsnap/withheld.json
	udevadm trigger --type=devices --action=change --subsystem-match=block
	settled
	is_withheld "$DISK0"
	is_ready "$DISK3"
	check "the store and its origins come up" cowsnap-activate
	settled
	for device in "$DISK0" "${DISK0}1" "$DISK2"; do
		is_ready "$device"
	done
	same "the volume is activated now" 1 "$(volumes)"
	[[ ! -e /run/cowsnap/withheld.json ]] || fail "it is still there: $(</run/cowsnap/withheld.json)"
	reboot_to later
	;;
later)
	# Without the module, as with a new kernel: nothing is attached at boot, but later by the daemon, which cannot write to sysfs.
	modprobe dm-mod
	udev_starts
	cowsnap-activate 2>/bed/activate.log && fail "activated without the module"
	grep -qF "add cowsnap.policy=fail-open" /bed/activate.log || fail "it does not say how to go on: $(</bed/activate.log)"
	grep -qF "is fail-closed and not attached" /bed/activate.log || fail "it does not say of what: $(</bed/activate.log)"
	udevadm trigger --type=devices --action=change --subsystem-match=block
	settled
	is_withheld "$DISK0"
	is_withheld "$DISK2"
	is_ready "$DISK3"
	load_module
	start_system_bus
	# for the daemon alone: udevd writes there to look again at what was closed
	cowsnapd() {
		unshare --mount bash -c 'mount -o remount,bind,ro /sys && exec /usr/sbin/cowsnapd'
	}
	daemon_start
	settled
	is_ready "$DISK0"
	is_ready "$DISK2"
	;;
esac
