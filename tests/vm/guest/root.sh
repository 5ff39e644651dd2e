# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
# A root file system of the test's own, for tests that declare "root-disk". Sourced behind lib.sh and daemon.sh.

# root_make DEVICE: makes a small root file system there, with what a Debian machine has in /etc and /var. Its /usr is the
# host's, its UUID $ROOT_UUID; /bed-init is what the initramfs starts, and ends in the bed's own init.
root_make() {
	local device=$1 root=/run/new-root file
	mkfs.ext4 -q -U "$ROOT_UUID" "$device" || fail "no file system on $device"
	mkdir -p $root
	mount "$device" $root || fail "$device is not mounted"
	mkdir -p $root/{bed,dev,etc,host,proc,root,run,srv,sys,tmp,usr,var/lib/cowsnap,var/tmp} "$root$SRC"
	ln -s usr/bin usr/sbin usr/lib usr/lib64 $root/
	for file in passwd group nsswitch.conf ld.so.cache ld.so.conf ld.so.conf.d mke2fs.conf dbus-1; do
		[[ ! -e /etc/$file ]] || cp -r "/etc/$file" $root/etc/ || fail "no copy of /etc/$file"
	done
	ln -s /proc/mounts $root/etc/mtab
	cp "$(command -v busybox)" $root/busybox
	cp "$SRC/tests/vm/guest/root-init" $root/bed-init
	printf 'SRC=%q\n' "$SRC" >$root/etc/bed
	chmod 755 $root/bed-init
	umount $root || fail "$device is not unmounted"
}

# log_line TEXT: the number of the first line of the kernel's log that has it, 0 if none has.
log_line() {
	local line
	line=$(dmesg | grep -nF -m 1 -- "$1")
	echo "$((${line%%:*} + 0))"
}

# started_before_root DEVICE: the initramfs has started the store before it mounted the root file system, which it did from DEVICE.
started_before_root() {
	local store root
	store=$(log_line "cowsnap-activate: the store main is")
	root=$(log_line "EXT4-fs (${1#/dev/}): mounted filesystem")
	((root > 0)) || fail "the root file system is not mounted from $1: $(grep ' / ' /proc/mounts)"
	((store > 0 && store < root)) || {
		dmesg | tail -n 40
		fail "the store was not started before the root file system was mounted (lines $store and $root)"
	}
	say "ok: the store was started before the root file system was mounted"
}

# root_daemon_start: the daemon, from where it was built: nothing is installed on the root file system.
root_daemon_start() {
	PATH=$BUILD/daemon:$BUILD/tools:$PATH
	start_system_bus
	daemon_start
}

# root_begin: what such a test begins with: the daemon, a store "main" on DISK1, and the root file system on DISK0, not mounted.
root_begin() {
	install_cowsnap
	load_module
	modprobe ext4 || fail "no ext4"
	root_daemon_start
	check "a store" snapd-cli store create "$DISK1" --name main
	root_make "$DISK0"
}
