# SPDX-License-Identifier: GPL-2.0-or-later
"""A whole Debian machine in QEMU, with an administrator at its terminal.

    machine = Machine(work_dir, disks)
    machine.boot()
    status, said = machine.run("systemctl is-system-running")
    machine.shut_down()

Each boot takes the kernel and the initramfs out of the machine's own /boot, as its boot loader would. Disk 0 is that with the root file system. What the kernel
reports of faults ends everything. Knows nothing of what is tested.
"""

import base64
import os
import pathlib
import re
import socket
import subprocess
import sys
import threading
import time

import image

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "vm"))
import console
import kernel_image
import qemu

MEMORY_MIB = 2048
# A whole boot of an emulated machine, which shares its CPUs with others, until root is logged in; and going down.
BOOT_LIMIT_S = 1800
SHUT_DOWN_LIMIT_S = 900
COMMAND_LIMIT_S = 600
# systemd gives services 90 s to start, which may be too few for a machine that is emulated on a busy one.
PATIENCE_WORDS = ("systemd.default_timeout_start_sec=900",)
# How long the console is read on after the first sign of trouble, to have the whole report.
TROUBLE_GRACE_S = 3


class MachineError(Exception):
    """What the machine did not do, or what its console reports."""

    emulator_fault = False


class Machine:
    def __init__(self, work_dir, disks, takes_turns=False):
        """disks: the paths of images; the guest finds them as /dev/disk/by-id/virtio-DISK0 and so on. takes_turns: see
        qemu.command()."""
        self.work_dir = pathlib.Path(work_dir)
        self.disks = list(disks)
        self._takes_turns = takes_turns
        self._process = None
        self._terminal = None
        self._unread = b""
        self._commands = 0
        self._console_lines = []        # of this boot
        self._report = None             # of the console, from its first sign of trouble on
        self._trouble_at = None

    # Booting

    def boot(self, release=None):
        """Boots the kernel of that release, or the one that /vmlinuz is; how many seconds it took until root was logged in."""
        began = time.monotonic()
        vmlinuz, vmlinux, initramfs = (self.work_dir / name for name in ("vmlinuz", "vmlinux", "initramfs"))
        disk = self.disks[0]
        image.take_file(disk, f"/boot/vmlinuz-{release}" if release else "/vmlinuz", vmlinuz)
        image.take_file(disk, f"/boot/initrd.img-{release}" if release else "/initrd.img", initramfs)
        try:
            vmlinux.write_bytes(kernel_image.extract(vmlinuz.read_bytes(), vmlinuz))
        except kernel_image.KernelError as error:
            raise MachineError(str(error)) from error
        self.log(f"boot of {release or 'the default kernel'}")
        self._console_lines, self._report, self._trouble_at, self._unread = [], None, None, b""
        self._terminal, guest_end = socket.socketpair()
        reader, writer = os.pipe()
        command = [*qemu.command(qemu.SMALL_MACHINE[0], MEMORY_MIB, takes_turns=self._takes_turns),
                   "-kernel", str(vmlinux), "-initrd", str(initramfs),
                   "-append", " ".join([*qemu.kernel_words(), *PATIENCE_WORDS, f"root=UUID={image.ROOT_UUID}", "ro"]),
                   "-chardev", f"file,id=console,path=/dev/fd/{writer}", "-serial", "chardev:console",
                   "-device", "virtio-serial-device", "-chardev", f"socket,id=terminal,fd={guest_end.fileno()}",
                   "-device", "virtconsole,chardev=terminal"]
        for number, path in enumerate(self.disks):
            command += ["-drive", f"if=none,id=disk{number},cache=writeback,discard=unmap,driver=raw,file.driver=file,"
                                  f"file.filename={qemu.quoted(path)}",
                        "-device", f"virtio-blk-device,id=disk{number},drive=disk{number},serial=DISK{number}"]
        with open(self.work_dir / "console.log", "ab") as log:
            self._process = subprocess.Popen(command, pass_fds=[writer, guest_end.fileno()], stdin=subprocess.DEVNULL,
                                             stdout=log, stderr=log)
        os.close(writer)
        guest_end.close()
        threading.Thread(target=self._read_console, args=[reader], daemon=True).start()
        self._log_in(began + BOOT_LIMIT_S)
        return time.monotonic() - began

    def _log_in(self, limit):
        # A login shell would show a prompt and what it reads.
        self._read_until(rb"# $", limit, "nobody was logged in at the terminal")
        self._terminal.sendall(b"stty -echo -onlcr; export TERM=dumb; PS1= PS2= exec sh\n")
        time.sleep(1)
        self._terminal.sendall(b"echo log'ged in'\n")
        self._read_until(rb"logged in\r?\n", limit, "the shell does not answer")

    def shut_down(self, reboot=False):
        """As an administrator does; whether the machine would start again then makes no difference."""
        self._terminal.sendall(b"systemctl reboot\n" if reboot else b"systemctl poweroff\n")
        self._wait_until_gone(SHUT_DOWN_LIMIT_S)

    def _wait_until_gone(self, limit_s):
        limit = time.monotonic() + limit_s
        while self._process.poll() is None:
            self._check_trouble()
            if time.monotonic() > limit:
                raise MachineError(f"the machine did not go down within {limit_s} s")
            time.sleep(0.2)
        # What the console said last.
        time.sleep(0.3)
        self._check_trouble(at_once=True)
        self._terminal.close()
        self._process = None

    def kill(self):
        if self._process:
            self._process.kill()
            self._process.wait()
            self._terminal.close()
            self._process = None

    # Commands

    def run(self, script, limit_s=COMMAND_LIMIT_S):
        """Runs a program for bash, and returns its exit status and what it said, which is not to a terminal."""
        self._commands += 1
        number = self._commands
        self.log(f"command {number}:\n{script.strip()}")
        text = base64.encodebytes(script.encode()).decode()
        self._terminal.sendall(f"base64 -d >/run/command <<'END'\n{text}END\n"
                               f"echo '--- begin {number}'; bash -o pipefail -c 'bash /run/command </dev/null 2>&1 | cat'; "
                               f"printf '\\n--- end {number} %d\\n' $?\n"
                               .encode())
        match = self._read_until(rb"(?s)--- begin %d\r?\n(.*?)\r?\n--- end %d (\d+)\r?\n" % (number, number),
                                 time.monotonic() + limit_s, f"a command took longer than {limit_s} s: {script.strip()}")
        said = match[1].decode(errors="replace").replace("\r\n", "\n")
        status = int(match[2])
        self.log(f"status {status}, said:\n{said}")
        return status, said

    def interact(self):
        """Connects this terminal with the machine's, until that is gone."""
        def copy():
            while data := os.read(0, 4096):
                self._terminal.sendall(data)
        self._terminal.sendall(b"exec bash --login\nstty echo onlcr\n")
        threading.Thread(target=copy, daemon=True).start()
        self._terminal.settimeout(None)
        while data := self._terminal.recv(4096):
            os.write(1, data)
        self._process.wait()

    def _read_until(self, pattern, limit, complaint):
        while not (match := re.search(pattern, self._unread)):
            self._check_trouble()
            if time.monotonic() > limit:
                self.log(f"read so far: {self._unread[-2000:]!r}")
                raise MachineError(complaint)
            self._terminal.settimeout(0.5)
            try:
                data = self._terminal.recv(1 << 16)
            except TimeoutError:
                continue
            if not data:
                time.sleep(0.5)
                self._check_trouble(at_once=True)
                raise MachineError(f"the machine is gone: {complaint}")
            self._unread += data
        self._unread = self._unread[match.end():]
        return match

    # The console

    @property
    def console_text(self):
        """What the kernel and others have said on the console in this boot."""
        return "".join(self._console_lines)

    def _read_console(self, reader):
        with open(reader, "rb") as lines, open(self.work_dir / "console.log", "ab", buffering=0) as log:
            for line in lines:
                log.write(line)
                text = line.decode(errors="replace")
                self._console_lines.append(text)
                if self._report is None and console.trouble(text) is not None:
                    self._trouble_at = time.monotonic()
                    self._report = ""
                if self._report is not None:
                    self._report += text

    def _check_trouble(self, at_once=False):
        if self._report is None or not at_once and time.monotonic() < self._trouble_at + TROUBLE_GRACE_S:
            return
        error = MachineError(f"console: {console.trouble(self._report.splitlines()[0])}")
        error.emulator_fault = console.emulator_fault(self._report)
        raise error

    def log(self, text):
        with open(self.work_dir / "output.log", "a") as log:
            log.write(f"--- {time.strftime('%H:%M:%S')} {text}\n")
