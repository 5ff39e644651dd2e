// SPDX-License-Identifier: GPL-2.0-or-later
// What is said of snapshots: names, holds, tags, descriptions, times of expiry.
#include <catch2/catch.hpp>

#include "cowsnap_dm.h"
#include "engine_bed.h"

using namespace cowsnap;
using namespace cowsnap::test;
using Catch::Contains;

namespace {

using Names = std::set<std::string>;

/// One store with an origin that has the snapshots "a" and "b".
struct RecordBed : EngineBed {
    Uuid one;
    Uuid a;
    Uuid b;

    RecordBed() {
        one = engine->attach("/dev/one", makeStore(), "");
        a = engine->createSnapshots({{one, "a"}}, {}).front();
        b = engine->createSnapshots({{one, "b"}}, {}).front();
    }
    const SnapshotRecord& record(const Uuid& uuid) const {
        return *store().metadata.snapshot(uuid);
    }
};

}  // namespace

TEST_CASE("a snapshot is renamed, to a name that is free, and keeps its device") {
    RecordBed bed;
    const std::string device = bed.engine->activate(bed.a, true);
    checkRefused(bed, ErrorKind::Exists, "named \"b\" already",
                 [&] { bed.engine->renameSnapshot(bed.a, "b"); });
    checkRefused(bed, ErrorKind::InvalidArgument, "'/'",
                 [&] { bed.engine->renameSnapshot(bed.a, "a/b"); });
    checkRefused(bed, ErrorKind::NotFound, "no snapshot",
                 [&] { bed.engine->renameSnapshot(Uuid::random(), "c"); });
    CHECK(bed.record(bed.a).name == "a");
    bed.engine->renameSnapshot(bed.a, "a");
    bed.engine->renameSnapshot(bed.a, "c");
    CHECK(bed.engine->activate(bed.a, true) == device);
    bed.restart();
    CHECK(bed.snapshotNamed("c") == bed.a);
    CHECK_FALSE(bed.snapshotNamed("a"));
    bed.engine->renameSnapshot(bed.b, "a");
    CHECK(bed.snapshotNamed("a") == bed.b);
    CHECK_NOTHROW(bed.engine->deactivate(bed.a));
}

TEST_CASE("a held snapshot is not deleted until its last hold is released") {
    RecordBed bed;
    bed.engine->holdSnapshots({bed.a, bed.b}, "backup");
    bed.engine->holdSnapshots({bed.a}, "audit ü");
    SECTION("at once") {}
    SECTION("after a restart") {
        bed.restart();
    }
    SECTION("after a reboot") {
        bed.reboot();
    }
    CHECK(bed.record(bed.a).holds == Names{"audit ü", "backup"});
    checkRefused(bed, ErrorKind::Held, "a is held (audit ü, backup)",
                 [&] { bed.engine->deleteSnapshots({bed.a}); });
    bed.engine->releaseSnapshots({bed.a, bed.b}, "backup");
    const Uuid c = bed.engine->createSnapshots({{bed.one, "c"}}, {}).front();
    checkRefused(bed, ErrorKind::Held, "a is held (audit ü)", [&] {
        bed.engine->deleteSnapshots({c, bed.b, bed.a});
    });
    bed.engine->deleteSnapshots({bed.b});
    bed.engine->releaseSnapshots({bed.a}, "audit ü");
    bed.engine->deleteSnapshots({bed.a, c});
    CHECK(bed.machine.snapshotIds().empty());
}

TEST_CASE("a hold is set or released for all that are named, or for none") {
    RecordBed bed;
    bed.engine->holdSnapshots({bed.a}, "x");
    checkRefused(bed, ErrorKind::Exists, "a has a hold \"x\"", [&] {
        bed.engine->holdSnapshots({bed.b, bed.a}, "x");
    });
    CHECK(bed.record(bed.b).holds.empty());
    checkRefused(bed, ErrorKind::NotFound, "b is not held", [&] {
        bed.engine->releaseSnapshots({bed.a, bed.b}, "x");
    });
    CHECK(bed.record(bed.a).holds == Names{"x"});
    checkRefused(bed, ErrorKind::NotFound, "it has: x",
                 [&] { bed.engine->releaseSnapshots({bed.a}, "y"); });
    checkRefused(bed, ErrorKind::InvalidArgument, "name of a hold",
                 [&] { bed.engine->holdSnapshots({bed.b}, "x\n"); });
    checkRefused(bed, ErrorKind::InvalidArgument, "at least one",
                 [&] { bed.engine->holdSnapshots({}, "x"); });
    checkRefused(bed, ErrorKind::InvalidArgument, "at least one",
                 [&] { bed.engine->releaseSnapshots({}, "x"); });
    bed.machine.plan(Accident::Fail, 0);
    checkRefused(bed, ErrorKind::Failed, "planned",
                 [&] { bed.engine->holdSnapshots({bed.b}, "x"); });
    CHECK(bed.record(bed.b).holds.empty());
    bed.restart();
    CHECK(bed.record(bed.b).holds.empty());
    CHECK(bed.record(bed.a).holds == Names{"x"});
}

TEST_CASE("a hold yields when the kernel needs room, and that is told") {
    RecordBed bed;
    bed.engine->holdSnapshots({bed.a}, "backup");
    bed.machine.drop(1);
    bed.machine.drop(2);
    bed.refresh();
    const auto dropped = bed.takeDropped();
    REQUIRE(dropped.size() == 2);
    CHECK_THAT(dropped[0].reason,
               Contains("make room") && Contains("although it was held (backup)"));
    CHECK_THAT(dropped[1].reason, Contains("make room") && !Contains("held"));
    CHECK(bed.store().metadata.snapshots.empty());
}

TEST_CASE("description, tags and expiry are given at creation or later, and kept") {
    RecordBed bed;
    SnapshotOptions options;
    options.description = "first";
    options.tags = {"nightly", "db=main"};
    options.holds = {"backup"};
    options.expires = 2000000000;
    const Uuid c = bed.engine->createSnapshots({{bed.one, "c"}}, options).front();
    bed.engine->setDescription(bed.a, "ä");
    bed.engine->setTags(bed.a, {"y", "x", "y"});
    bed.engine->setExpiry(bed.a, 5);
    bed.restart();
    CHECK(bed.record(c).description == "first");
    CHECK(bed.record(c).tags == Names{"db=main", "nightly"});
    CHECK(bed.record(c).holds == Names{"backup"});
    CHECK(bed.record(c).expires == 2000000000);
    CHECK(bed.record(bed.a).description == "ä");
    CHECK(bed.record(bed.a).tags == Names{"x", "y"});
    CHECK(bed.record(bed.a).expires == 5);
    bed.engine->setDescription(bed.a, "");
    bed.engine->changeTags(bed.a, {"z", "x"}, {"y"});
    CHECK(bed.record(bed.a).tags == Names{"x", "z"});
    bed.engine->changeTags(bed.a, {}, {"x"});
    bed.engine->changeTags(bed.a, {"w"}, {});
    bed.restart();
    CHECK(bed.record(bed.a).tags == Names{"w", "z"});
    checkRefused(bed, ErrorKind::NotFound, "has no tag \"y\"", [&] {
        bed.engine->changeTags(bed.a, {"v"}, {"w", "y"});
    });
    checkRefused(bed, ErrorKind::InvalidArgument, "name of a tag",
                 [&] { bed.engine->changeTags(bed.a, {""}, {"w"}); });
    checkRefused(bed, ErrorKind::InvalidArgument, "at least one tag",
                 [&] { bed.engine->changeTags(bed.a, {}, {}); });
    bed.engine->setTags(bed.a, {});
    bed.engine->setExpiry(bed.a, 0);
    bed.restart();
    CHECK(bed.record(bed.a).description.empty());
    CHECK(bed.record(bed.a).tags.empty());
    CHECK(bed.record(bed.a).expires == 0);

    checkRefused(bed, ErrorKind::InvalidArgument, "description",
                 [&] { bed.engine->setDescription(bed.a, "a\nb"); });
    checkRefused(bed, ErrorKind::InvalidArgument, "name of a tag", [&] {
        bed.engine->setTags(bed.a, {"x", ""});
    });
    checkRefused(bed, ErrorKind::InvalidArgument, "year 9999",
                 [&] { bed.engine->setExpiry(bed.a, 253402300800); });
    const auto refusedAtCreation = [&](const std::string& cause, auto spoil) {
        SnapshotOptions wrong;
        spoil(wrong);
        checkRefused(bed, ErrorKind::InvalidArgument, cause, [&] {
            bed.engine->createSnapshots({{bed.one, "d"}}, wrong);
        });
    };
    refusedAtCreation("name of a tag", [](auto& wrong) { wrong.tags = {"a/b"}; });
    refusedAtCreation("name of a hold", [](auto& wrong) { wrong.holds = {""}; });
    refusedAtCreation("year 9999", [](auto& wrong) { wrong.expires = 253402300800; });
}

TEST_CASE("what is said of snapshots of several stores is said in each of them") {
    RecordBed bed;
    const Uuid other = bed.engine->createStore({"/dev/spare"}, "other", {});
    const Uuid two = bed.engine->attach("/dev/two", other, "");
    const Uuid far = bed.engine->createSnapshots({{two, "far"}}, {}).front();
    const auto holdsOf = [&](const Uuid& uuid) {
        for (const auto& [key, store] : bed.engine->stores())
            if (const auto* record = store.metadata.snapshot(uuid))
                return record->holds;
        return Names{"no such snapshot"};
    };
    bed.engine->holdSnapshots({bed.a, far}, "x");
    bed.restart();
    CHECK(holdsOf(bed.a) == Names{"x"});
    CHECK(holdsOf(far) == Names{"x"});
    checkRefused(bed, ErrorKind::Held, "held", [&] { bed.engine->deleteSnapshots({bed.b, far}); });
    checkRefused(bed, ErrorKind::NotFound, "b is not held", [&] {
        bed.engine->releaseSnapshots({far, bed.b}, "x");
    });
    CHECK(holdsOf(far) == Names{"x"});
}
