# SPDX-License-Identifier: GPL-2.0-or-later
"""The bed with User Mode Linux in the place of QEMU: a debug kernel that runs as a process of the host.

What runs in it, and how it tells how it went, is the same as in the VM bed. What there is not: a second CPU, and
disks that lose what was not flushed or whose writes are logged.
"""

import pathlib
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "vm"))

import bed  # noqa: E402 (found through the line above)

KERNEL = "6.12"


def build():
    """The kernel that tests/kernel/build-kernel builds."""
    built = bed.kernel_image.build("uml")
    return bed.kernel_image.Kernel(built["RELEASE"], KERNEL, pathlib.Path(built["KERNEL"]), pathlib.Path(built["MODULES"]))


def why_not(test):
    """Why the test cannot run in this bed, or None."""
    if KERNEL not in test.kernels:
        return f"it is not for kernel {KERNEL}"
    if test.volatile_cache or test.write_log_words is not None:
        return "disks that lose or log writes are made by QEMU"
    if test.hotplug or test.root_disk or test.counts_instructions or test.kernel_words:
        return "the machine that it asks for is made by QEMU"
    if "interpose" in test.groups:
        return "functions cannot be hooked: User Mode Linux has no ftrace"
    return None


class UmlGuest(bed.Guest):
    """One guest; the kernel is what build() has returned."""

    def _find_kernel(self, kernel):
        return kernel

    def _command(self, fds, disk_fds):
        blocks = ",".join(str(disk.logical_block_bytes) for disk in self._disks)
        return [
            # It must not outlive the bed.
            "setpriv", "--pdeathsig", "KILL", self.kernel.image,
            f"mem={self.memory_mib}M", f"uml_dir={self.work_dir}", "umid=uml",
            "root=/dev/root", "rootfstype=hostfs", "rootflags=/", "ro", f"init={HERE / 'guest' / 'boot'}",
            f"con0=null,fd:{fds['console']}", f"ssl0=null,fd:{fds['result']}", f"ssl1=null,fd:{fds['output']}",
            *(f"ubd{number}={self.disk_path(number)}" for number in range(len(self._disks))),
            "console=tty0", "loglevel=7", "oops=panic", "sysctl.kernel.hung_task_timeout_secs=60",
            "sysctl.kernel.hung_task_warnings=-1",
            f"bed_share={self.share}", f"bed_modules={self.kernel.modules}", f"bed_disks={blocks}",
        ]
