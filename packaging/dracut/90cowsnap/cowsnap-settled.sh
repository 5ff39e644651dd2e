#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Sourced whenever no event of udev is left: the root file system may be on an origin's mapped device, for which dracut
# waits. Devices may still be missing: it is tried again.
#
# Not before the machine would have resumed from hibernation: the kernel that resumes goes on with its own view of the stores,
# so nobody may have written to them. Then cowsnap-pre-mount.sh is the first.

if [ ! -e "${hookdir:-/lib/dracut/hooks}/initqueue/finished/resume.sh" ] || [ -e /.resume ]; then
	[ "$(cat /tmp/cowsnap-status 2>/dev/null)" = 0 ] || /sbin/cowsnap-activate-once 0 || :
fi
