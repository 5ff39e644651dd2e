// SPDX-License-Identifier: GPL-2.0-or-later
// Jobs on the bus: shown, in the background, cancelled, and not stopped by a client that goes away.
#include <unistd.h>

#include <catch2/catch.hpp>

#include <algorithm>
#include <limits>
#include <thread>

#include "bus_bed.h"
#include "cowsnap_dm.h"
#include "recorded_log.h"

using namespace cowsnap;
using namespace cowsnap::test;
using Catch::Contains;

namespace {

const std::string kErrors = "org.cowsnap1.Error.";

std::string textOf(const Dictionary& properties, const std::string& name) {
    return std::get<std::string>(properties.at(name));
}

std::uint64_t numberOf(const Dictionary& properties, const std::string& name) {
    return std::get<std::uint64_t>(properties.at(name));
}

/// A store with an origin.
struct JobBed : BusBed {
    std::string store = createStore();
    std::string origin = attach("/dev/one", store);

    /// A create that takes until the machine lets go.
    std::shared_ptr<PendingCall> createSlowly(const std::string& name,
                                              const Dictionary& options = {}) {
        machine.hold(COWSNAP_MESSAGE_CREATE);
        auto call = beginCreate(origin, name, options);
        REQUIRE(machine.waitUntilHeld(1));
        return call;
    }
    CallFailure cancel(const ObjectPath& job) {
        return failureOfCall(job.path, kJob, "Cancel", nullptr);
    }
};

}  // namespace

TEST_CASE("what is asked for has a limit, and so has what a job says of that") {
    JobBed bed;
    const auto snapshot = bed.createSnapshots({{{bed.origin}, "a"}}).front();
    const auto before = bed.jobs().size();
    const auto hold = [&](std::size_t paths, const std::string& name) {
        return bed.failureOfCall(kRoot, kManager, "HoldSnapshots", [&](Message& message) {
            message.append(Value(std::vector<ObjectPath>(paths, snapshot)));
            message.append(Value(name));
        });
    };
    const auto create = [&](std::size_t members, const std::string& name) {
        return bed.failureOfCall(kRoot, kManager, "CreateSnapshots", [&](Message& message) {
            message.append(
                std::vector<std::pair<ObjectPath, std::string>>(members, {{bed.origin}, name}));
        });
    };
    for (const CallFailure& refused :
         {hold(20000, "h"), hold(1, std::string(std::size_t{1} << 20, 'h')),
          create(COWSNAP_SET_MAX + 1, "b"), create(1, std::string(1000, 'b')),
          bed.failureOfCall(snapshot.path, kSnapshot, "Delete", nullptr,
                            {{"unknown", std::vector<std::string>(200000, "x")}})}) {
        INFO(refused.message);
        CHECK(refused.name == kErrors + "InvalidArgument");
    }
    CHECK_THAT(hold(20000, "h").message, Contains("longer than 1.0 MiB"));
    CHECK_THAT(create(COWSNAP_SET_MAX + 1, "b").message, Contains("at most 1008"));
    CHECK(bed.jobs().size() == before);
    // what is named again and again is shown once
    hold(15000, "h");
    Dictionary job = bed.jobProperties(bed.jobs().back());
    CHECK(textOf(job, "Operation") == "hold");
    CHECK(std::get<std::vector<ObjectPath>>(job.at("Objects")) ==
          std::vector<ObjectPath>{snapshot});
    CHECK(textOf(job, "Subject") == "a");
    // and of many, ten
    std::vector<ObjectPath> many;
    while (many.size() < 12)
        many.push_back(
            bed.createSnapshots({{{bed.origin}, "s" + std::to_string(many.size())}}).front());
    bed.call(kRoot, kManager, "DeleteSnapshots",
             [&](Message& message) { message.append(Value(many)); });
    job = bed.jobProperties(bed.jobs().back());
    CHECK_THAT(textOf(job, "Subject"), Catch::EndsWith("s8, s9 and 2 more"));
    CHECK(std::get<std::vector<ObjectPath>>(job.at("Objects")).size() == 12);
    // an error that repeats what was asked for
    const CallFailure failure = bed.failureOfCall(kRoot, kManager, "Attach", [&](Message& message) {
        message.append(Value("/dev/" + std::string(500000, 'x')));
        message.append(Value(ObjectPath{bed.store}));
    });
    CHECK(failure.name == kErrors + "NotFound");
    job = bed.jobProperties(bed.jobs().back());
    CHECK(textOf(job, "Subject").size() <= 2048);
    CHECK(textOf(job, "ErrorMessage").size() <= 65536);
}

TEST_CASE("everything that changes something is a job") {
    JobBed bed;
    const auto snapshot = bed.createSnapshots({{{bed.origin}, "a"}}).front();
    const auto with_text = [&](const char* method, const std::string& text) {
        bed.call(snapshot.path, kSnapshot, method,
                 [&](Message& message) { message.append(Value(text)); });
    };
    with_text("Rename", "b");
    with_text("SetDescription", "text");
    with_text("Hold", "h");
    with_text("Release", "h");
    bed.call(snapshot.path, kSnapshot, "Activate", nullptr);
    bed.call(snapshot.path, kSnapshot, "Deactivate", nullptr);
    const auto prune = [&](const Dictionary& options) {
        bed.call(
            kRoot, kManager, "Prune",
            [](Message& message) { message.append(Value(std::vector<ObjectPath>{})); }, options);
    };
    prune({{"last", std::uint64_t{1}}});
    prune({{"last", std::uint64_t{1}}, {"dry_run", true}});
    bed.call(kRoot, kManager, "Refresh", nullptr);
    bed.call(kRoot, kManager, "GetMetrics", nullptr);
    bed.call(snapshot.path, kSnapshot, "Delete", nullptr);
    bed.call(bed.origin, kOrigin, "Detach", nullptr);
    bed.call(bed.store, kStore, "Close", nullptr);
    std::vector<std::string> seen;
    for (const auto& job : bed.jobs()) {
        const Dictionary properties = bed.jobProperties(job);
        CHECK(textOf(properties, "State") == "done");
        seen.push_back(textOf(properties, "Operation") + " " + textOf(properties, "Subject"));
    }
    CHECK(seen == std::vector<std::string>{"create-store main", "attach /dev/one", "create a",
                                           "rename a", "describe b", "hold b", "release b",
                                           "activate b", "deactivate b", "prune ", "delete b",
                                           "detach one", "close-store main"});
}

TEST_CASE("a job says what it is about, who asked for it and what came of it") {
    JobBed bed;
    bed.takeJobSignals();
    const auto slow = bed.createSlowly("a", {{"request-id", std::string("mine")}});
    const ObjectPath job = bed.jobs().back();
    Dictionary properties = bed.jobProperties(job);
    CHECK(textOf(properties, "State") == "running");
    CHECK(std::get<double>(properties.at("Progress")) == -1);
    CHECK(std::get<std::vector<ObjectPath>>(properties.at("Objects")) ==
          std::vector<ObjectPath>{{bed.origin}});
    CHECK(std::get<std::uint32_t>(properties.at("UserId")) == ::geteuid());
    CHECK(std::get<std::uint32_t>(properties.at("ProcessId")) ==
          static_cast<std::uint32_t>(::getpid()));
    CHECK_THAT(textOf(properties, "Sender"), Catch::StartsWith(":"));
    CHECK(textOf(properties, "RequestId") == "mine");
    CHECK(numberOf(properties, "Began") >= numberOf(properties, "Requested"));
    CHECK(numberOf(properties, "Ended") == 0);
    CHECK(bed.jobs({{"request", std::string("mine")}}) == std::vector<ObjectPath>{job});
    CHECK(bed.jobs({{"request", std::string("other")}}).empty());
    bed.machine.letGo();
    bed.finish(*slow);
    // The state is new before the answer.
    properties = bed.jobProperties(job);
    CHECK(textOf(properties, "State") == "done");
    CHECK(std::get<double>(properties.at("Progress")) == 1);
    CHECK(numberOf(properties, "Ended") >= numberOf(properties, "Began"));
    CHECK(std::get<std::vector<ObjectPath>>(properties.at("Results")) ==
          Message(slow->answer).readObjectPaths());
    const auto signals = bed.takeJobSignals();
    REQUIRE_FALSE(signals.empty());
    CHECK(signals.front().member == "InterfacesAdded");
    CHECK(signals.front().object == job.path);
    // It is shown as it ended, then told that it did: once.
    REQUIRE(signals.size() >= 3);
    CHECK(signals[signals.size() - 2].member == "PropertiesChanged");
    CHECK(signals.back().member == "Completed");
    CHECK(signals.back().path == job.path);
    CHECK(std::count_if(signals.begin(), signals.end(), [](const SeenSignal& signal) {
              return signal.member == "Completed";
          }) == 1);

    const CallFailure failure =
        bed.failureOfCall(kRoot, kManager, "CreateSnapshots", [&](Message& message) {
            message.append(std::vector<std::pair<ObjectPath, std::string>>{{{bed.origin}, "a"}});
        });
    properties = bed.jobProperties(bed.jobs().back());
    CHECK(textOf(properties, "State") == "failed");
    CHECK(textOf(properties, "ErrorName") == failure.name);
    CHECK(textOf(properties, "ErrorMessage") == failure.message);
    CHECK(failure.name == kErrors + "Exists");
}

TEST_CASE("a job in the background is answered at once, and waited for with its request id") {
    JobBed bed;
    const Dictionary id{{"request-id", std::string("mine")}};
    Dictionary in_background = id;
    in_background["background"] = true;
    bed.machine.hold(COWSNAP_MESSAGE_CREATE);
    CHECK(bed.createSnapshots({{{bed.origin}, "a"}}, in_background).empty());
    REQUIRE(bed.machine.waitUntilHeld(1));
    // Again, by somebody who does not know whether it was heard.
    CHECK(bed.createSnapshots({{{bed.origin}, "a"}}, in_background).empty());
    const auto waiting = bed.beginCreate(bed.origin, "a", id);
    const ObjectPath job = bed.jobs({{"request", std::string("mine")}}).front();
    CHECK(textOf(bed.jobProperties(job), "State") == "running");
    CHECK_FALSE(waiting->done);
    bed.machine.letGo();
    bed.finish(*waiting);
    const auto created = Message(waiting->answer).readObjectPaths();
    CHECK(created.size() == 1);
    CHECK(bed.machine.snapshotIds().size() == 1);
    CHECK(std::get<std::vector<ObjectPath>>(bed.jobProperties(job).at("Results")) == created);
    // What fails in the background is seen in the job.
    CHECK(bed.createSnapshots({{{bed.origin}, "a"}}, {{"background", true}}).empty());
    const ObjectPath failing = bed.jobs().back();
    CHECK(bed.waitForJob(failing, "State", std::string("failed")));
    CHECK(bed.call(kRoot, kManager, "CreateStore",
                   [](Message& message) {
                       message.append(Value(std::vector<std::string>{"/dev/spare"}));
                       message.append(Value(std::string("other")));
                   },
                   {{"background", true}})
              .readObjectPath()
              .path == "/");
    CHECK_THAT(
        bed.failureOfCall(kRoot, kManager, "GetMetrics", nullptr, {{"background", true}}).message,
        Contains("is for jobs"));
    CHECK_THAT(bed.failureOfCall(created.front().path, kSnapshot, "Delete", nullptr,
                                 {{"background", std::string("yes")}})
                   .message,
               Contains("has the type s"));
}

TEST_CASE("a job that waits can be cancelled, one that has begun is finished") {
    JobBed bed;
    const auto slow = bed.createSlowly("slow");
    const ObjectPath running = bed.jobs().back();
    const auto queued = bed.beginCreate(bed.origin, "queued", {{"request-id", std::string("q")}});
    const ObjectPath waiting = bed.jobs().back();
    CHECK(textOf(bed.jobProperties(waiting), "State") == "queued");
    CHECK(std::get<bool>(bed.jobProperties(waiting).at("CanCancel")));
    CHECK_FALSE(std::get<bool>(bed.jobProperties(running).at("CanCancel")));
    CHECK(bed.cancel(waiting).name.empty());
    bed.finish(*queued);
    CHECK(queued->failure.name == kErrors + "Cancelled");
    CHECK(textOf(bed.jobProperties(waiting), "State") == "cancelled");
    CHECK(textOf(bed.jobProperties(waiting), "ErrorName") == kErrors + "Cancelled");
    const CallFailure refused = bed.cancel(running);
    CHECK(refused.name == kErrors + "Busy");
    CHECK_THAT(refused.message, Contains("will be finished"));
    const CallFailure over = bed.cancel(waiting);
    CHECK(over.name == kErrors + "Failed");
    CHECK_THAT(over.message, Contains("over already: cancelled"));
    bed.machine.letGo();
    bed.finish(*slow);
    CHECK(slow->failure.name.empty());
    CHECK(bed.machine.snapshotIds().size() == 1);
    // Its id can be used again, and its store is free.
    CHECK(bed.createSnapshots({{{bed.origin}, "queued"}}, {{"request-id", std::string("q")}})
              .size() == 1);
}

TEST_CASE("a job about several stores is cancelled between two of them") {
    JobBed bed;
    const std::string other = bed.createStore("/dev/spare", "other");
    const std::string origin = bed.attach("/dev/two", other);
    const std::vector<ObjectPath> both{bed.createSnapshots({{{bed.origin}, "a"}}).front(),
                                       bed.createSnapshots({{{origin}, "b"}}).front()};
    bed.machine.hold(COWSNAP_MESSAGE_DELETE);
    const auto deletion = bed.begin(kRoot, kManager, "DeleteSnapshots",
                                    [&](Message& message) { message.append(Value(both)); });
    REQUIRE(bed.machine.waitUntilHeld(1));
    const ObjectPath job = bed.jobs().back();
    CHECK(bed.waitForJob(job, "CanCancel", true));
    CHECK(std::get<double>(bed.jobProperties(job).at("Progress")) == 0);
    const auto cancelling = bed.begin(job.path, kJob, "Cancel", nullptr);
    bed.jobProperties(job);
    CHECK_FALSE(cancelling->done);  // not before it is over
    bed.machine.letGo();
    bed.finish(*cancelling);
    CHECK(cancelling->failure.name.empty());
    CHECK(deletion->done);
    CHECK(deletion->failure.name == kErrors + "PartlyDone");
    CHECK_THAT(deletion->failure.message, Contains("deleted of the store ") &&
                                              Contains("cancelled when 1 of 2 steps were done"));
    CHECK(runCli({"job", "wait", job.path}).code == 7);
    CHECK(bed.machine.snapshotIds().size() == 1);
    CHECK(textOf(bed.jobProperties(job), "State") == "cancelled");
    CHECK(std::get<double>(bed.jobProperties(job).at("Progress")) == 0);
}

TEST_CASE("a long deletion in one store is cancelled between two parts") {
    BusBed bed;
    bed.machine.makeSlotsLarge();
    const ObjectPath origin{bed.attach("/dev/one", bed.createStore())};
    constexpr std::size_t count = COWSNAP_DELETE_MAX + 10;
    std::vector<ObjectPath> all;
    for (std::size_t i = 0; i < count; ++i)
        all.push_back(bed.createSnapshots({{origin, fmt::format("s{}", i)}}).front());
    bed.machine.hold(COWSNAP_MESSAGE_DELETE);
    const auto deletion = bed.begin(kRoot, kManager, "DeleteSnapshots",
                                    [&](Message& message) { message.append(Value(all)); });
    REQUIRE(bed.machine.waitUntilHeld(1));
    const ObjectPath job = bed.jobs().back();
    CHECK(bed.waitForJob(job, "CanCancel", true));
    const auto cancelling = bed.begin(job.path, kJob, "Cancel", nullptr);
    bed.jobProperties(job);
    bed.machine.letGo();
    bed.finish(*cancelling);
    CHECK(cancelling->failure.name.empty());
    CHECK(deletion->failure.name == kErrors + "PartlyDone");
    CHECK(bed.machine.snapshotIds().size() == 10);
    CHECK(textOf(bed.jobProperties(job), "State") == "cancelled");
}

TEST_CASE("a client that goes away does not stop its job") {
    JobBed bed;
    bed.machine.hold(COWSNAP_MESSAGE_CREATE);
    {
        Bus client = Bus::openSystem();
        Message call = client.newMethodCall("org.cowsnap1", kRoot, kManager, "CreateSnapshots");
        call.append(std::vector<std::pair<ObjectPath, std::string>>{{{bed.origin}, "a"}});
        call.append(Dictionary{});
        client.send(call);
        // Who has gone before the daemon could ask the bus who it is may do nothing.
        REQUIRE(sd_bus_flush(client.get()) >= 0);
        REQUIRE(bed.machine.waitUntilHeld(1));
    }
    const auto queued = bed.beginCreate(bed.origin, "b");
    bed.machine.letGo();
    bed.finish(*queued);
    CHECK(bed.machine.snapshotIds().size() == 2);
    const auto jobs = bed.jobs();
    CHECK(textOf(bed.jobProperties(jobs[jobs.size() - 2]), "State") == "done");
}

TEST_CASE("the last hundred jobs are kept") {
    JobBed bed;
    const auto first = bed.jobs();
    const auto snapshot = bed.createSnapshots({{{bed.origin}, "a"}}).front();
    for (int i = 0; i < 100; ++i)
        bed.call(snapshot.path, kSnapshot, "SetDescription",
                 [&](Message& message) { message.append(Value(std::to_string(i))); });
    const auto now = bed.jobs();
    CHECK(now.size() == 100);
    CHECK(std::find(now.begin(), now.end(), first.front()) == now.end());
    CHECK(bed.cancel(first.front()).name == kErrors + "NotFound");
    const auto signals = bed.takeJobSignals();
    CHECK(std::count_if(signals.begin(), signals.end(), [](const SeenSignal& signal) {
              return signal.member == "InterfacesRemoved";
          }) == 3);
}

namespace {

struct CopyBackBed : JobBed {
    ObjectPath old = createSnapshots({{{origin}, "old"}}).front();
    ObjectPath undo{call(old.path, kSnapshot, "Rollback", nullptr).readObjectPath()};
    ObjectPath job = jobs().back();

    void refresh() { call(kRoot, kManager, "Refresh", nullptr); }
};

constexpr std::uint64_t kBlock = COWSNAP_BLOCK_BYTES;

}  // namespace

TEST_CASE("what is copied back after a rollback is a job until all of it is") {
    CopyBackBed bed;
    auto job = bed.jobProperties(bed.job);
    CHECK(textOf(job, "Operation") == "copy-back");
    CHECK(textOf(job, "Subject") == "one");
    CHECK(textOf(job, "State") == "running");
    CHECK(job.at("Objects") == Value(std::vector<ObjectPath>{{bed.origin}, bed.old, bed.undo}));
    CHECK(job.at("CanCancel") == Value(true));
    CHECK(job.at("ProcessId") == Value(static_cast<std::uint32_t>(::getpid())));
    CHECK(numberOf(job, "Bytes") == 32 * kBlock);
    CHECK(numberOf(job, "Rate") == 0);  // that was done before anybody looked
    bed.machine.copyBack(1, 1000);
    bed.refresh();
    job = bed.jobProperties(bed.job);
    CHECK(numberOf(job, "Bytes") == 1000 * kBlock);
    CHECK(numberOf(job, "Rate") > 0);
    CHECK(numberOf(job, "ExpectedEndTime") >= numberOf(job, "Began"));
    CHECK(std::get<double>(job.at("Progress")) > 0);
    SECTION("how far it is, is read more often than all else") {
        bed.directory.write("cowsnapd.conf", R"({"refresh_interval_seconds": 3600})");
        bed.call(kRoot, kManager, "Reload", nullptr);
        bed.machine.copyBack(1, 2000);
        CHECK(bed.waitForJob(bed.job, "Bytes", Value(std::uint64_t{2000 * kBlock})));
    }
    SECTION("it ends") {
        bed.machine.endRollback(1);
        REQUIRE(bed.waitForJob(bed.job, "State", Value(std::string("done"))));
        CHECK(bed.jobProperties(bed.job).at("Progress") == Value(1.0));
    }
    SECTION("a client that goes away and a daemon that is restarted do not stop it") {
        bed.stopDaemon();
        bed.startDaemon();
        const auto jobs = bed.jobs();
        REQUIRE(jobs.size() == 1);
        job = bed.jobProperties(jobs.front());
        CHECK(textOf(job, "Operation") == "copy-back");
        CHECK(numberOf(job, "Bytes") == 1000 * kBlock);
        CHECK(numberOf(job, "Rate") == 0);
        CHECK(numberOf(job, "ExpectedEndTime") == 0);
        // Who asked for it is not known any more; it was not root.
        CHECK(job.at("UserId") == Value(std::numeric_limits<std::uint32_t>::max()));
        CHECK(job.at("ProcessId") == Value(std::uint32_t{0}));
        CHECK_THAT(runCli({"job", "show", "1"}).output, Contains("user          -\n"));
        CHECK_THAT(runCli({"job", "show", "1", "--json"}).output, Contains("\"user\": null"));
        bed.machine.endRollback(1);
        CHECK(bed.waitForJob(jobs.front(), "State", Value(std::string("done"))));
    }
    SECTION("cancelling it cancels the rollback, and what goes back is a job") {
        CHECK(bed.cancel(bed.job).name.empty());
        CHECK(textOf(bed.jobProperties(bed.job), "State") == "cancelled");
        const ObjectPath back = bed.jobs().back();
        REQUIRE(back != bed.job);
        CHECK(textOf(bed.jobProperties(back), "Operation") == "copy-back");
        CHECK(textOf(bed.jobProperties(back), "State") == "running");
        // Both were asked for by who cancelled it.
        const auto all = bed.jobs();
        const ObjectPath cancelling = all.at(all.size() - 2);
        CHECK(textOf(bed.jobProperties(cancelling), "Operation") == "cancel-rollback");
        CHECK(textOf(bed.jobProperties(cancelling), "Subject") == "one");
        for (const auto& asked_for : {cancelling, back})
            CHECK(bed.jobProperties(asked_for).at("ProcessId") ==
                  Value(static_cast<std::uint32_t>(::getpid())));
        CHECK(bed.cancel(back).name == kErrors + "Busy");
        bed.machine.endRollback(1);
        CHECK(bed.waitForJob(back, "State", Value(std::string("done"))));
        CHECK(bed.cancel(back).name == kErrors + "Failed");
    }
    SECTION("in use it is not cancelled") {
        bed.machine.setUser("/dev/mapper/cowsnap-one", "mounted on /one");
        const auto refused = bed.cancel(bed.job);
        CHECK(refused.name == kErrors + "Busy");
        CHECK_THAT(refused.message, Contains("mounted on /one"));
        CHECK(textOf(bed.jobProperties(bed.job), "State") == "running");
    }
}

TEST_CASE("a rollback that was scheduled is copied back when it begins") {
    JobBed bed;
    const auto old = bed.createSnapshots({{{bed.origin}, "old"}}).front();
    bed.machine.setUser("/dev/mapper/cowsnap-one", "mounted on /one");
    bed.call(old.path, kSnapshot, "Rollback", nullptr, {{"schedule", true}});
    CHECK(textOf(bed.jobProperties(bed.jobs().back()), "Operation") == "rollback");
    bed.stopDaemon();
    bed.machine.reboot();
    bed.startDaemon();
    REQUIRE(bed.jobs().size() == 1);
    CHECK(textOf(bed.jobProperties(bed.jobs().front()), "Operation") == "copy-back");
}

namespace {

struct LoggedJobBed : RecordedLog, JobBed {};

/// The states that jobs were said to have, by their paths.
using SeenStates = std::map<std::string, std::string>;

int onJobChanged(sd_bus_message* message, void* userdata, sd_bus_error* /*error*/) {
    Message signal = Message::share(message);
    if (signal.readString() != kJob)
        return 0;
    const Dictionary changed = signal.readKnown();
    if (const auto state = changed.find("State"); state != changed.end())
        (*static_cast<SeenStates*>(userdata))[signal.path()] = std::get<std::string>(state->second);
    return 0;
}

}  // namespace

TEST_CASE("jobs that a stopping daemon drops are told of, and are over as cancelled") {
    LoggedJobBed bed;
    const auto slow = bed.createSlowly("slow");
    for (const char* const name : {"dropped", "dropped-too"})
        bed.finish(*bed.beginCreate(bed.origin, name, {{"background", true}}));
    const auto jobs = bed.jobs();
    REQUIRE(jobs.size() >= 3);
    SeenStates states;
    Bus watcher = Bus::openSystem();
    sd_bus_slot* slot = nullptr;
    REQUIRE(sd_bus_match_signal(watcher.get(), &slot, "org.cowsnap1", nullptr,
                                "org.freedesktop.DBus.Properties", "PropertiesChanged",
                                onJobChanged, &states) >= 0);
    const Slot match(slot);
    std::thread stop([&] { bed.stopDaemon(); });
    // While it finishes what it began.
    for (int tries = 0; tries < 100 && states.size() < 2; ++tries)
        watcher.processOrWait(std::chrono::milliseconds(100));
    bed.machine.letGo();
    stop.join();
    for (std::size_t i = jobs.size() - 2; i < jobs.size(); ++i)
        CHECK(states[jobs[i].path] == "cancelled");
    const auto told = bed.with("was stopped before it began");
    REQUIRE(told.size() == 2);
    for (const Logged& logged : told) {
        CHECK(logged.level == spdlog::level::warn);
        CHECK_THAT(logged.text, Contains("create dropped") && Contains("cancelled"));
    }
    bed.startDaemon();
    CHECK(bed.machine.snapshotIds().size() == 1);
}
