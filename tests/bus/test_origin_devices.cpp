// SPDX-License-Identifier: GPL-2.0-or-later
// What becomes of origins whose devices are pulled out, extended or made smaller.
#include <catch2/catch.hpp>

#include "cowsnap_dm.h"
#include "engine_bed.h"
#include "recorded_log.h"

using namespace cowsnap;
using namespace cowsnap::test;
using Catch::Contains;

namespace {

constexpr std::uint64_t kGrownSectors = 2 * kOriginSectors;

/// A store with the origins "one", interposed, with the snapshot "a", and "two", stacked, with "b".
struct DevicesBed : RecordedLog, EngineBed {
    Uuid store_uuid;
    Uuid one;
    Uuid two;

    DevicesBed() {
        store_uuid = makeStore();
        machine.setUser("/dev/one", "mounted on /one");
        one = engine->attach("/dev/one", store_uuid, "");
        two = engine->attach("/dev/two", store_uuid, "");
        engine->createSnapshots({{one, "a"}, {two, "b"}}, {});
    }

    const OriginState& state(std::uint32_t id) const { return store().origins.at(id); }
    std::string snapshotState(const std::string& name) const {
        return cowsnap::snapshotState(store(), *store().metadata.snapshot(*snapshotNamed(name)));
    }
    void detachOne() {
        engine->deleteSnapshots({*snapshotNamed("a")});
        engine->detach(one);
    }
};

}  // namespace

TEST_CASE("an origin whose device is pulled out says so, and can be cleaned up or come back") {
    DevicesBed bed;
    const bool interposed = GENERATE(true, false);
    const std::string name = interposed ? "one" : "two";
    const std::string path = "/dev/" + name;
    const std::uint32_t id = interposed ? 1 : 2;
    const Uuid uuid = interposed ? bed.one : bed.two;
    bed.machine.removeDisk(path);
    for (int i = 0; i < 3; ++i)
        bed.refresh();
    CHECK(bed.store().problem.empty());
    CHECK(bed.state(id).condition == OriginCondition::Gone);
    CHECK(bed.state(id).device.empty());
    CHECK_THAT(bed.state(id).problem, Contains(path + " has been pulled out") &&
                                          Contains("\"snapd-cli origin detach " + name + "\""));
    CHECK(bed.snapshotState(interposed ? "a" : "b") == "unavailable");
    CHECK(bed.snapshotState(interposed ? "b" : "a") == "active");
    const auto told = bed.with("has been pulled out");
    REQUIRE(told.size() == 1);
    CHECK(told[0].level == spdlog::level::err);
    CHECK(told[0].one(kLogOrigin) == name);
    checkRefused(bed, ErrorKind::NotSupported, "has been pulled out", [&] {
        bed.engine->createSnapshots({{uuid, "c"}}, {});
    });
    checkRefused(bed, ErrorKind::Busy, "is not attached",
                 [&] { bed.engine->rollback(*bed.snapshotNamed(interposed ? "a" : "b"), {}); });
    SECTION("it is cleaned up") {
        bed.engine->deleteSnapshots({*bed.snapshotNamed(interposed ? "a" : "b")});
        bed.engine->detach(uuid);
        CHECK(bed.store().metadata.origins.size() == 1);
        CHECK_FALSE(contains(bed.machine.mappedNames(), "cowsnap-" + name));
    }
    SECTION("it comes back") {
        bed.machine.addDisk(path, kOriginSectors, name + "-serial");
        bed.refresh();
        CHECK(bed.state(id).condition == OriginCondition::Gone);
        CHECK(bed.engine->attach(path, bed.store_uuid, "") == uuid);
        CHECK(bed.state(id).condition == OriginCondition::Attached);
        CHECK(bed.state(id).problem.empty());
        CHECK(bed.state(id).lower == bed.machine.describe(path).number);
        CHECK(bed.snapshotState(interposed ? "a" : "b") == "active");
    }
    SECTION("it is not there at the next start, either") {
        bed.reboot();
        CHECK(bed.state(id).condition == OriginCondition::Missing);
        CHECK_THAT(bed.state(id).problem, Contains("cannot find the device that was " + path));
    }
}

TEST_CASE("a rollback whose device is pulled out ends on another one, as all messages say") {
    DevicesBed bed;
    const Uuid undo = bed.engine->rollback(*bed.snapshotNamed("b"), {"undo"});
    bed.machine.removeDisk("/dev/two");
    SECTION("while it runs") {
        bed.refresh();
        CHECK(bed.state(2).condition == OriginCondition::Gone);
        CHECK_THAT(bed.state(2).problem, Contains("origin attach DEVICE --store main --as two") &&
                                             Contains("\"snapd-cli origin detach two\""));
    }
    SECTION("and is not there after a reboot") {
        bed.reboot();
        CHECK(bed.state(2).condition == OriginCondition::Missing);
    }
    const std::string way_out = "\"snapd-cli origin attach DEVICE --store main --as two\"";
    checkRefused(bed, ErrorKind::Busy, way_out, [&] { bed.engine->deleteSnapshots({undo}); });
    checkRefused(bed, ErrorKind::Busy, way_out, [&] { bed.engine->cancelRollback(bed.two); });
    bed.machine.addDisk("/dev/other", kOriginSectors, "other-serial");
    CHECK(bed.engine->attach("/dev/other", bed.store_uuid, "", std::nullopt, "two") == bed.two);
    CHECK(bed.state(2).condition == OriginCondition::Attached);
    CHECK(bed.state(2).status.rollback == COWSNAP_ROLLBACK_RUNNING);
    bed.machine.endRollback(2);
    bed.engine->deleteSnapshots({undo, *bed.snapshotNamed("b")});
    CHECK_NOTHROW(bed.engine->detach(bed.two));
}

TEST_CASE("a rollback of an origin that is not attached says to attach it") {
    DevicesBed bed;
    bed.machine.remove("cowsnap-two", Visibility::Visible);
    bed.refresh();
    const Refusal refusal = refusalOf([&] { bed.engine->rollback(*bed.snapshotNamed("b"), {}); });
    CHECK(refusal.kind == ErrorKind::Busy);
    CHECK_THAT(refusal.message,
               Contains("\"snapd-cli origin attach /dev/two\"") && !Contains("stop using"));
}

TEST_CASE("a device that was extended keeps its exact snapshots, also over a reboot") {
    DevicesBed bed;
    bed.machine.resizeDisk("/dev/one", kGrownSectors);
    const auto check = [&] {
        CHECK(bed.state(1).condition == OriginCondition::Attached);
        CHECK(bed.state(1).method == AttachMethod::Interposed);
        CHECK(bed.state(1).device == "/dev/one");
        CHECK_THAT(bed.state(1).problem, Contains("/dev/one has grown from 204800 to 409600") &&
                                             Contains("\"snapd-cli origin detach one\"") &&
                                             Contains("\"snapd-cli origin attach /dev/one\""));
        CHECK(bed.snapshotState("a") == "active");
        CHECK(bed.machine.table("cowsnap-one").front().length_sectors == kOriginSectors);
        const std::string device = bed.engine->activate(*bed.snapshotNamed("a"), true);
        CHECK(bed.machine.describe(device).identity.size_sectors == kOriginSectors);
        bed.engine->deactivate(*bed.snapshotNamed("a"));
        checkRefused(bed, ErrorKind::NotSupported, "have nothing of what lies beyond", [&] {
            bed.engine->createSnapshots({{bed.one, "c"}}, {});
        });
        CHECK_NOTHROW(bed.engine->createSnapshots({{bed.two, "of-two"}}, {}));
        bed.engine->deleteSnapshots({*bed.snapshotNamed("of-two")});
    };
    bed.refresh();
    check();
    CHECK(bed.with("has grown").size() == 1);
    SECTION("before it is mounted") {
        bed.machine.setUser("/dev/one", "");
    }
    SECTION("when it is mounted already") {}
    bed.reboot();
    check();
    // as the problem says
    bed.detachOne();
    const Uuid again = bed.engine->attach("/dev/one", bed.store_uuid, "", AttachMethod::Interposed);
    CHECK(bed.store().origins.at(3).problem.empty());
    CHECK(bed.store().origins.at(3).line.size_sectors == kGrownSectors);
    CHECK_NOTHROW(bed.engine->createSnapshots({{again, "c"}}, {}));
}

TEST_CASE("an extended device is attached by hand with the size of its snapshots") {
    DevicesBed bed;
    bed.machine.remove("cowsnap-one", Visibility::Hidden);
    bed.machine.resizeDisk("/dev/one", kGrownSectors);
    CHECK(bed.engine->attach("/dev/one", bed.store_uuid, "") == bed.one);
    CHECK(bed.store().metadata.origin(bed.one)->device.size_sectors == kOriginSectors);
    CHECK_THAT(bed.state(1).problem, Contains("has grown"));
    bed.machine.remove("cowsnap-one", Visibility::Hidden);
    bed.machine.setUser("/dev/one", "");
    checkRefused(bed, ErrorKind::InvalidArgument, "larger than when it was attached", [&] {
        bed.engine->attach("/dev/one", bed.store_uuid, "", AttachMethod::Stacked);
    });
}

TEST_CASE("a larger device is not taken for the origin where only its path says that it is") {
    EngineBed bed;
    const Uuid store = bed.makeStore();
    bed.machine.addDisk("/dev/plain", kOriginSectors);
    const Uuid plain = bed.engine->attach("/dev/plain", store, "", AttachMethod::Interposed);
    bed.engine->createSnapshots({{plain, "a"}}, {});
    bed.engine.reset();
    bed.machine.reboot();
    bed.machine.resizeDisk("/dev/plain", kGrownSectors);
    bed.restart();
    CHECK_THAT(bed.store().origins.at(1).problem, Contains("is larger than before"));
    CHECK(snapshotState(bed.store(), bed.store().metadata.snapshots.front()) == "unavailable");
    bed.engine->attach("/dev/plain", store, "");
    CHECK(bed.store().origins.at(1).mapped);
    CHECK(snapshotState(bed.store(), bed.store().metadata.snapshots.front()) == "active");
}

TEST_CASE("a stacked origin does not stand on a larger device") {
    DevicesBed bed;
    bed.engine.reset();
    bed.machine.reboot();
    bed.machine.resizeDisk("/dev/two", kGrownSectors);
    bed.restart();
    CHECK_THAT(bed.state(2).problem, Contains("is larger than before"));
    CHECK(bed.snapshotState("b") == "unavailable");
    CHECK(bed.snapshotState("a") == "active");
}

TEST_CASE("a stale snapshot of an origin that is missing is stale") {
    DevicesBed bed;
    bed.machine.writtenUnseen(2);
    bed.machine.remove("cowsnap-two", Visibility::Visible);
    bed.refresh();
    CHECK(bed.snapshotState("b") == "stale");
}

TEST_CASE("a device that was extended is rolled back to what it was, in its old size") {
    DevicesBed bed;
    bed.machine.resizeDisk("/dev/one", kGrownSectors);
    const Uuid snapshot = *bed.snapshotNamed("a");
    SECTION("at once") {
        bed.machine.setUser("/dev/one", "");
        bed.engine->rollback(snapshot, {"undo"});
    }
    SECTION("at the next boot") {
        bed.engine->rollback(snapshot, {"undo", true});
        bed.machine.setUser("/dev/one", "");
        bed.reboot();
    }
    SECTION("at the next boot, extended after it was scheduled") {
        bed.machine.resizeDisk("/dev/one", kOriginSectors);
        bed.engine->rollback(snapshot, {"undo", true});
        bed.machine.resizeDisk("/dev/one", kGrownSectors);
        bed.machine.setUser("/dev/one", "");
        bed.reboot();
    }
    CHECK(bed.state(1).status.rollback == COWSNAP_ROLLBACK_RUNNING);
    CHECK(bed.state(1).method == AttachMethod::Stacked);
    CHECK(bed.state(1).device == "/dev/mapper/cowsnap-one");
    CHECK(bed.machine.table("cowsnap-one").front().length_sectors == kOriginSectors);
    CHECK_THAT(bed.state(1).problem, Contains("has grown"));
    bed.machine.endRollback(1);
    bed.reboot();
    CHECK(bed.state(1).method == AttachMethod::Interposed);
    CHECK(bed.snapshotState("a") == "active");
    CHECK(bed.snapshotState("undo") == "active");
}

TEST_CASE("a device that was made smaller while it is an origin is told of") {
    DevicesBed bed;
    bed.machine.resizeDisk("/dev/one", kOriginSectors / 2);
    bed.refresh();
    bed.refresh();
    CHECK(bed.state(1).condition == OriginCondition::Attached);
    CHECK_THAT(bed.state(1).problem, Contains("/dev/one has shrunk from 204800 to 102400"));
    CHECK(bed.with("has shrunk").size() == 1);
    checkRefused(bed, ErrorKind::NotSupported, "before it has its size again", [&] {
        bed.engine->createSnapshots({{bed.one, "c"}}, {});
    });
    bed.machine.resizeDisk("/dev/one", kOriginSectors);
    bed.refresh();
    CHECK(bed.state(1).problem.empty());
    CHECK_NOTHROW(bed.engine->createSnapshots({{bed.one, "c"}}, {}));
}
