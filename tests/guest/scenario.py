# SPDX-License-Identifier: GPL-2.0-or-later
"""What a user does with cowsnap's packages on a Debian machine, from installing them to purging them, and what must hold then.

Each part of PARTS goes on where the one before it has ended. All is done at the machine's terminal. Disks: 0 the root file system, 1
packages, 2 data, 3 and 4 blank.
"""

import dataclasses
import json
import pathlib
import re

import machine

# Minutes of an idle machine, emulated: what waits for DKMS, update-initramfs or Ansible.
LONG_S = 3600
DATA, STORE, SPARE = (f"/dev/disk/by-id/virtio-DISK{number}" for number in (2, 3, 4))
ROOT = "/dev/disk/by-id/virtio-DISK0"
# Of cowsnapd.service, as systemd-analyze sees it.
EXPOSURE_MAX = 4.0
HAS_OWNER = "busctl --auto-start=no call org.freedesktop.DBus /org/freedesktop/DBus org.freedesktop.DBus NameHasOwner s org.cowsnap1"
SOURCE = pathlib.Path(__file__).resolve().parent.parent.parent
QUIET_APT = "DEBIAN_FRONTEND=noninteractive apt-get --quiet --yes -o Dpkg::Use-Pty=0"
STATES = "snapd-cli list -o name,state --no-headings"


class Failure(Exception):
    """A promise that was not kept."""


@dataclasses.dataclass
class Versions:
    """What the two sets of packages on disk 1 are."""
    new: str
    newer: str
    dkms_is_there: bool            # the fresh machine has the package cowsnap-dkms already
    newer_dkms: bool               # the upgrade has DKMS build the module again


class Scenario:
    def __init__(self, work_dir, disks, versions, say, takes_turns=False):
        self.machine = machine.Machine(work_dir, disks, takes_turns)
        self.versions = versions
        self.facts_path = pathlib.Path(work_dir) / "facts.json"
        self._say = say

    # What parts use

    @property
    def facts(self):
        """What later parts must know of earlier ones."""
        return json.loads(self.facts_path.read_text()) if self.facts_path.exists() else {}

    def remember(self, **facts):
        self.facts_path.write_text(json.dumps(self.facts | facts))

    def ok(self, text):
        self.machine.log(f"ok: {text}")
        self._say(f"    ok: {text}")

    def do(self, script, limit_s=machine.COMMAND_LIMIT_S):
        """What the script says; it must succeed, each command of it."""
        status, said = self.machine.run(f"set -e\nset -o pipefail\n{script}", limit_s)
        if status:
            raise Failure(f"exit status {status}: {script.strip()}\n{said[-2500:]}")
        return said

    def documented(self, document, name, limit_s=machine.COMMAND_LIMIT_S, **words):
        """What a document says: its commands under a line <!-- guest: NAME -->, with other words where its examples differ from this machine."""
        blocks = re.findall(rf"^<!-- guest: {re.escape(name)} -->\n```sh\n(.*?)^```$", (SOURCE / document).read_text(), re.MULTILINE | re.DOTALL)
        if not blocks:
            raise Failure(f"{document} has no commands for {name}")
        commands = "".join(blocks)
        for word, other in (words.get("instead") or {}).items():
            if word not in commands:
                raise Failure(f"{document}: the commands for {name} have no {word}")
            commands = commands.replace(word, other)
        return self.do(commands, limit_s)

    def refused(self, script, limit_s=machine.COMMAND_LIMIT_S):
        """What the script says; it must fail."""
        status, said = self.machine.run(script, limit_s)
        if status == 0:
            raise Failure(f"succeeded: {script.strip()}\n{said[-2500:]}")
        return said

    def has(self, what, pattern, text):
        if not re.search(pattern, text, re.MULTILINE):
            raise Failure(f"{what}: nothing like '{pattern}' in:\n{text[-2500:]}")
        self.ok(what)

    def has_not(self, what, pattern, text):
        if found := re.search(pattern, text, re.MULTILINE):
            raise Failure(f"{what}: there is '{found[0]}' in:\n{text[-2500:]}")
        self.ok(what)

    def same(self, what, expected, found):
        if found != expected:
            raise Failure(f"{what}: expected\n{expected}\nand found\n{found}")
        self.ok(what)

    def boot(self, release=None):
        took_s = self.machine.boot(release)
        self.ok(f"the machine boots, {took_s:.0f} s until root is logged in")
        self.machine.run("systemctl is-system-running --wait", LONG_S)
        self.same("no unit has failed", "", self.do("systemctl list-units --failed --plain --no-legend").strip())

    def shut_down(self):
        """Not while the initramfs is made anew: that would begin again at the next start."""
        self.machine.run("systemctl start cowsnap-initramfs.service", LONG_S)
        self.machine.shut_down(reboot=True)

    def reboot(self, release=None):
        self.shut_down()
        self.boot(release)

    def snapshot_contents(self):
        """What is in the snapshots: checksums of files of the one of the root, of the device of that of the data."""
        return self.do("""
            snapd-cli mount root-first /mnt >/dev/null
            cat /mnt/srv/kept | sha256sum
            ls /mnt/srv
            snapd-cli umount root-first >/dev/null
            device=$(snapd-cli activate data-first)
            sha256sum <"$device"
            snapd-cli deactivate data-first >/dev/null
        """)

    def states(self):
        return sorted(line.split() for line in self.do(STATES).splitlines() if line.strip())


def fresh(s):
    """A fresh Debian 12 boots, and has nothing of cowsnap's"""
    s.boot()
    s.has("it is Debian 12", "^VERSION_ID=\"12\"", s.do("cat /etc/os-release"))
    s.same("process 1 is systemd", "systemd", s.do("cat /proc/1/comm").strip())
    if not s.versions.dkms_is_there:
        s.same("nothing of cowsnap's is there", "",
               s.do("find / -xdev -path /srv/packages -prune -o -iname '*cowsnap*' -print").strip())
    s.do(f"mkfs.ext4 -q {DATA}; mkdir -p /data; echo '{DATA} /data ext4 defaults,nofail 0 2' >>/etc/fstab; systemctl daemon-reload; mount /data")
    s.do("""
        for directory in /srv /data; do head -c 2000000 /dev/urandom >$directory/kept; echo one >$directory/changed; done
        sync
    """)


def install(s):
    """The packages are installed, and systemd shows their units"""
    s.do(f"{QUIET_APT} update")
    # What apt asks and recommends is the affair of who is at the terminal.
    s.do("printf '%s\\n' 'APT::Get::Assume-Yes \"true\";' 'APT::Install-Recommends \"false\";' 'Dpkg::Use-Pty \"0\";' >/etc/apt/apt.conf.d/90quiet")
    said = s.documented("packaging/README.md", "install", LONG_S, instead={
        "apt install": "export DEBIAN_FRONTEND=noninteractive LC_ALL=C; apt-get --quiet install", " ./": " /srv/packages/new/"})
    for name in ("cowsnap", "cowsnap-cli", "cowsnap-dkms", "cowsnap-initramfs"):
        s.has(f"{name} is installed", rf"^{name} {re.escape(s.versions.new)} install ok installed",
              s.do(f"dpkg-query -W -f '${{Package}} ${{Version}} ${{Status}}\\n' {name}"))
    s.has_not("apt complains of nothing", r"^(E:|W:|dpkg: warning|cowsnap-dkms: WARNING)", said)
    s.has("DKMS has built the module", "installed", s.do("dkms status -m cowsnap"))
    s.has("the module is loaded, and is that of DKMS", "updates/dkms/dm-cow-snap", s.do("modprobe dm-cow-snap; modinfo -F filename dm-cow-snap"))
    s.has("systemctl: cowsnapd is active", "^active$", s.do("systemctl is-active cowsnapd.service"))
    s.has("systemctl: cowsnap-activate is enabled", "^enabled$", s.do("systemctl is-enabled cowsnap-activate.service"))
    units = s.do("systemctl list-unit-files 'cowsnap*' --no-pager; systemctl list-timers --all --no-pager")
    s.has("systemctl: the timers are there", r"^cowsnap-prune.timer", units)
    s.has("systemctl: changes of the list of stores are watched", "^active$", s.do("systemctl is-active cowsnap-initramfs.path"))
    s.has("the bus knows the daemon", "org.cowsnap1", s.do("busctl list --no-pager"))
    s.do("snapd-cli list")
    s.same("the daemon lives in its hardened unit: it reports no error", "", s.do("journalctl -b -u cowsnapd --no-pager -p err -q").strip())
    exposure = re.search(r"Overall exposure level for cowsnapd.service: ([0-9.]+)", s.do("systemd-analyze security --no-pager cowsnapd.service"))
    s.same(f"systemd-analyze security: at most {EXPOSURE_MAX}, it is {exposure and exposure[1]}", True, bool(exposure) and float(exposure[1]) <= EXPOSURE_MAX)
    s.has("it is started once it has its name", "^b true$", s.do(f"systemctl restart cowsnapd; {HAS_OWNER}"))
    s.has("and when it is stopped it has not", "^b false$", s.do(f"systemctl stop cowsnapd; {HAS_OWNER}"))
    s.has("the bus starts a daemon that was stopped", r"^org.cowsnap1.Manager ", s.do("busctl introspect org.cowsnap1 /org/cowsnap1 --no-pager"))
    s.has("as its unit", "^active$", s.do("systemctl is-active cowsnapd"))
    s.same("nothing of it is the source's", "", s.do("dpkg -L cowsnap cowsnap-cli cowsnap-initramfs | grep -E '\\.(cpp|hpp|git)$' || true").strip())


def first_use(s):
    """The first use: a store, a snapshot of a mounted device, a look at what was there, and back to it"""
    s.has("without a store it says what to do", "snapd-cli store create /dev/", s.refused(f"snapd-cli create {DATA} --name data-first"))
    s.documented("packaging/README.md", "first-use", instead={"/dev/sdc": STORE, "/dev/sdb1": DATA, "before-upgrade": "data-first"})
    s.ok("two lines of the document: a store, and a snapshot of a mounted file system")
    entry = json.loads(s.do("journalctl -u cowsnapd --no-pager -q -o json -n 1 COWSNAP_SNAPSHOT=data-first"))
    s.same("the journal's entry has the store, the snapshot and who made it", ["main", "data-first", "0"],
           [entry.get(f"COWSNAP_{name}") for name in ("STORE", "SNAPSHOT", "USER_ID")])
    s.same("and the store's UUID, the origin, the job and the operation", [],
           [name for name in ("STORE_UUID", "ORIGIN", "JOB", "OPERATION") if not entry.get(f"COWSNAP_{name}")])
    s.has("bash completes its name", "^data-first$", s.do("""bash --norc -c '
        . /usr/share/bash-completion/bash_completion; _completion_loader snapd-cli
        COMP_WORDS=(snapd-cli delete da) COMP_CWORD=2; _snapd_cli; printf "%s\\n" "${COMPREPLY[@]}"'
    """))
    s.has("who is not root may not make one", "needs the polkit action", s.refused(f"runuser -u nobody -- snapd-cli create {DATA} --name by-nobody"))
    s.do("echo two >/data/changed; sync")
    s.same("the snapshot has what was there", "one\n", s.do("snapd-cli mount data-first /mnt >/dev/null; cat /mnt/changed; snapd-cli umount data-first >/dev/null"))
    s.same("it is exact to its file system", "file-system", s.do("snapd-cli show data-first -o consistency --no-headings").strip())
    s.has("rolling back a mounted one is refused, with what to do", r"--schedule", s.refused("snapd-cli rollback data-first --yes"))


def ways(s):
    """The mounted root is attached; snapshots by busctl, by snapd-cli and of a set of both"""
    s.do(f"snapd-cli create {ROOT} --name root-first")
    s.ok("snapd-cli: a snapshot of the mounted root")
    s.do("rm /srv/kept; echo two >/srv/changed; sync")
    origin = s.do("""
        for origin in $(busctl tree --list org.cowsnap1 | grep /origin/); do
            name=$(busctl get-property org.cowsnap1 $origin org.cowsnap1.Origin SnapshotCount)
            echo $origin $name
        done
    """).split()[0]
    s.has("busctl: a snapshot", r"/org/cowsnap1/snapshot/",
          s.do(f"busctl call org.cowsnap1 /org/cowsnap1 org.cowsnap1.Manager CreateSnapshots 'a(os)a{{sv}}' 1 {origin} by-bus 0"))
    s.do(f"snapd-cli set create {ROOT}=set-root {DATA}=set-data")
    s.same("all are there and active",
           ["by-bus", "data-first", "root-first", "set-data", "set-root"], [name for name, *_ in s.states()])
    s.documented("packaging/README.md", "timer-file", instead={"editor": f"sed -i 's|^ORIGINS=.*|ORIGINS=\"{ROOT} {DATA}\"|'"})
    s.documented("packaging/README.md", "timer")
    s.has("the timer waits for its time", "^active$", s.do("systemctl is-active cowsnap-snapshot@nightly.timer"))
    s.same("what the timer starts makes a snapshot of each of its devices", 2,
           len([name for name, *_ in s.states() if name.startswith("nightly-")]))
    s.documented("packaging/README.md", "prune")
    # Midnight, or a full hour, is not to come in the middle of what follows.
    s.do("systemctl disable --now cowsnap-snapshot@nightly.timer cowsnap-prune.timer; systemctl start cowsnap-prune.service")
    s.ok("and what the other timer starts deletes what is not to be kept, without a failure")
    s.has("what the snapshot of the root has is what was there", r"^kept$", s.snapshot_contents())
    s.has("a boot policy is set as documented", "fail-closed", s.documented("packaging/README.md", "policy", instead={
        "set-boot-policy data": f"set-boot-policy {DATA}"}))
    s.do(f"snapd-cli origin set-boot-policy {DATA} fail-open")
    s.documented("README.md", "metrics", instead={"cd /var/lib/prometheus": "mkdir -p /run/p/node-exporter; cd /run/p"})
    s.do("systemctl start cowsnap-initramfs.service", LONG_S)
    s.has("the initramfs is made anew by itself", "the initramfs of all kernels is made anew", s.do("journalctl -b -u cowsnap-initramfs --no-pager -o cat"))
    listed = "for image in /boot/initrd.img-*; do lsinitramfs $image | grep -x -e usr/sbin/cowsnap-activate -e var/lib/cowsnap/stores.json; done"
    s.has("and takes the list of stores", "stores.json", s.do(listed, LONG_S))
    s.documented("README.md", "initramfs", LONG_S)
    s.has("as it does when it is made anew by hand", "cowsnap-activate", s.do(listed, LONG_S))
    s.remember(contents=s.snapshot_contents(), states=s.states())


PLAYBOOK = f"""
- hosts: localhost
  connection: local
  gather_facts: false
  roles:
    - role: cowsnap.cowsnap.cowsnap
      vars:
        cowsnap_package_directory: /srv/packages/new
        cowsnap_configuration: {{log_level: info}}
        cowsnap_stores: [{{name: main, devices: [{STORE}]}}]
        cowsnap_snapshots:
          - {{name: by-ansible, origin: {DATA}, description: what Ansible found, tags: [ansible]}}
        cowsnap_timers: [{{name: by-role, origins: [{DATA}], on_calendar: "2099-01-01 02:30"}}]
"""
# Said for one run: back to that snapshot, and the timer is not wanted any more.
ROLLBACK = {"cowsnap_rollback": {"snapshot": "by-ansible"}, "cowsnap_rollback_confirmed": True,
            "cowsnap_timers": [{"name": "by-role", "origins": [DATA], "state": "absent"}]}


def recap(said):
    match = re.search(r"^localhost .*changed=(\d+).*failed=(\d+)", said, re.MULTILINE)
    if not match:
        raise Failure(f"no recap:\n{said[-2500:]}")
    return int(match[1]), int(match[2])


def ansible(s):
    """Ansible: the first run changes, the second does not, check mode tells without doing"""
    s.do("ansible-galaxy collection install --offline /srv/packages/ansible/*.tar.gz", LONG_S)
    s.do(f"cat >/root/play.yml <<'END'\n{PLAYBOOK}\nEND")
    play = "ansible-playbook -i localhost, /root/play.yml"
    s.same("check mode fails nothing, and changes something", (True, 0),
           (lambda changed, failed: (changed > 0, failed))(*recap(s.do(f"{play} --check --diff", LONG_S))))
    s.has_not("check mode has made nothing", "by-ansible", s.do(STATES))
    s.same("the first run changes", (True, 0), (lambda changed, failed: (changed > 0, failed))(*recap(s.do(play, LONG_S))))
    s.has("its snapshot is there", "by-ansible", s.do(STATES))
    timers = "systemctl list-timers --all --full --no-pager"
    s.has("its timer waits for its time", r"2099-01-01 .*cowsnap-snapshot@by-role\.timer", s.do(timers))
    s.same("the second run changes nothing", (0, 0), recap(s.do(play, LONG_S)))
    s.same("check mode sees that nothing is to be done", (0, 0), recap(s.do(f"{play} --check", LONG_S)))
    said = s.refused("ansible localhost -c local -m cowsnap.cowsnap.cowsnap_snapshot -a 'name=by-ansible state=rolled_back'", LONG_S)
    s.has("a rollback without a confirmation fails readably", "confirm_rollback", said)
    before = s.do("cat /data/changed")
    s.do("echo unwanted >/data/changed; sync; umount /data")
    s.same("the role rolls back if that is confirmed", (True, 0),
           (lambda changed, failed: (changed > 0, failed))(*recap(s.do(f"{play} -e '{json.dumps(ROLLBACK)}'", LONG_S))))
    # an interposed origin is stacked for its rollback, until a boot after that
    s.same("what is on the device is what was there", before, s.do("mount /dev/mapper/cowsnap-vdc /data; cat /data/changed"))
    s.has("what was there then is kept", "undo-by-ansible", s.do(STATES))
    s.has_not("the timer is gone", "by-role", s.do(f"{timers}; ls /etc/cowsnap /etc/systemd/system"))
    s.same("all is copied back", {"none"}, set(s.do("""
        for second in $(seq 300); do
            [ -n "$(snapd-cli origin list -o rollback --no-headings | grep -v none)" ] || break
            sleep 1
        done
        snapd-cli origin list -o rollback --no-headings
    """).split()))
    s.remember(states=s.states())


def comes_back(s):
    """After a reboot all is back before the file systems are mounted"""
    s.reboot()
    lines = s.do("dmesg").splitlines()

    def line(pattern):
        found = [number for number, text in enumerate(lines) if re.search(pattern, text)]
        if not found:
            raise Failure(f"nothing like '{pattern}' in the kernel's log:\n" + "\n".join(lines[-60:]))
        return found[0]
    root, data = (pathlib.PurePosixPath(path).name for path in s.do(f"readlink -f {ROOT}; readlink -f {DATA}").split())
    activated = line(r"cowsnap-activate: the store main is")
    s.same("the store is started before the root file system is mounted", True, activated < line(rf"EXT4-fs \({root}\): mounted filesystem"))
    s.same("and before the data are", True, activated < line(rf"EXT4-fs \({data}\): mounted filesystem"))
    s.has("cowsnap-activate.service has run", "^active$", s.do("systemctl is-active cowsnap-activate.service"))
    order = s.do("systemctl show -p ActiveEnterTimestampMonotonic --value cowsnap-activate.service local-fs-pre.target").split()
    s.same("and before local-fs-pre.target", True, int(order[0]) <= int(order[1]))
    s.has("the daemon is active", "^active$", s.do("systemctl is-active cowsnapd"))
    s.same("all snapshots are there, as they were", s.facts["states"], s.states())
    s.same("what they have is exact", s.facts["contents"], s.snapshot_contents())


def upgrade(s):
    """An upgrade with snapshots active, by Ansible, leaves them and a changed configuration as they are"""
    packages = ["cowsnap", "cowsnap-cli", "cowsnap-initramfs", *(["cowsnap-dkms"] if s.versions.newer_dkms else [])]
    play = [{"hosts": "localhost", "connection": "local", "gather_facts": False, "roles": [
        {"role": "cowsnap.cowsnap.cowsnap", "vars": {"cowsnap_package_directory": "/srv/packages/newer", "cowsnap_packages": packages}}]}]
    # As if the older package had come with another file: only then dpkg has a question about one that was changed, as Ansible has done.
    s.do(r"sed -i -E 's|^( /etc/cowsnap/cowsnapd\.conf) .*|\1 00000000000000000000000000000000|' /var/lib/dpkg/status")
    configuration = s.do("cat /etc/cowsnap/cowsnapd.conf")
    s.do("echo three >/data/changed; echo three >/srv/changed; sync")
    pid = s.do("systemctl show -p MainPID --value cowsnapd").strip()
    s.do(f"cat >/root/upgrade.yml <<'END'\n{json.dumps(play)}\nEND")
    s.same("Ansible's run fails nothing, and changes something", (True, 0), (lambda changed, failed: (changed > 0, failed))(
        *recap(s.do("ansible-playbook -i localhost, /root/upgrade.yml", LONG_S))))
    s.same("what was changed in the configuration stays", configuration, s.do("cat /etc/cowsnap/cowsnapd.conf"))
    s.has("the newer version is installed", rf"^{re.escape(s.versions.newer)}$", s.do("dpkg-query -W -f '${Version}\\n' cowsnap cowsnap-cli"))
    if s.versions.newer_dkms:
        s.same("DKMS has the newer one for the kernel that runs, and no other", [s.versions.newer],
               re.findall(r"^cowsnap/([^,]*),.*: installed", s.do("dkms status -m cowsnap -k $(uname -r)"), re.MULTILINE))
    s.has("the daemon is active", "^active$", s.do("systemctl is-active cowsnapd"))
    s.same("and is a new one", False, pid == s.do("systemctl show -p MainPID --value cowsnapd").strip())
    s.same("all snapshots are there, as they were", s.facts["states"], s.states())
    s.same("what they have is exact", s.facts["contents"], s.snapshot_contents())


def without_module(s):
    """A kernel without the module boots; its log says what to do; the snapshots are stale afterwards"""
    said = s.do(f"{QUIET_APT} --no-install-recommends install linux-image-cloud-amd64", LONG_S)
    s.has("installing a kernel without headers warns", r"W: cowsnap: there is no module dm-cow-snap for the kernel", said)
    release = s.do("uname -r").strip()
    other = s.do("ls /lib/modules | grep cloud").strip()
    # /vmlinuz is that of the other one from now on.
    s.remember(release=release)
    s.shut_down()
    took_s = s.machine.boot(other)
    s.ok(f"the machine boots with {other}, {took_s:.0f} s until root is logged in")
    s.machine.run("systemctl is-system-running --wait", LONG_S)
    s.same("the root and the data are mounted", 2, len(s.do("findmnt -n -o TARGET / ; findmnt -n -o TARGET /data").split()))
    log = s.do("journalctl -b --no-pager -o cat | grep -i cowsnap")
    s.has("the log says what is missing", r'"modprobe dm-cow-snap" failed', log)
    s.has("and what to do", rf"install its headers \(linux-headers-{re.escape(other)}\) and run \"dkms autoinstall\"", log)
    s.do("echo unseen >/data/changed; echo unseen >/srv/changed; sync")
    s.reboot(release)
    s.same("all snapshots are stale", {"stale"}, {state for _, state, *_ in s.states()})
    s.has("using one says so", "stale", s.do("snapd-cli mount data-first /mnt 2>&1; snapd-cli umount data-first"))


def fail_closed(s):
    """A fail-closed disk of /etc/fstab is not mounted before its origin is attached, and is by itself as soon as it is"""
    release = s.facts["release"]
    # The initramfs has a copy of this. It is made anew for the other policy before the machine is shut down.
    s.do("echo 'install dm-cow-snap /bin/false' >/etc/modprobe.d/without-cowsnap.conf")
    s.do(f"snapd-cli origin set-boot-policy {DATA} fail-closed")
    s.shut_down()
    took_s = s.machine.boot(release)
    s.ok(f"the machine boots without the module, {took_s:.0f} s until root is logged in")
    s.same("the root is mounted, and the disk is not", "/\n", s.do("findmnt -n -o TARGET /; findmnt -n -o TARGET /data || true"))
    s.has("udev tells systemd that it is not ready", "^SYSTEMD_READY=0$", s.do(f"udevadm info --query=property --name={DATA}"))
    s.has("its mount waits", r"data\.mount", s.do("systemctl list-jobs --no-pager --full"))
    s.has("the journal says why", r"is fail-closed and not attached", s.do("journalctl -b -u cowsnap-activate --no-pager -o cat"))
    s.do("""
        rm /etc/modprobe.d/without-cowsnap.conf
        modprobe dm-cow-snap
        systemctl restart cowsnap-activate
        for second in $(seq 300); do
            ! findmnt /data >/dev/null || break
            sleep 1
        done
    """, LONG_S)
    s.same("attached, it is mounted", "/data\n", s.do("findmnt -n -o TARGET /data || true"))
    s.has_not("and ready", "^SYSTEMD_READY=0$", s.do(f"udevadm info --query=property --name={DATA}"))
    s.do("systemctl restart cowsnapd")
    s.same("all origins are attached", {"attached"}, set(s.do("snapd-cli origin list -o state --no-headings").split()))
    s.machine.run("systemctl is-system-running --wait", LONG_S)
    s.same("no unit has failed", "", s.do("systemctl list-units --failed --plain --no-legend").strip())
    s.do(f"snapd-cli origin set-boot-policy {DATA} fail-open")
    s.do("systemctl start cowsnap-initramfs.service", LONG_S)


def remove(s):
    """Removing is refused while origins are attached, and says what to do; that done, it works, and no store is touched"""
    before = s.states()
    for package in ("cowsnap", "cowsnap-dkms"):
        said = s.refused(f"LC_ALL=C {QUIET_APT} remove {package}", LONG_S)
        s.has(f"removing {package} is refused, and says what to do", r"snapd-cli origin detach", said)
    # "it": a trigger waits for dpkg's next run
    s.same("no package is gone or broken", [], [state for state in s.do(
        "dpkg-query -W -f '${db:Status-Abbrev}\\n' cowsnap cowsnap-cli cowsnap-dkms cowsnap-initramfs").split() if state not in ("ii", "it")])
    s.same("all is as it was", before, s.states())
    s.documented("packaging/README.md", "detach", instead={"SNAPSHOT...": "$(snapd-cli list -o name --no-headings)", "ORIGIN": DATA})
    s.do(f"snapd-cli origin detach {ROOT} --yes")
    # a snapshot that is not there any more is no reason to keep a store closed
    s.same("no snapshot is left", [], s.states())
    s.documented("packaging/README.md", "close")
    store = s.do(f"sync; sha256sum <{STORE}")
    # A timer that still runs, of a file that is there since the part "ways".
    s.do("systemctl enable --now cowsnap-snapshot@nightly.timer")
    s.documented("packaging/README.md", "remove", LONG_S, instead={"apt remove": "export DEBIAN_FRONTEND=noninteractive LC_ALL=C; apt-get --quiet --yes remove"})
    s.has_not("its timers do not run any more", "cowsnap", s.do("systemctl list-timers --all --full --no-pager"))
    s.has_not("the programs are gone", "cowsnap", s.do("ls /usr/sbin /usr/bin"))
    s.has("the configuration stays", "cowsnapd.conf", s.do("ls /etc/cowsnap"))
    s.do(f"{QUIET_APT} purge cowsnap cowsnap-cli cowsnap-dkms cowsnap-initramfs", LONG_S)
    s.same("purging leaves no file", "", s.do("ls -d /etc/cowsnap /var/lib/cowsnap /usr/src/cowsnap* /lib/systemd/system/cowsnap* "
                                            "/etc/systemd/system/*.wants/cowsnap* /var/lib/systemd/timers/*cowsnap* 2>/dev/null || true").strip())
    s.has_not("no initramfs has anything of it", "cowsnap", s.do("for image in /boot/initrd.img-*; do lsinitramfs $image; done", LONG_S))
    s.same("the store is untouched", store, s.do(f"sha256sum <{STORE}"))


def plain_again(s):
    """The machine without cowsnap boots as ever"""
    release = s.facts["release"]
    s.reboot(release)
    s.same("the kernel is the one that had the module", release, s.do("uname -r").strip())
    s.has_not("no module is loaded", "dm_cow_snap", s.do("lsmod"))
    s.has_not("the kernel's log has nothing of it", "cowsnap", s.do("dmesg"))
    s.same("the files are those that were written last", "unseen\nunseen\n", s.do("cat /data/changed /srv/changed"))


PARTS = {function.__name__.replace("_", "-"): function
         for function in (fresh, install, first_use, ways, ansible, comes_back, upgrade, without_module, fail_closed, remove, plain_again)}
