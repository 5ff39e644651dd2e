// SPDX-License-Identifier: GPL-2.0-or-later
// The daemon is killed at every step of every operation; the next one finds, or
// makes, a state in which what was acknowledged is there and the rest is wholly
// there or wholly not.
#include <catch2/catch.hpp>

#include <algorithm>
#include <set>

#include "assembly/boot_policy.h"
#include "assembly/store_header.h"
#include "engine_bed.h"

using namespace cowsnap;
using namespace cowsnap::test;

namespace {

/// A store with two origins and the snapshots "old" of the first and "keep" of the second.
struct CrashBed : EngineBed {
    Uuid store_uuid;
    Uuid one;
    Uuid two;
    Uuid old;

    CrashBed() {
        store_uuid = makeStore();
        one = engine->attach("/dev/one", store_uuid, "");
        two = engine->attach("/dev/two", store_uuid, "");
        old = engine->createSnapshots({{one, "old"}}, {}).front();
        engine->createSnapshots({{two, "keep"}}, {});
    }

    /// The one that all scenarios have.
    const StoreState& store() const { return engine->stores().at(store_uuid); }
    /// In any store.
    std::optional<Uuid> snapshotNamed(const std::string& name) const {
        for (const auto& [uuid, store] : engine->stores())
            for (const auto& snapshot : store.metadata.snapshots)
                if (snapshot.name == name)
                    return snapshot.uuid;
        return std::nullopt;
    }
    std::string rollbackOfOne() const { return machine.rollbackOf(1); }
    /// Whether the table of a store's cow-store has these words.
    bool tableHas(const StoreState& store, const std::string& words) const {
        const auto table = machine.tableOf(store.mapped->name);
        return !table.empty() && table.front().arguments.find(words) != std::string::npos;
    }

    // What scenarios begin with.

    Uuid makeOther() { return engine->createStore({"/dev/spare"}, "other", {}); }
    /// Another store with an interposed origin and its snapshot.
    Uuid makeOtherWithOrigin() {
        const Uuid other = makeOther();
        machine.addDisk("/dev/three", kOriginSectors, "three");
        machine.setUser("/dev/three", "mounted on /three");
        const Uuid three = engine->attach("/dev/three", other, "");
        engine->createSnapshots({{three, "third"}}, {});
        return other;
    }
    void scheduleRollback() {
        machine.setUser("/dev/mapper/cowsnap-one", "mounted on /one");
        engine->rollback(old, {"undo", true});
    }
};

/// No mapped device is left of what is not there, nor one that is frozen or half made.
void checkNoneLeft(CrashBed& bed) {
    for (const auto& device : bed.machine.devices()) {
        const auto role = parseDeviceMapperUuid(device.uuid);
        REQUIRE(role);
        bool known = bed.engine->stores().contains(role->uuid);
        for (const auto& [uuid, store] : bed.engine->stores())
            known |= store.metadata.origin(role->uuid) != nullptr ||
                     store.metadata.snapshot(role->uuid) != nullptr;
        INFO(device.name);
        CHECK(known);
        CHECK(device.live_table);
        CHECK_FALSE(device.inactive_table);
        CHECK_FALSE(device.suspended);
    }
}

void checkStore(const CrashBed& bed, const StoreState& store) {
    INFO(store.name << ": " << store.problem);
    CHECK(store.problem.empty());
    std::uint64_t sectors = 0;
    for (const auto& device : store.devices)
        sectors += device.size_sectors;
    CHECK(store.length_sectors == sectors);
    CHECK(store.metadata.devices == store.devices);
    std::vector<std::uint32_t> snapshots;
    std::set<std::string> names;
    for (const auto& snapshot : store.metadata.snapshots) {
        snapshots.push_back(snapshot.id);
        CHECK(names.insert(snapshot.name).second);
        CHECK_FALSE(snapshot.deleting);
    }
    std::sort(snapshots.begin(), snapshots.end());
    CHECK(snapshots == bed.machine.snapshotIds(store.uuid));
    std::vector<std::uint32_t> origins;
    for (const auto& origin : store.metadata.origins) {
        origins.push_back(origin.id);
        CHECK_FALSE(origin.detaching);
        CHECK(store.origins.at(origin.id).mapped);
    }
    std::sort(origins.begin(), origins.end());
    CHECK(origins == bed.machine.originIds(store.uuid));
    for (const auto& registered : StoreRegistry(bed.directory.path()).read())
        if (registered.uuid == store.uuid)
            CHECK(registered.closed == failClosedOrigins(store.metadata));
}

/// What must hold after any crash and start.
void checkConsistent(CrashBed& bed) {
    REQUIRE(bed.engine->stores().contains(bed.store_uuid));
    for (const auto& [uuid, store] : bed.engine->stores())
        checkStore(bed, store);
    CHECK(StoreRegistry(bed.directory.path()).read().size() == bed.engine->stores().size());
    checkNoneLeft(bed);
}

using Operation = void (*)(CrashBed& bed);

struct Scenario {
    const char* name;
    Operation operation;
    /// Whether what the operation does is to be seen; must be all or nothing.
    bool (*done)(const CrashBed& bed);
    /// What there is before it begins.
    Operation prepare = [](CrashBed&) {};
    /// An error of it is answered; that of a start is told as a problem.
    bool answers_errors = true;
};

const Scenario kScenarios[] = {
    {"create a set",
     [](CrashBed& bed) {
         bed.engine->createSnapshots({{bed.one, "a"}, {bed.two, "b"}}, {});
     },
     [](const CrashBed& bed) {
         CHECK(bed.snapshotNamed("a").has_value() == bed.snapshotNamed("b").has_value());
         return bed.snapshotNamed("a").has_value();
     }},
    {"delete", [](CrashBed& bed) { bed.engine->deleteSnapshots({bed.old}); },
     [](const CrashBed& bed) { return !bed.snapshotNamed("old").has_value(); }},
    {"delete an active one",
     [](CrashBed& bed) {
         bed.engine->activate(bed.old, true);
         bed.engine->deleteSnapshots({bed.old});
     },
     [](const CrashBed& bed) { return !bed.snapshotNamed("old").has_value(); }},
    {"delete all and detach",
     [](CrashBed& bed) {
         bed.engine->deleteSnapshots({bed.old});
         bed.engine->detach(bed.one);
     },
     [](const CrashBed& bed) { return bed.store().metadata.origins.size() == 1; }},
    {"interpose, and detach while in use",
     [](CrashBed& bed) {
         bed.machine.addDisk("/dev/three", kOriginSectors, "three");
         bed.machine.setUser("/dev/three", "mounted on /three");
         bed.engine->detach(bed.engine->attach("/dev/three", bed.store_uuid, ""));
     },
     [](const CrashBed& bed) {
         for (const auto& origin : bed.store().metadata.origins)
             if (origin.name == "three")
                 CHECK(origin.method == AttachMethod::Interposed);
         return bed.store().metadata.origins.size() == 2;
     }},
    {"hold and rename",
     [](CrashBed& bed) {
         bed.engine->holdSnapshots({bed.old}, "hold");
         bed.engine->renameSnapshot(bed.old, "new");
     },
     [](const CrashBed& bed) {
         const bool renamed = bed.snapshotNamed("new").has_value();
         CHECK(bed.snapshotNamed("old").has_value() != renamed);
         const bool held = !bed.store().metadata.snapshot(bed.old)->holds.empty();
         CHECK(held >= renamed);
         return held && renamed;
     }},
    {"roll back, cancel",
     [](CrashBed& bed) {
         bed.engine->activate(bed.old, true);
         bed.engine->rollback(bed.old, {"undo"});
         bed.engine->cancelRollback(bed.one);
     },
     [](const CrashBed& bed) {
         const bool runs = bed.machine.rollbackOf(1) == "running";
         CHECK(runs == bed.snapshotNamed("undo").has_value());
         CHECK(runs == bed.store().metadata.origin(bed.one)->rollback.has_value());
         return bed.store().origins.at(1).status.undo == 0 && runs;
     }},
    {"schedule a rollback",
     [](CrashBed& bed) {
         bed.machine.setUser("/dev/mapper/cowsnap-one", "mounted on /one");
         bed.engine->rollback(bed.old, {"undo", true});
     },
     [](const CrashBed& bed) {
         const std::string state = bed.machine.rollbackOf(1);
         CHECK((state == "running") == bed.snapshotNamed("undo").has_value());
         CHECK((state != "none") == bed.store().metadata.origin(bed.one)->rollback.has_value());
         return state != "none";
     }},
    {"roll an interposed origin back",
     [](CrashBed& bed) {
         bed.machine.addDisk("/dev/three", kOriginSectors, "three");
         bed.machine.setUser("/dev/three", "mounted on /three");
         const Uuid three = bed.engine->attach("/dev/three", bed.store_uuid, "");
         const Uuid now = bed.engine->createSnapshots({{three, "now"}}, {}).front();
         bed.machine.setUser("/dev/three", "");
         bed.engine->rollback(now, {"undo"});
     },
     [](const CrashBed& bed) {
         if (!bed.snapshotNamed("now"))
             return false;
         const bool runs = bed.machine.rollbackOf(3) == "running";
         CHECK(runs == bed.snapshotNamed("undo").has_value());
         CHECK((bed.store().origins.at(3).method == AttachMethod::Stacked) == runs);
         return runs;
     }},
    {"attach",
     [](CrashBed& bed) {
         bed.machine.addDisk("/dev/three", kOriginSectors, "three");
         bed.engine->attach("/dev/three", bed.store_uuid, "");
     },
     [](const CrashBed& bed) { return bed.store().metadata.origins.size() == 3; }},
    {"set the boot policy",
     [](CrashBed& bed) { bed.engine->setBootPolicy(bed.two, BootPolicy::FailClosed); },
     [](const CrashBed& bed) { return failClosedOrigins(bed.store().metadata).size() == 1; }},
    {"attach fail-closed",
     [](CrashBed& bed) {
         bed.machine.addDisk("/dev/three", kOriginSectors, "three");
         bed.engine->attach("/dev/three", bed.store_uuid, "", {}, {}, BootPolicy::FailClosed);
     },
     [](const CrashBed& bed) { return failClosedOrigins(bed.store().metadata).size() == 1; }},
    {"set the boot policy back, detach",
     [](CrashBed& bed) {
         bed.engine->deleteSnapshots({bed.old});
         bed.engine->setBootPolicy(bed.one, BootPolicy::FailClosed);
         bed.engine->setBootPolicy(bed.two, BootPolicy::FailClosed);
         bed.engine->setBootPolicy(bed.two, BootPolicy::FailOpen);
         bed.engine->detach(bed.one);
     },
     [](const CrashBed& bed) { return bed.store().metadata.origins.size() == 1; }},
    {"deactivate", [](CrashBed& bed) { bed.engine->deactivate(bed.old); },
     [](const CrashBed& bed) { return !bed.store().snapshots.at(1).mapped; },
     [](CrashBed& bed) { bed.engine->activate(bed.old, true); }},
    {"a scheduled rollback begins", [](CrashBed& bed) { bed.restart(); },
     [](const CrashBed& bed) {
         const bool runs = bed.rollbackOfOne() == "running";
         CHECK(runs == bed.snapshotNamed("undo").has_value());
         CHECK(bed.store().metadata.origin(bed.one)->rollback.has_value());
         return runs;
     },
     [](CrashBed& bed) {
         bed.scheduleRollback();
         bed.engine.reset();
         bed.machine.reboot();
     },
     false},
    {"start with a time to wait when full", [](CrashBed& bed) { bed.restart(); },
     [](const CrashBed& bed) {
         for (const auto& [uuid, store] : bed.engine->stores())
             if (uuid != bed.store_uuid)
                 return bed.tableHas(store, "full_wait_ms 7");
         return false;
     },
     [](CrashBed& bed) {
         bed.engine->createStore({"/dev/spare"}, "other", {7, {}});
         bed.engine.reset();
         bed.machine.reboot();
     },
     false},
    {"schedule a rollback of an origin that is not attached",
     [](CrashBed& bed) {
         bed.engine->rollback(bed.old, {"undo", true});
     },
     [](const CrashBed& bed) {
         const std::string state = bed.rollbackOfOne();
         CHECK((state == "running") == bed.snapshotNamed("undo").has_value());
         CHECK((state != "none") == bed.store().metadata.origin(bed.one)->rollback.has_value());
         return state != "none";
     },
     [](CrashBed& bed) {
         bed.machine.remove("cowsnap-one", Visibility::Visible);
         bed.refresh();
     },
     false},
    {"cancel a scheduled rollback", [](CrashBed& bed) { bed.engine->cancelRollback(bed.one); },
     [](const CrashBed& bed) {
         const std::string state = bed.rollbackOfOne();
         CHECK((state == "running") == bed.snapshotNamed("undo").has_value());
         CHECK((state != "none") == bed.store().metadata.origin(bed.one)->rollback.has_value());
         return state == "none";
     },
     [](CrashBed& bed) { bed.scheduleRollback(); }},
    {"extend", [](CrashBed& bed) { bed.engine->extendStore(bed.store_uuid, {"/dev/spare"}); },
     [](const CrashBed& bed) { return bed.store().devices.size() == 2; }},
    {"give a store a spare",
     [](CrashBed& bed) {
         bed.engine->changeAutoextend(bed.store_uuid, {true, {"/dev/spare"}});
     },
     [](const CrashBed& bed) { return bed.store().metadata.autoextend.spares.size() == 1; }},
    {"close a store",
     [](CrashBed& bed) {
         for (const auto& [uuid, store] : bed.engine->stores())
             if (uuid != bed.store_uuid) {
                 bed.engine->closeStore(uuid);
                 return;
             }
     },
     [](const CrashBed& bed) { return bed.engine->stores().size() == 1; },
     [](CrashBed& bed) { bed.makeOther(); }},
    {"open a store", [](CrashBed& bed) { bed.engine->openStore({"/dev/spare"}, ""); },
     [](const CrashBed& bed) { return bed.engine->stores().size() == 2; },
     [](CrashBed& bed) { bed.engine->closeStore(bed.makeOther()); }},
    {"import a store with an origin",
     [](CrashBed& bed) { bed.engine->openStore({"/dev/spare"}, "", Recognize::ByTheirMarks); },
     [](const CrashBed& bed) { return bed.snapshotNamed("third").has_value(); },
     [](CrashBed& bed) {
         const Uuid other = bed.makeOtherWithOrigin();
         bed.engine.reset();
         bed.machine.reboot();
         StoreRegistry(bed.directory.path()).remove(other);
         bed.restart();
     }},
    {"prune two stores",
     [](CrashBed& bed) {
         PruneOptions options;
         options.rules.last = 1;
         for (const auto& result : bed.engine->prune({}, options))
             if (result.action == PruneResult::Action::Failed)
                 fail(ErrorKind::Failed, "{}", result.reason);
     },
     [](const CrashBed& bed) {
         CHECK(bed.snapshotNamed("newer"));
         CHECK(bed.snapshotNamed("fourth"));
         return !bed.snapshotNamed("old") && !bed.snapshotNamed("third");
     },
     [](CrashBed& bed) {
         const Uuid other = bed.makeOtherWithOrigin();
         const Uuid three = bed.engine->stores().at(other).metadata.origins.front().uuid;
         bed.engine->createSnapshots({{three, "fourth"}}, {});
         bed.engine->createSnapshots({{bed.one, "newer"}}, {});
     }},
};

}  // namespace

TEST_CASE("a kill at any step leaves what the next start makes consistent") {
    for (const Scenario& scenario : kScenarios)
        for (const auto accident : {Accident::KillBefore, Accident::KillAfter, Accident::Tear})
            for (const bool reboot : {false, true}) {
                bool reached_end = false;
                for (unsigned step = 0; !reached_end; ++step) {
                    INFO(scenario.name << ", accident " << static_cast<int>(accident) << " at step "
                                       << step << (reboot ? ", with a reboot" : ""));
                    CrashBed bed;
                    scenario.prepare(bed);
                    bed.machine.plan(accident, step);
                    bool acknowledged = true;
                    try {
                        scenario.operation(bed);
                    } catch (const Killed&) {
                        acknowledged = false;
                    }
                    reached_end = !bed.machine.accidentHappened();
                    bed.machine.planNothing();
                    if (reboot)
                        bed.reboot();
                    else
                        bed.restart();
                    checkConsistent(bed);
                    CHECK(bed.snapshotNamed("keep"));
                    if (scenario.done(bed) == false)
                        CHECK_FALSE(acknowledged);
                    const Uuid two = bed.store().metadata.originWithId(2)->uuid;
                    CHECK_NOTHROW(bed.engine->createSnapshots({{two, "afterwards"}}, {}));
                    REQUIRE(step < 100);
                }
            }
}

TEST_CASE("an error at any step is answered as one and leaves a consistent state") {
    for (const Scenario& scenario : kScenarios) {
        bool reached_end = !scenario.answers_errors;
        for (unsigned step = 0; !reached_end; ++step) {
            INFO(scenario.name << ", failure at step " << step);
            CrashBed bed;
            scenario.prepare(bed);
            bed.machine.plan(Accident::Fail, step);
            const Refusal refusal = refusalOf([&] { scenario.operation(bed); });
            reached_end = !bed.machine.accidentHappened();
            bed.machine.planNothing();
            bed.refresh();
            CHECK(bed.store().problem.empty());
            if (!refusal.kind)
                CHECK(scenario.done(bed));
            // what is written to these would not be preserved
            for (const auto& snapshot : bed.store().metadata.snapshots) {
                const auto id = bed.store().metadata.origin(snapshot.origin)->id;
                CHECK(bed.store().origins.at(id).mapped);
            }
            bed.restart();
            CHECK(bed.store().problem.empty());
            CHECK(bed.snapshotNamed("keep"));
            REQUIRE(step < 100);
        }
    }
}

TEST_CASE("a kill while a store is made leaves a store, or devices of which one can be made") {
    for (const auto accident : {Accident::KillBefore, Accident::KillAfter, Accident::Tear}) {
        bool reached_end = false;
        for (unsigned step = 0; !reached_end; ++step) {
            INFO("accident " << static_cast<int>(accident) << " at step " << step);
            EngineBed bed;
            bed.machine.plan(accident, step);
            StoreOptions options;
            options.full_wait_ms = 1234;
            try {
                bed.engine->createStore({"/dev/store"}, "main", options);
            } catch (const Killed&) {
            }
            reached_end = !bed.machine.accidentHappened();
            bed.machine.planNothing();
            bed.restart();
            for (const auto& name : bed.machine.mappedNames())
                CHECK(name.find("format") == std::string::npos);
            if (bed.engine->stores().empty()) {
                // Not formatted, or formatted and undone.
                CHECK(isBlank(bed.machine, "/dev/store"));
                CHECK_NOTHROW(bed.makeStore());
            }
            CHECK(StoreRegistry(bed.directory.path()).unfinished().empty());
            REQUIRE(bed.engine->stores().size() == 1);
            CHECK(bed.store().problem.empty());
            CHECK(bed.store().name == "main");
            CHECK(bed.store().metadata.autoextend.enabled);
            // Before there was metadata nothing was said of it.
            CHECK(bed.store().metadata.full_wait_ms.value_or(1234) == 1234);
            CHECK_NOTHROW(bed.engine->attach("/dev/one", bed.store().uuid, ""));
            REQUIRE(step < 100);
        }
    }
}
