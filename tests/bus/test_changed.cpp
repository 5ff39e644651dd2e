// SPDX-License-Identifier: GPL-2.0-or-later
// Mapped devices that someone else removes, or gives other tables: it is told, once, and where;
// what is not touched goes on; and nothing of it is overwritten.
#include <catch2/catch.hpp>

#include "engine_bed.h"
#include "recorded_log.h"

using namespace cowsnap;
using namespace cowsnap::test;
using Catch::Contains;

namespace {

/// A store with two origins, each with a snapshot.
struct ChangedBed : RecordedLog, EngineBed {
    Uuid store_uuid;
    Uuid one;
    Uuid two;

    ChangedBed() {
        store_uuid = makeStore();
        one = engine->attach("/dev/one", store_uuid, "");
        two = engine->attach("/dev/two", store_uuid, "");
        engine->createSnapshots({{one, "a"}, {two, "b"}}, {});
    }

    const OriginState& state(std::uint32_t id) const { return store().origins.at(id); }
    std::vector<MappedTarget> linear(const std::string& disk, std::uint64_t sectors) {
        return {{0, sectors, "linear", machine.describe(disk).number.text() + " 0"}};
    }
    std::string storeName() { return "cowsnap-store-" + store_uuid.brief(); }
    std::string dataName() { return "cowsnap-data-" + store_uuid.brief(); }

    /// Looked at again and again, nothing is written and nothing is done to any mapped device.
    void refreshUntouched() {
        machine.plan(Accident::KillBefore, 0);
        for (int i = 0; i < 3; ++i)
            refresh();
        CHECK_FALSE(machine.accidentHappened());
        machine.planNothing();
    }
    /// All of it can be used.
    void checkUsable(const std::string& name) {
        CHECK(store().problem.empty());
        CHECK_NOTHROW(engine->createSnapshots({{one, name + "1"}, {two, name + "2"}}, {}));
    }
};

}  // namespace

TEST_CASE("an origin whose mapped device is removed says so, and what puts it back") {
    ChangedBed bed;
    bed.machine.remove("cowsnap-one", Visibility::Visible);
    bed.refreshUntouched();
    CHECK(bed.store().problem.empty());
    CHECK(bed.state(1).condition == OriginCondition::Missing);
    CHECK_THAT(bed.state(1).problem, Contains("cowsnap-one has been removed") &&
                                         Contains("snapd-cli origin attach /dev/one"));
    CHECK(bed.state(2).problem.empty());
    const auto told = bed.with("has been removed");
    REQUIRE(told.size() == 1);
    CHECK(told[0].level == spdlog::level::err);
    CHECK(told[0].one(kLogOrigin) == "one");
    CHECK(bed.engine->attach("/dev/one", bed.store_uuid, "") == bed.one);
    CHECK(bed.state(1).problem.empty());
    bed.checkUsable("again");
    CHECK(bed.with("has been removed").size() == 1);
    bed.machine.remove("cowsnap-one", Visibility::Visible);
    bed.refresh();
    CHECK(bed.with("has been removed").size() == 2);
}

TEST_CASE("an origin whose table is replaced leaves the store and its other origins alone") {
    ChangedBed bed;
    const auto table = bed.linear("/dev/one", kOriginSectors);
    bed.machine.reload("cowsnap-one", table, Visibility::Visible);
    bed.refreshUntouched();
    CHECK(bed.store().problem.empty());
    CHECK(bed.state(1).condition == OriginCondition::Changed);
    CHECK_THAT(bed.state(1).problem, Contains("cowsnap-one is not its cow-origin any more") &&
                                         Contains("\"dmsetup remove cowsnap-one\"") &&
                                         Contains("\"snapd-cli origin attach /dev/one\""));
    CHECK(bed.with("is not its cow-origin").size() == 1);
    CHECK(bed.with("is not its cow-origin")[0].one(kLogOrigin) == "one");
    CHECK_NOTHROW(bed.engine->createSnapshots({{bed.two, "c"}}, {}));
    const auto refused = [&](ErrorKind kind, const std::function<void()>& action) {
        checkRefused(bed, kind, "someone changed the table", action);
    };
    refused(ErrorKind::NotSupported, [&] { bed.engine->createSnapshots({{bed.one, "d"}}, {}); });
    refused(ErrorKind::Busy, [&] { bed.engine->attach("/dev/one", bed.store_uuid, ""); });
    bed.engine->deleteSnapshots({*bed.snapshotNamed("a")});
    refused(ErrorKind::Busy, [&] { bed.engine->detach(bed.one); });
    SECTION("a daemon that is started again leaves it, too, and tells it") {
        bed.restart();
        CHECK(bed.machine.table("cowsnap-one") == table);
        CHECK(bed.state(1).condition == OriginCondition::Changed);
        CHECK(bed.state(2).condition == OriginCondition::Attached);
        CHECK(bed.with("is not its cow-origin").size() == 2);
    }
    SECTION("the table is put back") {
        bed.machine.remove("cowsnap-one", Visibility::Visible);
        bed.refresh();
        CHECK_THAT(bed.state(1).problem, Contains("has been removed"));
    }
    bed.machine.planNothing();
    if (contains(bed.machine.mappedNames(), "cowsnap-one"))
        bed.machine.remove("cowsnap-one", Visibility::Visible);
    CHECK(bed.engine->attach("/dev/one", bed.store_uuid, "") == bed.one);
    bed.checkUsable("again");
}

TEST_CASE("a cow-origin that is another one than it was is told of") {
    ChangedBed bed;
    const std::string uuid = deviceMapperUuid(bed.one, "origin");
    bed.machine.remove("cowsnap-one", Visibility::Visible);
    bed.machine.create("cowsnap-one", uuid,
                       {{0, kOriginSectors, "cow-origin",
                         fmt::format("{} 9 {}", bed.store().mapped->number.text(),
                                     bed.machine.describe("/dev/one").number.text())}},
                       Visibility::Visible, false);
    bed.refresh();
    CHECK(bed.state(1).condition == OriginCondition::Changed);
    CHECK(bed.state(2).condition == OriginCondition::Attached);
}

TEST_CASE("the device of a snapshot that gets another table is told of, and can be got rid of") {
    ChangedBed bed;
    const Uuid snapshot = *bed.snapshotNamed("a");
    bed.engine->activate(snapshot, true);
    bed.machine.reload("cowsnap-snap-a", bed.linear("/dev/two", kOriginSectors),
                       Visibility::Hidden);
    bed.refreshUntouched();
    CHECK(bed.store().problem.empty());
    CHECK(bed.with("is not its cow-snap").size() == 1);
    CHECK(bed.with("is not its cow-snap")[0].one(kLogSnapshot) == "a");
    checkRefused(bed, ErrorKind::Busy, "\"dmsetup remove cowsnap-snap-a\"",
                 [&] { bed.engine->activate(snapshot, true); });
    checkRefused(bed, ErrorKind::Busy, "\"dmsetup remove cowsnap-snap-a\"",
                 [&] { bed.engine->deactivate(snapshot); });
    checkRefused(bed, ErrorKind::Busy, "\"dmsetup remove cowsnap-snap-a\"",
                 [&] { bed.engine->deleteSnapshots({snapshot}); });
    PruneOptions all_but_one;
    all_but_one.rules.last = 1;
    bed.engine->createSnapshots({{bed.one, "newer"}, {bed.two, "b-newer"}}, {});
    for (const auto& result : bed.engine->prune({}, all_but_one))
        if (result.name == "a") {
            CHECK(result.action == PruneResult::Action::Keep);
            CHECK(result.reason == "changed");
        }
    REQUIRE(bed.snapshotNamed("a"));
    bed.machine.remove("cowsnap-snap-a", Visibility::Hidden);
    CHECK_NOTHROW(bed.engine->activate(snapshot, true));
    bed.checkUsable("again");
}

TEST_CASE("a store that is moved to other devices is not written, until it is back") {
    ChangedBed bed;
    const std::string data = bed.dataName();
    const auto table = bed.machine.table(data);
    bed.machine.reload(data, bed.linear("/dev/spare", kStoreSectors), Visibility::Hidden);
    // something that the metadata would have to take in
    bed.machine.createBehindTheBack(7, 1);
    bed.refreshUntouched();
    CHECK_THAT(bed.store().problem, Contains("on other devices than before") && Contains(data) &&
                                        Contains(table.front().arguments));
    CHECK(bed.with("on other devices than before").size() == 1);
    checkRefused(bed, ErrorKind::Failed, "on other devices than before", [&] {
        bed.engine->createSnapshots({{bed.two, "c"}}, {});
    });
    SECTION("nor by a daemon that is started again") {
        bed.machine.plan(Accident::KillBefore, 0);
        bed.restart();
        CHECK_FALSE(bed.machine.accidentHappened());
        bed.machine.planNothing();
        CHECK_THAT(bed.store().problem, Contains("stands on other devices than the store"));
        bed.machine.reload(data, table, Visibility::Hidden);
        bed.restart();
    }
    SECTION("it goes on") {
        bed.machine.reload(data, table, Visibility::Hidden);
        bed.refresh();
    }
    CHECK(bed.snapshotNamed("recovered-7"));
    bed.checkUsable("again");
}

TEST_CASE("a cow-store that stands on something else, or is none, is not written") {
    ChangedBed bed;
    const std::string name = bed.storeName();
    const auto table = bed.machine.table(name);
    bed.machine.reload(name, bed.linear("/dev/spare", kStoreSectors), Visibility::Hidden);
    bed.refreshUntouched();
    CHECK_THAT(bed.store().problem, Contains("is no cow-store any more"));
    CHECK(bed.with("is no cow-store any more").size() == 1);
    bed.machine.reload(name, table, Visibility::Hidden);
    bed.refresh();
    bed.checkUsable("again");
    SECTION("it is on a disk itself") {
        for (const char* const origin : {"cowsnap-one", "cowsnap-two"})
            bed.machine.remove(origin, Visibility::Visible);
        bed.machine.remove(name, Visibility::Hidden);
        bed.machine.create(name, deviceMapperUuid(bed.store_uuid, "store"),
                           {{0, kStoreSectors, "cow-store",
                             bed.machine.describe("/dev/store").number.text() + " 6"}},
                           Visibility::Hidden, false);
        bed.refreshUntouched();
        CHECK_THAT(bed.store().problem, Contains("on other devices than before"));
    }
}

TEST_CASE("mapped devices that are renamed are found again by their UUIDs") {
    ChangedBed bed;
    const std::string snapshot = bed.engine->activate(*bed.snapshotNamed("a"), true);
    bed.machine.renameMapped(bed.storeName(), "store");
    bed.machine.renameMapped(bed.dataName(), "data");
    bed.machine.renameMapped("cowsnap-one", "origin");
    bed.machine.renameMapped(snapshot.substr(snapshot.rfind('/') + 1), "snapshot");
    bed.checkUsable("renamed");
    CHECK(bed.state(1).device == "/dev/mapper/origin");
    CHECK(bed.engine->checkStore(bed.store_uuid).empty());
    CHECK_NOTHROW(bed.engine->deleteSnapshots({*bed.snapshotNamed("a")}));
    bed.machine.renameMapped("store", "again");
    CHECK(bed.engine->checkStore(bed.store_uuid).empty());
    bed.restart();
    bed.checkUsable("restarted");
    bed.engine->extendStore(bed.store_uuid, {"/dev/spare"});
    bed.checkUsable("extended");
}

TEST_CASE("a cow-store that is that of another store is not written") {
    EngineBed bed;
    const Uuid store = bed.makeStore();
    const Uuid other = bed.engine->createStore({"/dev/spare"}, "other", {});
    bed.engine->closeStore(other);
    const std::string name = bed.store().mapped->name;
    const auto table = bed.machine.table(name);
    bed.machine.remove(name, Visibility::Hidden);
    for (const std::uint64_t offset : {std::uint64_t{0}, std::uint64_t{1} << 20})
        bed.machine.write("/dev/store", offset, bed.machine.read("/dev/spare", offset, 4096));
    bed.machine.create(name, deviceMapperUuid(store, "store"), table, Visibility::Hidden, false);
    bed.machine.plan(Accident::KillBefore, 0);
    bed.refresh();
    CHECK_FALSE(bed.machine.accidentHappened());
    CHECK_THAT(bed.store().problem, Contains("is that of the store " + other.dashed()));
}

TEST_CASE("an extension that failed half-way does not decide about the next one's device") {
    ChangedBed bed;
    bed.machine.addDisk("/dev/third", 2 * kStoreSectors, "third-serial");
    bed.machine.plan(Accident::Fail, 3);  // after the table of the data device, at the store's
    checkRefused(bed, ErrorKind::Failed, "planned",
                 [&] { bed.engine->extendStore(bed.store_uuid, {"/dev/spare"}); });
    REQUIRE(bed.machine.table(bed.dataName()).size() == 2);
    bed.refresh();
    CHECK(bed.store().problem.empty());
    SECTION("the next one is of another device") {
        bed.engine->extendStore(bed.store_uuid, {"/dev/third"});
        const auto table = bed.machine.table(bed.dataName());
        REQUIRE(table.size() == 2);
        CHECK(table[1].arguments == bed.machine.describe("/dev/third").number.text() + " 0");
        CHECK(bed.store().length_sectors == 3 * kStoreSectors);
    }
    SECTION("the next one is of a smaller device") {
        bed.machine.addDisk("/dev/fourth", kStoreSectors / 2, "fourth-serial");
        bed.engine->extendStore(bed.store_uuid, {"/dev/fourth"});
        CHECK(bed.machine.table(bed.dataName())[1].arguments ==
              bed.machine.describe("/dev/fourth").number.text() + " 0");
    }
    SECTION("there is none") {}
    bed.restart();
    bed.checkUsable("again");
}
