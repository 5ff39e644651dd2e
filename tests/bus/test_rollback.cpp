// SPDX-License-Identifier: GPL-2.0-or-later
// Rolling back: at once, scheduled, cancelled; what is refused, and what is there afterwards.
#include <catch2/catch.hpp>

#include "cowsnap_dm.h"
#include "engine_bed.h"

using namespace cowsnap;
using namespace cowsnap::test;
using Catch::Contains;

namespace {

struct RollbackBed : EngineBed {
    Uuid store_uuid;
    Uuid one;
    Uuid old;

    RollbackBed() {
        store_uuid = makeStore();
        one = engine->attach("/dev/one", store_uuid, "");
        old = engine->createSnapshots({{one, "old"}}, {}).front();
    }

    const OriginRecord& origin() const { return *store().metadata.origin(one); }
    std::string state() const { return store().origins.at(origin().id).status.rollback; }
    /// The origin's mapped device goes.
    void takeAway() {
        machine.remove("cowsnap-one", Visibility::Visible);
        refresh();
    }
};

}  // namespace

TEST_CASE("an origin is rolled back, and what was there before is a snapshot") {
    RollbackBed bed;
    const Uuid undo = bed.engine->rollback(bed.old, {});
    CHECK(bed.snapshotNamed("undo-old") == undo);
    const auto* const record = bed.store().metadata.snapshot(undo);
    REQUIRE(record != nullptr);
    CHECK_THAT(record->description, Contains("before the rollback to old"));
    CHECK(bed.state() == COWSNAP_ROLLBACK_RUNNING);
    CHECK(bed.origin().rollback->target == bed.old);
    checkRefused(bed, ErrorKind::Busy, "has a rollback", [&] { bed.engine->rollback(undo, {}); });
    for (const Uuid& needed : {bed.old, undo})
        checkRefused(bed, ErrorKind::Busy, "until all is copied back: \"snapd-cli job list\"",
                     [&] { bed.engine->deleteSnapshots({needed}); });
    checkRefused(bed, ErrorKind::Busy, "the origin one is being rolled back", [&] {
        bed.engine->createSnapshots({{bed.one, "more"}}, {});
    });
    bed.restart();
    CHECK(bed.origin().rollback.has_value());

    bed.takeEvents();
    bed.machine.endRollback(1);
    bed.refresh();
    CHECK(bed.state() == COWSNAP_ROLLBACK_NONE);
    CHECK_FALSE(bed.origin().rollback.has_value());
    const auto events = bed.takeEvents();
    REQUIRE(events.size() == 1);
    CHECK_THAT(events[0].text, Contains("one is rolled back"));
    // and back again; the name is taken
    bed.engine->rollback(undo, {"second"});
    CHECK(bed.snapshotNamed("second"));
    bed.machine.endRollback(1);
    bed.refresh();
    bed.engine->rollback(bed.old, {});
    CHECK(bed.store().metadata.snapshots.size() == 4);
}

TEST_CASE("an origin in use is not rolled back, but when it is attached the next time") {
    RollbackBed bed;
    bed.machine.setUser("/dev/mapper/cowsnap-one", "mounted on /one");
    checkRefused(bed, ErrorKind::Busy, "mounted on /one",
                 [&] { bed.engine->rollback(bed.old, {}); });
    CHECK(bed.machine.rollbackOf(1) == COWSNAP_ROLLBACK_NONE);
    CHECK_FALSE(bed.origin().rollback.has_value());
    const Uuid undo = bed.engine->rollback(bed.old, {"before", true});
    CHECK(bed.machine.rollbackOf(1) == COWSNAP_ROLLBACK_SCHEDULED);
    CHECK_FALSE(bed.snapshotNamed("before"));
    bed.restart();
    CHECK(bed.state() == COWSNAP_ROLLBACK_SCHEDULED);
    checkRefused(bed, ErrorKind::Exists, "named \"before\"", [&] {
        bed.engine->createSnapshots({{bed.one, "before"}}, {});
    });
    SECTION("it begins then") {
        bed.reboot();
        CHECK(bed.state() == COWSNAP_ROLLBACK_RUNNING);
        CHECK(bed.snapshotNamed("before") == undo);
    }
    SECTION("it is cancelled") {
        bed.engine->cancelRollback(bed.one);
        CHECK_FALSE(bed.origin().rollback.has_value());
        bed.reboot();
        CHECK(bed.state() == COWSNAP_ROLLBACK_NONE);
        CHECK_FALSE(bed.snapshotNamed("before"));
        CHECK_NOTHROW(bed.engine->createSnapshots({{bed.one, "before"}}, {}));
    }
    SECTION("someone cancelled it behind the daemon's back") {
        bed.machine.message(bed.store().mapped->name, "cancel 1");
        bed.refresh();
        CHECK_FALSE(bed.origin().rollback.has_value());
    }
}

TEST_CASE("a rollback of an origin that is not attached is scheduled, or there is none") {
    RollbackBed bed;
    bed.takeAway();
    const auto none = [&] {
        CHECK_FALSE(bed.origin().rollback.has_value());
        CHECK(bed.machine.rollbackOf(1) == COWSNAP_ROLLBACK_NONE);
    };
    const auto noneEver = [&] {
        none();
        bed.restart();
        none();
        CHECK_NOTHROW(bed.engine->deleteSnapshots({bed.old}));
    };
    SECTION("what is known to be damaged is refused") {
        bed.machine.damage(1);
        checkRefused(bed, ErrorKind::MetadataCorrupt, "old is damaged", [&] {
            bed.engine->rollback(bed.old, {"", true});
        });
        noneEver();
    }
    SECTION("the kernel refuses it") {
        bed.machine.plan(Accident::Fail, 1);
        checkRefused(bed, ErrorKind::Failed, "nothing was rolled back", [&] {
            bed.engine->rollback(bed.old, {"", true});
        });
        bed.machine.planNothing();
        noneEver();
    }
    SECTION("someone cancelled it behind the daemon's back") {
        bed.engine->rollback(bed.old, {"", true});
        bed.machine.message(bed.store().mapped->name, "cancel 1");
        bed.refresh();
        CHECK_NOTHROW(bed.engine->cancelRollback(bed.one));
        noneEver();
    }
    SECTION("the daemon was killed before the kernel was told") {
        bed.machine.plan(Accident::KillBefore, 1);
        CHECK_THROWS_AS(bed.engine->rollback(bed.old, {"undo", true}), Killed);
        bed.machine.planNothing();
        // so that the origin is not attached by the start
        bed.machine.removeDisk("/dev/one");
        SECTION("then it is told by the next one") {
            bed.restart();
            CHECK(bed.origin().rollback.has_value());
            CHECK(bed.machine.rollbackOf(1) == COWSNAP_ROLLBACK_SCHEDULED);
            bed.restart();
            CHECK(bed.origin().rollback.has_value());
        }
        SECTION("but only once") {
            bed.machine.damage(1);
            bed.restart();
            noneEver();
        }
    }
}

TEST_CASE("what a rollback needs is not deleted, and nothing of the others is touched") {
    RollbackBed bed;
    const Uuid other = bed.engine->createSnapshots({{bed.one, "other"}}, {}).front();
    bed.engine->activate(other, true);
    PruneOptions all;
    all.rules.last = 1;
    all.now = 2000000000;
    const auto pruned = [&] {
        std::map<std::string, std::pair<PruneResult::Action, std::string>> results;
        for (const auto& result : bed.engine->prune({}, all))
            results[result.name] = {result.action, result.reason};
        return results;
    };
    using Action = PruneResult::Action;
    SECTION("scheduled: it can be cancelled") {
        bed.machine.setUser("/dev/mapper/cowsnap-one", "mounted on /one");
        bed.engine->rollback(bed.old, {"before", true});
        const auto refused = [&] {
            checkRefused(bed, ErrorKind::Busy, "cancel that first, with \"snapd-cli cancel one\"",
                         [&] {
                             bed.engine->deleteSnapshots({other, bed.old});
                         });
        };
        refused();
        // other than a rollback that runs it keeps nobody from creating snapshots
        bed.engine->createSnapshots({{bed.one, "new"}}, {});
        all.dry_run = true;
        CHECK(pruned().at("old") == std::pair(Action::Keep, std::string("rollback")));
        all.dry_run = false;
        const auto results = pruned();
        CHECK(results.at("old") == std::pair(Action::Keep, std::string("rollback")));
        CHECK(results.at("other").first == Action::Delete);
        // also while nothing of the kernel says so
        bed.machine.setUser("/dev/mapper/cowsnap-one", "");
        bed.takeAway();
        checkRefused(bed, ErrorKind::Busy, "snapd-cli cancel one",
                     [&] { bed.engine->deleteSnapshots({bed.old}); });
        bed.engine->attach("/dev/one", bed.store_uuid, "");
        bed.engine->cancelRollback(bed.one);
        bed.machine.endRollback(1);
        bed.refresh();
        CHECK_NOTHROW(bed.engine->deleteSnapshots({bed.old}));
    }
    SECTION("running: target and undo, and no others") {
        const Uuid undo = bed.engine->rollback(bed.old, {"undo"});
        const auto results = pruned();
        CHECK(results.at("old") == std::pair(Action::Keep, std::string("rollback")));
        CHECK(results.at("other").first == Action::Delete);
        CHECK_FALSE(bed.snapshotNamed("other"));
        bed.engine->cancelRollback(bed.one);
        // what it went to is not needed any more
        CHECK_NOTHROW(bed.engine->deleteSnapshots({bed.old}));
        checkRefused(bed, ErrorKind::Busy, "needs the snapshot undo",
                     [&] { bed.engine->deleteSnapshots({undo}); });
        bed.machine.endRollback(1);
        bed.refresh();
        CHECK_NOTHROW(bed.engine->deleteSnapshots({undo}));
    }
}

TEST_CASE("an interposed origin is stacked for a rollback, and interposed again afterwards") {
    EngineBed bed;
    const Uuid store = bed.makeStore();
    bed.machine.setUser("/dev/two", "mounted on /two");
    const Uuid two = bed.engine->attach("/dev/two", store, "");
    const Uuid old = bed.engine->createSnapshots({{two, "old"}}, {}).front();
    const auto method = [&] { return bed.store().origins.at(1).method; };
    REQUIRE(method() == AttachMethod::Interposed);
    SECTION("at once, if it is not in use") {
        bed.machine.setUser("/dev/two", "");
        bed.engine->rollback(old, {});
    }
    SECTION("at the next boot, if it is") {
        checkRefused(bed, ErrorKind::Busy, "mounted on /two",
                     [&] { bed.engine->rollback(old, {}); });
        bed.engine->rollback(old, {"", true});
        CHECK(method() == AttachMethod::Interposed);
        bed.machine.setUser("/dev/two", "");
        bed.reboot();
    }
    CHECK(method() == AttachMethod::Stacked);
    CHECK(bed.store().origins.at(1).status.rollback == COWSNAP_ROLLBACK_RUNNING);
    CHECK(bed.snapshotNamed("undo-old"));
    bed.reboot();
    CHECK(method() == AttachMethod::Stacked);
    bed.machine.endRollback(1);
    bed.refresh();
    bed.reboot();
    CHECK(method() == AttachMethod::Interposed);
    CHECK(bed.store().origins.at(1).status.rollback == COWSNAP_ROLLBACK_NONE);
}

TEST_CASE(
    "a snapshot that is open keeps a rollback to it from beginning, not from being scheduled") {
    RollbackBed bed;
    const std::string device = bed.engine->activate(bed.old, true);
    bed.machine.setOpen(device, true);
    checkRefused(bed, ErrorKind::Busy, "the snapshot old is open as " + device,
                 [&] { bed.engine->rollback(bed.old, {}); });
    SECTION("its origin is in use, too") {
        bed.machine.setUser("/dev/mapper/cowsnap-one", "mounted on /one");
    }
    SECTION("its origin is not in use") {}
    bed.engine->rollback(bed.old, {"", true});
    CHECK(bed.machine.rollbackOf(1) == COWSNAP_ROLLBACK_SCHEDULED);
    bed.machine.setOpen(device, false);
    bed.machine.setUser("/dev/mapper/cowsnap-one", "");
    bed.reboot();
    CHECK(bed.state() == COWSNAP_ROLLBACK_RUNNING);
}

TEST_CASE("a rollback that runs is cancelled: it goes back to what was before") {
    RollbackBed bed;
    const Uuid undo = bed.engine->rollback(bed.old, {});
    bed.machine.setUser("/dev/mapper/cowsnap-one", "mounted on /one");
    checkRefused(bed, ErrorKind::Busy, "mounted on /one",
                 [&] { bed.engine->cancelRollback(bed.one); });
    bed.machine.setUser("/dev/mapper/cowsnap-one", "");
    bed.engine->cancelRollback(bed.one);
    CHECK(bed.store().origins.at(1).status.target == bed.store().metadata.snapshot(undo)->id);
    checkRefused(bed, ErrorKind::Busy, "being cancelled",
                 [&] { bed.engine->cancelRollback(bed.one); });
    bed.machine.endRollback(1);
    bed.refresh();
    checkRefused(bed, ErrorKind::NotFound, "no rollback",
                 [&] { bed.engine->cancelRollback(bed.one); });
}

TEST_CASE("what an origin was rolled back to is known, and a cancelled rollback is none") {
    RollbackBed bed;
    const auto madeIs = [&](const Uuid& target, const Uuid& undo) {
        const auto& rolled_back = bed.origin().rolled_back;
        REQUIRE(rolled_back.has_value());
        CHECK(rolled_back->target == target);
        CHECK(rolled_back->undo == undo);
    };
    SECTION("made") {
        const Uuid undo = bed.engine->rollback(bed.old, {});
        CHECK_FALSE(bed.origin().rolled_back.has_value());
        bed.machine.endRollback(1);
        bed.restart();
        madeIs(bed.old, undo);
        SECTION("and undone") {
            const Uuid second = bed.engine->rollback(undo, {"second"});
            bed.machine.endRollback(1);
            bed.refresh();
            madeIs(undo, second);
        }
        SECTION("and another one is cancelled: it holds what it held before") {
            bed.engine->rollback(bed.old, {"second"});
            bed.engine->cancelRollback(bed.one);
            bed.machine.endRollback(1);
            bed.refresh();
            madeIs(bed.old, undo);
        }
    }
    SECTION("cancelled, and over before anybody looks") {
        bed.engine->rollback(bed.old, {});
        bed.engine->cancelRollback(bed.one);
        CHECK(bed.origin().rollback->cancelled);
        bed.machine.endRollback(1);
        bed.restart();
        CHECK_FALSE(bed.origin().rolled_back.has_value());
    }
    SECTION("cancelled, and the daemon is killed after the kernel was told") {
        bed.engine->rollback(bed.old, {});
        bed.machine.plan(Accident::KillAfter, 1);
        CHECK_THROWS_AS(bed.engine->cancelRollback(bed.one), Killed);
        bed.machine.planNothing();
        bed.machine.endRollback(1);
        bed.restart();
        CHECK_FALSE(bed.origin().rolled_back.has_value());
    }
    SECTION("cancelled by other means") {
        bed.engine->rollback(bed.old, {});
        bed.machine.message(bed.store().mapped->name, "cancel 1");
        bed.refresh();
        CHECK(bed.origin().rollback->cancelled);
        bed.machine.endRollback(1);
        bed.refresh();
        CHECK_FALSE(bed.origin().rolled_back.has_value());
    }
    SECTION("to be cancelled, and the kernel refuses that") {
        const Uuid undo = bed.engine->rollback(bed.old, {});
        bed.machine.plan(Accident::Fail, 1);
        checkRefused(bed, ErrorKind::Failed, "planned",
                     [&] { bed.engine->cancelRollback(bed.one); });
        bed.machine.planNothing();
        CHECK_FALSE(bed.origin().rollback->cancelled);
        bed.machine.endRollback(1);
        bed.refresh();
        madeIs(bed.old, undo);
    }
    SECTION("scheduled, begun and over before anybody looks") {
        bed.machine.setUser("/dev/mapper/cowsnap-one", "mounted on /one");
        const Uuid undo = bed.engine->rollback(bed.old, {"", true});
        bed.machine.setUser("/dev/mapper/cowsnap-one", "");
        bed.engine.reset();
        bed.machine.beginScheduled(1);
        bed.machine.endRollback(1);
        bed.restart();
        madeIs(bed.old, undo);
    }
    SECTION("scheduled and cancelled") {
        bed.machine.setUser("/dev/mapper/cowsnap-one", "mounted on /one");
        bed.engine->rollback(bed.old, {"", true});
        bed.machine.message(bed.store().mapped->name, "cancel 1");
        bed.refresh();
        CHECK_FALSE(bed.origin().rolled_back.has_value());
    }
}

TEST_CASE("what cannot be rolled back is refused") {
    RollbackBed bed;
    const auto refused = [&](ErrorKind kind, const std::string& cause,
                             const RollbackOptions& options = {}) {
        checkRefused(bed, kind, cause, [&] { bed.engine->rollback(bed.old, options); });
        CHECK_FALSE(bed.origin().rollback.has_value());
        CHECK(bed.machine.rollbackOf(1) == COWSNAP_ROLLBACK_NONE);
    };
    refused(ErrorKind::Exists, "named \"old\"", {"old"});
    refused(ErrorKind::InvalidArgument, "snapshot", {"a/b"});
    bed.machine.plan(Accident::Fail, 1);
    refused(ErrorKind::Failed, "nothing was rolled back");
    bed.machine.planNothing();
    bed.machine.setOpen(bed.engine->activate(bed.old, true), true);
    refused(ErrorKind::Busy, "cowsnap-snap-old");
    bed.machine.setOpen("/dev/mapper/cowsnap-snap-old", false);
    bed.machine.setOpen("/dev/mapper/cowsnap-one", true);
    refused(ErrorKind::Busy, "in use");
    bed.machine.setOpen("/dev/mapper/cowsnap-one", false);
    bed.machine.setModuleMinor(1);
    refused(ErrorKind::NotSupported, "needs 1.2");
    bed.machine.setModuleMinor(COWSNAP_DM_VERSION_MINOR);
    bed.machine.writtenUnseen(1);
    refused(ErrorKind::Stale, "--force");
    CHECK_NOTHROW(bed.engine->rollback(bed.old, {"", false, true}));
}

TEST_CASE("without room for the record of the undo snapshot nothing is rolled back") {
    RollbackBed bed;
    SnapshotOptions large;
    large.description = std::string(1000, 'x');
    const auto create = [&](const std::string& name) {
        return refusalOf([&] { bed.engine->createSnapshots({{bed.one, name}}, large); });
    };
    // As full as it gets: the last one is shortened until it fits.
    for (int i = 0; large.description.size() > 1; ++i)
        if (create("s" + std::to_string(i)).kind)
            large.description.resize(large.description.size() / 2);
    checkRefused(bed, ErrorKind::NoSpace, "delete snapshots",
                 [&] { bed.engine->rollback(bed.old, {}); });
    CHECK(bed.state() == COWSNAP_ROLLBACK_NONE);
    CHECK_FALSE(bed.origin().rollback.has_value());
    // What the kernel has all the same can be looked at, and room be made.
    bed.machine.createBehindTheBack(900, 1);
    bed.machine.createBehindTheBack(901, 1);
    bed.refresh();
    CHECK(bed.store().problem.empty());
    REQUIRE(bed.snapshotNamed("recovered-900").has_value());
    const Uuid found = *bed.snapshotNamed("recovered-900");
    bed.refresh();
    CHECK(bed.snapshotNamed("recovered-900") == found);
    bed.engine->deleteSnapshots({*bed.snapshotNamed("s0"), *bed.snapshotNamed("s1")});
    bed.restart();
    CHECK(bed.store().problem.empty());
    CHECK(bed.snapshotNamed("recovered-900") == found);
    CHECK_NOTHROW(bed.engine->rollback(bed.old, {}));
}
