// SPDX-License-Identifier: GPL-2.0-or-later
// The whole of it: from a store to snapshots and back, and that all is found again.
#include <catch2/catch.hpp>

#include "engine_bed.h"

using namespace cowsnap;
using namespace cowsnap::test;

TEST_CASE("a store is made, an origin attached, snapshots created and deleted") {
    EngineBed bed;
    Engine& engine = *bed.engine;
    const Uuid store = bed.makeStore();
    CHECK(bed.machine.mappedNames().size() == 2);
    const Uuid one = engine.attach("/dev/one", store, "");
    const Uuid two = engine.attach("/dev/two", store, "data");
    CHECK(contains(bed.machine.mappedNames(), "cowsnap-one"));
    CHECK(contains(bed.machine.mappedNames(), "cowsnap-data"));
    const auto set = engine.createSnapshots({{one, "a"}, {two, "b"}}, {});
    REQUIRE(set.size() == 2);
    CHECK(bed.machine.messages().back() == "create 1 1 2 2");
    engine.createSnapshots({{one, "c"}}, {true, "third"});
    CHECK(bed.store().metadata.snapshots.size() == 3);
    CHECK(bed.store().metadata.snapshot(set[0])->set == bed.store().metadata.snapshot(set[1])->set);
    engine.deleteSnapshots({set[0], set[1]});
    CHECK(bed.machine.messages().back() == "delete 1 2");
    CHECK(bed.machine.snapshotIds() == std::vector<std::uint32_t>{3});
    checkRefused(bed, ErrorKind::Busy, "delete them first", [&] { engine.detach(one); });
    engine.deleteSnapshots({*bed.snapshotNamed("c")});
    engine.detach(one);
    engine.detach(two);
    CHECK(bed.machine.originIds().empty());
    engine.closeStore(store);
    CHECK(bed.machine.mappedNames().empty());
    CHECK(engine.stores().empty());
}

TEST_CASE("everything is found again after a restart and after a reboot") {
    EngineBed bed;
    const Uuid store = bed.makeStore();
    const Uuid one = bed.engine->attach("/dev/one", store, "");
    for (int i = 0; i < 7; ++i)
        bed.engine->createSnapshots({{one, "s" + std::to_string(i)}}, {i % 2 == 0, "text"});
    const std::string before = formatMetadata(bed.store().metadata);
    SECTION("restart") {
        bed.restart();
    }
    SECTION("reboot") {
        bed.reboot();
    }
    SECTION("reboot, with the disks under other names") {
        bed.engine.reset();
        bed.machine.reboot();
        bed.machine.renameDisk("/dev/store", "/dev/x");
        bed.machine.renameDisk("/dev/one", "/dev/store");
        bed.machine.renameDisk("/dev/x", "/dev/one");
        bed.restart();
        CHECK(bed.store().problem.empty());
        CHECK(bed.store().origins.at(1).mapped);
        return;
    }
    SECTION("restart without the registry") {
        std::filesystem::remove(bed.directory.path() / "stores.json");
        bed.restart();
    }
    REQUIRE(bed.engine->stores().size() == 1);
    CHECK(bed.store().problem.empty());
    CHECK(formatMetadata(bed.store().metadata) == before);
    CHECK(bed.store().origins.at(1).mapped);
    CHECK(contains(bed.machine.mappedNames(), "cowsnap-one"));
}
