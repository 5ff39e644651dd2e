# SPDX-License-Identifier: GPL-2.0-or-later
"""A fresh Debian 12 as a disk image, and a disk with packages that can be installed there without a network.

Both are made by Debian's own tools, from the archives that this machine takes its Debian packages from, and kept outside the
tree in $COWSNAP_CACHE (~/.cache/cowsnap). Knows nothing of QEMU and of what is tested.
"""

import fcntl
import hashlib
import os
import pathlib
import re
import shutil
import subprocess

CACHE = pathlib.Path(os.environ.get("COWSNAP_CACHE") or
                     pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "cowsnap")
SUITE = "bookworm"
KEYRING = "debian-archive-keyring"
ROOT_UUID = "5f0b1c52-7d0e-4f25-9c43-0c0a5e6b1d11"
ROOT_SIZE = "8G"

# What is there before cowsnap comes: a small Debian machine, with what DKMS needs for its kernel, so that the test does not spend its
# time on unpacking compilers; and Ansible, with which others would come over the network.
PACKAGES = (
    "ansible-core", "apt-utils", "bash-completion", "dbus", "dkms", "dmsetup", "e2fsprogs", "gcc", "initramfs-tools", "iproute2", "kmod", "less", "libc6-dev",
    "linux-headers-amd64", "linux-image-amd64", "make", "polkitd", "procps", "python3", "systemd", "systemd-sysv", "udev",
    "xfsprogs", "zstd",
)
# A second kernel of Debian's, whose headers are not there.
OTHER_KERNEL = "linux-image-cloud-amd64"

# Run in the new system by mmdebstrap: a machine with a root file system, a terminal on which root is logged in, and no network.
CONFIGURE = f"""
echo guest >"$1/etc/hostname"
printf '127.0.0.1 localhost guest\\n' >"$1/etc/hosts"
echo 'UUID={ROOT_UUID} / ext4 errors=remount-ro 0 1' >"$1/etc/fstab"
rm -f "$1"/etc/apt/sources.list "$1"/etc/apt/sources.list.d/*
echo 'deb [trusted=yes] file:/srv/packages ./' >"$1/etc/apt/sources.list.d/local.list"
mkdir -p "$1/srv/packages" "$1/etc/systemd/system/serial-getty@hvc0.service.d" "$1/var/log/journal"
cat >"$1/etc/systemd/system/serial-getty@hvc0.service.d/autologin.conf" <<'END'
[Service]
ExecStart=
ExecStart=-/sbin/agetty --autologin root --noclear --keep-baud 115200 %I dumb
END
# The generator of such units sees only terminals that are there before udev runs.
mkdir -p "$1/etc/systemd/system/getty.target.wants"
ln -sf /lib/systemd/system/serial-getty@.service "$1/etc/systemd/system/getty.target.wants/serial-getty@hvc0.service"
echo 'LABEL=packages /srv/packages ext4 ro,nofail 0 0' >>"$1/etc/fstab"
# An emulated machine on a busy one takes its time to find its disks and its terminal.
mkdir -p "$1/etc/systemd/system.conf.d"
printf '[Manager]\nDefaultDeviceTimeoutSec=900\n' >"$1/etc/systemd/system.conf.d/patience.conf"
# An initramfs with the drivers of all machines takes minutes each time that it is made in an emulated one.
echo 'MODULES=list' >"$1/etc/initramfs-tools/conf.d/drivers.conf"
printf '%s\\n' virtio_mmio virtio_blk ext4 crc32c_generic >>"$1/etc/initramfs-tools/modules"
# No virtual machines in the virtual machine.
printf 'blacklist kvm_amd\nblacklist kvm_intel\nblacklist kvm\n' >"$1/etc/modprobe.d/no-kvm.conf"
"""


class ImageError(Exception):
    """An image that cannot be made, and why."""


def run(command, **options):
    done = subprocess.run([str(word) for word in command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, check=False, **options)
    if done.returncode:
        raise ImageError(f"{' '.join(map(str, command))}: exit status {done.returncode}\n{done.stdout[-3000:]}")
    return done.stdout


def sources():
    """This machine's sources of Debian packages, as the text of a .sources file; those of other packages are left out."""
    found = []
    directory = pathlib.Path("/etc/apt")
    for path in sorted((directory / "sources.list.d").glob("*.sources")):
        for stanza in re.split(r"\n\s*\n", path.read_text()):
            if KEYRING in stanza and SUITE in stanza:
                found.append("\n".join(line for line in stanza.splitlines() if not line.startswith("#")))
    for path in (directory / "sources.list", *sorted((directory / "sources.list.d").glob("*.list"))):
        if path.exists():
            for line in path.read_text().splitlines():
                match = re.match(rf"(deb)\s+(?:\[[^]]*\]\s+)?(\S+)\s+({SUITE}\S*)\s+(.*\bmain\b.*)", line)
                if match and re.search(r"debian", match[2]):
                    found.append(f"Types: deb\nURIs: {match[2]}\nSuites: {match[3]}\nComponents: main\n"
                                 f"Signed-By: /usr/share/keyrings/{KEYRING}.gpg")
    if not found:
        raise ImageError("no source of Debian's packages is found in /etc/apt")
    return "\n\n".join(found) + "\n"


def _key(*parts):
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]


def _made_once(path, make):
    """The directory of that path; make(unfinished) makes it if it is not there yet."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path.parent / f"{path.name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            unfinished = path.parent / f"{path.name}.unfinished"
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir()
            make(unfinished)
            unfinished.rename(path)
    return path


def base():
    """The directory with the fresh machine: root, its files, and root.img, its disk."""
    return _made_once(CACHE / f"guest-{_key(*PACKAGES, CONFIGURE, ROOT_SIZE)}", _make_base)


def _make_base(directory):
    if os.geteuid() != 0:
        raise ImageError("the image of a Debian machine can be made by root only")
    (directory / "apt.sources").write_text(sources())
    root = directory / "root"
    # In a namespace of mounts that ends with it: what it does not unmount would get into the image.
    run(["unshare", "--mount", "mmdebstrap", "--mode=root", "--variant=minbase", f"--include={','.join(PACKAGES)}", f"--customize-hook={CONFIGURE}",
          SUITE, root, directory / "apt.sources"])
    make_disk(directory / "root.img", ROOT_SIZE, root, "-U", ROOT_UUID)


# Installs packages in the fresh machine without changing that: BASE/root with a layer over it that is thrown away.
INSTALL_AND_MAKE_DISK = """
set -e
root=$(mktemp -d)
mount -t tmpfs -o size=90% tmpfs "$root"
mkdir "$root/upper" "$root/work" "$root/root" "$root/upper/debs"
cp "$@" "$root/upper/debs"
mount -t overlay -o "lowerdir=$BASE/root,upperdir=$root/upper,workdir=$root/work" overlay "$root/root"
mount --rbind /proc "$root/root/proc"
mount --rbind /dev "$root/root/dev"
chroot "$root/root" sh -c 'DEBIAN_FRONTEND=noninteractive dpkg --install /debs/*.deb </dev/null'
umount --recursive "$root/root/proc" "$root/root/dev"
rm -r "$root/root/debs"
mke2fs -q -t ext4 -U "$UUID" -d "$root/root" "$DISK" "$SIZE"
"""


def with_packages(base_directory, packages):
    """The directory with root.img, the fresh machine in which these packages are installed already, by this machine's CPU."""
    sums = [hashlib.sha256(package.read_bytes()).hexdigest() for package in packages]

    def install(directory):
        environment = os.environ | {"BASE": str(base_directory), "UUID": ROOT_UUID, "SIZE": ROOT_SIZE, "DISK": str(directory / "root.img")}
        said = run(["unshare", "--mount", "bash", "-c", INSTALL_AND_MAKE_DISK, "install", *packages], env=environment)
        (directory / "said").write_text(said)
    kept = CACHE / f"guest-installed-{_key(base_directory.name, *sums)}"
    if not kept.exists():
        for old in CACHE.glob("guest-installed-*"):
            if old.is_dir():
                shutil.rmtree(old)
    return _made_once(kept, install)


def make_disk(path, size, directory, *words):
    """An ext4 file system with what is in the directory."""
    path.unlink(missing_ok=True)
    run(["mke2fs", "-q", "-t", "ext4", *words, "-d", directory, path, size])


def dependencies(names, base_directory):
    """A directory with Debian's packages of those names and what these need, but for what the fresh machine has."""
    def download(directory):
        state = directory / "apt"
        for name in ("state/lists/partial", "cache/archives/partial", "etc"):
            (state / name).mkdir(parents=True)
        (state / "etc" / "debian.sources").write_text(sources())
        options = [f"Dir::State={state}/state", f"Dir::State::status={base_directory}/root/var/lib/dpkg/status", f"Dir::Cache={state}/cache",
                   "Dir::Etc::sourcelist=/dev/null", f"Dir::Etc::sourceparts={state}/etc", "Dir::Etc::preferencesparts=/dev/null",
                   "APT::Sandbox::User=root"]
        options = [word for option in options for word in ("-o", option)]
        run(["apt-get", *options, "--quiet", "update"])
        if names:
            run(["apt-get", *options, "--quiet", "--yes", "--download-only", "--no-install-recommends", "install", *sorted(names)])
        for package in (state / "cache/archives").glob("*.deb"):
            package.rename(directory / package.name)
        shutil.rmtree(state)
    return _made_once(CACHE / f"guest-packages-{_key(base_directory.name, *sorted(names))}", download)


def control(package):
    """The fields of a .deb file."""
    fields = {}
    for line in run(["dpkg-deb", "--field", package]).splitlines():
        name, colon, value = line.partition(": ")
        if colon and not line.startswith(" "):
            fields[name] = value
    return fields


def needed_names(packages):
    """What the .deb files depend on and do not provide themselves: names of packages, of alternatives the first."""
    fields = [control(package) for package in packages]
    own = {field["Package"] for field in fields}
    needed = set()
    for field in fields:
        for kind in ("Pre-Depends", "Depends"):
            for clause in filter(None, field.get(kind, "").split(",")):
                name = re.match(r"\s*([a-z0-9.+-]+)", clause)[1]
                if name not in own:
                    needed.add(name)
    return needed


def packages_disk(path, directories, base_directory, work):
    """A disk of the label "packages": a repository for apt with Debian's packages that those of the directory new need, and beside
    it the directories, each with its files."""
    tree = work / "packages"
    shutil.rmtree(tree, ignore_errors=True)
    tree.mkdir()
    packages = [file for file in directories.get("new", []) if file.suffix == ".deb"]
    for package in dependencies(needed_names(packages) | {OTHER_KERNEL}, base_directory).glob("*.deb"):
        shutil.copy(package, tree)
    (tree / "Packages").write_text(subprocess.run(["dpkg-scanpackages", "--multiversion", "."], cwd=tree, stdin=subprocess.DEVNULL,
                                                  stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True).stdout)
    for name, files in directories.items():
        (tree / name).mkdir()
        for file in files:
            shutil.copy(file, tree / name)
    make_disk(path, "512M", tree, "-L", "packages")
    shutil.rmtree(tree)


def take_file(disk, path, target):
    """Copies a file out of the ext4 file system of a disk that no machine uses; symbolic links are followed. Its last machine may have
    been killed: then its bitmaps are not to be asked (-c)."""
    for _ in range(8):
        listed = run(["debugfs", "-c", "-R", f"stat {path}", disk])
        link = re.search(r'Fast link dest: "(.*)"', listed)
        if not link:
            break
        path = str(pathlib.PurePosixPath(path).parent / link[1])
    target.unlink(missing_ok=True)
    said = run(["debugfs", "-c", "-R", f"dump {path} {target}", disk])
    if not target.exists() or target.stat().st_size == 0:
        raise ImageError(f"{disk}: no file {path}: {said.strip()}")
