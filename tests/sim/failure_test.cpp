// SPDX-License-Identifier: GPL-2.0-or-later
// A store that fails: no write to an origin fails or waits for ever, and no snapshot that missed a
// write is ever taken for exact, not after a power cut either.
#include <catch2/catch.hpp>

#include <algorithm>

#include "worlds.hpp"

using sim::IoKind;
using sim::Machine;

namespace {

// Everything that happens after the store's n-th write, of which "count" fail. False when there
// were not so many writes.
bool fail(std::uint64_t n, std::uint64_t count) {
    sim::Shape shape;
    shape.segments = 20;
    sim::World world = sim::make_world(shape);
    std::uint64_t writes = 0;
    {
        Machine machine(world, n);
        REQUIRE(machine.open() == 0);
        sim::Crasher crasher(n, 2);
        crasher.continue_one_in = 1000;
        crasher.attach(machine);
        machine.fails = [&](IoKind) {
            ++writes;
            return writes > n && writes <= n + count;
        };
        machine.create({{1, 1}, {2, 2}});
        for (std::uint64_t block = 0; block < 40; block += 8) {
            machine.write(1, block, 6);
            machine.write(2, block, 2);
            if (world.snapshots.contains(1)) {
                machine.overlay_write(1, block, 2);
            }
            machine.step();
        }
        machine.create({{3, 1}});
        machine.write(1, 0, 40);
        machine.drain();
        CHECK(machine.writers() == 0);
        sim::check_contents(machine);
    }
    // A crash in the middle of a failing create or delete leaves either.
    Machine machine(world, n);
    REQUIRE(machine.open() == 0);
    if (writes > n && count < 100) {
        sim::check_contents(machine);
        for (const auto& [id, model] : world.snapshots) {
            CHECK(cow_snapshot_find(&machine.store(), id)->lost);
        }
    }
    return writes > n;
}

}  // namespace

TEST_CASE("a write to the store that fails once loses the snapshots, durably") {
    for (std::uint64_t n = 0; fail(n, 1); ++n) {
        INFO("write " << n);
    }
}

TEST_CASE("a store that fails for good lets the origins go on") {
    sim::World world = sim::make_world();
    Machine machine(world, 1);
    REQUIRE(machine.open() == 0);
    REQUIRE(machine.create({{1, 1}}) == 0);
    machine.fails = [](IoKind) { return true; };
    machine.write(1, 0, 40);
    machine.overlay_write(1, 0, 4);
    machine.drain();
    machine.write(1, 20, 40);
    machine.drain();
    CHECK(machine.writers() == 0);
    CHECK(machine.create({{2, 1}}) < 0);
    CHECK(machine.store().failed);
}

// A batch of another origin fails while the create's record is being written.
TEST_CASE("a snapshot that is made while the store breaks is lost") {
    std::uint64_t made = 0;
    for (std::uint64_t n = 0;; ++n) {
        INFO("it breaks at write " << n << " of the create");
        sim::World world = sim::make_world();
        Machine machine(world, 1);
        REQUIRE(machine.open() == 0);
        REQUIRE(machine.create({{1, 2}}) == 0);
        machine.write(2, 0, 4);
        const auto is_batch = [](const sim::Io& io) { return io.kind == IoKind::batch; };
        while (std::none_of(machine.pending().begin(), machine.pending().end(), is_batch)) {
            REQUIRE(machine.step());
        }
        std::uint64_t points = 0;
        machine.control_crash_point = [&](Machine& busy) {
            if (points++ != n) {
                return;
            }
            busy.fails = [](IoKind kind) { return kind == IoKind::batch; };
            while (!busy.store().broken && busy.step()) {
            }
            busy.fails = nullptr;
        };
        const int r = machine.create({{2, 1}});
        machine.control_crash_point = nullptr;
        if (points <= n) {
            break;
        }
        REQUIRE(machine.store().broken);
        if (r == 0) {
            ++made;
            CHECK(cow_snapshot_find(&machine.store(), 2)->lost);
        }
        machine.write(1, 0, 8);
        machine.drain();
        CHECK(machine.writers() == 0);
        sim::check_contents(machine);
    }
    CHECK(made > 0);
}

// Its log is woken when the loss is recorded, although nobody can see the snapshot any more.
TEST_CASE("who writes to a snapshot that is dropped meanwhile is let go when the store fails") {
    sim::World world = sim::make_world();
    Machine machine(world, 1);
    REQUIRE(machine.open() == 0);
    REQUIRE(machine.create({{1, 1}, {2, 2}}) == 0);
    machine.overlay_write(1, 0, 4);
    const auto is_batch = [](const sim::Io& io) { return io.kind == IoKind::batch; };
    while (std::none_of(machine.pending().begin(), machine.pending().end(), is_batch)) {
        REQUIRE(machine.step());
    }
    REQUIRE(machine.remove({1}, true) == 0);
    REQUIRE(machine.writers() == 1);
    machine.fails = [](IoKind) { return true; };
    machine.drain();
    CHECK(machine.store().failed);
    CHECK(machine.writers() == 0);
}

// The store takes no writes for a while, so that its loss is recorded outside it; it comes back
// after a power cut, which may happen again while it is told.
TEST_CASE("a store that missed writes and comes back has only lost snapshots") {
    for (std::uint64_t n = 0; n < 12; ++n) {
        INFO("fails from write " << n);
        sim::Shape shape;
        sim::World world = sim::make_world(shape);
        {
            Machine machine(world, n);
            REQUIRE(machine.open() == 0);
            REQUIRE(machine.create({{1, 1}, {2, 2}}) == 0);
            std::uint64_t writes = 0;
            machine.fails = [&](IoKind) { return ++writes > n; };
            machine.write(1, 0, 40);
            machine.write(2, 0, 10);
            machine.drain();
            machine.create({{3, 1}});
            machine.write(1, 20, 40);
            machine.drain();
            CHECK(machine.writers() == 0);
            world = machine.crash(2);
        }
        REQUIRE(world.lost_sets);
        for (unsigned variant = 0; variant < 3; ++variant) {
            sim::World again = world;
            {
                Machine machine(again, variant);
                REQUIRE(machine.open() == 0);
                again = machine.crash(variant);
            }
            Machine machine(again, variant);
            REQUIRE(machine.open() == 0);
            CHECK_FALSE(again.lost_sets);
            CHECK(cow_snapshot_find(&machine.store(), 1)->lost);
            CHECK(cow_snapshot_find(&machine.store(), 2)->lost);
            sim::check_contents(machine);
            REQUIRE(machine.create({{9, 1}}) == 0);
            machine.write(1, 0, 40);
            machine.drain();
            CHECK_FALSE(cow_snapshot_find(&machine.store(), 9)->lost);
            sim::check_contents(machine);
        }
    }
}

TEST_CASE("a store that fails, misses writes and comes back has no snapshot that looks exact") {
    for (std::uint64_t n = 0; n < 12; ++n) {
        for (const bool for_good : {false, true}) {
            INFO("write " << n << (for_good ? " and all after it" : ""));
            sim::World world = sim::make_world();
            {
                Machine machine(world, n);
                REQUIRE(machine.open() == 0);
                REQUIRE(machine.create({{1, 1}, {2, 2}}) == 0);
                machine.write(1, 0, 8);
                machine.drain();
                std::uint64_t writes = 0;
                machine.fails = [&](IoKind) {
                    ++writes;
                    return writes == n + 1 || (for_good && writes > n);
                };
                for (std::uint64_t block = 0; block < 60; block += 5) {
                    machine.write(1, block, 5);
                    machine.write(2, block, 3);
                    machine.drain();
                }
                CHECK(machine.writers() == 0);
                REQUIRE(machine.store().failed);
                CHECK(world.loss_known_elsewhere == for_good);
            }
            // It comes back; whoever activates it is told what the store itself could not record.
            Machine machine(world, n);
            REQUIRE(machine.open() == 0);
            sim::resolve(machine);
            sim::check_contents(machine);
            for (const auto& [id, model] : world.snapshots) {
                CHECK(cow_snapshot_find(&machine.store(), id)->lost);
            }
            CHECK(world.snapshots.empty() == for_good);
            REQUIRE(machine.create({{9, 1}}) == 0);
            machine.write(1, 0, 20);
            machine.drain();
            sim::check_contents(machine);
            sim::check_empties(machine);
        }
    }
}

TEST_CASE("a rollback whose beginning a failing store has, although it said no, does not run") {
    for (std::uint64_t seed = 1; seed <= 80; ++seed) {
        sim::World world = sim::make_world();
        {
            Machine machine(world, seed);
            REQUIRE(machine.open() == 0);
            REQUIRE(machine.create({{1, 1}}) == 0);
            machine.write(1, 3, 4);
            machine.drain();
            machine.fails = [](sim::IoKind) { return true; };
            CHECK(machine.roll_back(1, 1, 10) == -EIO);
            REQUIRE(world.lost_sets);
            machine.write(1, 2, 9);  // without being preserved
            machine.drain();
        }
        Machine machine(world, seed);
        REQUIRE(machine.open() == 0);
        CHECK(cow_origin_find(&machine.store(), 1)->rollback.state == COW_ROLLBACK_NONE);
        sim::resolve(machine);
    }
}
