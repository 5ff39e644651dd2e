#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Sourced before the root file system is mounted: the last time to attach its origin. Whatever fails, the boot goes on;
# but if what is to be mounted stands on a fail-closed origin that is not attached, it stops with a shell.

# As dracut has found it: block:DEVICE, or what is no block device and stands on no origin.
cowsnap_root=${root:-}
cowsnap_root=${cowsnap_root#block:}

if [ "$(cat /tmp/cowsnap-status 2>/dev/null)" != 0 ] && ! /sbin/cowsnap-activate-once 30 "$cowsnap_root"; then
	echo "<3>cowsnap-activate ended with $(cat /tmp/cowsnap-status): snapshots may not be exact any more" >/dev/kmsg
fi

# A /var of its own is not mounted yet when the system attaches what is not attached here.
(
	umask 077
	mkdir -p /run/cowsnap
	cp /var/lib/cowsnap/*.json /run/cowsnap
)

# cowsnap_withheld: whether that stands on a fail-closed origin that is not attached, or nobody can tell; and why.
cowsnap_withheld() {
	[ -e /run/cowsnap/withheld.json ] || return 1
	case "$cowsnap_root" in
	/* | '') ;;
	*) return 1 ;;
	esac
	cowsnap_why=$(/usr/sbin/cowsnap-activate --withheld "$cowsnap_root" 2>&1)
	# 3: nothing keeps it from being mounted
	[ $? -ne 3 ]
}
while cowsnap_withheld; do
	emergency_shell -n cowsnap "The root file system on $cowsnap_root is not mounted: $cowsnap_why
To try again from this shell, leave it with \"exit\"."
	/sbin/cowsnap-activate-once 0 || :
done
