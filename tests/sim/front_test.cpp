// SPDX-License-Identifier: GPL-2.0-or-later
// Snapshots are stale after what was written unseen, and never without, whenever the power fails.
#include <catch2/catch.hpp>

#include "worlds.hpp"

using sim::Machine;
using sim::World;

namespace {

bool is_stale(Machine& machine, std::uint32_t id) {
    return cow_snapshot_find(&machine.store(), id)->stale;
}

// Two origins with a snapshot each, whose first blocks were written by many at a time; each step
// with a power cut after it. Throws when a snapshot is stale then.
World used_world(bool close) {
    World world = sim::make_world();
    world.fronts = true;
    sim::Crasher crasher(5, 4);
    Machine machine(world, 1);
    crasher.attach(machine);
    REQUIRE(machine.open() == 0);
    REQUIRE(machine.create({{1, 1}, {2, 2}}) == 0);
    for (std::uint64_t i = 0; i < 6; ++i) {
        machine.write(1, 0, 1 + i % 3);
        machine.write(1, 20 + i, 2);
        machine.write(2, i % 2, 1);
        machine.step();
    }
    machine.drain();
    machine.write(1, 0, 1);
    machine.drain();
    CHECK(crasher.cuts() > 100);
    if (close) {
        machine.close();
        return world;
    }
    machine.crash_point = nullptr;
    machine.control_crash_point = nullptr;
    return machine.crash(1);
}

// Comes in front, with a power cut at each step of that.
void enter(World& world, bool first_stale) {
    Machine machine(world, 2);
    sim::Crasher crasher(6, 4);
    // a write that only the count told of is not found once the count is gone
    if (!world.same_boot) {
        crasher.attach(machine);
    }
    REQUIRE(machine.open() == 0);
    sim::resolve(machine);
    CHECK(is_stale(machine, 1) == first_stale);
    CHECK_FALSE(is_stale(machine, 2));
    sim::check_contents(machine);
    REQUIRE(machine.create({{3, 1}}) == 0);
    CHECK_FALSE(is_stale(machine, 3));
    machine.write(1, 0, 4);
    machine.drain();
    sim::check_contents(machine);
    for (std::uint64_t i = 0; i < 200; ++i) {  // so that it comes into a checkpoint
        machine.write(2, 0, 1);
        machine.drain();
    }
    machine.close();
}

// After an enter() that found the first snapshot stale: it still is, and the one made then is not.
void check_again(World& world) {
    Machine machine(world, 3);
    REQUIRE(machine.open() == 0);
    CHECK(is_stale(machine, 1));
    CHECK_FALSE(is_stale(machine, 3));
}

}  // namespace

TEST_CASE("an origin that nobody wrote unseen has no stale snapshot") {
    World left = used_world(true);
    left.same_boot = GENERATE(false, true);
    enter(left, false);
    World cut = used_world(false);
    enter(cut, false);
}

TEST_CASE("what is written in the same boot after leaving is found out, wherever it is") {
    World world = used_world(true);
    world.same_boot = true;
    sim::write_unseen(world, 1, 30);
    enter(world, true);
    check_again(world);
}

TEST_CASE("snapshots of a device that has become smaller are stale, and no others") {
    World world = used_world(true);
    Machine machine(world, 2);
    sim::Crasher crasher(7, 4);
    crasher.attach(machine);
    REQUIRE(machine.open() == 0);
    machine.write(1, 0, 4);
    machine.spoil(1);
    CHECK(is_stale(machine, 1));
    CHECK_FALSE(is_stale(machine, 2));
    machine.spoil(1);
    machine.drain();
    REQUIRE(machine.create({{3, 1}}) == 0);
    CHECK_FALSE(is_stale(machine, 3));
    machine.write(1, 0, 4);
    machine.drain();
    sim::check_contents(machine);
    machine.close();
    check_again(world);
}

TEST_CASE("what is written in this boot before the first entering is found out") {
    World world = used_world(GENERATE(false, true));
    sim::boot(world);
    world.same_boot = true;
    sim::write_unseen(world, 1, 30);
    enter(world, true);
}

TEST_CASE("what a boot in between does to a file system is found out") {
    World world = used_world(GENERATE(false, true));
    sim::boot(world);
    sim::write_unseen(world, 1, 0);
    sim::write_unseen(world, 1, 30);
    enter(world, true);
    check_again(world);
}
