# SPDX-License-Identifier: GPL-2.0-or-later
"""The modules of the collection, with a real daemon. Each test has a bed of its own: a blank machine with the disks /dev/store, /dev/spare,
/dev/one and /dev/two.
"""

import os
import pathlib
import shutil
import time

from ansible_bed import (Skipped, expect, expect_changed, expect_failure, expect_predicted, expect_same, origin, snapshot, store)


def test_a_store_is_made_extended_and_closed(bed):
    made = {"name": "main", "devices": ["/dev/store"]}
    larger = {"name": "main", "devices": ["/dev/store", "/dev/spare"]}
    closed = {"name": "main", "state": "absent"}
    (will_make,) = bed.tasks(store(check=True, **made))
    expect(not bed.cli("store", "list")["stores"], "check mode made a store")
    make, again, again_checked, will_extend = bed.tasks(store(**made), store(**made), store(check=True, **made),
                                                        store(check=True, **larger))
    expect_predicted(will_make, make)
    expect(make["store"]["name"] == "main" and make["store"]["devices"] == ["/dev/store"], make)
    expect(make["diff"]["before"] == {}, make)
    expect_same(again, again_checked)
    expect(bed.cli("store", "list")["stores"][0]["devices"] == ["/dev/store"], "check mode extended the store")
    extend, extend_again, will_close = bed.tasks(store(**larger), store(**larger), store(check=True, **closed))
    expect_predicted(will_extend, extend)
    expect_same(extend_again)
    expect(bed.cli("store", "list")["stores"][0]["devices"] == larger["devices"], bed.state())
    close, close_again, close_checked = bed.tasks(store(**closed), store(**closed), store(check=True, **closed))
    expect_predicted(will_close, close)
    expect_same(close_again, close_checked)
    expect(not bed.cli("store", "list")["stores"], bed.state())


def test_check_mode_fails_where_the_daemon_would_refuse(bed):
    bed.tell("use /dev/store mounted on /srv")
    used, used_checked = bed.tasks(store(devices=["/dev/store"]), store(check=True, devices=["/dev/store"]))
    expect_failure(used, "Busy", "mounted on /srv")
    expect_failure(used_checked, "Busy", "mounted on /srv")
    bed.tell("free /dev/store")
    bed.tell("use /dev/one mounted on /home")
    made, stacked = bed.tasks(store(devices=["/dev/store"]), origin(check=True, device="/dev/one", method="stack"))
    expect_changed(made)
    expect_failure(stacked, "Busy", "mounted on /home")


def test_what_a_store_is_extended_with_is_what_was_said(bed):
    made = {"name": "main", "devices": ["/dev/store"], "spares": ["/dev/spare"], "max_size": "200M"}
    other = {"name": "main", "devices": ["/dev/store"], "spares": ["/dev/two"], "max_size": 0}
    (will_make,) = bed.tasks(store(check=True, **made))
    make, again, again_checked, left_alone, will_change = bed.tasks(
        store(**made), store(**made), store(check=True, **made), store(devices=["/dev/store"]), store(check=True, **other))
    expect_predicted(will_make, make)
    expect((make["store"]["spares"], make["store"]["autoextend_max_bytes"]) == (["/dev/spare"], 200 << 20), make)
    expect_same(again, again_checked, left_alone)
    change, change_again, none, taken = bed.tasks(
        store(**other), store(**other), store(devices=["/dev/store"], spares=[]), store(devices=["/dev/store", "/dev/spare"], spares=["/dev/spare"]))
    expect_predicted(will_change, change)
    expect((change["store"]["spares"], change["store"]["autoextend_max_bytes"]) == (["/dev/two"], 0), change)
    expect_same(change_again)
    expect_changed(none, taken)
    expect(none["store"]["spares"] == [] and taken["store"]["spares"] == [], none, taken)
    # A spare that became a device need not be named among these.
    became, checked = bed.tasks(store(devices=["/dev/store"], spares=["/dev/spare"]), store(check=True, devices=["/dev/store"], spares=["/dev/spare"]))
    expect_same(became, checked)
    # Nor need a volume that the daemon has made for it.
    bed.tell("add /dev/mapper/group-main_cowsnap1")
    bed.cli("store", "extend", "main", "/dev/mapper/group-main_cowsnap1")
    extended, checked = bed.tasks(store(devices=["/dev/store"], spares=["/dev/spare"]), store(check=True, devices=["/dev/store"], spares=["/dev/spare"]))
    expect_same(extended, checked)
    expect(len(extended["store"]["devices"]) == 3, extended)
    wrong, no_size = bed.tasks(store(devices=["/dev/store"], spares=["/dev/spare", "/dev/nothing"]), store(max_size="much"))
    expect_failure(wrong, "NotFound", "/dev/nothing", "extended with")
    expect(no_size["outcome"] == "failed" and "max_size" in no_size["msg"], no_size)


def test_what_cannot_be_done_to_a_store_is_refused(bed):
    bed.tasks(store(devices=["/dev/store"]))
    before = bed.state()
    fewer, no_devices, no_disk, taken = bed.tasks(
        store(devices=["/dev/spare"]), store(name="other"), store(name="other", devices=["/dev/nothing"]),
        store(name="other", devices=["/dev/store"]))
    expect_failure(fewer, "InvalidArgument", "also has /dev/store", "cannot be made smaller")
    expect_failure(no_devices, "InvalidArgument", 'option "devices"')
    expect_failure(no_disk, "NotFound", "cannot create the store other", "/dev/nothing")
    expect_failure(taken, "Exists", "belongs to the store main already")
    expect(bed.state() == before, "a refusal changed something")
    bed.tasks(origin(device="/dev/one"))
    with_origin, checked = bed.tasks(store(state="absent"), store(check=True, state="absent"))
    expect_failure(with_origin, "Busy", "cannot close the store main", "origin")
    expect_failure(checked, "Busy", "cannot close the store main", "origin")


def test_an_origin_is_attached_and_detached(bed):
    wanted = {"device": "/dev/one", "name": "data"}
    (no_store,) = bed.tasks(origin(check=True, **wanted))
    expect_changed(no_store)
    expect(any("no store" in line for line in no_store["warnings"]), no_store)
    _, will_attach, attach, again, again_checked, by_mapped = bed.tasks(
        store(devices=["/dev/store"]), origin(check=True, **wanted), origin(**wanted), origin(**wanted), origin(check=True, **wanted),
        origin(device="/dev/mapper/cowsnap-data"))
    expect_changed(will_attach, attach)
    expect(will_attach["commands"] == attach["commands"], will_attach, attach)
    expect(attach["origin"]["device"] == "/dev/mapper/cowsnap-data", attach)
    expect_same(again, again_checked, by_mapped)
    before = bed.state()
    other_name, other_method, other_store, name_only = bed.tasks(
        origin(device="/dev/one", name="other"), origin(device="/dev/one", method="interpose"),
        origin(device="/dev/one", store="other"), origin(name="data"))
    expect_failure(other_name, "Exists", "known as the origin data")
    expect_failure(other_method, "Exists", "data is stacked, not interposed")
    expect_failure(other_store, "Exists", "in the store main, not in other")
    expect(name_only["outcome"] == "failed" and "device" in name_only["msg"], name_only)
    expect(bed.state() == before, "a refusal changed something")
    _, has_snapshots, checked = bed.tasks(snapshot(name="a", origin="data"), origin(name="data", state="absent"),
                                          origin(check=True, name="data", state="absent"))
    expect_failure(has_snapshots, "Busy", "still has snapshots")
    expect_failure(checked, "Busy", "still has snapshots")
    _, will_detach, detach, detach_again = bed.tasks(
        snapshot(name="a", state="absent"), origin(check=True, device="/dev/one", state="absent"),
        origin(device="/dev/one", state="absent"), origin(device="/dev/one", state="absent"))
    expect_predicted(will_detach, detach)
    expect_same(detach_again)


def test_a_boot_policy_is_set_once(bed):
    wanted = {"device": "/dev/one", "boot_policy": "fail-closed"}
    _, will_attach, attach, again, again_checked, left_alone, will_change, change, change_again, nonsense = bed.tasks(
        store(devices=["/dev/store"]), origin(check=True, **wanted), origin(**wanted), origin(**wanted), origin(check=True, **wanted),
        origin(device="/dev/one"), origin(check=True, device="/dev/one", boot_policy="fail-open"),
        origin(device="/dev/one", boot_policy="fail-open"), origin(device="/dev/one", boot_policy="fail-open"),
        origin(device="/dev/one", boot_policy="fail-safe"))
    expect_changed(will_attach, attach)
    expect(will_attach["diff"]["after"]["boot_policy"] == attach["origin"]["boot_policy"] == "fail-closed", will_attach, attach)
    expect_same(again, again_checked, left_alone)
    expect_predicted(will_change, change)
    expect(change["origin"]["boot_policy"] == "fail-open", change)
    expect_same(change_again)
    expect(nonsense["outcome"] == "failed" and "boot_policy" in nonsense["msg"], nonsense)


def test_a_device_in_use_is_interposed_and_not_stacked(bed):
    bed.tell("use /dev/one mounted on /srv")
    _, stack, auto = bed.tasks(store(devices=["/dev/store"]), origin(device="/dev/one", method="stack"), origin(device="/dev/one"))
    expect_failure(stack, "Busy", "cannot attach /dev/one", "mounted on /srv")
    expect_changed(auto)
    expect(auto["origin"]["method"] == "interposed", auto)


def test_a_snapshot_is_made_changed_and_deleted(bed):
    bed.tasks(store(devices=["/dev/store"]), origin(device="/dev/one"))
    made = {"name": "before", "origin": "/dev/one", "tags": ["upgrade", "auto"], "holds": ["backup"], "description": "old",
            "expires": "2040-12-31 18:00"}
    will_make, make, again, again_checked, named = bed.tasks(
        snapshot(check=True, **made), snapshot(**made), snapshot(**made), snapshot(check=True, **made), snapshot(name="before"))
    expect_changed(will_make, make)
    expect(will_make["commands"] == make["commands"] and "snapshot" not in will_make, will_make, make)
    for key in ("name", "origin", "description", "tags", "holds", "writable"):
        expect(will_make["diff"]["after"][key] == make["diff"]["after"][key], will_make, make)
    expect(make["snapshot"]["expires"] == time.mktime((2040, 12, 31, 18, 0, 0, 0, 0, -1)), make)
    expect_same(again, again_checked, named)
    other = {"name": "before", "tags": ["auto", "new"], "description": "", "expires": "never", "holds": ["second"], "released": ["backup"]}
    will_change, change, change_again = bed.tasks(snapshot(check=True, **other), snapshot(**other), snapshot(**other))
    expect_predicted(will_change, change)
    now = change["snapshot"]
    expect((now["tags"], now["description"], now["expires"], now["holds"]) == (["auto", "new"], "", 0, ["second"]), now)
    expect_same(change_again)
    before = bed.state()
    held, held_checked, will_delete = bed.tasks(snapshot(name="before", state="absent"), snapshot(check=True, name="before", state="absent"),
                                                snapshot(check=True, name="before", state="absent", released=["second"]))
    expect_failure(held, "Held", "is held (second)", "released")
    expect_failure(held_checked, "Held", "is held (second)")
    expect(bed.state() == before, "a refusal or check mode changed something")
    delete, delete_again = bed.tasks(snapshot(name="before", state="absent", released=["second"]), snapshot(name="before", state="absent"))
    expect_predicted(will_delete, delete)
    expect_same(delete_again)
    expect(not bed.cli("list")["snapshots"], bed.state())


def test_a_device_is_attached_for_its_snapshot(bed):
    before_store, _, will_make = bed.tasks(snapshot(check=True, name="a", origin="/dev/one"), store(devices=["/dev/store"]),
                                           snapshot(check=True, name="a", origin="/dev/one"))
    expect_changed(before_store, will_make)
    expect(any("no store" in line for line in before_store["warnings"]), before_store)
    expect(not bed.cli("origin", "list")["origins"], "check mode attached a device")
    make, again, other = bed.tasks(snapshot(name="a", origin="/dev/one", writable=True), snapshot(name="a", origin="/dev/one"),
                                   snapshot(name="a", origin="/dev/two"))
    expect_changed(make)
    expect(make["snapshot"]["origin"] == "one" and make["snapshot"]["writable"], make)
    expect_same(again)
    expect_failure(other, "Exists", "of the origin one and not of /dev/two")


def test_an_expiry_that_is_a_span_counts_from_the_beginning(bed):
    wanted = {"name": "a", "origin": "/dev/one", "expires": "30d"}
    minutes = {"name": "c", "origin": "/dev/one", "expires": "30m"}
    _, make, again, nonsense, in_vain, make_minutes, again_minutes = bed.tasks(
        store(devices=["/dev/store"]), snapshot(**wanted), snapshot(**wanted), snapshot(name="a", expires="soon"),
        snapshot(name="b", origin="/dev/one", expires="soon"), snapshot(**minutes), snapshot(**minutes))
    expect(abs(make["snapshot"]["expires"] - time.time() - 30 * 24 * 3600) < 3600, make)
    expect_same(again)
    expect_failure(nonsense, "InvalidArgument", '"soon" is no time of expiry')
    expect_failure(in_vain, "InvalidArgument", '"soon" is no time of expiry')
    expect(abs(make_minutes["snapshot"]["expires"] - time.time() - 30 * 60) < 600, make_minutes)
    expect_same(again_minutes)
    expect(len(bed.cli("list")["snapshots"]) == 2, bed.state())


def test_what_cannot_be_done_to_a_snapshot_is_refused(bed):
    bed.tasks(store(devices=["/dev/store"]), snapshot(name="a", origin="/dev/one"))
    before = bed.state()
    results = bed.tasks(
        snapshot(name="a", writable=True), snapshot(check=True, name="a", writable=True), snapshot(name="b"),
        snapshot(name="b", origin="nothing"), snapshot(name="b/c", origin="one"), snapshot(name="b", origin="/dev/nothing"),
        snapshot(name="b", origin="one", holds=["x" * 2000]), snapshot(name="b", origin="one", holds=["x", "y"], released=["y"]),
        snapshot(check=True, name="a", holds=["y"], released=["y"]))
    expect_failure(results[0], "Exists", "a is read-only", "cannot be made writable")
    expect_failure(results[1], "Exists", "a is read-only", "cannot be made writable")
    expect_failure(results[2], "NotFound", "there is no snapshot b", 'option "origin"')
    expect_failure(results[3], "NotFound", 'there is no origin "nothing"')
    expect_failure(results[4], "InvalidArgument", "'/'")
    expect_failure(results[5], "NotFound", "/dev/nothing")
    expect_failure(results[6], "InvalidArgument")
    for result in results[7:]:
        expect_failure(result, "InvalidArgument", '"released"', "does not have: y.")
    expect(bed.state() == before, "a refusal changed something")


def test_a_snapshot_of_another_origin_is_neither_deleted_nor_rolled_back_to(bed):
    bed.tasks(store(devices=["/dev/store"]), origin(device="/dev/one"), snapshot(name="nightly", origin="/dev/two", holds=["backup"]))
    before = bed.state()
    for state, more in (("absent", {"released": ["backup"]}), ("rolled_back", {"confirm_rollback": True})):
        results = bed.tasks(*(snapshot(check=check, name="nightly", origin=wanted, state=state, **more)
                              for wanted in ("/dev/one", "one", "/dev/store") for check in (False, True)))
        for result in results:
            expect_failure(result, "InvalidArgument", "the snapshot nightly: it is of the origin two and not of ")
        expect(bed.state() == before, "a refusal changed something")
    roll, needed = bed.tasks(snapshot(name="nightly", origin="/dev/two", state="rolled_back", confirm_rollback=True),
                             snapshot(name="nightly", origin="/dev/one", state="rolled_back", confirm_rollback=True))
    expect_changed(roll)
    # It was done, but not to the origin that is named.
    expect_failure(needed, "InvalidArgument", "and not of /dev/one")
    bed.tell("copied 2")
    (delete,) = bed.tasks(snapshot(name="nightly", origin="/dev/two", state="absent", released=["backup"]))
    expect_changed(delete)


def test_no_name_is_taken_for_an_option(bed):
    names = ("--yes", "-o", "--description=x", "a b;c$(d)", "\u00fc")
    bed.tasks(store(devices=["/dev/store"], name="--help"))
    results = bed.tasks(*(snapshot(name=name, origin="/dev/one", tags=["--writable"]) for name in names))
    results += bed.tasks(*(snapshot(name=name, origin="/dev/one", description="--hold=x", holds=["--untag"]) for name in names))
    expect_changed(*results)
    for name, found in zip(names, bed.cli("list")["snapshots"]):
        expect((found["name"], found["description"], found["tags"], found["holds"], found["writable"])
               == (name, "--hold=x", ["--writable"], ["--untag"], False), found)
    expect_changed(*bed.tasks(*(snapshot(name=name, state="absent", released=["--untag"]) for name in names),
                              origin(device="/dev/one", state="absent"), store(name="--help", state="absent")))


def test_snapshots_with_one_name_in_two_stores_are_told_apart(bed):
    bed.tasks(store(devices=["/dev/store"]), store(name="other", devices=["/dev/spare"]))
    no_store, no_store_checked, first, second = bed.tasks(
        snapshot(name="a", origin="/dev/one"), snapshot(check=True, name="a", origin="/dev/one"),
        snapshot(name="a", origin="/dev/one", store="main"), snapshot(name="a", origin="/dev/two", store="other"))
    expect_failure(no_store, "Usage", "(main, other)")
    expect_failure(no_store_checked, "InvalidArgument", "(main, other)", 'option "store"')
    expect_changed(first, second)
    unclear, delete = bed.tasks(snapshot(name="a", state="absent"), snapshot(name="a", store="other", state="absent"))
    expect_failure(unclear, "InvalidArgument", "several snapshots", 'option "store"')
    expect_changed(delete)
    expect([one["store"] for one in bed.cli("list")["snapshots"]] == ["main"], bed.state())


def test_a_rollback_needs_to_be_confirmed(bed):
    bed.tasks(store(devices=["/dev/store"]), snapshot(name="old", origin="/dev/one"))
    before = bed.state()
    refused, checked, said_no, missing = bed.tasks(
        snapshot(name="old", state="rolled_back"), snapshot(check=True, name="old", state="rolled_back"),
        snapshot(name="old", state="rolled_back", confirm_rollback=False),
        snapshot(name="nothing", state="rolled_back", confirm_rollback=True))
    for result in (refused, checked, said_no):
        expect_failure(result, "NotConfirmed", "origin one", "confirm_rollback: true")
    expect_failure(missing, "NotFound", '"nothing"')
    expect(bed.state() == before, "a refusal changed something")


def test_an_origin_is_rolled_back_once(bed):
    rolled_back = {"name": "old", "state": "rolled_back", "confirm_rollback": True}
    _, _, will_roll, = bed.tasks(store(devices=["/dev/store"]), snapshot(name="old", origin="/dev/one"), snapshot(check=True, **rolled_back))
    expect(bed.cli("show", "one")["origin"]["rollback"] == "none", "check mode rolled back")
    roll, again, unconfirmed, checked, needed, needed_checked = bed.tasks(
        snapshot(**rolled_back), snapshot(**rolled_back), snapshot(name="old", state="rolled_back"), snapshot(check=True, **rolled_back),
        snapshot(name="undo-old", state="absent"), snapshot(check=True, name="undo-old", state="absent"))
    expect_predicted(will_roll, roll)
    expect((roll["origin"]["rollback"], roll["origin"]["rollback_target"]) == ("running", "old"), roll)
    expect_same(again, unconfirmed, checked)
    expect_failure(needed, "Busy", "the rollback of the origin one")
    expect_failure(needed_checked, "Busy", "the rollback of the origin one")
    bed.tell("copied 1")
    over, over_checked = bed.tasks(snapshot(**rolled_back), snapshot(check=True, **rolled_back))
    expect_same(over, over_checked)
    expect(over["origin"]["rollback"] == "none", over)
    once_more, taken = bed.tasks(snapshot(**rolled_back, undo_name="second"), snapshot(name="undo-old", state="rolled_back", undo_name="old",
                                                                                       confirm_rollback=True))
    expect_changed(once_more)
    expect(once_more["origin"]["rollback_undo"] == "second", once_more)
    expect_failure(taken, "Busy", "has a rollback to old")
    bed.tell("copied 1")
    (taken,) = bed.tasks(snapshot(name="undo-old", state="rolled_back", undo_name="old", confirm_rollback=True))
    expect_failure(taken, "Exists", 'another snapshot with that name', 'option "undo_name"')


def test_a_rollback_that_was_cancelled_or_undone_is_not_taken_for_made(bed):
    rolled_back = {"name": "old", "state": "rolled_back", "confirm_rollback": True}
    _, _, roll = bed.tasks(store(devices=["/dev/store"]), snapshot(name="old", origin="/dev/one"), snapshot(**rolled_back))
    expect_changed(roll)
    bed.cli("--yes", "cancel", "one")
    bed.tell("copied 1")
    left = bed.tasks(snapshot(**rolled_back), snapshot(check=True, **rolled_back))
    for result in left:
        expect_failure(result, "Exists", "undo-old", "cancelled or undone", 'option "undo_name"')
    (other_name,) = bed.tasks(snapshot(**rolled_back, undo_name="second"))
    expect_changed(other_name)
    bed.tell("copied 1")
    made, left, undone = bed.tasks(snapshot(**rolled_back, undo_name="second"), snapshot(**rolled_back),
                                   snapshot(name="second", state="rolled_back", confirm_rollback=True))
    expect_same(made)
    expect(made["origin"]["rolled_back_to"] == "old" and made["origin"]["rolled_back_undo"] == "second", made)
    expect_failure(left, "Exists", "cancelled or undone")
    expect_changed(undone)
    bed.tell("copied 1")
    (left,) = bed.tasks(snapshot(**rolled_back, undo_name="second"))
    expect_failure(left, "Exists", "cancelled or undone")


def test_the_rollback_of_an_origin_in_use_is_scheduled_if_that_is_wanted(bed):
    rolled_back = {"name": "old", "state": "rolled_back", "confirm_rollback": True}
    bed.tasks(store(devices=["/dev/store"]), snapshot(name="old", origin="/dev/one"))
    bed.tell("use /dev/mapper/cowsnap-one mounted on /srv")
    in_use, checked, scheduled, again, again_scheduled = bed.tasks(
        snapshot(**rolled_back), snapshot(check=True, **rolled_back, schedule=True), snapshot(**rolled_back, schedule=True),
        snapshot(**rolled_back, schedule=True), snapshot(**rolled_back))
    expect_failure(in_use, "Busy", "mounted on /srv", '"schedule: true"')
    expect_predicted(checked, scheduled)
    expect(scheduled["diff"]["after"]["rollback"] == "scheduled" and scheduled["origin"]["rollback"] == "scheduled", scheduled)
    expect_same(again, again_scheduled)


def test_the_rollback_of_an_origin_that_is_not_in_use_begins_although_it_may_be_scheduled(bed):
    rolled_back = {"name": "old", "state": "rolled_back", "confirm_rollback": True, "schedule": True}
    _, _, checked, done = bed.tasks(store(devices=["/dev/store"]), snapshot(name="old", origin="/dev/one"),
                                    snapshot(check=True, **rolled_back), snapshot(**rolled_back))
    expect_predicted(checked, done)
    expect(done["diff"]["after"]["rollback"] == "running", done)


def test_a_rollback_to_a_snapshot_that_is_open_can_be_scheduled_only(bed):
    rolled_back = {"name": "old", "state": "rolled_back", "confirm_rollback": True}
    bed.tasks(store(devices=["/dev/store"]), snapshot(name="old", origin="/dev/one"))
    bed.cli("activate", "old")
    bed.tell("open /dev/mapper/cowsnap-snap-old")
    refused, refused_checked, checked, done = bed.tasks(
        snapshot(**rolled_back), snapshot(check=True, **rolled_back), snapshot(check=True, **rolled_back, schedule=True),
        snapshot(**rolled_back, schedule=True))
    expect_failure(refused, "Busy", "old is open")
    expect_failure(refused_checked, "Busy", "old is open")
    expect_predicted(checked, done)
    expect(done["diff"]["after"]["rollback"] == "scheduled", done)


def test_a_stale_snapshot_is_rolled_back_to_only_if_forced(bed):
    rolled_back = {"name": "old", "state": "rolled_back", "confirm_rollback": True}
    bed.tasks(store(devices=["/dev/store"]), snapshot(name="old", origin="/dev/one"))
    bed.tell("unseen 1")
    stale, checked, forced = bed.tasks(snapshot(**rolled_back), snapshot(check=True, **rolled_back), snapshot(**rolled_back, force=True))
    expect_failure(stale, "Stale", "old is stale")
    expect_failure(checked, "Stale", "old is stale", "force: true")
    expect_changed(forced)


def test_without_daemon_or_program_the_message_says_what_to_do(bed):
    tasks = (store(devices=["/dev/store"]), origin(device="/dev/one"), snapshot(check=True, name="a", origin="/dev/one"))
    bed.tell("stop")
    for result in bed.tasks(*tasks):
        expect_failure(result, "NoDaemon", "systemctl start cowsnapd")
    bed.tell("start")
    without = ":".join(one for one in os.environ["PATH"].split(":") if not shutil.which("snapd-cli", path=one))
    for result in bed.tasks(*tasks, environment={"PATH": without}):
        expect_failure(result, "NotInstalled", "cowsnap-cli")


def test_one_who_may_not_is_told_so(bed):
    # In a namespace of an unprivileged user there is nobody else.
    if pathlib.Path("/proc/self/uid_map").read_text().split()[2] == "1":
        raise Skipped("only root can run something as somebody else")
    bed.tasks(store(devices=["/dev/store"]))
    before = bed.state()
    home = bed.controller.directory / "nobody"
    home.mkdir(exist_ok=True)
    os.chown(home, 65534, 65534)
    environment = {"HOME": str(home), "ANSIBLE_COLLECTIONS_PATH": str(bed.controller.collection.parents[2])}
    (refused,) = bed.tasks(snapshot(name="a", origin="/dev/one"), environment=environment,
                           prefix=["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"])
    expect_failure(refused, "NotAuthorized", "become: true")
    expect(bed.state() == before, "a refusal changed something")


def test_an_answer_that_is_not_understood_is_no_traceback(bed):
    program = bed.controller.directory / "bin" / "snapd-cli"
    for script, error, words in (('echo \'{"schema": 2, "stores": []}\'', "NotSupported", "version 2"),
                                 ("echo no JSON; echo because >&2; exit 1", "Failed", "because"),
                                 ("kill -SEGV $$", "Failed", "ended with"),
                                 ("echo '[]'", "Failed", "instead of an answer")):
        program.write_text(f"#!/bin/sh\n{script}\n")
        (result,) = bed.tasks(store(devices=["/dev/store"]))
        expect_failure(result, error, words)


def test_unknown_options_are_refused(bed):
    for result in bed.tasks(store(frobnicate=1), origin(device="/dev/one", frobnicate=1), snapshot(name="a", frobnicate=1),
                            snapshot(name="a", state="frobnicated"), snapshot(origin="/dev/one")):
        expect(result["outcome"] == "failed" and ("frobnicate" in result["msg"] or "name" in result["msg"]), result)
