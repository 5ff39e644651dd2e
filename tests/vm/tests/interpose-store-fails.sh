#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# store-fails, with the origin in front of a device in use.
# groups: interpose failure
# disks: 16M 48M
# timeout: 200
export METHOD=interpose
. "$SRC/tests/vm/tests/store-fails.sh"
