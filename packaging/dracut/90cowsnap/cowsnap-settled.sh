#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Sourced whenever no event of udev is left: the root file system may be on an origin's mapped device, for which dracut
# waits. Devices may still be missing: it is tried again.
#
# Not before the machine would have resumed from hibernation: the kernel that resumes goes on with its own view of the stores,
# so nobody may have written to them. dracut puts 00resume there when it tries; with systemd nobody knows here, and
# cowsnap-pre-mount.sh is the first.

cowsnap_resumes=
if getarg resume= >/dev/null && ! getarg noresume >/dev/null; then
	[ -e "${hookdir:-/lib/dracut/hooks}/initqueue/finished/00resume.sh" ] || cowsnap_resumes=yes
fi
if [ -z "$cowsnap_resumes" ] && [ "$(cat /tmp/cowsnap-status 2>/dev/null)" != 0 ]; then
	/sbin/cowsnap-activate-once 0 || :
fi
