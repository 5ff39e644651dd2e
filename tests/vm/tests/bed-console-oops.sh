#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# A crash of the kernel is seen, and ends the test.
# kernels: 6.12
# groups: bed quick
# expect: console-failure
# timeout: 60
. "$SRC/tests/vm/guest/lib.sh"

echo 1 >/proc/sys/kernel/sysrq
echo c >/proc/sysrq-trigger
