# SPDX-License-Identifier: GPL-2.0-or-later
"""The VM bed: a guest with Debian's own kernel in QEMU, the host's userland and scratch disks of its own.

    guest = Guest("6.12", work_dir, program, disks=[Disk(256 << 20)])
    end = guest.run()              # boots, follows reboots and power cuts, until the program has ended

The program (a file on the host) runs as root in the guest. Guests have no network. Nothing outside work_dir and the cache
of kernels is written. Knows nothing of how tests are found or counted.
"""

import dataclasses
import json
import os
import pathlib
import random
import selectors
import shlex
import shutil
import socket
import subprocess
import time

import console
import kernel_image
import qemu
import volatile_cache
import write_log

HERE = pathlib.Path(__file__).resolve().parent
SOURCE = HERE.parent.parent

# An emulated machine now and then hangs or crashes on its way up. A boot that has not reached the program (after this
# long) has shown nothing about what is tested, so it is repeated.
START_LIMIT_S = 90
START_ATTEMPTS = 3
# How long the console is read on after the first sign of trouble, to have the whole report.
TROUBLE_GRACE_S = 3
# The same for leaked memory, of which the list comes from all that there is.
LEAKS_GRACE_S = 120
# How long a kernel may take to restart after it was asked to.
RESTART_LIMIT_S = 60
# How much longer than the bed's initramfs that of a Debian machine takes, with udev and many short programs.
ROOT_DISK_SLOWNESS = 4
# How long QEMU may take to answer its monitor.
MONITOR_LIMIT_S = 30

# How the kernel is told where the root file system is.
ROOT_UUID = "5a1d6a0e-3c1f-4b7e-9d52-c0f5a9b0d001"
ROOT_DEVICES = {"path": "/dev/disk/by-id/virtio-DISK0", "uuid": f"UUID={ROOT_UUID}"}
# What a Debian initramfs needs here to see the disks, the ports and the share, and to mount a root file system.
ROOT_DISK_MODULES = ("virtio_mmio", "virtio_pci", "virtio_blk", "virtio_console", "9pnet_virtio", "9p", "ext4")
MAKE_INITRAMFS = HERE / "make-initramfs"
# How that ends where it cannot mount what it needs.
CANNOT_MOUNT_STATUS = 77


class BedError(Exception):
    """The bed itself cannot do its work: a missing kernel or program, a machine that does not start."""


class StoreError(BedError):
    """What a power cut has left of a store is not what it must be."""


@dataclasses.dataclass(frozen=True)
class Disk:
    """A scratch disk, all zeroes at first."""
    size_bytes: int
    logical_block_bytes: int = 512
    nvme: bool = False             # else virtio; only in a machine with a PCI bus


@dataclasses.dataclass
class End:
    """How a boot, or a whole run, ended."""
    how: str                       # exit, skip, reboot, refusal, cut, timeout, trouble, died
    status: int | None = None      # the program's, for exit
    reason: str = ""               # for people; for reboot, refusal and cut: the next phase
    kernel_words: tuple = ()       # for refusal: more words on the kernel's command line in the next phase's first boot
    start_s: float | None = None   # from the start of QEMU to the program
    report: str = ""               # for trouble: the console from its first sign on

    @property
    def passed(self):
        return self.how == "exit" and self.status == 0

    @property
    def emulator_fault(self):
        return console.emulator_fault(self.report)


def kernels():
    """The bootable kernels, {"6.1": release, ...}."""
    return kernel_image.installed()


def build_dir():
    return SOURCE / "build"


def binaries_dir():
    """Where the programs of the CMake preset under test are."""
    return build_dir() / os.environ.get("COWSNAP_PRESET", "dev")


def program_path(name):
    """A program of tests/vm/programs."""
    return binaries_dir() / "tests" / "vm" / "programs" / name


def check_store(guest, number):
    """Throws StoreError when the store on that disk cannot be activated or has leaked blocks. It stays as it is."""
    checked = subprocess.run([program_path("check-store"), guest.disk_path(number)], stdin=subprocess.DEVNULL,
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    guest.log(checked.stdout.strip())
    if checked.returncode:
        raise StoreError(f"{checked.stdout.strip()}; seed {guest.seed}")


def module_path(release):
    """dm-cow-snap.ko as built for that kernel, or None."""
    path = build_dir() / f"module-{release}" / "dm-target" / "dm-cow-snap.ko"
    return path if path.exists() else None


class Guest:
    """One virtual machine: a kernel, a program, disks and a share that outlive its boots."""

    # Process 1 of the guest.
    INIT = HERE / "guest" / "init"

    def __init__(self, kernel, work_dir, program, *, disks=(), env=None, memory_mib=1024, timeout_s=300, seed=None,
                 volatile_cache=False, log_writes=False, on_cut=None, on_output=None,
                 shell=False, hotplug=False, root_disk=None, counts_instructions=False, takes_turns=False, kernel_words=()):
        """
        kernel          a series ("6.12"), or "debug"
        work_dir        a directory for disks, share and logs; what is there already is used again
        program         an executable file; its output goes to on_output(bytes) and to work_dir/output.log
        env             more variables for the program
        timeout_s       the longest the program may run in a boot, then the machine is killed; None for no limit. This and
                        memory_mib are for Debian's kernels: the debug kernel is given more
        seed            of the random choices at power cuts
        volatile_cache  at a power cut the disks lose what was not flushed, or parts of it
        log_writes      all disks' writes of the last boot are in write_log_path, in one order
        on_cut          on_cut(guest) looks at what a power cut has left on the disks; raises BedError if that is wrong
        shell           after the program, an interactive shell on this terminal
        hotplug         the machine has a PCI bus, from which the guest can have disks removed; it takes longer to boot
        counts_instructions
                        the machine's clock counts the instructions of its one CPU, a nanosecond each
        takes_turns     its CPUs run one after the other, see qemu.command(): for what the emulator has failed at
        root_disk       one of ROOT_DEVICES: from the second phase on the root file system is that of disk 0, found that way and mounted
                        by an initramfs of Debian's, with cowsnap in it and share/lib-cowsnap as its list of stores; see guest/root.sh
        kernel_words    more words on the kernel's command line, in each boot
        """
        self.kernel = self._find_kernel(kernel)
        self.release = self.kernel.release
        self.work_dir = pathlib.Path(work_dir)
        self.program = pathlib.Path(program).resolve()
        self.memory_mib = memory_mib + self.kernel.memory_mib
        self.timeout_s = timeout_s and timeout_s * self.kernel.slowness
        self.seed = random.randrange(1 << 31) if seed is None else seed
        self.on_output = on_output
        self.volatile_cache = volatile_cache
        self.log_writes = log_writes
        self.on_cut = on_cut
        self.shell = shell
        self.hotplug = hotplug
        self.root_disk = root_disk
        self.counts_instructions = counts_instructions
        self.takes_turns = takes_turns
        self._boots_root_disk = False
        self._own_kernel_words = tuple(kernel_words)
        self._kernel_words = ()  # of the next boot alone
        self.start_limit_s = START_LIMIT_S * self.kernel.slowness * (ROOT_DISK_SLOWNESS if root_disk else 1)
        self.restart_limit_s = RESTART_LIMIT_S * self.kernel.slowness
        self.start_times_s = []
        self.failed_starts = 0
        self._random = random.Random(self.seed)
        self._disks = list(disks)
        self._env = dict(env or {})
        self.share = self.work_dir / "share"
        self._prepare()

    # Public: running

    def run(self, first_phase="start", max_boots=100):
        """Boots again and again as the program asks, and returns how it all ended."""
        phase = first_phase
        for _ in range(max_boots):
            end = self.boot(phase)
            if end.how not in ("reboot", "refusal", "cut"):
                return end
            phase = end.reason
            self._kernel_words = ()
            if self.root_disk and not self._boots_root_disk:
                if not self._make_initramfs():
                    return End("skip", reason="an initramfs is made in an overlay, which cannot be mounted on this machine")
                self._boots_root_disk = True
            if end.how == "refusal":
                unexpected = self._boot_refused()
                if unexpected:
                    return unexpected
                self._kernel_words = end.kernel_words
        return End("died", reason=f"asked for more than {max_boots} boots")

    def boot(self, phase):
        """Boots once, with PHASE=phase, until the program has ended, restarts the machine or is cut off."""
        self._write_env(phase)
        for attempt in range(1, START_ATTEMPTS + 1):
            self.log(f"boot of {self.release}, phase {phase}, attempt {attempt}")
            self._before_boot()
            end = _Boot(self).follow()
            if end.how == "cut":
                self._after_cut()
            if end.start_s is not None:
                self.start_times_s.append(end.start_s)
                return end
            self.log(f"did not start: {end.how}: {end.reason}")
            self.failed_starts += 1
        return end

    def _boot_refused(self):
        """A boot that the initramfs must stop, with what it said left in share/refusal. How it ended if it did not."""
        for attempt in range(1, START_ATTEMPTS + 1):
            self.log(f"boot of {self.release} that is to be refused, attempt {attempt}")
            console_log = self.work_dir / "console.log"
            begin = console_log.stat().st_size
            self._before_boot()
            end = _Boot(self).follow()
            text = console_log.read_bytes()[begin:]
            (self.share / "refusal").write_bytes(text)
            if end.start_s is not None:
                return End("died", reason="the boot was not refused")
            if end.how == "died" and b"ALERT!" in text:
                return None
            self.log(f"did not get so far: {end.how}: {end.reason}")
        return end

    # Files

    def _find_kernel(self, name):
        return kernel_image.find(name)

    def _cache_files(self):
        """For each disk: its image, its contents before the boot, the log of the boot's writes."""
        for number in range(len(self._disks)):
            image = self.disk_path(number)
            yield image, image.with_suffix(".before"), image.with_suffix(".log")

    def _before_boot(self):
        if self.volatile_cache:
            for files in self._cache_files():
                volatile_cache.before_boot(*files)

    def _after_cut(self):
        if self.volatile_cache:
            for files in self._cache_files():
                self.log(f"{files[0].name}: {volatile_cache.after_cut(*files, self._random)}")
        if self.on_cut:
            self.on_cut(self)

    def disk_path(self, number):
        return self.work_dir / f"disk{number}.img"

    @property
    def write_log_path(self):
        return self.work_dir / "writes.log"

    @property
    def monitor_path(self):
        return self.work_dir / "monitor"

    def unplug(self, number):
        """Removes that disk from the running machine, as if someone had pulled it out."""
        with socket.socket(socket.AF_UNIX) as monitor:
            monitor.settimeout(MONITOR_LIMIT_S)
            # The path of a socket has no room for that of every directory.
            directory = os.open(self.work_dir, os.O_PATH)
            try:
                monitor.connect(f"/proc/self/fd/{directory}/{self.monitor_path.name}")
            finally:
                os.close(directory)
            answers = monitor.makefile("r")
            answers.readline()
            for command in ({"execute": "qmp_capabilities"},
                            {"execute": "device_del", "arguments": {"id": f"disk{number}"}}):
                monitor.sendall(json.dumps(command).encode() + b"\n")
                answer = json.loads(answers.readline())
                if "error" in answer:
                    raise BedError(f"disk {number} cannot be removed: {answer['error'].get('desc')}")

    @property
    def _own_initramfs(self):
        return self.work_dir / "initramfs"

    def _make_initramfs(self):
        """False where this machine cannot."""
        made = subprocess.run([MAKE_INITRAMFS, self.release, module_path(self.release) or "/dev/null",
                               binaries_dir() / "tools" / "cowsnap-activate", self.share / "lib-cowsnap", self._own_initramfs,
                               *ROOT_DISK_MODULES],
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        self.log(f"initramfs: {made.stdout.strip()}")
        if made.returncode not in (0, CANNOT_MOUNT_STATUS):
            raise BedError(f"no initramfs: {made.stdout.strip()}")
        return made.returncode == 0

    def record_writes(self):
        """What serves the disks of a boot and logs their writes, or None."""
        if not self.log_writes:
            return None
        disks = [(self.disk_path(number), disk.size_bytes) for number, disk in enumerate(self._disks)]
        return write_log.Recorder(disks, self.write_log_path, self._random.getrandbits(32))

    def _prepare(self):
        control = self.share / ".bed"
        control.mkdir(parents=True, exist_ok=True)
        shutil.copy(self.INIT, control / "init")
        program = control / "program"
        program.unlink(missing_ok=True)
        program.symlink_to(self.program)
        for number, disk in enumerate(self._disks):
            path = self.disk_path(number)
            if not path.exists():
                with open(path, "wb") as image:
                    image.truncate(disk.size_bytes)

    def _write_env(self, phase):
        env = {
            "PHASE": phase, "KERNEL": self.kernel.series, "SRC": SOURCE, "BUILD": binaries_dir(), "SEED": self.seed,
            "MODULE": module_path(self.release) or "", "ROOT_UUID": ROOT_UUID,
        }
        if self.shell:
            size = shutil.get_terminal_size()
            env |= {"BED_SHELL": "1", "LINES": size.lines, "COLUMNS": size.columns}
        env |= self._env
        text = "".join(f"{name}={shlex.quote(str(value))}\n" for name, value in env.items())
        (self.share / ".bed" / "env").write_text(text)

    def log(self, message):
        for name in ("console.log", "output.log"):
            with open(self.work_dir / name, "ab") as log:
                log.write(f"--- bed: {message}\n".encode())

    # QEMU

    def _command(self, fds, disk_fds):
        """QEMU's command line; fds are its ends of the pipes for console, output and result, disk_fds those of the disks'
        connections where their writes are logged."""
        cache = build_dir() / "vm"
        machine, bus = qemu.PCI_MACHINE if self.hotplug else qemu.SMALL_MACHINE
        command = [
            *qemu.command(machine, self.memory_mib, self.counts_instructions, self.takes_turns),
            "-kernel", str(kernel_image.vmlinux(self.kernel, cache)),
            "-initrd", str(self._own_initramfs if self._boots_root_disk else
                           kernel_image.initramfs(self.kernel, HERE / "guest" / "initramfs-init", cache)),
            "-append", self._kernel_command_line(),
            "-fsdev", "local,id=host,path=/,security_model=none,readonly=on,multidevs=remap",
            "-device", f"virtio-9p-{bus},fsdev=host,mount_tag=host",
            "-fsdev", f"local,id=bed,path={qemu.quoted(self.share)},security_model=none,multidevs=remap",
            "-device", f"virtio-9p-{bus},fsdev=bed,mount_tag=bed",
            "-chardev", f"file,id=console,path=/dev/fd/{fds['console']}", "-serial", "chardev:console",
            "-device", f"virtio-serial-{bus}",
        ]
        if self.hotplug:
            self.monitor_path.unlink(missing_ok=True)
            command += ["-qmp", f"unix:{qemu.quoted(self.monitor_path)},server=on,wait=off"]
        for name in ("output", "result"):
            command += ["-chardev", f"file,id={name},path=/dev/fd/{fds[name]}",
                        "-device", f"virtserialport,chardev={name},name={name}"]
        if self.shell:
            command += ["-chardev", "stdio,id=terminal,signal=off", "-device", "virtconsole,chardev=terminal"]
        for number, (disk, files) in enumerate(zip(self._disks, self._cache_files())):
            if disk.nvme and bus != "pci":
                raise BedError(f"disk {number} is NVMe, which needs a PCI bus: the test has to say \"hotplug: yes\"")
            driver = "nvme" if disk.nvme else f"virtio-blk-{bus}"
            command += [
                "-drive", self._drive(number, *files, disk_fds[number] if disk_fds else None),
                "-device", f"{driver},id=disk{number},drive=disk{number},serial=DISK{number},"
                           f"logical_block_size={disk.logical_block_bytes},"
                           f"physical_block_size={max(4096, disk.logical_block_bytes)}",
            ]
        return command

    def _drive(self, number, image, _, log, fd):
        common = f"if=none,id=disk{number},cache=writeback,discard=unmap"
        if fd is not None:
            return f"{common},driver=nbd,server.type=fd,server.str={fd}"
        if self.volatile_cache:
            return (f"{common},driver=blklogwrites,file.driver=file,file.filename={qemu.quoted(image)},"
                    f"log.driver=file,log.filename={qemu.quoted(log)}")
        return f"{common},driver=raw,file.driver=file,file.filename={qemu.quoted(image)}"

    def _kernel_command_line(self):
        words = [*qemu.kernel_words(self.kernel.slowness, self.counts_instructions), "rdinit=/init"]
        if self._boots_root_disk:
            words += [f"root={ROOT_DEVICES[self.root_disk]}", "rootfstype=ext4", "rw", "init=/bed-init"]
        return " ".join([*words, *self._own_kernel_words, *self._kernel_words])


class _Boot:
    """One run of QEMU, from its start until it is gone."""

    def __init__(self, guest):
        self._guest = guest
        self._end = None            # set when it is known how this boot ends
        self._kill_at = None        # when the machine is to be killed, for whatever _end says
        self._start_s = None
        self._lines = {"console": b"", "result": b""}
        self._console_log = open(guest.work_dir / "console.log", "ab", buffering=0)
        self._output_log = open(guest.work_dir / "output.log", "ab", buffering=0)

    def follow(self):
        pipes = {name: os.pipe() for name in ("console", "output", "result")}
        writers = {name: pipe[1] for name, pipe in pipes.items()}
        self._begin = time.monotonic()
        recorder = self._guest.record_writes()
        disk_fds = recorder.fds if recorder else []
        process = subprocess.Popen(self._guest._command(writers, disk_fds), pass_fds=[*writers.values(), *disk_fds],
                                   stdin=None if self._guest.shell else subprocess.DEVNULL,
                                   stdout=None if self._guest.shell else self._console_log,
                                   stderr=self._console_log)
        for writer in writers.values():
            os.close(writer)
        if recorder:
            recorder.started()
        try:
            self._read(pipes)
        finally:
            process.kill()
            process.wait()
            if recorder:
                recorder.stop()
            self._console_log.close()
            self._output_log.close()
            for reader, _ in pipes.values():
                os.close(reader)
        end = self._end or End("died", reason="the machine went down by itself")
        end.start_s = self._start_s
        return end

    def _read(self, pipes):
        """Reads the three pipes until the machine is to be killed or is gone."""
        with selectors.DefaultSelector() as selector:
            for name, (reader, _) in pipes.items():
                os.set_blocking(reader, False)
                selector.register(reader, selectors.EVENT_READ, name)
            while selector.get_map():
                limit = self._limit()
                timeout = None if limit is None else limit - time.monotonic()
                if timeout is not None and timeout <= 0:
                    self._time_is_up()
                    break
                for key, _ in selector.select(timeout):
                    data = os.read(key.fd, 1 << 16)
                    if data:
                        self._take(key.data, data)
                    else:
                        selector.unregister(key.fd)
            # What was written before the end is still in the pipes.
            for name in ("console", "output"):
                try:
                    while data := os.read(pipes[name][0], 1 << 16):
                        self._take(name, data)
                except BlockingIOError:
                    pass

    def _limit(self):
        """When the machine is to be killed next, or None."""
        if self._kill_at is not None:
            return self._kill_at
        if self._start_s is None:
            return self._begin + self._guest.start_limit_s
        if self._guest.timeout_s is None:
            return None
        return self._begin + self._start_s + self._guest.timeout_s

    def _time_is_up(self):
        if self._end is None:
            what = "the program" if self._start_s is not None else "the boot"
            limit = self._guest.timeout_s if self._start_s is not None else self._guest.start_limit_s
            self._end = End("timeout", reason=f"{what} took longer than {limit} s")
        elif self._end.how in ("reboot", "refusal"):
            self._end = End("timeout", reason=f"the kernel did not restart within {self._guest.restart_limit_s} s")

    def _finish(self, end, delay_s):
        self._end = end
        self._kill_at = time.monotonic() + delay_s

    def _take(self, name, data):
        if name == "output":
            self._output_log.write(data)
            if self._guest.on_output:
                self._guest.on_output(data)
            return
        if name == "console":
            self._console_log.write(data)
        *lines, self._lines[name] = (self._lines[name] + data).split(b"\n")
        for line in lines:
            text = line.decode(errors="replace")
            if name == "console":
                self._watch(text)
            else:
                self._obey(text)

    def _watch(self, line):
        found = console.trouble(line)
        if found is not None and (self._end is None or self._end.how != "trouble"):
            grace_s = LEAKS_GRACE_S if "kmemleak" in found else TROUBLE_GRACE_S
            self._finish(End("trouble", reason=found), grace_s)
        if self._end is not None and self._end.how == "trouble":
            self._end.report += line + "\n"

    def _obey(self, line):
        """One line of the result port: what the guest tells or asks."""
        word, *rest = line.split(" ")
        if word == "started":
            self._start_s = time.monotonic() - self._begin
        elif self._end is not None and self._end.how in ("trouble", "skip"):
            if word == "exit" and self._end.how == "skip":
                self._kill_at = time.monotonic()
        elif word == "exit" and self._end is not None and self._end.how == "cut" and rest[0] == "0":
            self._finish(End("died", reason="the program ended before the power cut that it asked for"), 0)
        elif word == "exit":
            self._finish(End("exit", status=int(rest[0])), 0.1)
        elif word == "skip":
            self._finish(End("skip", reason=" ".join(rest)), 5)
        elif word == "reboot":
            self._finish(End("reboot", reason=rest[0]), self._guest.restart_limit_s)
        elif word == "refusal":
            self._finish(End("refusal", reason=rest[0], kernel_words=tuple(rest[1:])), self._guest.restart_limit_s)
        elif word == "unplug":
            self._guest.log(f"disk {rest[0]} is unplugged")
            self._guest.unplug(int(rest[0]))
        elif word == "cut":
            after_ms = self._guest._random.randint(int(rest[1]), int(rest[2]))
            self._guest.log(f"power cut after {after_ms} ms")
            self._finish(End("cut", reason=rest[0]), after_ms / 1000)
