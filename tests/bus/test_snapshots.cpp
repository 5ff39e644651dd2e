// SPDX-License-Identifier: GPL-2.0-or-later
// Snapshots: creating, deleting, their devices, and those that go by themselves.
#include <catch2/catch.hpp>

#include <filesystem>
#include <fstream>

#include "assembly/activation.h"
#include "cowsnap_dm.h"
#include "engine_bed.h"

using namespace cowsnap;
using namespace cowsnap::test;
using Catch::Contains;

TEST_CASE("ids are never used again") {
    EngineBed bed;
    const Uuid store = bed.makeStore();
    const Uuid one = bed.engine->attach("/dev/one", store, "");
    const auto first = bed.engine->createSnapshots({{one, "a"}}, {});
    bed.engine->deleteSnapshots(first);
    bed.engine->createSnapshots({{one, "a"}}, {});
    CHECK(bed.machine.snapshotIds() == std::vector<std::uint32_t>{2});
    bed.engine->deleteSnapshots({*bed.snapshotNamed("a")});
    bed.engine->detach(one);
    bed.restart();
    bed.engine->attach("/dev/one", store, "");
    CHECK(bed.machine.originIds() == std::vector<std::uint32_t>{2});
}

TEST_CASE("snapshots that cannot be created are refused") {
    EngineBed bed;
    Engine& engine = *bed.engine;
    const Uuid store = bed.makeStore();
    const Uuid one = engine.attach("/dev/one", store, "");
    const Uuid two = engine.attach("/dev/two", store, "");
    engine.createSnapshots({{one, "a"}}, {});
    using Members = std::vector<std::pair<Uuid, std::string>>;
    const auto refused = [&](ErrorKind kind, const std::string& cause, const Members& members,
                             const SnapshotOptions& options = {}) {
        checkRefused(bed, kind, cause, [&] { engine.createSnapshots(members, options); });
    };
    refused(ErrorKind::InvalidArgument, "at least one origin", {});
    refused(ErrorKind::Exists, "named \"a\"", {{two, "a"}});
    refused(ErrorKind::Exists, "named \"x\"", {{one, "x"}, {two, "x"}});
    refused(ErrorKind::InvalidArgument, "twice", {{one, "x"}, {one, "y"}});
    refused(ErrorKind::NotFound, "no origin", {{Uuid::random(), "x"}});
    refused(ErrorKind::InvalidArgument, "127", {{one, std::string(128, 'x')}});
    refused(ErrorKind::InvalidArgument, "description", {{one, "x"}}, {false, "a\nb"});
    refused(ErrorKind::InvalidArgument, "description", {{one, "x"}},
            {false, std::string(1025, 'x')});
    refused(ErrorKind::InvalidArgument, fmt::format("at most {}", COWSNAP_SET_MAX),
            Members(COWSNAP_SET_MAX + 1, {one, "x"}));
    bed.machine.plan(Accident::Fail, 1);
    refused(ErrorKind::Failed, "no snapshot was created", {{one, "x"}, {two, "y"}});
    CHECK(bed.store().metadata.snapshots.size() == 1);
    bed.machine.plan(Accident::Fail, 0);
    refused(ErrorKind::Failed, "planned", {{one, "x"}});
    CHECK(bed.store().metadata.snapshots.size() == 1);
    CHECK_NOTHROW(engine.createSnapshots({{one, "x"}, {two, "y"}}, {}));
}

TEST_CASE("a snapshot is file-system consistent if all that is mounted was frozen") {
    EngineBed bed;
    using Kind = DeviceUser::Kind;
    const Uuid store = bed.makeStore();
    const auto consistency = [&](const Uuid& origin) {
        const Uuid snapshot = bed.engine->createSnapshots({{origin, "a"}}, {}).front();
        bed.restart();
        const Consistency result = bed.store().metadata.snapshot(snapshot)->consistency;
        bed.engine->deleteSnapshots({snapshot});
        return result;
    };
    SECTION("stacked") {
        const Uuid one = bed.engine->attach("/dev/one", store, "");
        CHECK(consistency(one) == Consistency::Crash);
        bed.machine.setUser("/dev/mapper/cowsnap-one", "mounted on /one");
        CHECK(consistency(one) == Consistency::FileSystem);
        bed.machine.setUser("/dev/mapper/cowsnap-one", "in use by vg-lv", Kind::Other);
        CHECK(consistency(one) == Consistency::Crash);
    }
    SECTION("interposed") {
        bed.machine.setUser("/dev/one", "mounted on /one");
        const Uuid one = bed.engine->attach("/dev/one", store, "");
        CHECK(consistency(one) == Consistency::FileSystem);
        bed.machine.setUser("/dev/one", "in use by vg-lv", Kind::Other);
        CHECK(consistency(one) == Consistency::Crash);
        bed.machine.setUser("/dev/one", "");
        CHECK(consistency(one) == Consistency::Crash);
    }
    SECTION("a disk with partitions") {
        bed.machine.addPartition("/dev/one1", "/dev/one");
        bed.machine.addPartition("/dev/one2", "/dev/one");
        bed.machine.setUser("/dev/one1", "mounted on /one");
        const Uuid one = bed.engine->attach("/dev/one", store, "");
        CHECK(consistency(one) == Consistency::FileSystem);
        bed.machine.setUser("/dev/one2", "active swap", Kind::Swap);
        CHECK(consistency(one) == Consistency::FileSystem);
        bed.machine.setUser("/dev/one2", "in use by vg-lv", Kind::Other);
        CHECK(consistency(one) == Consistency::Crash);
        bed.machine.setUser("/dev/one2", "active swap", Kind::Swap);
        bed.machine.setUser("/dev/one1", "");
        CHECK(consistency(one) == Consistency::Crash);
    }
}

TEST_CASE("a file system on a file of another one is frozen before that") {
    EngineBed bed;
    bed.machine.putOn("/dev/two", "/dev/one");
    const Uuid store = bed.makeStore();
    const Uuid two = bed.engine->attach("/dev/two", store, "", AttachMethod::Interposed);
    const Uuid one = bed.engine->attach("/dev/one", store, "", AttachMethod::Interposed);
    const auto created = bed.engine->createSnapshots({{one, "a"}, {two, "b"}}, {});
    const auto id = [&](const Uuid& uuid) { return bed.store().metadata.snapshot(uuid)->id; };
    CHECK(bed.snapshotNamed("a") == created[0]);
    CHECK_THAT(bed.machine.messages().back(),
               Contains(fmt::format("create {} 1 {} 2", id(created[1]), id(created[0]))));
}

TEST_CASE("an origin that is suspended is not in one set with the file system of its file") {
    EngineBed bed;
    bed.machine.addDisk("/dev/loop0", kOriginSectors);
    bed.machine.putOn("/dev/loop0", "/dev/one");
    bed.machine.setUser("/dev/one", "mounted on /one");
    const Uuid store = bed.makeStore();
    const Uuid one = bed.engine->attach("/dev/one", store, "");
    const auto create = [&](const Uuid& file) {
        bed.engine->createSnapshots({{one, "a"}, {file, "b"}}, {});
    };
    SECTION("stacked") {
        const Uuid file = bed.engine->attach("/dev/loop0", store, "", AttachMethod::Stacked);
        checkRefused(bed, ErrorKind::NotSupported, "Create them one after the other",
                     [&] { create(file); });
        CHECK_NOTHROW(bed.engine->createSnapshots({{file, "alone"}}, {}));
        bed.machine.setUser("/dev/mapper/cowsnap-loop0", "mounted on /file");
        CHECK_NOTHROW(create(file));
    }
    SECTION("interposed: its writes are waited for with a limit") {
        CHECK_NOTHROW(
            create(bed.engine->attach("/dev/loop0", store, "", AttachMethod::Interposed)));
    }
}

TEST_CASE("a set is of one store") {
    EngineBed bed;
    const Uuid main = bed.makeStore();
    const Uuid other = bed.engine->createStore({"/dev/spare"}, "other", {});
    const Uuid one = bed.engine->attach("/dev/one", main, "");
    const Uuid two = bed.engine->attach("/dev/two", other, "");
    checkRefused(bed, ErrorKind::InvalidArgument, "one store", [&] {
        bed.engine->createSnapshots({{one, "a"}, {two, "b"}}, {});
    });
    bed.engine->createSnapshots({{one, "a"}}, {});
    bed.engine->createSnapshots({{two, "a"}}, {});
    CHECK(bed.machine.snapshotIds().size() == 2);
}

TEST_CASE("a snapshot has a device while it is active") {
    EngineBed bed;
    Engine& engine = *bed.engine;
    const Uuid store = bed.makeStore();
    const Uuid one = engine.attach("/dev/one", store, "");
    const Uuid fixed = engine.createSnapshots({{one, "fixed"}}, {}).front();
    const Uuid writable = engine.createSnapshots({{one, "writable ü"}}, {true, ""}).front();
    checkRefused(bed, ErrorKind::InvalidArgument, "is read-only",
                 [&] { engine.activate(fixed, false); });
    CHECK(engine.activate(fixed, true) == "/dev/mapper/cowsnap-snap-fixed");
    CHECK(engine.activate(fixed, true) == "/dev/mapper/cowsnap-snap-fixed");
    CHECK(bed.machine.describe("/dev/mapper/cowsnap-snap-fixed").read_only);
    const std::string device = engine.activate(writable, false);
    CHECK(device == "/dev/mapper/cowsnap-snap-writable___");
    checkRefused(bed, ErrorKind::Busy, "deactivate it first",
                 [&] { engine.activate(writable, true); });
    bed.machine.setOpen(device, true);
    checkRefused(bed, ErrorKind::Busy, "is open", [&] { engine.deactivate(writable); });
    checkRefused(bed, ErrorKind::Busy, "is open", [&] {
        engine.deleteSnapshots({fixed, writable});
    });
    CHECK(bed.machine.snapshotIds().size() == 2);
    bed.machine.setOpen(device, false);
    bed.restart();
    CHECK(bed.store().snapshots.at(2).mapped);
    bed.engine->deactivate(writable);
    bed.engine->deactivate(writable);
    CHECK_FALSE(contains(bed.machine.mappedNames(), "cowsnap-snap-writable___"));
    bed.engine->deleteSnapshots({fixed});  // active, but nobody has it open
    CHECK_FALSE(contains(bed.machine.mappedNames(), "cowsnap-snap-fixed"));
    checkRefused(bed, ErrorKind::NotFound, "no snapshot",
                 [&] { bed.engine->activate(fixed, true); });
    checkRefused(bed, ErrorKind::NotFound, "no snapshot", [&] { bed.engine->deactivate(fixed); });
    checkRefused(bed, ErrorKind::NotFound, "no snapshot",
                 [&] { bed.engine->deleteSnapshots({fixed}); });
    checkRefused(bed, ErrorKind::InvalidArgument, "at least one",
                 [&] { bed.engine->deleteSnapshots({}); });
}

TEST_CASE("what the kernel drops goes, and the reason is told") {
    EngineBed bed;
    const Uuid store = bed.makeStore();
    const Uuid one = bed.engine->attach("/dev/one", store, "");
    const Uuid a = bed.engine->createSnapshots({{one, "a"}}, {}).front();
    bed.engine->createSnapshots({{one, "b"}}, {});
    bed.machine.raise(COWSNAP_EVENT_LOW_WATER, 3);
    bed.machine.drop(1);
    bed.machine.forgetSnapshot(2);
    bed.refresh();
    const auto events = bed.takeEvents();
    REQUIRE(events.size() == 2);
    CHECK(events[0].event == COWSNAP_EVENT_LOW_WATER);
    CHECK_THAT(events[0].text, Contains("extend it"));
    const auto dropped = bed.takeDropped();
    REQUIRE(dropped.size() == 2);
    CHECK(dropped[0].snapshot == a);
    CHECK_THAT(dropped[0].reason, Contains("make room"));
    CHECK_THAT(dropped[1].reason, Contains("not in the store"));
    CHECK(bed.store().metadata.snapshots.empty());
    bed.refresh();
    CHECK(bed.takeEvents().empty());
    SECTION("also while no daemon runs, and old events are not told again") {
        bed.engine->createSnapshots({{one, "c"}}, {});
        bed.engine.reset();
        bed.machine.drop(3);
        bed.restart();
        const auto since = bed.takeEvents();
        REQUIRE(since.size() == 1);
        CHECK(since[0].event == COWSNAP_EVENT_DROPPED);
        CHECK(since[0].id == 3);
        const auto later = bed.takeDropped();
        REQUIRE(later.size() == 1);
        CHECK_THAT(later[0].reason, Contains("make room"));
    }
}

TEST_CASE("what the kernel told before any daemon ran is told by the first one, and only by it") {
    EngineBed bed;
    const Uuid store = bed.makeStore();
    const Uuid one = bed.engine->attach("/dev/one", store, "data");
    bed.engine->createSnapshots({{one, "a"}}, {});
    bed.engine.reset();
    bed.machine.reboot();
    std::filesystem::remove_all(bed.runDirectory());
    const auto registered = StoreRegistry(bed.directory.path()).read();
    activateStores(bed.machine, bed.machine, LossRecords(bed.directory.path()), registered);
    bed.machine.writtenUnseen(1);
    bed.restart();
    const auto events = bed.takeEvents();
    REQUIRE(events.size() == 1);
    CHECK(events[0].event == COWSNAP_EVENT_STALE);
    CHECK_THAT(events[0].text, Contains("the origin data was written"));
    bed.restart();
    CHECK(bed.takeEvents().empty());
    SECTION("the next boot's numbers begin anew") {
        bed.reboot();
        bed.machine.writtenUnseen(1);
        bed.refresh();
        CHECK(bed.takeEvents().size() == 1);
    }
    SECTION("and those of a store that is started again") {
        bed.engine.reset();
        bed.machine.reboot();
        bed.restart();
        bed.machine.writtenUnseen(1);
        bed.restart();
        CHECK(bed.takeEvents().size() == 1);
    }
    SECTION("what cannot be understood is told again") {
        std::ofstream(bed.runDirectory() / ("told-" + store.dashed())) << "rubbish";
        bed.restart();
        CHECK(bed.takeEvents().size() == 1);
    }
}

TEST_CASE("snapshots of an origin that was written unseen are stale, and it is told") {
    EngineBed bed;
    const Uuid store = bed.makeStore();
    const Uuid one = bed.engine->attach("/dev/one", store, "data");
    bed.engine->createSnapshots({{one, "a"}}, {});
    bed.machine.writtenUnseen(1);
    bed.refresh();
    const auto events = bed.takeEvents();
    REQUIRE(events.size() == 1);
    CHECK(events[0].event == COWSNAP_EVENT_STALE);
    CHECK_THAT(events[0].text, Contains("the origin data was written"));
    CHECK(bed.store().snapshots.at(1).line.state == COWSNAP_STATE_STALE);
    CHECK_FALSE(bed.engine->activate(*bed.snapshotNamed("a"), true).empty());
}

TEST_CASE("a snapshot that the metadata does not know is adopted") {
    EngineBed bed;
    const Uuid store = bed.makeStore();
    const Uuid one = bed.engine->attach("/dev/one", store, "");
    bed.machine.createBehindTheBack(17, 1);
    bed.restart();
    REQUIRE(bed.snapshotNamed("recovered-17"));
    bed.engine->createSnapshots({{one, "next"}}, {});
    CHECK(bed.machine.snapshotIds() == std::vector<std::uint32_t>{17, 18});
}

namespace {

/// Snapshots with the ids from 1 on, made without the daemon, which is quicker.
struct ManyBed : EngineBed {
    Uuid one;

    explicit ManyBed(std::uint32_t count) {
        machine.makeSlotsLarge();
        one = engine->attach("/dev/one", makeStore(), "");
        for (std::uint32_t id = 1; id <= count; ++id)
            machine.createBehindTheBack(id, 1);
        refresh();
        machine.forgetMessages();
    }

    std::vector<Uuid> all() const {
        std::vector<Uuid> uuids;
        for (const auto& snapshot : store().metadata.snapshots)
            uuids.push_back(snapshot.uuid);
        return uuids;
    }
    /// How many snapshots each message deleted.
    std::vector<std::ptrdiff_t> parts() const {
        std::vector<std::ptrdiff_t> parts;
        for (const auto& message : machine.messages())
            parts.push_back(std::count(message.begin(), message.end(), ' '));
        return parts;
    }
};

constexpr std::uint32_t kTwoParts = COWSNAP_DELETE_MAX + 20;

}  // namespace

TEST_CASE("more snapshots than the kernel deletes at once go in parts") {
    ManyBed bed(kTwoParts);
    const auto all = bed.all();
    REQUIRE(all.size() == kTwoParts);
    const std::vector<std::ptrdiff_t> parts{COWSNAP_DELETE_MAX, 20};
    SECTION("all of them") {
        bed.engine->deleteSnapshots(all);
        CHECK(bed.parts() == parts);
        CHECK(bed.machine.snapshotIds().empty());
        bed.restart();
        CHECK(bed.all().empty());
    }
    SECTION("also when they are pruned") {
        PruneOptions options;
        options.rules.last = 1;
        options.now = 2000000000;
        bed.engine->prune({}, options);
        CHECK(bed.machine.snapshotIds() == std::vector<std::uint32_t>{kTwoParts});
    }
    SECTION("a held one keeps all") {
        bed.engine->holdSnapshots({all.back()}, "x");
        checkRefused(bed, ErrorKind::Held, "is held", [&] { bed.engine->deleteSnapshots(all); });
    }
    SECTION("what is gone is told if a part fails, and can still be read") {
        bed.machine.plan(Accident::Fail, 2);
        const Refusal refusal = refusalOf([&] { bed.engine->deleteSnapshots(all); });
        CHECK(refusal.kind == ErrorKind::PartlyDone);
        INFO(refusal.message);
        CHECK_THAT(refusal.message, Contains("deleted of the store main: recovered-1, ") &&
                                        Contains("and 998 more, but not recovered-1009, ") &&
                                        Contains("and 10 more: ") && Contains("planned"));
        CHECK(refusal.message.size() < 600);
        CHECK(bed.machine.snapshotIds().size() == 20);
        bed.restart();
        CHECK(bed.machine.snapshotIds().size() == 20);
        CHECK(bed.all().size() == 20);
    }
    SECTION("what pruning did in part is told of each snapshot") {
        PruneOptions options;
        options.rules.last = 1;
        options.now = 2000000000;
        bed.machine.plan(Accident::Fail, 2);
        std::map<PruneResult::Action, std::size_t> counts;
        for (const auto& result : bed.engine->prune({}, options))
            ++counts[result.action];
        CHECK(counts[PruneResult::Action::Delete] == COWSNAP_DELETE_MAX);
        CHECK(counts[PruneResult::Action::Failed] == 19);
        CHECK(counts[PruneResult::Action::Keep] == 1);
    }
    SECTION("the next start goes on after a crash between two parts") {
        bed.machine.plan(GENERATE(Accident::KillAfter, Accident::Tear), GENERATE(1u, 2u));
        CHECK_THROWS_AS(bed.engine->deleteSnapshots(all), Killed);
        bed.restart();
        CHECK(bed.machine.snapshotIds().empty());
        CHECK(bed.all().empty());
    }
}

TEST_CASE("what is done in one store is told when it fails in the next one") {
    EngineBed bed;
    const Uuid first = bed.makeStore();
    const Uuid second = bed.engine->createStore({"/dev/spare"}, "other", {});
    const Uuid a =
        bed.engine->createSnapshots({{bed.engine->attach("/dev/one", first, ""), "a"}}, {}).front();
    const Uuid b =
        bed.engine->createSnapshots({{bed.engine->attach("/dev/two", second, ""), "b"}}, {})
            .front();
    // They go in the order of their UUIDs.
    const bool in_order = first < second;
    const std::string done = in_order ? "a" : "b";
    const std::string done_in = in_order ? "main" : "other";
    const std::string failed_in = in_order ? "other" : "main";
    SECTION("deleting") {
        bed.machine.plan(Accident::Fail, 4);  // after slot, message and slot of the first one
        const Refusal refusal = refusalOf([&] { bed.engine->deleteSnapshots({a, b}); });
        CHECK(refusal.kind == ErrorKind::PartlyDone);
        INFO(refusal.message);
        CHECK_THAT(refusal.message,
                   Contains("deleted of the store " + done_in + ": " + done) &&
                       Contains("no snapshot of the store " + failed_in + " was deleted"));
        CHECK(bed.machine.snapshotIds().size() == 1);
    }
    SECTION("holding") {
        bed.machine.plan(Accident::Fail, 1);
        const Refusal refusal = refusalOf([&] { bed.engine->holdSnapshots({a, b}, "x"); });
        CHECK(refusal.kind == ErrorKind::PartlyDone);
        INFO(refusal.message);
        CHECK_THAT(refusal.message, Contains("changed of the store " + done_in + ": " + done) &&
                                        Contains("planned"));
    }
    SECTION("nothing is done: the error is what it is") {
        bed.machine.plan(Accident::Fail, 0);
        CHECK(refusalOf([&] { bed.engine->holdSnapshots({a, b}, "x"); }).kind == ErrorKind::Failed);
        bed.machine.plan(Accident::Fail, 1);
        CHECK(refusalOf([&] { bed.engine->deleteSnapshots({a, b}); }).kind == ErrorKind::Failed);
        CHECK(bed.machine.snapshotIds().size() == 2);
    }
}
