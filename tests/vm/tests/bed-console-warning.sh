#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# A warning in the console fails a test that itself is content.
# kernels: 6.12
# groups: bed quick
# expect: console-failure
# timeout: 60
. "$SRC/tests/vm/guest/lib.sh"

echo "<4>WARNING: CPU: 0 PID: 1 at the bed's own test" >/dev/kmsg
