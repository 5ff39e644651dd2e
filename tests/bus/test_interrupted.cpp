// SPDX-License-Identifier: GPL-2.0-or-later
// Mapped devices that were left half made or suspended, and those that someone else suspends.
#include <catch2/catch.hpp>

#include "assembly/activation.h"
#include "engine_bed.h"
#include "recorded_log.h"

using namespace cowsnap;
using namespace cowsnap::test;
using Catch::Contains;

namespace {

/// A store with an origin that has a snapshot.
struct InterruptedBed : RecordedLog, EngineBed {
    Uuid store_uuid;
    Uuid one;
    Uuid snapshot;

    InterruptedBed() {
        store_uuid = makeStore();
        one = engine->attach("/dev/one", store_uuid, "");
        snapshot = engine->createSnapshots({{one, "a"}}, {}).front();
    }

    std::string storeName() { return "cowsnap-store-" + store_uuid.brief(); }
    std::string dataName() { return "cowsnap-data-" + store_uuid.brief(); }
    MappedDevice device(const std::string& name) {
        for (const auto& found : machine.devices())
            if (found.name == name)
                return found;
        throw std::runtime_error("there is no " + name);
    }
    /// Removes a mapped device, and begins to make it again.
    void halfMake(const std::string& name, unsigned last_step, Visibility visibility) {
        const std::string uuid = device(name).uuid;
        const auto table = machine.table(name);
        machine.remove(name, visibility);
        machine.plan(Accident::KillAfter, last_step);
        CHECK_THROWS_AS(machine.create(name, uuid, table, visibility, false), Killed);
        CHECK_FALSE(device(name).live_table);
    }
    void checkUsable(const std::string& name) {
        CHECK(store().problem.empty());
        CHECK(store().origins.at(1).problem.empty());
        CHECK_NOTHROW(engine->createSnapshots({{one, name}}, {}));
    }
};

constexpr unsigned kMade = 0;
constexpr unsigned kLoaded = 1;

}  // namespace

TEST_CASE("an origin's mapped device without a table is none, and the next start makes it") {
    InterruptedBed bed;
    bed.engine->setBootPolicy(bed.one, BootPolicy::FailClosed);
    bed.engine.reset();
    bed.halfMake("cowsnap-one", GENERATE(kMade, kLoaded), Visibility::Visible);
    const auto stores = StoreRegistry(bed.directory.path()).read();
    CHECK(withheldOf(stores, bed.machine.devices(), "a reason").size() == 1);
    bed.restart();
    CHECK(bed.store().origins.at(1).condition == OriginCondition::Attached);
    bed.checkUsable("again");
}

TEST_CASE("a store's mapped devices without a table are made anew at the next start") {
    InterruptedBed bed;
    const unsigned last_step = GENERATE(kMade, kLoaded);
    bed.engine.reset();
    bed.machine.remove("cowsnap-one", Visibility::Visible);
    SECTION("the cow-store") {
        bed.halfMake(bed.storeName(), last_step, Visibility::Hidden);
    }
    SECTION("what is below it") {
        bed.machine.remove(bed.storeName(), Visibility::Hidden);
        bed.halfMake(bed.dataName(), last_step, Visibility::Hidden);
    }
    bed.restart();
    bed.checkUsable("again");
}

TEST_CASE("a store that an interrupted change of its tables left suspended goes on") {
    InterruptedBed bed;
    const std::string name = GENERATE(true, false) ? bed.storeName() : bed.dataName();
    const auto table = bed.machine.table(name);
    auto other = table;
    if (name == bed.storeName())
        other.front().arguments += " 2 full_wait_ms 0";
    bed.engine.reset();
    bed.machine.load(name, other, false);
    SECTION("loaded") {}
    SECTION("suspended") {
        bed.machine.suspend(name);
    }
    bed.restart();
    CHECK(bed.machine.table(name) == table);
    CHECK_FALSE(bed.device(name).inactive_table);
    CHECK_FALSE(bed.device(name).suspended);
    CHECK(bed.with(name + " has a table that was loaded").size() == 1);
    bed.checkUsable("again");
}

TEST_CASE("a change of tables that fails leaves the device with its table, and not suspended") {
    InterruptedBed bed;
    const std::string name = bed.storeName();
    const auto table = bed.machine.table(name);
    auto other = table;
    other.front().arguments += " 2 full_wait_ms 0";
    const auto reload = [&] { bed.machine.reload(name, other, Visibility::Hidden); };
    SECTION("at any of its steps") {
        for (unsigned step = 0; step < 3; ++step) {
            bed.machine.plan(Accident::Fail, step);
            CHECK_THAT(refusalOf(reload).message, Contains("planned"));
            CHECK(bed.machine.table(name) == table);
        }
    }
    SECTION("where what was made live cannot be resumed") {
        bed.machine.failResumes(2);
        CHECK_THAT(refusalOf(reload).message,
                   Contains("cannot resume") && !Contains("suspended now"));
        CHECK(bed.machine.table(name) == table);
    }
    SECTION("but if nothing helps, it says so") {
        bed.machine.failResumes(3);
        CHECK_THAT(refusalOf(reload).message,
                   Contains("suspended now") && Contains("dmsetup resume " + name));
        CHECK(bed.device(name).suspended);
        bed.machine.resume(name, Visibility::Hidden);
    }
    CHECK_FALSE(bed.device(name).suspended);
    CHECK_FALSE(bed.device(name).inactive_table);
    bed.refresh();
    bed.checkUsable("again");
}

TEST_CASE("a store that someone suspends says so, once, and is left alone until it is resumed") {
    InterruptedBed bed;
    const std::string name = GENERATE(true, false) ? bed.storeName() : bed.dataName();
    bed.machine.suspend(name);
    for (int i = 0; i < 3; ++i)
        bed.refresh();
    CHECK_THAT(bed.store().problem,
               Contains(name + " is suspended") && Contains("\"dmsetup resume " + name + "\""));
    const auto told = bed.with(name + " is suspended");
    REQUIRE(told.size() == 1);
    CHECK(told[0].level == spdlog::level::err);
    CHECK(bed.device(name).suspended);
    CHECK_THAT(refusalOf([&] { bed.engine->renameSnapshot(bed.snapshot, "b"); }).message,
               Contains("is suspended"));
    bed.machine.resume(name, Visibility::Hidden);
    bed.refresh();
    bed.checkUsable("again");
}

TEST_CASE("an origin or a snapshot that someone suspends says so, also to a daemon that starts") {
    InterruptedBed bed;
    bed.engine->activate(bed.snapshot, true);
    const bool is_origin = GENERATE(true, false);
    const std::string name = is_origin ? "cowsnap-one" : bed.store().snapshots.at(1).mapped->name;
    bed.machine.suspend(name);
    const auto problem = [&] {
        return is_origin ? bed.store().origins.at(1).problem : bed.store().snapshots.at(1).problem;
    };
    for (int i = 0; i < 3; ++i)
        bed.refresh();
    CHECK(bed.store().problem.empty());
    CHECK(bed.store().origins.at(1).condition == OriginCondition::Attached);
    CHECK_THAT(problem(), Contains("\"dmsetup resume " + name + "\""));
    CHECK(bed.with(name + " is suspended").size() == 1);
    bed.restart();
    CHECK_THAT(problem(), Contains(name + " is suspended"));
    CHECK(bed.device(name).suspended);
    bed.machine.resume(name, Visibility::Visible);
    bed.refresh();
    CHECK(problem().empty());
    bed.checkUsable("again");
}
