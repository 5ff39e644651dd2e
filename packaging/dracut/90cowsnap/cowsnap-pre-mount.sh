#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Sourced before the root file system is mounted: the last time to attach its origin. Whatever fails, the boot goes on.

if [ "$(cat /tmp/cowsnap-status 2>/dev/null)" != 0 ] && ! /sbin/cowsnap-activate-once 30; then
	echo "<3>cowsnap-activate ended with $(cat /tmp/cowsnap-status): snapshots may not be exact any more" >/dev/kmsg
fi
