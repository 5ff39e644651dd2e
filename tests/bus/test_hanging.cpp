// SPDX-License-Identifier: GPL-2.0-or-later
// A store whose device does not answer: the others, the bus and the daemon's start go on.
#include <catch2/catch.hpp>

#include <chrono>
#include <thread>

#include "bus_bed.h"

using namespace cowsnap;
using namespace cowsnap::test;
using Catch::Contains;

namespace {

using Clock = std::chrono::steady_clock;

/// Two stores with an origin each. That of the first one can be made to hang.
struct HangingBed : BusBed {
    std::string one = createStore();
    std::string two = createStore("/dev/spare", "other");
    std::string origin_of_one = attach("/dev/one", one);
    std::string origin_of_two = attach("/dev/two", two);
    std::string device_of_one = text(one, "Device").substr(kMapperDirectory.size());

    ~HangingBed() { machine.letGo(); }

    std::string text(const std::string& store, const std::string& property) {
        return std::get<std::string>(properties(store, kStore).at(property));
    }
    Uuid uuidOf(const std::string& store) { return *Uuid::parse(text(store, "Uuid")); }
    std::uint64_t usedOf(const std::string& store) {
        return std::get<std::uint64_t>(properties(store, kStore).at("UsedBytes"));
    }
    /// Its state is asked for, and is not told.
    std::shared_ptr<PendingCall> hang() {
        machine.hold(kHeldStatus, device_of_one);
        auto call = begin(kRoot, kManager, "Refresh", nullptr);
        REQUIRE(machine.waitUntilHeld(1));
        return call;
    }
    template <typename Condition>
    bool soon(Condition condition) {
        const auto end = Clock::now() + std::chrono::seconds(20);
        while (!condition()) {
            if (Clock::now() > end)
                return false;
            std::this_thread::sleep_for(std::chrono::milliseconds(20));
        }
        return true;
    }
};

}  // namespace

TEST_CASE("Refresh answers although a store does not, and tells which") {
    HangingBed bed;
    const auto refresh = bed.hang();
    bed.machine.useSegments(3, bed.uuidOf(bed.two));
    const auto start = Clock::now();
    bed.finish(*refresh);
    CHECK(refresh->failure.name.empty());
    bed.call(kRoot, kManager, "Refresh", nullptr);
    CHECK(Clock::now() - start < std::chrono::seconds(15));
    CHECK(bed.usedOf(bed.two) > 0);
    CHECK(bed.text(bed.two, "Problem").empty());
    CHECK_THAT(bed.text(bed.one, "Problem"), Contains("has not told its state"));
    for (const auto& words : std::vector<std::vector<std::string>>{{"list"},
                                                                   {"show", "other"},
                                                                   {"store", "list"},
                                                                   {"origin", "list"},
                                                                   {"metrics"},
                                                                   {"watch", "--count", "1"}}) {
        const CliResult result = runCli(words);
        INFO(words.front() << ": " << result.output << result.errors);
        CHECK(result.code == 0);
    }
    bed.machine.letGo();
    CHECK(bed.soon([&] { return bed.text(bed.one, "Problem").empty(); }));
}

TEST_CASE("while a store does not answer the others are looked at, warned of and extended") {
    HangingBed bed;
    bed.machine.addDisk("/dev/third", kStoreSectors, "third-serial");
    bed.directory.write("cowsnapd.conf", R"({"refresh_interval_seconds": 1})");
    bed.reloadAsOnSignal();
    bed.call(bed.two, kStore, "SetAutoextend", nullptr,
             {{"spares", std::vector<std::string>{"/dev/third"}}});
    bed.finish(*bed.hang());
    bed.forgetSignals();
    const auto size_before =
        std::get<std::uint64_t>(bed.properties(bed.two, kStore).at("SizeBytes"));
    bed.machine.useSegments(110, bed.uuidOf(bed.two));
    bool warned = false;
    bool extended = false;
    for (const auto& seen : bed.signalsUntil("Autoextended")) {
        warned |= seen.member == "SpaceWarning" && seen.path == bed.two;
        extended |= seen.member == "Autoextended" && seen.path == bed.two;
    }
    CHECK(warned);
    CHECK(extended);
    CHECK(std::get<std::uint64_t>(bed.properties(bed.two, kStore).at("SizeBytes")) > size_before);
    CHECK(bed.createSnapshots({{{bed.origin_of_two}, "quick"}}).size() == 1);
}

TEST_CASE("events of the others are told while a store does not answer") {
    HangingBed bed;
    bed.finish(*bed.hang());
    bed.forgetSignals();
    for (const char* const event : {"damage", "stale"}) {
        bed.machine.raise(event, 1, bed.uuidOf(bed.two));
        const auto seen = bed.signalsUntil("Event");
        REQUIRE_FALSE(seen.empty());
        CHECK(seen.back().member == "Event");
        CHECK(seen.back().path == bed.two);
    }
}

TEST_CASE("the daemon gets ready although a store does not, and that one comes up later") {
    HangingBed bed;
    bed.stopDaemon();
    bed.machine.hold(kHeldStatus, bed.device_of_one);
    const auto start = Clock::now();
    bed.startDaemon();
    CHECK(Clock::now() - start < std::chrono::seconds(10));
    CHECK(bed.machine.waitUntilHeld(1));
    CHECK(bed.createSnapshots({{{bed.origin_of_two}, "quick"}}).size() == 1);
    CHECK_THAT(bed.text(bed.one, "Problem"), Contains("being activated"));
    CHECK(bed.text(bed.one, "Name") == "main");
    bed.machine.addDisk("/dev/third", kStoreSectors, "third-serial");
    const auto refused = bed.failureOfCall(bed.one, kStore, "Extend", [](Message& message) {
        message.append(Value(std::vector<std::string>{"/dev/third"}));
    });
    CHECK(refused.name == "org.cowsnap1.Error.Busy");
    CHECK_THAT(refused.message, Contains("being activated"));
    CHECK(bed.failureOfCall(bed.one, kStore, "Close", nullptr).name == "org.cowsnap1.Error.Busy");
    bed.call(kRoot, kManager, "Prune",
             [&](Message& message) { message.append(Value(std::vector<ObjectPath>{})); });
    bed.call(kRoot, kManager, "Refresh", nullptr);
    bed.machine.letGo();
    CHECK(bed.soon([&] { return bed.text(bed.one, "Problem").empty(); }));
    CHECK(bed.createSnapshots({{{bed.origin_of_one}, "late"}}).size() == 1);
}

TEST_CASE("what a start finds is told under the daemon's name") {
    BusBed bed;
    const std::string store = bed.createStore();
    const std::string origin = bed.attach("/dev/one", store);
    bed.createSnapshots({{{origin}, "gone"}});
    bed.stopDaemon();
    bed.machine.drop(1);
    Bus watcher = Bus::openSystem();
    bool told = false;
    const auto on_signal = [](sd_bus_message*, void* userdata, sd_bus_error*) {
        *static_cast<bool*>(userdata) = true;
        return 0;
    };
    sd_bus_slot* slot = nullptr;
    REQUIRE(sd_bus_match_signal(watcher.get(), &slot, "org.cowsnap1", store.c_str(), kStore,
                                "SnapshotDropped", on_signal, &told) >= 0);
    const Slot match(slot);
    bed.startDaemon();
    const auto end = Clock::now() + std::chrono::seconds(10);
    while (!told && Clock::now() < end)
        watcher.processOrWait(std::chrono::milliseconds(100));
    CHECK(told);
}
