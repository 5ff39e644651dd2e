// SPDX-License-Identifier: GPL-2.0-or-later
// The option dry_run: whatever a job checks is checked, and nothing changes.
#include <catch2/catch.hpp>

#include <set>

#include "bus/permissions.h"
#include "bus_bed.h"
#include "cowsnap_dm.h"
#include "model/published.h"

using namespace cowsnap;
using namespace cowsnap::test;
using Catch::Contains;

namespace {

using MethodName = std::pair<std::string, std::string>;
using Append = std::function<void(Message&)>;

Append values(std::vector<Value> all) {
    return [all = std::move(all)](Message& message) {
        for (const auto& value : all)
            message.append(value);
    };
}

/// A store with an origin and two snapshots, and what a call of each kind needs.
struct DryRunBed : BusBed {
    std::string store = createStore();
    std::string origin = attach("/dev/one", store);
    std::string bare = attach("/dev/two", store);
    std::string snapshot = createSnapshots({{{origin}, "a"}}).front().path;

    void prepare(const MethodName& method) {
        const auto& [interface, member] = method;
        if (member == "OpenStore") {
            call(snapshot, kSnapshotInterface, "Delete", nullptr);
            call(origin, kOriginInterface, "Detach", nullptr);
        }
        if (member == "OpenStore" || member == "Close") {
            if (member == "Close") {
                call(snapshot, kSnapshotInterface, "Delete", nullptr);
                call(origin, kOriginInterface, "Detach", nullptr);
            }
            call(bare, kOriginInterface, "Detach", nullptr);
        }
        if (member == "OpenStore")
            call(store, kStoreInterface, "Close", nullptr);
        if (member == "Attach")
            call(bare, kOriginInterface, "Detach", nullptr);
        if (member == "ReleaseSnapshots" || member == "Release")
            call(snapshot, kSnapshotInterface, "Hold", values({std::string("h")}));
        if (member == "Deactivate")
            call(snapshot, kSnapshotInterface, "Activate", nullptr);
        if (member == "CancelRollback")
            call(snapshot, kSnapshotInterface, "Rollback", nullptr);
        if (member == "Prune")
            call(snapshot, kSnapshotInterface, "SetExpiry", values({std::uint64_t{1}}));
    }

    std::string pathOf(const std::string& interface, const std::string& member) const {
        if (interface == kStoreInterface)
            return store;
        if (interface == kOriginInterface)
            return member == "Detach" ? bare : origin;
        return interface == kSnapshotInterface ? snapshot : std::string(kRootPath);
    }

    Append argumentsOf(const MethodName& method) const {
        const std::vector<ObjectPath> snapshots{{snapshot}};
        const std::vector<std::string> spare{"/dev/spare"};
        const std::string text = "h";
        const std::map<std::string, Append> known{
            {"CreateStore", values({spare, std::string("new")})},
            {"OpenStore", values({std::vector<std::string>{"/dev/store"}})},
            {"Attach", values({std::string("/dev/two"), ObjectPath{store}})},
            {"CreateSnapshots",
             [this](Message& message) {
                 message.append(
                     std::vector<std::pair<ObjectPath, std::string>>{{ObjectPath{origin}, "b"}});
             }},
            {"DeleteSnapshots", values({snapshots})},
            {"HoldSnapshots", values({snapshots, text})},
            {"ReleaseSnapshots", values({snapshots, text})},
            {"Prune", values({std::vector<ObjectPath>{}})},
            {"Extend", values({spare})},
            {"Rename", values({text})},
            {"SetDescription", values({text})},
            {"SetTags", values({std::vector<std::string>{text}})},
            {"ChangeTags", values({std::vector<std::string>{text}, std::vector<std::string>{}})},
            {"SetExpiry", values({std::uint64_t{5000000000}})},
            {"Hold", values({text})},
            {"Release", values({text})},
            {"SetBootPolicy", values({std::string("fail-closed")})},
        };
        const auto found = known.find(method.second);
        return found == known.end() ? Append() : found->second;
    }

    Dictionary optionsOf(const MethodName& method) const {
        if (method.second == "SetAutoextend")
            return {{"spares", std::vector<std::string>{"/dev/spare"}}};
        return {};
    }

    CallFailure tryCall(const MethodName& method, bool dry_run) {
        Dictionary options = optionsOf(method);
        if (dry_run)
            options["dry_run"] = true;
        return failureOfCall(pathOf(method.first, method.second), method.first, method.second,
                             argumentsOf(method), options);
    }

    std::string registry() const {
        std::ifstream file(directory.path() / "state" / "stores.json");
        return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
    }
};

const std::set<std::string> kNoJobs{"GetMetrics",    "Refresh",     "ListJobs",
                                    "ListSnapshots", "Reload",      "ListStoreCandidates",
                                    "Check",         "SetLogLevel", "Cancel"};

}  // namespace

TEST_CASE("a dry run of each job checks, and changes nothing; done in earnest it does") {
    for (const auto& [method, action] : neededActions()) {
        if (kNoJobs.contains(method.second))
            continue;
        INFO(method.first << "." << method.second);
        DryRunBed bed;
        bed.prepare(method);
        const auto jobs = bed.jobs();
        const auto registry = bed.registry();
        bed.forgetSignals();
        // The first step that changes something would fail.
        bed.machine.plan(Accident::Fail, 0);
        const CallFailure failure = bed.tryCall(method, true);
        CHECK(failure.message == "");
        CHECK_FALSE(bed.machine.accidentHappened());
        CHECK(bed.registry() == registry);
        CHECK(bed.jobs() == jobs);
        // Prune is the only one that goes on where a store fails.
        CHECK(bed.tryCall(method, false).name.empty() == (method.second == "Prune"));
        CHECK(bed.machine.accidentHappened());
        CHECK(bed.jobs().size() == jobs.size() + 1);
    }
}

TEST_CASE("a call that is no job has no dry run") {
    DryRunBed bed;
    for (const auto& [method, action] : neededActions()) {
        if (!kNoJobs.contains(method.second) || method.second == "Cancel")
            continue;
        INFO(method.second);
        Append append;
        if (method.second == "SetLogLevel")
            append = values({std::string("info")});
        if (method.second == "ListStoreCandidates")
            append = values({std::string("/dev/one")});
        CHECK_THAT(bed.failureOfCall(bed.pathOf(method.first, method.second), method.first,
                                     method.second, append, {{"dry_run", true}})
                       .message,
                   Contains("is for jobs"));
    }
}

TEST_CASE("a dry run gives the error that the call itself would give") {
    DryRunBed bed;
    const Dictionary dry{{"dry_run", true}};
    const auto create = [&](const std::string& name) {
        return bed.failureOfCall(
            kRootPath, kManagerInterface, "CreateSnapshots",
            [&](Message& message) {
                message.append(
                    std::vector<std::pair<ObjectPath, std::string>>{{{bed.origin}, name}});
            },
            dry);
    };
    CHECK_THAT(create("a").name, Contains("Exists"));
    CHECK_THAT(create("a/b").name, Contains("InvalidArgument"));
    bed.call(bed.snapshot, kSnapshotInterface, "Hold", values({std::string("h")}));
    CHECK_THAT(bed.failureOfCall(bed.snapshot, kSnapshotInterface, "Delete", nullptr, dry).name,
               Contains("Held"));
    bed.machine.setUser("/dev/mapper/cowsnap-one", "mounted on /one");
    CHECK_THAT(
        bed.failureOfCall(bed.snapshot, kSnapshotInterface, "Rollback", nullptr, dry).message,
        Contains("mounted on /one"));
    CHECK_THAT(bed.failureOfCall(bed.origin, kOriginInterface, "Detach", nullptr, dry).message,
               Contains("delete them first"));
    CHECK_THAT(bed.failureOfCall(bed.snapshot, kSnapshotInterface, "Delete", nullptr,
                                 {{"dry_run", std::string("yes")}})
                   .message,
               Contains("has the type s"));
    CHECK_THAT(bed.failureOfCall(bed.snapshot, kSnapshotInterface, "Delete", nullptr,
                                 {{"dry_run", true}, {"background", true}})
                   .message,
               Contains("\"dry_run\" nothing is done") && Contains("leave \"background\" out"));
}

TEST_CASE("a dry run is no answer to the request with its id") {
    DryRunBed bed;
    const std::string id = "one";
    CHECK(bed.createSnapshots({{{bed.origin}, "b"}}, {{"request-id", id}, {"dry_run", true}})
              .empty());
    CHECK(bed.createSnapshots({{{bed.origin}, "b"}}, {{"request-id", id}}).size() == 1);
}

TEST_CASE("snapd-cli --dry-run says what the daemon says, asks nothing and changes nothing") {
    DryRunBed bed;
    bed.machine.addDisk("/dev/three", kOriginSectors);
    const auto check = [&](const std::vector<std::string>& words, int code,
                           const std::string& said) {
        std::vector<std::string> dry = words;
        dry.emplace_back("--dry-run");
        const CliResult result = runCli(dry);
        INFO(words[0] << ": " << result.output << result.errors);
        CHECK(result.code == code);
        CHECK_THAT(result.output + result.errors, Contains(said));
    };
    bed.machine.plan(Accident::Fail, 0);
    check({"delete", "a"}, 0, "nothing was changed: it can be done");
    check({"delete", "nothing"}, 3, "no snapshot");
    check({"create", "one", "--name", "b"}, 0, "it can be done");
    check({"create", "one", "--name", "a"}, 1, "named \"a\" already");
    check({"create", "/dev/three", "--name", "b"}, 0, "its first step (Attach) can be done");
    check({"set", "create", "one=x", "two=y"}, 0, "it can be done");
    check({"rename", "a", "b"}, 0, "it can be done");
    check({"modify", "a", "--tag", "x"}, 0, "can be done");
    check({"hold", "h", "a"}, 0, "it can be done");
    check({"activate", "a"}, 0, "it can be done");
    check({"mount", "a", "/"}, 0, "its first step (Activate)");
    check({"umount", "a"}, 3, "not active");
    check({"job", "cancel", "1"}, 1, "the job 1 is over already: done");
    check({"origin", "detach", "two"}, 0, "it can be done");
    check({"origin", "detach", "one"}, 5, "delete them first");
    check({"store", "extend", "main", "/dev/spare"}, 0, "it can be done");
    check({"store", "close", "main"}, 5, "detach them first");
    check({"rollback", "a"}, 0, "it can be done");
    check({"delete", "a", "--json"}, 0, "\"dry_run\": true");
    bed.machine.setUser("/dev/mapper/cowsnap-one", "mounted on /one");
    check({"rollback", "a"}, 5, "mounted on /one");
    check({"rollback", "a", "--schedule"}, 0, "it can be done");
    CHECK_FALSE(bed.machine.accidentHappened());
    check({"list"}, 0, "one");
    bed.machine.planNothing();
    REQUIRE(runCli({"activate", "a"}).code == 0);
    check({"umount", "a"}, 0, "it can be done");
    bed.machine.setOpen("/dev/mapper/cowsnap-snap-a", true);
    check({"umount", "a"}, 5, "/dev/mapper/cowsnap-snap-a");
    CHECK(bed.machine.nameTaken("cowsnap-snap-a"));
}

TEST_CASE("snapd-cli job cancel --dry-run says whether a job can be cancelled, and lets it go on") {
    DryRunBed bed;
    bed.machine.hold(COWSNAP_MESSAGE_CREATE);
    const auto held = bed.beginCreate(bed.origin, "x");
    REQUIRE(bed.machine.waitUntilHeld(1));
    const auto queued = bed.beginCreate(bed.origin, "y");
    const auto jobs = bed.jobs();  // asked after the calls
    const auto check = [&](const ObjectPath& job, int code, const std::string& said) {
        const std::string number = job.path.substr(job.path.rfind('/') + 1);
        const CliResult result = runCli({"job", "cancel", number, "--dry-run"});
        INFO(result.output << result.errors);
        CHECK(result.code == code);
        CHECK_THAT(result.output + result.errors, Contains(said));
    };
    check(jobs.at(jobs.size() - 2), 5, "cannot be cancelled any more");
    check(jobs.back(), 0, "nothing was changed: it can be done");
    bed.machine.letGo();
    bed.finish(*held);
    bed.finish(*queued);
    CHECK(queued->failure.name.empty());
    check(jobs.back(), 1, "over already: done");
}
