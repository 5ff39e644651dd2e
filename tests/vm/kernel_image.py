# SPDX-License-Identifier: GPL-2.0-or-later
"""Debian's kernels, and the debug kernel, as QEMU can boot them directly.

Finds the installed kernels, has the debug kernel built, takes the uncompressed vmlinux out of a vmlinuz (booted through its PVH entry point, which
skips firmware and decompression), and packs the initramfs that mounts the host's root, with copies of the host's programs
that tests start again and again. Knows nothing of QEMU or of tests.
"""

import dataclasses
import functools
import gzip
import hashlib
import lzma
import os
import pathlib
import re
import shutil
import stat
import struct
import subprocess
import threading

SERIES = ("6.1", "6.12")
# The kernel with KASAN, lockdep and kmemleak that tests/kernel/build-kernel builds; how much slower everything is in it, and
# how much memory its checks need.
DEBUG = "debug"
DEBUG_SLOWNESS = 5
DEBUG_MEMORY_MIB = 768
BUILD_KERNEL = pathlib.Path(__file__).resolve().parent.parent / "kernel" / "build-kernel"

# What the initramfs must load itself, before it sees the host's /lib/modules.
BOOT_MODULES = (
    "virtio_mmio", "virtio_pci", "virtio_console", "virtio_blk", "9pnet_virtio", "9p", "overlay",
)

# Programs of the host that the initramfs has, with their libraries: opening a file of the host through 9p takes several
# round trips, which is most of the time that a short command takes. Those that are not installed are left out.
PROGRAMS = (
    "awk", "bash", "blkdiscard", "blockdev", "cat", "cmp", "cp", "cut", "dbus-daemon", "dd", "dmsetup", "e2fsck", "fallocate",
    "find", "fio", "fstrim", "grep", "head", "insmod", "ls", "mkdir", "mkfs.ext4", "mkfs.xfs", "mktemp", "modinfo", "modprobe",
    "mount", "mv", "openssl", "readlink", "rm", "rmmod", "sed", "seq", "sh", "sha256sum", "sleep", "sort", "stat", "sync",
    "tail", "timeout", "touch", "tr", "true", "truncate", "umount", "wc", "xargs", "xfs_repair", "xxhsum",
)
# What every program reads when it starts.
START_FILES = ("/etc/ld.so.cache", "/usr/lib/locale/C.utf8")
# A bigger file is better read in the parts that are needed.
PROGRAM_FILE_LIMIT_BYTES = 16 << 20

SETUP_SECTORS_OFFSET = 0x1F1
SETUP_MAGIC_OFFSET = 0x202
PAYLOAD_OFFSET = 0x248


class KernelError(Exception):
    """A kernel that cannot be booted, and why."""


@dataclasses.dataclass(frozen=True)
class Kernel:
    release: str
    series: str
    image: pathlib.Path                  # vmlinuz, or vmlinux
    modules: pathlib.Path                # what is in /lib/modules, also of other kernels
    slowness: int = 1                    # time limits are to be multiplied by that
    memory_mib: int = 0                  # what it needs of its own

    @property
    def installed(self):
        """Whether the host has its modules where they are looked for."""
        return self.modules == HOST_MODULES


HOST_MODULES = pathlib.Path("/lib/modules")


def find(name):
    """The kernel of that name: a series, or DEBUG, which is built if it is not there yet."""
    if name == DEBUG:
        return debug()
    releases = installed()
    if name not in releases:
        raise KernelError(f"kernel {name} is not installed (tools/install-deps does)")
    return Kernel(releases[name], name, pathlib.Path("/boot") / f"vmlinuz-{releases[name]}", HOST_MODULES)


def series(name):
    """The series that the kernel of that name is of."""
    return SERIES[-1] if name == DEBUG else name


@functools.cache
def debug():
    built = build("smp")
    return Kernel(built["RELEASE"], series(DEBUG), pathlib.Path(built["KERNEL"]), pathlib.Path(built["MODULES"]),
                  DEBUG_SLOWNESS, DEBUG_MEMORY_MIB)


def build(kind):
    """What build-kernel says: {"RELEASE": ..., "KERNEL": ..., "MODULES": ..., "MODULE": ...}."""
    built = subprocess.run([BUILD_KERNEL, kind], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, check=False)
    if built.returncode:
        raise KernelError(f"tests/kernel/build-kernel {kind} failed")
    return dict(line.split("=", 1) for line in built.stdout.splitlines())


def installed(boot=pathlib.Path("/boot"), modules=HOST_MODULES):
    """The newest installed release of each series, as {"6.1": release, ...}."""
    newest = {}
    for image in boot.glob("vmlinuz-*-amd64"):
        release = image.name[len("vmlinuz-"):]
        series = re.match(r"\d+\.\d+", release)
        if not series or series[0] not in SERIES or re.search(r"-(rt|cloud)-", release):
            continue
        if not (modules / release / "modules.dep").exists():
            continue
        key = [int(number) for number in re.findall(r"\d+", release)]
        if series[0] not in newest or key > newest[series[0]][0]:
            newest[series[0]] = (key, release)
    return {series: newest[series][1] for series in SERIES if series in newest}


def vmlinux(kernel, cache_dir):
    """The path of the uncompressed kernel, extracted into cache_dir when it is not there yet."""
    source = kernel.image
    if not kernel.installed:
        return source
    return _cached(pathlib.Path(cache_dir), f"vmlinux-{kernel.release}", _stamp([source]),
                   lambda: extract(source.read_bytes(), source))


def initramfs(kernel, init, cache_dir):
    """The path of the initramfs that runs the script init, with the modules that it needs, or all if the host has none."""
    modules = _with_dependencies(kernel, BOOT_MODULES)
    missing = {}
    if not kernel.installed:
        directory = HOST_MODULES.resolve()
        missing = {directory / path.relative_to(kernel.modules): path for path in sorted(kernel.modules.rglob("*"))
                   if path.is_file() and not path.is_symlink()}
    busybox = pathlib.Path(shutil.which("busybox") or "/usr/bin/busybox")
    programs = _program_files()
    files = {**{path: path for path in programs}, **missing}
    return _cached(pathlib.Path(cache_dir), f"initramfs-{kernel.release}",
                   _stamp([*modules, busybox, *files.values(), pathlib.Path(init), pathlib.Path(__file__)]),
                   lambda: _pack(modules, busybox, pathlib.Path(init), files))


@functools.cache
def _program_files():
    """The files of PROGRAMS and START_FILES, and the symbolic links on the way to them, in the order of their paths."""
    paths = [path for path in map(shutil.which, PROGRAMS) if path]
    listed = subprocess.run(["ldd", *paths], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False).stdout
    paths += re.findall(r"^\t(?:.* => )?(/\S+) \(", listed, re.MULTILINE)
    for path in map(pathlib.Path, START_FILES):
        paths += path.rglob("*") if path.is_dir() else [path]
    files = set()
    for path in paths:
        _follow(pathlib.Path(path), files)
    return sorted(path for path in files if path.lstat().st_size <= PROGRAM_FILE_LIMIT_BYTES)


def _follow(path, files):
    """Adds to files what the path is in the end, and the symbolic links among and behind its parts."""
    real = pathlib.Path("/")
    parts = list(path.parts[1:])
    while parts:
        part = parts.pop(0)
        real = real.parent if part == ".." else real / part
        if real.is_symlink():
            files.add(real)
            target = pathlib.Path(os.readlink(real))
            parts = [*(target.parts[1:] if target.is_absolute() else target.parts), *parts]
            real = pathlib.Path("/") if target.is_absolute() else real.parent
    if real.is_file():
        files.add(real)


def _stamp(paths):
    digest = hashlib.sha256()
    for path in paths:
        info = path.lstat()
        digest.update(f"{path} {info.st_size} {info.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:16]


# Machines are started by several threads.
_making = threading.Lock()


def _cached(cache_dir, name, stamp, make):
    path = cache_dir / f"{name}-{stamp}"
    with _making:
        if path.exists():
            return path
        cache_dir.mkdir(parents=True, exist_ok=True)
        unfinished = cache_dir / f"{path.name}.{os.getpid()}"
        unfinished.write_bytes(make())
        unfinished.rename(path)
        for old in cache_dir.glob(f"{name}-????????????????"):
            if old != path:
                old.unlink(missing_ok=True)
    return path


def extract(image, source):
    """vmlinux out of a bzImage, whose name is source: its setup header says where the compressed payload is."""
    if image[SETUP_MAGIC_OFFSET:SETUP_MAGIC_OFFSET + 4] != b"HdrS":
        raise KernelError(f"{source}: not a Linux bzImage")
    offset, length = struct.unpack_from("<II", image, PAYLOAD_OFFSET)
    start = (image[SETUP_SECTORS_OFFSET] + 1) * 512 + offset
    # The payload ends with its unpacked size, which is no part of the compressed stream.
    payload = image[start:start + length - 4]
    kernel = _unpack(payload, source)
    if kernel[:4] != b"\x7fELF":
        raise KernelError(f"{source}: the payload is not an ELF image")
    return kernel


def _unpack(data, source):
    if data[:6] == b"\xfd7zXZ\0":
        return lzma.LZMADecompressor().decompress(data)
    if data[:3] == b"\x1f\x8b\x08":
        return gzip.decompress(data)
    if data[:4] == b"\x28\xb5\x2f\xfd":
        return subprocess.run(["zstd", "-dcq"], input=data, stdout=subprocess.PIPE, check=True).stdout
    # Debian's kernels for clouds.
    if data[:4] == b"\x02\x21\x4c\x18":
        return subprocess.run(["lz4", "-dcq"], input=data, stdout=subprocess.PIPE, check=True).stdout
    raise KernelError(f"{source}: unknown compression, first bytes {data[:6].hex()}")


def _with_dependencies(kernel, names):
    """The files of the named modules and of what they need, in the order of loading; what is built in is left out."""
    root = kernel.modules / kernel.release
    files, needs = {}, {}
    for line in (root / "modules.dep").read_text().splitlines():
        file, _, dependencies = line.partition(":")
        name = pathlib.Path(file).name.partition(".ko")[0].replace("-", "_")
        files[name] = root / file
        # modules.dep lists what must be loaded first last.
        needs[name] = [root / dependency for dependency in reversed(dependencies.split())]
    builtin = {pathlib.Path(line).name.partition(".ko")[0].replace("-", "_")
               for line in (root / "modules.builtin").read_text().splitlines()}
    order = []
    for name in names:
        if name in builtin:
            continue
        if name not in files:
            raise KernelError(f"{kernel.release}: has no module {name}")
        for file in [*needs[name], files[name]]:
            if file not in order:
                order.append(file)
    return order


def _pack(modules, busybox, init, files):
    """An uncompressed cpio archive (newc): init, busybox, the modules, numbered in the order of loading, and below /programs
    the files: {where they are to be: where they are}."""
    archive = bytearray()

    def add(name, mode, data=b"", device=(0, 0)):
        fields = (len(archive), mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(name) + 1, 0)
        archive.extend(b"070701" + b"".join(b"%08X" % field for field in fields) + name.encode() + b"\0")
        archive.extend(b"\0" * (-len(archive) % 4))
        archive.extend(data)
        archive.extend(b"\0" * (-len(archive) % 4))

    for directory in ("bin", "dev", "modules", "proc", "sys", "host", "writable", "new"):
        add(directory, stat.S_IFDIR | 0o755)
    add("dev/console", stat.S_IFCHR | 0o600, device=(5, 1))
    add("bin/busybox", stat.S_IFREG | 0o755, busybox.read_bytes())
    add("init", stat.S_IFREG | 0o755, init.read_bytes())
    for number, module in enumerate(modules):
        data = module.read_bytes()
        if module.suffix != ".ko":
            data = _unpack(data, module)
        add(f"modules/{number:02d}-{module.name.partition('.ko')[0]}.ko", stat.S_IFREG | 0o644, data)
    for directory in sorted({parent for path in files for parent in path.parents}):
        add(f"programs{directory}".rstrip("/"), stat.S_IFDIR | 0o755)
    for place, path in files.items():
        if path.is_symlink():
            add(f"programs{place}", stat.S_IFLNK | 0o777, os.readlink(path).encode())
        else:
            add(f"programs{place}", stat.S_IFREG | stat.S_IMODE(path.stat().st_mode), path.read_bytes())
    add("TRAILER!!!", 0)
    return bytes(archive)
