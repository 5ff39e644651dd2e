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
    r"\bkmemleak: (unreferenced object|\d+ new)",
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

# A virtual CPU of QEMU's emulator at times runs a breakpoint that the kernel, patching itself, has already taken away:
# one CPU translates what another one is writing to. No module can cause what the kernel reports then, so what was run is to be
# repeated. It dies of the breakpoint (a BUG is an invalid opcode); or a CPU stays for good before the first instruction of a
# function, where memory has no breakpoint but what ftrace has there before or behind it, a no-op or a call: the kernel reports
# that CPU, or a task that waits for it. When it is seen on its way to the handler, it is to go on behind the breakpoint's byte: in
# the middle of that no-op or call.
EMULATOR_FAULT = re.compile(r"\bint3: 0000 |"
                            r"(?:soft lockup|\bstall|blocked for more than)(?:.*\n)+?.*\bRIP: 0010:\w+"
                            r"(?:\+0x[04]/(?:.*\n){1,6}?.*\bCode: [0-9a-f ]*<(?:0f> 1f 44 00 00|e8>)|"
                            r"\+0x[15]/(?:.*\n){1,6}?.*\bCode: [0-9a-f ]*(?:\b0f <1f> 44 00 00|\be8 <))")

# Of a log, where it is shown.
MOST_LINES = 40

_TIMESTAMP = re.compile(r"^\[ *\d+\.\d+\] ?(\[[^]]*\] ?)?")


def trouble(line):
    """The console line without its time if it shows trouble, else None."""
    text = _TIMESTAMP.sub("", line.strip())
    return text if TROUBLE.search(text) else None


def _telling_lines(log):
    """Of the lines of a log some: from the first that shows trouble on, where a report has its cause, or else the last."""
    lines = log.splitlines()
    for number, line in enumerate(lines):
        if trouble(line):
            return lines[number:number + MOST_LINES]
    return lines[-MOST_LINES:]


def told(logs):
    """What a machine's output.log and console.log in that directory say of a failure, in lines."""
    lines = []
    for name in ("output.log", "console.log"):
        path = logs / name
        if path.exists():
            lines += [f"--- of {path}", *_telling_lines(path.read_text(errors="replace"))]
    return lines


def emulator_fault(report):
    """Whether what the console showed from its first sign of trouble on is a fault of the emulator."""
    return EMULATOR_FAULT.search(report) is not None
