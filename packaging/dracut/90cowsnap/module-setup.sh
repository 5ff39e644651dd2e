#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Called by dracut: what is needed to attach the origins before the root file system is mounted. Nothing, if no store is
# registered. As packaging/initramfs-tools.

cowsnap_state=/var/lib/cowsnap

check() {
	grep -qs '"uuid"' "${dracutsysrootdir-}$cowsnap_state/stores.json" || return 255
	require_binaries cowsnap-activate || return 1
	return 0
}

# stands_on: which modules of dracut are for what the devices of stores stand on. In an initramfs for this machine alone
# (hostonly) they leave themselves out if its root file system does not need them.
stands_on() {
	local path
	sed -n 's/^ *"path": "\(.*\)",\{0,1\}$/\1/p' "${dracutsysrootdir-}$cowsnap_state/stores.json" | while read -r path; do
		[[ ! -b $path ]] || lsblk --noheadings --inverse --list --output TYPE "$path"
	done | sed -n 's/^lvm$/lvm/p; s/^raid.*/mdraid/p; s/^linear$/mdraid/p; s/^crypt$/crypt/p; s/^mpath$/multipath/p' | sort -u
}

# Not of one that cannot be had, or needs what cannot be: dracut would leave out all of this as well. It asks in a subshell.
depends() {
	local module
	echo dm
	for module in $(stands_on); do
		if check_module "$module" >/dev/null; then
			echo "$module"
		else
			dwarn "cowsnap: a store is on a device that needs the module $module, which is left out: it is not started before the root file system is mounted"
		fi
	done
}

installkernel() {
	# also where only what is loaded now is put in
	hostonly='' instmods dm-mod
	# Without -c it is no failure if there is none.
	hostonly='' instmods -c -s dm-cow-snap ||
		dwarn "cowsnap: there is no module dm-cow-snap for this kernel: the origins are not attached before the root file system is mounted"
}

install() {
	local file
	# Otherwise, with systemd, it comes to the hook pre-mount before any device is there.
	dracut_need_initqueue
	inst_multiple cowsnap-activate cp mkdir modprobe sleep
	inst_rules 56-cowsnap.rules
	for file in "${dracutsysrootdir-}$cowsnap_state"/stores.json "${dracutsysrootdir-}$cowsnap_state"/lost-*.json; do
		[[ ! -e $file ]] || inst_simple "${file#"${dracutsysrootdir-}"}"
	done
	inst_script "${moddir:?}/cowsnap-activate.sh" /sbin/cowsnap-activate-once
	inst_hook initqueue/settled 80 "$moddir/cowsnap-settled.sh"
	# Without systemd what resumes from hibernation is pre-mount/10-resume.sh.
	inst_hook pre-mount 20 "$moddir/cowsnap-pre-mount.sh"
	if dracut_module_included systemd; then
		# What resumes from hibernation is before that target.
		file="${systemdsystemconfdir:-/etc/systemd/system}/dracut-pre-mount.service.d/cowsnap.conf"
		mkdir -p "${initdir:?}/${file%/*}"
		printf '[Unit]\nAfter=local-fs-pre.target\n' >"$initdir/$file"
	fi
}
