# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
# A root file system of the test's own, for tests that declare "root-disk". Sourced behind lib.sh.

# root_make DEVICE: makes a small root file system there, with what a Debian machine has in /etc and /var. Its /usr is the
# host's; /bed-init is what the initramfs starts, and ends in the bed's own init.
root_make() {
	local device=$1 root=/run/new-root file
	mkfs.ext4 -q "$device" || fail "no file system on $device"
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
