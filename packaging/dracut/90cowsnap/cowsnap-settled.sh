#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Sourced whenever no event of udev is left: the root file system may be on an origin's mapped device, for which dracut
# waits. Devices may still be missing: it is tried again.
#
# Not before the machine would have resumed from hibernation: the kernel that resumes goes on with its own view of the stores,
# so nobody may have written to them. Without systemd dracut puts 00resume there when it finds an image, and tries it at once;
# with systemd, or if there is only plain swap, nobody knows here, and cowsnap-pre-mount.sh is the first.

cowsnap_resumes=
if ! getarg noresume >/dev/null; then
	if getarg resume= >/dev/null && [ ! -e "${hookdir:-/lib/dracut/hooks}/initqueue/finished/00resume.sh" ]; then
		cowsnap_resumes=yes
	fi
	# systemd of 254 and later also resumes from where the firmware was told that the image is.
	for cowsnap_image in /sys/firmware/efi/efivars/HibernateLocation-*; do
		[ ! -e "$cowsnap_image" ] || cowsnap_resumes=yes
	done
fi
if [ -z "$cowsnap_resumes" ] && [ "$(cat /tmp/cowsnap-status 2>/dev/null)" != 0 ]; then
	/sbin/cowsnap-activate-once 0 || :
fi
