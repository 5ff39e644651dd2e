# SPDX-License-Identifier: GPL-2.0-or-later
"""What a kernel console must not show: a test during which it does is failed, whatever the test itself says."""

import re

TROUBLE = re.compile("|".join((
    r"\bOops\b",
    r"\bBUG: ",
    r"\bkernel BUG at",
    r"\bWARNING: ",
    r"\bCall Trace",
    r"general protection",
    r"\bKASAN\b",
    r"\bUBSAN\b",
    r"possible (circular|recursive|irq lock)",
    r"inconsistent lock state",
    r"bad unlock balance",
    r"held lock freed",
    r"suspicious RCU usage",
    r"blocked for more than",
    r"soft lockup",
    r"hard LOCKUP",
    r"rcu.*(detected stalls|self-detected stall|kthread starved)",
    r"\bkmemleak: \d+ new",
    # checks that have given up
    r"\bkmemleak: .*\bdisabled",
    r"turning off the locking correctness validator",
    r"list_(add|del) corruption",
    r"\brefcount_t: ",
    r"scheduling while atomic",
    r"sleeping function called from invalid context",
    r"page allocation failure",
    r"unable to handle",
    r"Kernel panic",
    r"Out of memory: Killed",
)))

_TIMESTAMP = re.compile(r"^\[ *\d+\.\d+\] ?(\[[^]]*\] ?)?")


def trouble(line):
    """The console line without its time if it shows trouble, else None."""
    text = _TIMESTAMP.sub("", line.strip())
    return text if TROUBLE.search(text) else None
