# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
# What a test program of the VM bed can say and ask for. Sourced with `. "$SRC/tests/vm/guest/lib.sh"`.
#
# A test passes when it exits with 0 and the kernel's console shows nothing the bed's watchdog objects to.
# Variables: PHASE (start, then what the test asked for), KERNEL (6.1 or 6.12), DISK0, DISK1 ... (block devices),
# MODULE (dm-cow-snap.ko for this kernel), SRC, BUILD, SEED (a number; the same again when a run is repeated with --seed).
# /bed is a directory that outlives reboots and power cuts: what is written and synced there stays.

set -u

# say MESSAGE...: a line in the test's output, with the seconds since the machine was started.
say() {
	local uptime
	read -r uptime _ </proc/uptime
	printf '[%6.2f] %s\n' "$uptime" "$*"
}

# note MESSAGE...: a remark in the test's output.
note() {
	say "# $*"
}

# fail MESSAGE...: ends the test as failed.
fail() {
	say "FAIL: $*"
	exit 1
}

# skip REASON...: ends the test as skipped.
skip() {
	printf 'skip %s\n' "$*" >"$RESULT_PORT"
	exit 77
}

# check WHAT COMMAND...: runs the command; its success is the promise WHAT, anything else ends the test as failed.
check() {
	local what=$1 status
	shift
	"$@"
	status=$?
	((status == 0)) || fail "$what: '$*' returned $status"
	say "ok: $what"
}

# ends SECONDS WHAT COMMAND...: like check, for what may hang and then cannot be killed.
ends() {
	local i pid
	"${@:3}" &
	pid=$!
	for ((i = 0; i < $1 * 10; i++)); do
		kill -0 $pid 2>/dev/null || break
		sleep 0.1
	done
	kill -0 $pid 2>/dev/null && fail "$2: it hangs"
	wait $pid || fail "$2: $?"
	say "ok: $2"
}

# refused WHAT COMMAND...: like check, for a command that must fail.
refused() {
	local what=$1
	shift
	if "$@"; then
		fail "$what: '$*' succeeded"
	fi
	say "ok: $what"
}

# same WHAT EXPECTED ACTUAL: two values that must be equal.
same() {
	[[ $2 == "$3" ]] || fail "$1: expected '$2', found '$3'"
	say "ok: $1"
}

# phase: the name of the current phase, "start" on the first boot.
phase() {
	printf '%s\n' "$PHASE"
}

# reboot_to NEXT: restarts the machine through the kernel; the program runs again with PHASE=NEXT.
# Unmount first what is to be unmounted cleanly.
reboot_to() {
	sync
	printf 'reboot %s\n' "$1" >"$RESULT_PORT"
	reboot --force --force
	sleep infinity
}

# reboot_refused NEXT [WORD...]: restarts the machine with its own root disk ("root-disk: yes"). The initramfs must not mount
# it; what the console shows then is in /bed/refusal. After that the program runs again with PHASE=NEXT, booted once with
# the WORDs on the kernel's command line.
reboot_refused() {
	sync
	printf 'refusal %s\n' "$*" >"$RESULT_PORT"
	reboot --force --force
	sleep infinity
}

# ask_power_cut NEXT MS [MAX_MS]: MS milliseconds from now (a random time between the two, if two are given) the
# machine loses its power; the program runs again with PHASE=NEXT. Returns at once, for the test to go on working.
ask_power_cut() {
	printf 'cut %s %s %s\n' "$1" "$2" "${3:-$2}" >"$RESULT_PORT"
}

# until_power_cut COMMAND...: repeats the command until the power goes. A failing command ends the test as failed.
until_power_cut() {
	while "$@"; do
		:
	done
	fail "'$*' failed before the power cut"
}

# unplug NUMBER: that disk is pulled out of the machine. Returns at once.
unplug() {
	printf 'unplug %s\n' "$1" >"$RESULT_PORT"
}

# load_module [PARAMETER=VALUE...]: dm-cow-snap, and the kernel's modules that it needs.
load_module() {
	local needs
	[[ -n ${MODULE-} ]] || fail "dm-cow-snap.ko is not built for kernel $KERNEL"
	IFS=, read -r -a needs <<<"$(modinfo -F depends "$MODULE")"
	modprobe -a dm-mod "${needs[@]}" || fail "the kernel's own modules do not load: ${needs[*]}"
	insmod "$MODULE" "$@" || fail "$MODULE does not load"
}

# start_system_bus: a D-Bus system bus as Debian configures it.
start_system_bus() {
	dbus-daemon --system --fork || fail "the system bus does not start"
}

# lvm_without_udev [DEVICE...]: LVM's commands look at these devices only, or at all, and neither ask udevd nor wait for it.
# Their configuration is in $LVM_SYSTEM_DIR, for the guest's /etc is not to be written.
lvm_without_udev() {
	local device filter=
	for device; do
		filter+="\"a|^$device\$|\", "
	done
	[[ -z $filter ]] || filter="global_filter=[$filter\"r|.*|\"]"
	export LVM_SYSTEM_DIR=${LVM_SYSTEM_DIR:-/run/lvm-test}
	mkdir -p "$LVM_SYSTEM_DIR" /run/lvm /run/lock/lvm
	cat >"$LVM_SYSTEM_DIR/lvm.conf" <<-EOF
		devices { obtain_device_list_from_udev=0 use_devicesfile=0 $filter }
		global { use_lvmpolld=0 event_activation=0 }
		activation { udev_sync=0 udev_rules=0 verify_udev_operations=1 monitoring=0 }
		backup { backup=0 archive=0 }
	EOF
}
