// SPDX-License-Identifier: GPL-2.0-or-later
// snapd-cli against the daemon: verbs, exit codes, JSON.
#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

#include <cstdint>
#include <cstdlib>
#include <ctime>
#include <sstream>
#include <thread>

#include "bus_bed.h"
#include "cli_checks.h"
#include "cowsnap_dm.h"

using namespace cowsnap;
using namespace cowsnap::test;
using Catch::Contains;
using nlohmann::json;

TEST_CASE("the way through: store, create, list, show, set, delete, detach") {
    BusBed bed;
    checkFailed(runCli({"create", "/dev/one", "--name", "a"}), 3, "store create");
    checkDone(runCli({"store", "create", "/dev/store"}), "created the store main");
    checkDone(runCli({"create", "/dev/one", "--name", "a"}),
              "use /dev/mapper/cowsnap-one in place");
    checkDone(runCli({"create", "one", "--name", "b", "--writable", "--activate"}),
              "/dev/mapper/cowsnap-snap-b");
    checkDone(runCli({"create", "/dev/one"}), "created one-2");
    checkDone(runCli({"origin", "attach", "/dev/two", "--name", "data"}), "cowsnap-data");
    checkDone(runCli({"set", "create", "one=x", "data", "--name", "set"}),
              "created x of one (crash consistent)\ncreated set-data of data (crash consistent)");
    checkDone(runCli({"list", "-o", "name,origin", "--no-headings", "data"}), "set-data  data\n");
    checkDone(runCli({"list"}), "NAME");
    checkDone(runCli({"list", "--bytes", "-o", "name,used"}), "8192");
    checkDone(runCli({"list", "-o", "used"}), "8.0 KiB");
    checkDone(runCli({"show", "b"}), "/dev/mapper/cowsnap-snap-b");
    checkDone(runCli({"show", "/dev/mapper/cowsnap-one"}), "backing_device");
    checkDone(runCli({"show", "main"}), "low_water");
    checkDone(runCli({"store", "extend", "main", "/dev/spare"}), "extended the store main");
    checkDone(runCli({"store", "list", "-o", "devices", "--no-headings"}),
              "/dev/store,/dev/spare\n");
    checkDone(runCli({"deactivate", "b"}), "deactivated b");
    checkDone(runCli({"activate", "b", "--rw"}), "/dev/mapper/cowsnap-snap-b\n");
    checkDone(runCli({"delete", "a", "main/b", "x", "set-data", "--yes"}),
              "deleted a, b, x, set-data");
    checkFailed(runCli({"origin", "detach", "one", "--yes"}), 5, "delete them first");
    checkDone(runCli({"origin", "detach", "data", "--yes"}), "detached data");
    checkDone(runCli({"origin", "list", "-o", "name", "--no-headings"}), "one\n");
}

TEST_CASE("a stale snapshot says so wherever it is shown and used") {
    BusBed bed;
    checkDone(runCli({"store", "create", "/dev/store"}), "");
    checkDone(runCli({"create", "/dev/one", "--name", "a"}), "");
    checkDone(runCli({"create", "/dev/two", "--name", "other"}), "");
    const CliResult exact = runCli({"activate", "a"});
    checkDone(exact, "/dev/mapper/cowsnap-snap-a");
    CHECK(exact.errors.empty());
    checkDone(runCli({"deactivate", "a"}), "");
    bed.machine.writtenUnseen(1);
    checkDone(runCli({"create", "/dev/one", "--name", "b"}), "");
    checkDone(runCli({"list", "-o", "name,state", "--no-headings"}),
              "a      stale\nother  active\nb      active\n");
    CHECK(jsonOf(runCli({"show", "a", "--json"})).at("snapshot").at("state") == "stale");
    const CliResult stale = runCli({"activate", "a"});
    checkDone(stale, "/dev/mapper/cowsnap-snap-a");
    CHECK_THAT(stale.errors, Contains("the snapshot a is stale"));
    CHECK(runCli({"activate", "b"}).errors.empty());
    CHECK_THAT(runCli({"mount", "a", "/"}).errors, Contains("the snapshot a is stale"));
}

TEST_CASE("snapshots are renamed, held, released and described") {
    BusBed bed;
    checkDone(runCli({"store", "create", "/dev/store"}), "");
    checkDone(runCli({"create", "/dev/one", "--name", "a", "--tag", "x", "--tag", "y", "--hold",
                      "backup", "--expires", "2033-05-18 03:33"}),
              "created a");
    checkDone(runCli({"set", "create", "/dev/two=b", "--tag", "x", "--expires", "never"}), "");
    checkDone(runCli({"list", "-o", "name,tags,holds,expires", "--no-headings"}),
              "a  x,y  backup  2033-05-18 03:33:00\nb  x    -       -\n");
    checkFailed(runCli({"delete", "a", "--yes"}), 5,
                "a is held (backup): it can be deleted when all holds are released, with "
                "\"snapd-cli release backup a\"\n");
    checkDone(runCli({"hold", "audit", "a", "b"}), "held a, b (audit)");
    checkFailed(runCli({"hold", "audit", "b"}), 1, "already");
    checkFailed(runCli({"delete", "a", "--yes"}), 5,
                "with \"snapd-cli release audit a\" and \"snapd-cli release backup a\"\n");
    checkFailed(runCli({"delete", "a", "b", "--yes"}), 5, "held");
    checkDone(runCli({"release", "audit", "a", "b"}), "released a, b (audit)");
    checkFailed(runCli({"release", "audit", "a"}), 3, "it has: backup");
    checkDone(runCli({"rename", "a", "c"}), "renamed a to c");
    checkFailed(runCli({"rename", "a", "d"}), 3, "no snapshot \"a\"");
    checkFailed(runCli({"rename", "c", "b"}), 1, "named \"b\" already");
    checkDone(runCli({"modify", "c", "--untag", "x", "--tag", "z", "--description", "why",
                      "--expires", "never"}),
              "modified c");
    checkDone(runCli({"list", "-o", "tags,expires,description", "--no-headings"}), "y,z  -  why\n");
    checkFailed(runCli({"modify", "c", "--untag", "x"}), 3, "no tag \"x\"");
    checkFailed(runCli({"modify", "c"}), 2, "say what");
    checkDone(runCli({"modify", "c", "--description", ""}), "");
    checkDone(runCli({"list", "-o", "tags,description", "--no-headings"}), "y,z  -\n");
    checkFailed(runCli({"modify", "c", "--description", "x", "--tag", "a/b"}), 7,
                "changed before that: description");
    for (const char* const wrong :
         {"soon", "1", "d", "-1d", "1y", "2030-02-30", "2030-13-01", "2030-1-1 24:00", "1969-12-31",
          "2030-01-01x", "2030-01-01 1", "2030"})
        checkFailed(runCli({"modify", "c", "--expires", wrong}), 2, "is no time");
    checkDone(runCli({"modify", "c", "--expires", "5m"}), "");
    const auto soon =
        jsonOf(runCli({"show", "c", "--json"})).at("snapshot").at("expires").get<std::int64_t>();
    CHECK(std::abs(soon - (std::time(nullptr) + 5 * 60)) < 60);
    checkDone(runCli({"modify", "c", "--expires", "2w"}), "");
    const auto expires =
        jsonOf(runCli({"show", "c", "--json"})).at("snapshot").at("expires").get<std::int64_t>();
    CHECK(std::abs(expires - (std::time(nullptr) + 14 * 86400)) < 60);
    checkDone(runCli({"release", "backup", "c"}), "");
    const json renamed = jsonOf(runCli({"rename", "c", "e", "--json"}));
    CHECK(renamed.at("snapshot") == "e");
    const json held = jsonOf(runCli({"hold", "h", "e", "--json"}));
    CHECK(held.at("held") == json::parse("[\"e\"]"));
    CHECK(jsonOf(runCli({"show", "e", "--json"})).at("snapshot").at("holds") ==
          json::parse("[\"h\"]"));
}

TEST_CASE("what rules do not keep is pruned, after a look at it") {
    BusBed bed;
    checkDone(runCli({"store", "create", "/dev/store"}), "");
    checkDone(runCli({"create", "/dev/one", "--name", "a", "--tag", "auto"}), "");
    checkDone(runCli({"create", "one", "--name", "b", "--tag", "auto", "--tag", "x"}), "");
    checkDone(runCli({"create", "one", "--name", "c", "--hold", "h"}), "");
    checkDone(runCli({"create", "/dev/two", "--name", "d", "--expires", "1971-01-01"}), "");
    checkDone(runCli({"create", "one", "--name", "e", "--tag", "auto"}), "");
    checkDone(runCli({"prune", "--keep", "hourly=24,daily=7", "--dry-run", "-o",
                      "action,name,origin,reason", "--no-headings"}),
              "delete  a  one  no rule keeps it\ndelete  b  one  no rule keeps it\n"
              "keep    c  one  held\ndelete  d  two  expired\nkeep    e  one  hourly, daily\n");
    checkFailed(runCli({"prune", "--keep", "last=1"}), 4, "Delete a, b, d? There is no terminal");
    CHECK(bed.machine.snapshotIds().size() == 5);
    checkFailed(runCli({"prune", "nothing"}), 3, "no origin");
    checkFailed(runCli({"prune", "--keep", "minutely=1"}), 2, "there are: last, hourly");
    checkFailed(runCli({"prune", "--keep", "daily"}), 2, "write daily=7");
    checkFailed(runCli({"prune", "--keep", "daily=x"}), 2, "write daily=7");
    checkFailed(runCli({"prune", "--keep", "daily=1,daily=2"}), 2, "twice");
    checkFailed(runCli({"prune", "--keep", "daily=0", "--yes"}), 2, "keep nothing");
    checkDone(runCli({"prune", "one", "--yes"}), "nothing to delete");
    bed.machine.plan(Accident::Fail, 1);
    checkFailed(runCli({"prune", "--yes"}), 1, "not deleted: d");
    checkDone(runCli({"prune", "--yes"}), "deleted d\n");
    const json pruned = jsonOf(runCli({"prune", "/dev/one", "--keep", "last=1", "--tag", "auto",
                                       "--tag", "x", "--yes", "--json"}));
    CHECK(pruned.at("pruned").size() == 1);
    CHECK(pruned.at("pruned").at(0).at("name") == "b");
    CHECK(pruned.at("pruned").at(0).at("reason") == "last");
    checkDone(runCli({"prune", "one", "--keep", "last=1", "--tag", "auto", "--yes"}),
              "deleted a, b\n");
    checkDone(runCli({"list", "-o", "name", "--no-headings"}), "c\ne\n");
}

TEST_CASE("a store that cannot be pruned is told, and it was done in part") {
    BusBed bed;
    checkDone(runCli({"store", "create", "/dev/store", "--name", "first"}), "");
    checkDone(runCli({"store", "create", "/dev/spare", "--name", "second"}), "");
    for (const char* const name : {"a", "b"})
        checkDone(runCli({"create", "/dev/one", "--store", "first", "--name", name}), "");
    checkDone(runCli({"origin", "attach", "/dev/two", "--store", "second"}), "");
    bed.stopDaemon();
    bed.machine.reboot();
    bed.machine.resizeDisk("/dev/spare", kStoreSectors / 2);
    bed.startDaemon();
    const CliResult looked = runCli({"prune", "--keep", "last=1", "--dry-run"});
    checkFailed(looked, 7, "not deleted: second (the store cannot be used: ");
    CHECK_THAT(looked.output, Contains("delete"));
    const CliResult said = runCli({"prune", "--keep", "last=1", "--dry-run", "--json"});
    CHECK(said.code == 7);
    CHECK(jsonOf(said).at("error").at("name") == "PartlyDone");
    CHECK(jsonOf(said).at("pruned").size() == 3);
    const CliResult pruned = runCli({"prune", "--keep", "last=1", "--yes", "--json"});
    CHECK(pruned.code == 7);
    CHECK(jsonOf(pruned).at("error").at("name") == "PartlyDone");
    CHECK_THAT(pruned.output, Contains("not deleted: second") && Contains("deleted: a"));
    CHECK(jsonOf(pruned).at("pruned").size() == 3);
    const CliResult listed = runCli({"list", "-o", "name", "--no-headings"});
    checkDone(listed, "b\n");
    CHECK_THAT(listed.errors, Contains("the store second cannot be used"));
    CHECK(runCli({"list", "--store", "first"}).errors.empty());
    CHECK_THAT(runCli({"store", "list"}).errors, Contains("the store second cannot be used"));
    CHECK(runCli({"store", "check", "second"}).code == 1);
    // Also for who waits later.
    const json begun =
        jsonOf(runCli({"prune", "--keep", "last=1", "--yes", "--no-wait", "--json"}));
    checkFailed(runCli({"job", "wait", std::to_string(begun.at("job").get<unsigned>())}), 7,
                "not deleted: second (");
    // One that was not asked about is no part of it.
    const CliResult other = runCli({"prune", "one", "--keep", "last=1", "--yes"});
    checkDone(other, "nothing to delete");
    CHECK(other.errors.empty());
}

TEST_CASE("exit codes tell what went wrong") {
    BusBed bed;
    checkDone(runCli({"store", "create", "/dev/store"}), "");
    checkDone(runCli({"create", "/dev/one", "--name", "a"}), "");
    checkFailed(runCli({}), 2, "subcommand");
    checkFailed(runCli({"frobnicate"}), 2, "no command \"frobnicate\"; there are: activate, ");
    checkFailed(
        runCli({"store", "lst"}), 2,
        "no command \"store lst\"; there are: create, open, extend, modify, close, check, list");
    checkFailed(runCli({"--progress", "none", "job", "--bytes", "lst"}), 2,
                "no command \"job lst\"; there are: list, show, wait, cancel");
    checkFailed(runCli({"set", "crate", "one"}), 2, "no command \"set crate\"; there are: create");
    checkFailed(runCli({"origin", "atach", "/dev/one"}), 2, "no command \"origin atach\"");
    checkFailed(runCli({"origin"}), 2, "subcommand is required");
    checkFailed(runCli({"list", "--frobnicate"}), 2, "");
    checkFailed(runCli({"list", "-o", "odd"}), 2, "there are: name");
    checkFailed(runCli({"create", "one", "--name", "a/b"}), 2, "'/'");
    checkFailed(runCli({"create", "one", "--name", "a"}), 1, "named \"a\" already");
    checkFailed(runCli({"store", "create", "/dev/spare"}), 1, "another name with --name");
    checkFailed(runCli({"set", "create", "one"}), 2, "--name");
    checkFailed(runCli({"create", "nothing"}), 3, "no origin");
    checkFailed(runCli({"delete", "nothing", "--yes"}), 3, "no snapshot");
    checkFailed(runCli({"show", "nothing"}), 3, "no snapshot, origin or store");
    checkFailed(runCli({"list", "--store", "nothing"}), 3, "no store");
    checkFailed(runCli({"mount", "a", "/nonexistent"}), 3, "no directory");
    checkFailed(runCli({"umount", "a"}), 3, "not active");
    checkFailed(runCli({"activate", "a", "--rw"}), 2, "read-only");
    checkFailed(runCli({"delete", "a"}), 4, "--yes");
    checkFailed(runCli({"origin", "detach", "one"}), 4, "--yes");
    bed.machine.setUser("/dev/two", "mounted on /two");
    checkFailed(runCli({"origin", "attach", "/dev/two", "--method", "stack"}), 5,
                "mounted on /two");
    checkFailed(runCli({"origin", "attach", "/dev/two", "--method", "glue"}), 2, "--method");
    bed.createStore("/dev/spare", "other");
    checkFailed(runCli({"origin", "attach", "/dev/two"}), 2, "(main, other)");
    checkFailed(runCli({"create", "/dev/two", "--name", "b"}), 2, "(main, other)");
    CHECK(bed.machine.snapshotIds().size() == 1);
    CHECK(runCli({"--help"}).code == 0);
    CHECK(runCli({"--version"}).code == 0);
    bed.stopDaemon();
    checkFailed(runCli({"list"}), 6, "cowsnapd does not run");
    ::setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nonexistent", 1);
    checkFailed(runCli({"list"}), 6, "bus");
}

TEST_CASE("a device in use goes on as it is, and its snapshot is file-system consistent") {
    BusBed bed;
    bed.createStore();
    bed.machine.setUser("/dev/one", "mounted on /home");
    checkDone(runCli({"create", "/dev/one", "--name", "first"}),
              "attached /dev/one as one, interposed: /dev/one goes on as it is\n"
              "created first of one (file-system consistent)\n");
    checkDone(runCli({"create", "/dev/one", "--name", "second"}), "created second of one");
    checkDone(runCli({"show", "first", "-o", "consistency", "--no-headings"}), "file-system\n");
    checkDone(runCli({"origin", "attach", "/dev/two", "--method", "interpose"}),
              "/dev/two goes on as it is");
    checkDone(runCli({"origin", "list", "-o", "name,method,device", "--no-headings"}),
              "one  interposed  /dev/one\ntwo  interposed  /dev/two\n");
    checkDone(runCli({"delete", "first", "second", "--yes"}), "");
    checkDone(runCli({"origin", "detach", "/dev/one", "--yes"}), "detached one");
}

TEST_CASE("a boot policy is set and shown, and people are told of the initramfs") {
    BusBed bed;
    bed.createStore();
    checkDone(runCli({"origin", "attach", "/dev/one"}), "attached");
    const CliResult closed =
        runCli({"origin", "attach", "/dev/two", "--boot-policy", "fail-closed"});
    checkDone(closed, "attached");
    CHECK_THAT(closed.errors, Contains("update-initramfs -u -k all"));
    const auto shown = [] {
        return runCli({"origin", "list", "-o", "name,boot_policy", "--no-headings"}).output;
    };
    CHECK(shown() == "one  fail-open\ntwo  fail-closed\n");
    const CliResult changed = runCli({"origin", "set-boot-policy", "/dev/one", "fail-closed"});
    checkDone(changed, "one is fail-closed\n");
    CHECK_THAT(changed.errors, Contains("update-initramfs -u -k all"));
    CHECK(jsonOf(runCli({"origin", "set-boot-policy", "two", "fail-open", "--json"}))
              .at("boot_policy") == "fail-open");
    CHECK(shown() == "one  fail-closed\ntwo  fail-open\n");
    CHECK(jsonOf(runCli({"show", "one", "--json"})).at("origin").at("boot_policy") ==
          "fail-closed");
    checkFailed(runCli({"origin", "set-boot-policy", "one", "fail-safe"}), 2, "policy");
    checkFailed(runCli({"origin", "set-boot-policy", "nothing", "fail-open"}), 3, "no origin");
    checkFailed(runCli({"origin", "attach", "/dev/one", "--boot-policy", "x"}), 2, "boot-policy");
    constexpr uid_t nobody = 65534;
    checkFailed(runCli({"origin", "set-boot-policy", "one", "fail-open"}, nobody), 4, "root");
    CHECK(shown() == "one  fail-closed\ntwo  fail-open\n");
    CHECK_THAT(runCli({"origin", "detach", "one", "--yes"}).errors, Contains("initramfs"));
    CHECK(runCli({"origin", "detach", "two", "--yes"}).errors.empty());
}

TEST_CASE("what was attached for a snapshot that cannot be created is detached again") {
    BusBed bed;
    const std::string store = bed.createStore();
    checkDone(runCli({"create", "/dev/one", "--name", "a"}), "");
    bed.machine.addDisk("/dev/three", kOriginSectors);
    bed.machine.addDisk("/dev/frozen", kOriginSectors);
    bed.machine.setReadOnly("/dev/frozen");
    checkFailed(runCli({"create", "/dev/two", "--name", "a"}), 1, "named \"a\" already");
    CHECK(bed.machine.originIds().size() == 1);
    checkFailed(runCli({"set", "create", "/dev/two", "/dev/three=a", "--name", "x"}), 1, "already");
    checkFailed(runCli({"set", "create", "/dev/two", "/dev/frozen", "--name", "x"}), 2,
                "read-only");
    checkFailed(runCli({"set", "create", "/dev/two=x", "/dev/three"}), 2, "--name");
    CHECK(bed.machine.originIds().size() == 1);
    CHECK_FALSE(bed.machine.nameTaken("cowsnap-two"));
    // One that the store knew before stays attached.
    bed.attach("/dev/two", store);
    bed.machine.remove("cowsnap-two", Visibility::Visible);
    checkDone(runCli({"origin", "list"}), "");
    checkFailed(runCli({"create", "/dev/two", "--name", "a"}), 7,
                "attached, but without a snapshot: two");
    CHECK(bed.machine.nameTaken("cowsnap-two"));
}

TEST_CASE("the store that create names is the one of its origin, or it is refused") {
    BusBed bed;
    bed.attach("/dev/one", bed.createStore());
    const std::string other = bed.createStore("/dev/spare", "other");
    for (const char* const origin : {"one", "/dev/one"}) {
        checkFailed(runCli({"create", origin, "--store", "other"}), 2, "of the store main");
        checkFailed(runCli({"create", origin, "--store", "mian"}), 3, "no store \"mian\"");
        CHECK(runCli({"create", origin, "--store", "main", "--name", origin[0] == '/' ? "b" : "a"})
                  .code == 0);
    }
    REQUIRE(runCli({"origin", "attach", "/dev/two", "--store", "other", "--name", "one"}).code ==
            0);
    checkFailed(runCli({"create", "one"}), 2, "several origins");
    checkDone(runCli({"create", "one", "--store", "other", "--name", "c"}), "created c of one");
    CHECK(runCli({"list", "--store", "other", "-o", "name", "--no-headings"}).output == "c\n");
}

TEST_CASE("a rollback and its end, on the command line") {
    BusBed bed;
    checkDone(runCli({"store", "create", "/dev/store"}), "created");
    checkDone(runCli({"create", "/dev/one", "--name", "old"}), "created old");
    bed.machine.setUser("/dev/mapper/cowsnap-one", "mounted on /one");
    checkFailed(runCli({"rollback", "old"}), 4, "--yes");
    checkFailed(runCli({"rollback", "old", "--yes"}), 5, "mounted on /one");
    checkDone(runCli({"rollback", "old", "--yes", "--schedule"}),
              "when it is attached the next time");
    checkDone(runCli({"show", "one"}), "scheduled");
    checkDone(runCli({"cancel", "one"}), "not scheduled any more");
    checkFailed(runCli({"cancel", "one", "--yes"}), 3, "no rollback");
    checkFailed(runCli({"cancel", "one"}), 3, "no rollback");
    bed.machine.setUser("/dev/mapper/cowsnap-one", "");
    const json done = jsonOf(runCli({"rollback", "old", "--yes", "--undo-name", "undo", "--json"}));
    CHECK(done.at("undo") == "undo");
    CHECK(done.at("state") == "running");
    const json shown = jsonOf(runCli({"show", "one", "--json"})).at("origin");
    CHECK(shown.at("rollback_target") == "old");
    CHECK(shown.at("rollback_undo") == "undo");
    CHECK(shown.at("rollback_done_bytes") == 32 * 4096);
    CHECK(shown.at("rolled_back_to") == "");
    checkFailed(runCli({"delete", "undo", "--yes"}), 5, "rollback");
    checkFailed(runCli({"cancel", "one"}), 4, "--yes");
    checkDone(runCli({"cancel", "one", "--yes"}), "goes back to what was before");
}

TEST_CASE("jobs are listed, shown, waited for and cancelled") {
    BusBed bed;
    const std::string origin = bed.attach("/dev/one", bed.createStore());
    checkDone(
        runCli({"job", "list", "-o", "job,operation,subject,state,progress", "--no-headings"}),
        "1  create-store  main      done  100 %\n"
        "2  attach        /dev/one  done  100 %\n");
    bed.machine.hold(COWSNAP_MESSAGE_CREATE);
    const auto slow = bed.beginCreate(origin, "slow");
    REQUIRE(bed.machine.waitUntilHeld(1));
    const auto queued = bed.beginCreate(origin, "queued");
    const auto jobs = jsonOf(runCli({"job", "list", "--json"})).at("jobs");
    REQUIRE(jobs.size() == 4);
    CHECK(jobs[2].at("state") == "running");
    CHECK(jobs[2].at("progress").is_null());
    CHECK(jobs[3].at("job") == 4);
    CHECK(jobs[3].at("can_cancel") == true);
    checkDone(runCli({"job", "show", "3", "-o", "progress", "--no-headings"}), "-\n");
    checkFailed(runCli({"job", "cancel", "3"}), 5, "has begun");
    checkDone(runCli({"job", "cancel", "4"}), "cancelled the job 4 (create)");
    bed.finish(*queued);
    checkFailed(runCli({"job", "wait", "4"}), 1, "cancelled before it began");
    checkFailed(runCli({"job", "cancel", "4"}), 1, "over already");
    checkFailed(runCli({"job", "show", "44"}), 3, "job list");
    std::thread later([&] {
        std::this_thread::sleep_for(std::chrono::milliseconds(300));
        bed.machine.letGo();
    });
    CHECK(jsonOf(runCli({"job", "wait", "3", "--json"})).at("job").at("state") == "done");
    later.join();
    bed.finish(*slow);
    constexpr uid_t nobody = 65534;
    checkDone(runCli({"job", "list"}, nobody), "PROGRESS");
    checkFailed(runCli({"job", "cancel", "3"}, nobody), 4, "only root");
}

TEST_CASE("where no daemon runs the way to start it is the one of the machine") {
    BusBed bed;
    bed.stopDaemon();
    // Each in a mount namespace of its own, with systemd's mark or without.
    const auto where = [](const std::string& mark) {
        return runProgram(
            {"unshare", "-m", "sh", "-c",
             "mount -t tmpfs none /run && mkdir -p /run/" + mark + " && exec \"$0\" list",
             COWSNAP_CLI});
    };
    if (runProgram({"unshare", "-m", "true"}).code != 0) {
        WARN("no mount namespaces: cannot look like another machine");
        return;
    }
    checkFailed(where("systemd/system"), 6, "start it, as root: \"systemctl start cowsnapd\"");
    checkFailed(where("systemd/system"), 6, "\"journalctl -u cowsnapd\" tells why");
    checkFailed(where("else"), 6, "start it, as root: \"cowsnapd &\"");
}

TEST_CASE("umount of what is active and not mounted takes its device away") {
    BusBed bed;
    bed.createStore();
    checkDone(runCli({"create", "/dev/one", "--name", "a", "--activate"}), "");
    bed.machine.setOpen("/dev/mapper/cowsnap-snap-a", true);
    checkFailed(runCli({"umount", "a"}), 5, "/dev/mapper/cowsnap-snap-a");
    CHECK(bed.machine.nameTaken("cowsnap-snap-a"));
    bed.machine.setOpen("/dev/mapper/cowsnap-snap-a", false);
    checkDone(runCli({"umount", "a"}), "a was not mounted; its device is removed");
    CHECK_FALSE(bed.machine.nameTaken("cowsnap-snap-a"));
}

TEST_CASE("a store of a name that is taken: the message names the option") {
    BusBed bed;
    checkDone(runCli({"store", "create", "/dev/store"}), "created");
    checkFailed(runCli({"store", "create", "/dev/spare"}), 1,
                "a store named \"main\" already: choose another name with --name");
    checkDone(runCli({"store", "create", "/dev/spare", "--name", "other"}), "created");
}
