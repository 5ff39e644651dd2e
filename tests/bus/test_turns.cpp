// SPDX-License-Identifier: GPL-2.0-or-later
// Several stores at once: what takes long at one of them holds up neither the bus nor the others.
#include <catch2/catch.hpp>

#include <chrono>

#include "bus_bed.h"
#include "cowsnap_dm.h"

using namespace cowsnap;
using namespace cowsnap::test;
using Catch::Contains;

namespace {

/// Two stores with an origin each.
struct TwoStores : BusBed {
    std::string one = createStore();
    std::string two = createStore("/dev/spare", "other");
    std::string origin_of_one = attach("/dev/one", one);
    std::string origin_of_two = attach("/dev/two", two);

    std::string mappedName(const std::string& store) {
        return std::get<std::string>(properties(store, kStore).at("Device"))
            .substr(kMapperDirectory.size());
    }

    /// A create in the first store that takes until the machine lets go.
    std::shared_ptr<PendingCall> createSlowly(const std::string& name) {
        machine.hold(COWSNAP_MESSAGE_CREATE, mappedName(one));
        auto call = beginCreate(origin_of_one, name);
        REQUIRE(machine.waitUntilHeld(1));
        return call;
    }
};

}  // namespace

// How long it takes then: see scale.cpp.
TEST_CASE("the bus answers while an operation takes long") {
    TwoStores bed;
    const auto slow = bed.createSlowly("slow");
    const auto call = [&](const char* member) { bed.call(kRoot, kManager, member, nullptr); };
    for (int i = 0; i < 50; ++i) {
        bed.properties(bed.one, kStore);
        bed.properties(kRoot, kManager);
        bed.introspect(bed.origin_of_one);
        call("GetMetrics");
        call("ListJobs");
        call("Refresh");
    }
    CHECK_FALSE(slow->done);
    bed.machine.letGo();
    bed.finish(*slow);
    CHECK(slow->failure.name.empty());
}

TEST_CASE("what takes long at one store does not hold up another one") {
    TwoStores bed;
    const auto slow = bed.createSlowly("slow");
    const auto queued = bed.beginCreate(bed.origin_of_one, "queued");
    const auto quick = bed.createSnapshots({{{bed.origin_of_two}, "quick"}});
    bed.call(quick.front().path, kSnapshot, "Activate", nullptr);
    bed.machine.addDisk("/dev/third", kStoreSectors, "third-serial");
    bed.createStore("/dev/third", "third");
    CHECK_FALSE(slow->done);
    CHECK_FALSE(queued->done);
    // What is half done is not shown.
    CHECK(bed.machine.snapshotIds().size() == 1);
    CHECK(std::get<std::uint32_t>(bed.properties(bed.one, kStore).at("SnapshotCount")) == 0);
    bed.machine.letGo();
    bed.finish(*queued);
    CHECK(slow->done);  // in their order
    CHECK(slow->failure.name.empty());
    CHECK(queued->failure.name.empty());
    CHECK(std::get<std::uint32_t>(bed.properties(bed.one, kStore).at("SnapshotCount")) == 2);
}

TEST_CASE("a store whose state is not told holds up no other one") {
    TwoStores bed;
    bed.machine.hold(kHeldStatus, bed.mappedName(bed.one));
    const auto slow = bed.beginCreate(bed.origin_of_one, "slow");
    REQUIRE(bed.machine.waitUntilHeld(1));
    CHECK(bed.createSnapshots({{{bed.origin_of_two}, "quick"}}).size() == 1);
    CHECK_FALSE(slow->done);
    bed.machine.letGo();
    bed.finish(*slow);
    CHECK(slow->failure.name.empty());
}

TEST_CASE("what is about several stores waits for all of them") {
    TwoStores bed;
    const auto a = bed.createSnapshots({{{bed.origin_of_one}, "a"}}).front();
    const auto b = bed.createSnapshots({{{bed.origin_of_two}, "b"}}).front();
    const auto slow = bed.createSlowly("slow");
    const auto deletion = bed.begin(kRoot, kManager, "DeleteSnapshots", [&](Message& message) {
        message.append(Value(std::vector<ObjectPath>{b, a}));
    });
    const auto all = bed.begin(kRoot, kManager, "Prune", [&](Message& message) {
        message.append(Value(std::vector<ObjectPath>{}));
    });
    CHECK_NOTHROW(bed.properties(b.path, kSnapshot));
    bed.machine.letGo();
    bed.finish(*all);
    CHECK(slow->failure.name.empty());
    CHECK(deletion->done);
    CHECK(deletion->failure.name.empty());
    CHECK(all->failure.message.empty());
    CHECK(bed.machine.snapshotIds().size() == 1);
}

TEST_CASE("two stores do not take the same device at the same time") {
    TwoStores bed;
    bed.machine.addDisk("/dev/wanted", kStoreSectors, "wanted-serial");
    bed.machine.addPartition("/dev/wanted1", "/dev/wanted");
    const auto attach_to = [](const std::string& device, const std::string& store) {
        return [=](Message& message) {
            message.append(Value(device));
            message.append(Value(ObjectPath{store}));
        };
    };
    bed.machine.hold(kHeldTables, "cowsnap-wanted");
    const auto slow = bed.begin(kRoot, kManager, "Attach", attach_to("/dev/wanted", bed.one));
    REQUIRE(bed.machine.waitUntilHeld(1));
    const auto check_refused = [](const CallFailure& failure) {
        CHECK(failure.name == "org.cowsnap1.Error.Busy");
        CHECK_THAT(failure.message, Contains("by another job"));
    };
    for (const char* const device : {"/dev/wanted", "/dev/wanted1"}) {
        check_refused(bed.failureOfCall(kRoot, kManager, "Attach", attach_to(device, bed.two)));
        check_refused(bed.failureOfCall(bed.two, kStore, "Extend", [&](Message& message) {
            message.append(Value(std::vector<std::string>{device}));
        }));
        check_refused(bed.failureOfCall(kRoot, kManager, "CreateStore", [&](Message& message) {
            message.append(Value(std::vector<std::string>{device}));
            message.append(Value(std::string("new")));
        }));
    }
    bed.machine.letGo();
    bed.finish(*slow);
    CHECK(slow->failure.name.empty());
    // The claim is gone with the job.
    CHECK(bed.failureOfCall(kRoot, kManager, "Attach", attach_to("/dev/wanted", bed.two)).name ==
          "org.cowsnap1.Error.Exists");
}

TEST_CASE("work that turns out to be about another store gets its turn there") {
    TwoStores bed;
    // A store that cannot be used is opened again: which one it is is read from its device.
    bed.stopDaemon();
    bed.machine.reboot();
    bed.machine.renameDisk("/dev/spare", "/dev/away");
    bed.machine.resizeDisk("/dev/away", kStoreSectors / 2);
    bed.startDaemon();
    CHECK(std::get<std::string>(bed.properties(bed.two, kStore).at("State")) == "unusable");
    bed.machine.resizeDisk("/dev/away", kStoreSectors);
    const auto opened = bed.call(kRoot, kManager, "OpenStore", [](Message& message) {
        message.append(Value(std::vector<std::string>{"/dev/away"}));
    });
    CHECK(Message(opened).readObjectPath().path == bed.two);
    CHECK(std::get<std::string>(bed.properties(bed.two, kStore).at("State")) == "active");
    CHECK(std::get<std::string>(bed.properties(bed.origin_of_two, kOrigin).at("State")) ==
          "attached");
}

TEST_CASE("an event that comes while an operation works at its store is told afterwards") {
    BusBed bed;
    const std::string store = bed.createStore();
    const std::string origin = bed.attach("/dev/one", store);
    bed.machine.hold(COWSNAP_MESSAGE_CREATE);
    const auto slow = bed.beginCreate(origin, "slow");
    REQUIRE(bed.machine.waitUntilHeld(1));
    bed.machine.raise(COWSNAP_EVENT_LOW_WATER, 3);
    bed.call(kRoot, kManager, "Refresh", nullptr);
    bed.machine.letGo();
    CHECK(bed.signalsUntil("Event").back().path == store);
    bed.finish(*slow);
}

TEST_CASE("what a failing store lost is written down even while an operation works at it") {
    BusBed bed;
    const std::string store = bed.createStore();
    const std::string origin = bed.attach("/dev/one", store);
    bed.machine.hold(COWSNAP_MESSAGE_CREATE);
    const auto slow = bed.beginCreate(origin, "slow");
    REQUIRE(bed.machine.waitUntilHeld(1));
    bed.machine.failStore();
    const auto file = bed.directory.path() / "state" /
                      fmt::format("lost-{}.json",
                                  std::get<std::string>(bed.properties(store, kStore).at("Uuid")));
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
    while (!std::filesystem::exists(file) && std::chrono::steady_clock::now() < deadline)
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
    CHECK(std::filesystem::exists(file));
    CHECK_FALSE(slow->done);
    bed.machine.letGo();
    bed.finish(*slow);
    CHECK_FALSE(slow->failure.name.empty());
}
