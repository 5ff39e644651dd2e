# SPDX-License-Identifier: GPL-2.0-or-later
"""The examples: those of the README, of the modules' documentation and the playbook are run as they stand, but with the bed's devices."""

import json
import re
import shlex

import yaml

from ansible_bed import COLLECTION, documented, examples, expect, expect_changed, expect_same, origin, snapshot, store


def on_bed(text, **devices):
    """The text with other devices."""
    for word, other in devices.values():
        expect(word in text, f"the example has no {word}:", text)
        text = text.replace(word, other)
    return text


def without_root(bed):
    """What nobody who reads an example would say: there are no packages and no systemd, and the bed is root's already."""
    return ["-e", json.dumps({**bed.role_variables(), "ansible_become": False})]


def expect_done(results):
    expect(not [result for result in results if result["outcome"] == "failed"], results)


def changed(results):
    return [result["task"].split(" : ")[-1] for result in results if result.get("changed")]


def test_the_examples_of_the_readme_make_a_snapshot_and_go_back_to_it(bed):
    bed.tell("use /dev/one mounted on /srv")
    (play,) = yaml.safe_load(on_bed(documented("role"), origin=("/dev/sdb1", "/dev/one"), store=("/dev/sdc", "/dev/store")))
    results = bed.controller.play(play, bed.environment, options=without_root(bed))
    expect_done(results)
    expect([one["name"] for one in bed.cli("list")["snapshots"]] == ["before-upgrade"], bed.state())
    again = bed.controller.play(play, bed.environment, options=without_root(bed))
    expect_done(again)
    expect(not changed(again), again)
    bed.tell("free /dev/one")
    (task,) = yaml.safe_load(documented("rollback"))
    roll, roll_again = bed.tasks(task, task)
    expect_changed(roll)
    expect((roll["origin"]["rollback_target"], roll["origin"]["rollback_undo"]) == ("before-upgrade", "undo-before-upgrade"), roll)
    expect_same(roll_again)


def test_the_examples_of_the_stores_do_what_they_say(bed):
    text = on_bed(examples("cowsnap_store"), first=("/dev/disk/by-id/nvme-example_1", "/dev/store"),
                  second=("/dev/disk/by-id/nvme-example_2", "/dev/spare"), third=("/dev/disk/by-id/nvme-example_3", "/dev/two"))
    make, extend, spares, close = bed.tasks(*yaml.safe_load(text))
    expect_changed(make, extend, spares, close)
    expect((extend["store"]["devices"], spares["store"]["spares"]) == (["/dev/store", "/dev/spare"], ["/dev/two"]), extend, spares)
    expect(not bed.cli("store", "list")["stores"], bed.state())


def test_the_examples_of_the_origins_do_what_they_say(bed):
    bed.tell("use /dev/one mounted on /srv")
    bed.tasks(store(devices=["/dev/store"]))
    attach, policy, detach = bed.tasks(*yaml.safe_load(on_bed(examples("cowsnap_origin"), device=("/dev/sdb1", "/dev/one"))))
    expect_changed(attach, policy, detach)
    expect((attach["origin"]["method"], policy["origin"]["boot_policy"]) == ("interposed", "fail-closed"), attach, policy)
    expect(not bed.cli("origin", "list")["origins"], bed.state())


def test_the_examples_of_the_snapshots_do_what_they_say(bed):
    bed.tasks(store(devices=["/dev/store"]), origin(device="/dev/one"))
    make, roll, delete = yaml.safe_load(on_bed(examples("cowsnap_snapshot"), device=("/dev/sdb1", "/dev/one")))
    made, rolled = bed.tasks(make, roll)
    expect_changed(made, rolled)
    expect(made["snapshot"]["tags"] == ["upgrade"] and rolled["origin"]["rollback"] == "running", made, rolled)
    bed.tell("copied 1")
    held, deleted = bed.tasks(snapshot(name="before-upgrade", holds=["backup"]), delete)
    expect_changed(held, deleted)
    expect([one["name"] for one in bed.cli("list")["snapshots"]] == ["undo-before-upgrade"], bed.state())


def test_the_playbook_is_run_as_it_says_itself(bed):
    text = (COLLECTION / "playbooks" / "example.yml").read_text()
    command = re.search(r"^#   (ansible-playbook .* -c local .*)$", text, re.MULTILINE)[1]
    words = shlex.split(on_bed(command, store=("/dev/vdb", "/dev/store"), origin=("/dev/vdc", "/dev/one"))) + without_root(bed)
    results = bed.controller.results(words, bed.environment)
    expect_done(results)
    expect(set(changed(results)) >= {"Configure cowsnapd", "Have the stores", "Have the origins", "Have the snapshots"}, changed(results))
    again = bed.controller.results(words, bed.environment)
    expect_done(again)
    expect(not changed(again), again)
    back = shlex.split(re.search(r"^# To roll back, for one run: (-e .*)$", text, re.MULTILINE)[1])
    expect(changed(bed.controller.results(words + back, bed.environment)) == ["Roll an origin back"], bed.state())
