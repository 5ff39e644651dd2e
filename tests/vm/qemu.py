# SPDX-License-Identifier: GPL-2.0-or-later
"""How QEMU and the kernels in it are called, whatever the machine is for.

Virtual where the CPU can, else emulated, with what an emulated machine needs to be told to start surely and fast. Knows nothing of
disks, programs and tests.
"""

import functools
import os
import pathlib
import re

# All that QEMU can emulate but: a fifth level of page tables, which costs time at every TLB miss; and cmpxchg16b, behind which
# an interrupt at times finds an address in the flags register (seen as a debug exception in kmem_cache_alloc).
EMULATED_CPU = "max,la57=off,cx16=off"
# Of a machine whose clock counts instructions. The emulator counts one for each byte of "rep stosb", with which Linux zeroes pages
# where the CPU says that it is fast (ERMS): 4,096 a page, where a real CPU stores many bytes at a time. Without, it is "rep stosq": 512.
COUNTING_CPU = f"{EMULATED_CPU},erms=off"
INSTRUCTION_CLOCK_KHZ = 1_000_000

# The machine without a PCI bus, which starts fastest, and that with one; and how names of their virtio devices end.
SMALL_MACHINE = ("microvm,rtc=on,ioapic2=on", "device")
PCI_MACHINE = ("pc", "pci")


@functools.cache
def _cpu():
    info = pathlib.Path("/proc/cpuinfo").read_text()
    mhz = re.search(r"^cpu MHz\s*: ([\d.]+)", info, re.MULTILINE)
    flags = re.search(r"^flags\s*:(.*)", info, re.MULTILINE)
    virtualizes = bool(flags and {"vmx", "svm"} & set(flags[1].split()))
    return (int(float(mhz[1]) * 1000) if mhz else None, virtualizes and os.access("/dev/kvm", os.R_OK | os.W_OK))


def command(machine, memory_mib, counts_instructions=False, takes_turns=False):
    """The first words of a command line: a machine with memory and CPUs, and nothing else. Emulated CPUs run side by side or, if the
    machine takes turns, one after the other on one CPU of the host, a slice of time each: slower, and two of them are never at
    the same few instructions. But a kernel that patches itself is safe there: QEMU 7.2 else keeps, at times and for good, what one
    CPU has translated of code that another one was just writing, see console.EMULATOR_FAULT."""
    kvm = _cpu()[1] and not counts_instructions
    words = [
        # QEMU must not outlive who started it.
        "setpriv", "--pdeathsig", "KILL",
        "qemu-system-x86_64", "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none",
        "-M", machine, "-cpu", "host" if kvm else COUNTING_CPU if counts_instructions else EMULATED_CPU,
        "-accel", "kvm" if kvm else "tcg,thread=single" if counts_instructions or takes_turns else "tcg,thread=multi",
        "-smp", "1" if counts_instructions else "2", "-m", str(memory_mib),
    ]
    if counts_instructions:
        # sleep=off: while the CPU has nothing to do the clock goes on to the next timer at once
        words += ["-icount", "shift=0,sleep=off"]
    return words


def kernel_words(slowness=1, counts_instructions=False):
    """What the kernel of such a machine is to be told: to be loud, to end at its first fault, and to be patient."""
    words = [
        "console=ttyS0", "loglevel=7", "panic=-1", "oops=panic", "reboot=t", "nokaslr", "mitigations=off",
        "tsc=reliable", "no_timer_check", "random.trust_cpu=on",
        f"sysctl.kernel.hung_task_timeout_secs={60 * slowness}", "sysctl.kernel.hung_task_warnings=-1",
        # Whom a task waits for may be what another CPU does.
        "sysctl.kernel.hung_task_all_cpu_backtrace=1",
        # Emulated CPUs stand still for seconds when the host is busy.
        f"sysctl.kernel.watchdog_thresh={min(60, 30 * slowness)}",
        f"rcupdate.rcu_cpu_stall_timeout={60 * slowness}",
        f"workqueue.watchdog_thresh={60 * slowness}",
    ]
    tsc_khz = INSTRUCTION_CLOCK_KHZ if counts_instructions else _cpu()[0]
    if tsc_khz:
        words.append(f"tsc_early_khz={tsc_khz}")
    return words


def quoted(path):
    """A path inside a QEMU option list."""
    return str(path).replace(",", ",,")
