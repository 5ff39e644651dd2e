# SPDX-License-Identifier: GPL-2.0-or-later
"""The role of the collection: with a real daemon as far as that goes without packages and systemd, the rest in check mode. All of it
is run by the tests of the layer guest.
"""

import hashlib
import json
import subprocess

from ansible_bed import expect

ALL = {
    "cowsnap_configuration": {"log_level": "warning", "finished_jobs": 7},
    "cowsnap_stores": [{"name": "main", "devices": ["/dev/store"]}],
    "cowsnap_origins": [{"device": "/dev/one", "name": "data"}],
    "cowsnap_snapshots": [{"name": "before", "origin": "data", "tags": ["upgrade"], "holds": ["ansible"]}],
}
OBJECTS = ("Have the stores", "Have the origins", "Have the snapshots")


def of_task(results, name):
    """The results of the tasks with this name, without those that were skipped."""
    return [result for result in results if result["task"].split(" : ")[-1] == name and result["outcome"] != "skipped"]


def failures(results):
    return [result for result in results if result["outcome"] == "failed" and not result.get("failed_when_result") is False]


def changed(results):
    return [result["task"].split(" : ")[-1] for result in results if result.get("changed")]


def expect_refused(results, *words):
    """One task failed, the last, with these words, and none changed anything."""
    failed = failures(results)
    expect(failed and not changed(results), "this should have been refused, and nothing changed:", results)
    said = json.dumps(failed[-1])
    for word in words:
        expect(word in said, f'the message should say "{word}":', failed[-1])


def log_level(bed):
    return bed.controller.succeed(["busctl", "get-property", "org.cowsnap1", "/org/cowsnap1", "org.cowsnap1.Manager", "LogLevel"],
                                  environment=bed.environment)


def test_a_role_changes_all_that_it_says_and_then_nothing(bed):
    checked = bed.role(ALL, options=["--check", "--diff"])
    expect(not failures(checked) and "Have the stores" in changed(checked), checked)
    expect(not bed.configuration.exists() and not bed.cli("store", "list")["stores"], "check mode changed something")
    first = bed.role(ALL, options=["--diff"])
    expect(not failures(first), failures(first))
    expect(set(changed(first)) >= {"Configure cowsnapd", *OBJECTS}, first)
    expect(changed(checked) == changed(first),
           "check mode said other tasks than were changed:", changed(checked), changed(first))
    expect("warning" in log_level(bed), "the daemon did not take its configuration")
    (found,) = bed.cli("list")["snapshots"]
    expect((found["name"], found["origin"], found["holds"]) == ("before", "data", ["ansible"]), found)
    for options in ([], ["--check"]):
        again = bed.role(ALL, options=options)
        expect(not failures(again) and not changed(again), "this should have changed nothing:", changed(again), failures(again))


def test_a_role_has_the_initramfs_brought_up_to_date(bed):
    """In check mode: there is no systemd here."""
    handler = "Have the initramfs made anew"
    there = ["--check", "-e", "cowsnap_rebuild_initramfs=/bin/true"]
    managed = {**ALL, "cowsnap_manage_services": True}
    results = bed.role(managed, options=there)
    expect(not failures(results) and of_task(results, handler), results)
    expect(not of_task(bed.role(managed, options=["--check", "-e", "cowsnap_rebuild_initramfs=/nonexistent"]), handler),
           "there is nothing that makes it anew")
    expect(not of_task(bed.role(ALL, options=there), handler), "units are somebody else's")
    bed.role(ALL)
    expect(not of_task(bed.role(managed, options=there), handler), "no store and no origin was changed")
    closed = {**managed, "cowsnap_origins": [{"device": "/dev/one", "name": "data", "boot_policy": "fail-closed"}]}
    expect(of_task(bed.role(closed, options=there), handler), "a boot policy is to be changed")


def test_a_role_takes_away_what_is_to_be_absent(bed):
    bed.role(ALL)
    gone = {
        "cowsnap_snapshots": [{"name": "before", "state": "absent", "released": ["ansible"]}],
        "cowsnap_origins": [{"device": "/dev/one", "state": "absent"}],
        "cowsnap_stores": [{"name": "main", "state": "absent"}],
    }
    results = bed.role(gone)
    expect(not failures(results), failures(results))
    expect(not any(bed.cli(*words)[key] for words, key in ((["list"], "snapshots"), (["origin", "list"], "origins"),
                                                           (["store", "list"], "stores"))), bed.state())
    again = bed.role(gone)
    expect(not failures(again) and not changed(again), again)


def test_a_role_rolls_back_only_if_that_is_confirmed(bed):
    bed.role(ALL)
    variables = {"cowsnap_rollback": {"snapshot": "before", "undo_name": "after"}}
    before = bed.state()
    for options in ([], ["--check"]):
        expect_refused(bed.role(variables, options), "NotConfirmed", "cowsnap_rollback_confirmed: true")
        expect(bed.state() == before, "it was rolled back without being confirmed")
    confirmed = {**variables, "cowsnap_rollback_confirmed": True}
    rolled = bed.role(confirmed)
    expect(not failures(rolled) and changed(rolled) == ["Roll an origin back"], rolled)
    expect(bed.cli("show", "data")["origin"]["rollback_undo"] == "after", bed.state())
    again = bed.role(confirmed)
    expect(not failures(again) and not changed(again), again)


def test_a_role_refuses_unknown_and_wrong_arguments(bed):
    before = bed.state()
    for variables, words in (
            ({"cowsnap_configuration": {"frobnicate": 1}}, "frobnicate"),
            ({"cowsnap_configuration": {"log_level": "loud"}}, "loud"),
            ({"cowsnap_configuration": {"finished_jobs": "many"}}, "finished_jobs"),
            ({"cowsnap_stores": [{"name": "main", "device": "/dev/store"}]}, "device"),
            ({"cowsnap_stores": [{"devices": ["/dev/store"]}]}, "name"),
            ({"cowsnap_origins": [{"device": "/dev/one", "method": "glue"}]}, "glue"),
            ({"cowsnap_origins": [{"device": "/dev/one", "boot_policy": "fail-safe"}]}, "fail-safe"),
            ({"cowsnap_snapshots": [{"name": "a", "state": "rolled_back"}]}, "rolled_back"),
            ({"cowsnap_rollback": {"name": "a"}}, "name"),
            ({"cowsnap_rollback": {"undo_name": "a"}, "cowsnap_rollback_confirmed": True}, "does not say what to roll back to"),
            ({"cowsnap_snapshots": [{"name": "a", "holds": ["b", "c"], "released": ["c"]}]}, "in both holds and released"),
            ({"cowsnap_timers": [{"name": "a", "origins": ["one"], "expires": "30s"}]}, "cowsnap_timers is wrong"),
            ({"cowsnap_timers": [{"name": "a", "when": "daily"}]}, "when"),
            ({"cowsnap_timers": [{"name": "a/b", "origins": ["one"]}]}, "cowsnap_timers is wrong"),
            ({"cowsnap_timers": [{"name": "a", "origins": ['one"; reboot']}]}, "cowsnap_timers is wrong"),
            ({"cowsnap_prune_keep": "daily=7 --yes"}, "cowsnap_prune_keep")):
        expect_refused(bed.role(variables), words)
    expect(bed.state() == before and not bed.configuration.exists(), "a refusal changed something")


def test_a_configuration_that_the_daemon_refuses_is_told_with_its_message(bed):
    wrong = {"cowsnap_configuration": {"space_warnings_percent": [800]}}
    for results in (bed.role(wrong), bed.role(wrong)):
        (failed,) = failures(results)
        for words in ("cowsnapd.conf:4", '"space_warnings_percent" is [800]', "run the role again"):
            expect(words in failed["msg"], failed)
    expect("info" in log_level(bed), "the daemon has not kept what it had")


def test_check_mode_before_there_is_a_daemon_says_what_will_be(bed):
    bed.tell("stop")
    results = bed.role(ALL, options=["--check"])
    expect(not failures(results), failures(results))
    (said,) = of_task(results, "Say what check mode cannot look at")
    expect(said["changed"] and "stores main; origins /dev/one; snapshots before" in said["msg"], said)
    expect(not any(of_task(results, name) for name in OBJECTS), results)
    bed.tell("start")


def test_timers_and_units_are_written_as_the_package_has_them(bed):
    """In check mode, with what would be written as a difference: there is no systemd here."""
    results = bed.role({
        "cowsnap_manage_services": True,
        "cowsnap_timers": [{"name": "nightly", "origins": ["data", "/dev/sdb1"], "on_calendar": "02:00", "expires": "30d"},
                           {"name": "often", "origins": ["data"], "expires": "90m"},
                           {"name": "gone", "state": "absent"}],
        "cowsnap_prune_enabled": True, "cowsnap_prune_keep": "daily=7",
    }, options=["--check", "--diff"])
    expect(not failures(results), failures(results))
    written = [one["after"] for result in results if isinstance(result.get("diff"), list) for one in result["diff"] if "after" in one]
    texts = "\n".join(str(text) for text in written)
    for line in ('ORIGINS="data /dev/sdb1"', 'SNAPSHOT_OPTIONS="--expires 30d"', 'SNAPSHOT_OPTIONS="--expires 90m"',
                 "OnCalendar=\nOnCalendar=02:00", 'PRUNE_OPTIONS="--tag timer --keep daily=7"', "OnCalendar=\nOnCalendar=hourly"):
        expect(line in texts, f"this should have been written: {line}", written)


def make_package(directory, name, depends, version="1.0", configuration=None):
    """A package, with what stands in its /etc/NAME.conf if it has one."""
    root = directory / f"{name}-root"
    (root / "DEBIAN").mkdir(parents=True)
    (root / "DEBIAN" / "control").write_text(
        f"Package: {name}\nVersion: {version}\nArchitecture: all\nMaintainer: Nobody <nobody@example.org>\nDescription: for a test\n"
        + (f"Depends: {depends}\n" if depends else ""))
    if configuration:
        (root / "DEBIAN" / "conffiles").write_text(f"/etc/{name}.conf\n")
        (root / "etc").mkdir()
        (root / "etc" / f"{name}.conf").write_text(configuration)
    made = directory / f"{name}_{version}_all.deb"
    subprocess.run(["dpkg-deb", "--build", "--root-owner-group", root, made], check=True, stdout=subprocess.DEVNULL)
    return made


def blank_machine(directory):
    """A root directory with no package, and the environment in which apt and dpkg install into it, not into this machine."""
    root = directory / "root"
    for name in ("etc/apt/apt.conf.d", "etc/apt/preferences.d", "etc/apt/trusted.gpg.d", "etc/apt/sources.list.d", "tmp",
                 "var/lib/apt/lists/partial", "var/cache/apt/archives/partial", "var/lib/dpkg/info", "var/lib/dpkg/updates",
                 "var/log/apt"):
        (root / name).mkdir(parents=True)
    (root / "var/lib/dpkg/status").touch()
    configuration = directory / "apt.conf"
    configuration.write_text(f'''
Dir "{root}";
Dir::State::status "{root}/var/lib/dpkg/status";
Dir::Bin::dpkg "/usr/bin/dpkg";
Dir::Bin::methods "/usr/lib/apt/methods";
DPkg::Options {{ "--root={root}"; }};
APT::Sandbox::User "root";
''')
    return root, {"APT_CONFIG": str(configuration)}


def test_packages_of_a_directory_are_installed_together(bed):
    """In check mode: nothing is installed here. The first needs the second."""
    directory = bed.controller.directory / "packages"
    make_package(directory, "cowsnap-example-first", "cowsnap-example-second")
    make_package(directory, "cowsnap-example-second", "")
    variables = {"cowsnap_manage_packages": True, "cowsnap_package_directory": str(directory)}
    there = {**variables, "cowsnap_packages": ["cowsnap-example-first", "cowsnap-example-second"]}
    results = bed.role(there, options=["--check"])
    expect(not failures(results), failures(results))
    (installed,) = of_task(results, "Install the packages from the directory")
    expect(installed["changed"] and "Inst cowsnap-example-first" in installed["stdout"], installed)
    missing = {**variables, "cowsnap_packages": ["cowsnap-example-first", "cowsnap-example"]}
    expect_refused(bed.role(missing, options=["--check"]), "must have one file cowsnap-example_VERSION_ARCHITECTURE.deb", "none")


def make_repository(directory, package, environment, bed, root):
    """Has the blank machine's apt know a repository with one package."""
    control = subprocess.run(["dpkg-deb", "--field", package], check=True, stdout=subprocess.PIPE, text=True).stdout
    (directory / "Packages").write_text(f"{control}Filename: ./{package.name}\nSize: {package.stat().st_size}\n"
                                        f"SHA256: {hashlib.sha256(package.read_bytes()).hexdigest()}\n")
    (root / "etc/apt/sources.list").write_text(f"deb [trusted=yes] file:{directory} ./\n")
    bed.controller.succeed(["apt-get", "update"], environment=environment)


def test_packages_of_the_repositories_are_installed_beside_those_of_a_directory(bed):
    directory = bed.controller.directory
    root, environment = blank_machine(directory)
    for name in ("repository", "packages"):
        (directory / name).mkdir()
    headers = make_package(directory / "repository", "cowsnap-example-headers", "")
    make_package(directory / "packages", "cowsnap-example", "")
    make_repository(directory / "repository", headers, environment, bed, root)
    variables = {"cowsnap_manage_packages": True, "cowsnap_packages": ["cowsnap-example"],
                 "cowsnap_package_directory": str(directory / "packages"), "cowsnap_repository_packages": ["cowsnap-example-headers"]}
    checked = bed.role(variables, options=["--check"], environment=environment)
    expect("Package:" not in (root / "var/lib/dpkg/status").read_text(), "check mode installed something")
    results = bed.role(variables, environment=environment)
    expect(not failures(results) and changed(results) == changed(checked), results, changed(checked))
    expect(changed(results) == ["Install what comes from the repositories in any case", "Install the packages from the directory"], results)
    status = (root / "var/lib/dpkg/status").read_text()
    expect("Package: cowsnap-example\n" in status and "Package: cowsnap-example-headers\n" in status, status)
    again = bed.role(variables, environment=environment)
    expect(not failures(again) and not changed(again), changed(again), failures(again))


def test_an_upgrade_leaves_a_changed_configuration_as_it_is(bed):
    """dpkg asks about it else, and there is nobody to answer."""
    directory = bed.controller.directory
    root, environment = blank_machine(directory)
    packages = {"cowsnap_manage_packages": True, "cowsnap_packages": ["cowsnap-example"]}
    for version in ("1.0", "2.0"):
        (directory / version).mkdir()
        make_package(directory / version, "cowsnap-example", "", version, f"as version {version} has it\n")
        configuration = root / "etc" / "cowsnap-example.conf"
        results = bed.role({**packages, "cowsnap_package_directory": str(directory / version)}, environment=environment)
        expect(not failures(results) and "Install the packages from the directory" in changed(results), results)
        status = (root / "var/lib/dpkg/status").read_text()
        expect(f"Version: {version}\n" in status and "Status: install ok installed\n" in status, status)
        if version == "1.0":
            configuration.write_text("as somebody changed it\n")
    expect(configuration.read_text() == "as somebody changed it\n", configuration.read_text())
    again = bed.role({**packages, "cowsnap_package_directory": str(directory / "2.0")}, environment=environment)
    expect(not failures(again) and not changed(again), again)
