// SPDX-License-Identifier: GPL-2.0-or-later
// The largest set: as many origins as one transaction of the control record holds.
#include <catch2/catch.hpp>

#include "worlds.hpp"

using sim::Machine;

TEST_CASE("a set of as many origins as there can be is there wholly or not at all") {
    sim::Shape shape;
    shape.origins = COWSNAP_SET_MAX + 1;
    shape.origin_blocks = 2;
    shape.store_blocks = 65536;  // room for so many in a checkpoint
    sim::World world = sim::make_world(shape);
    Machine machine(world, 1);
    REQUIRE(machine.open() == 0);
    Machine::Members members;
    for (std::uint32_t id = 1; id <= COWSNAP_SET_MAX; ++id) {
        members.emplace_back(id, id);
    }
    std::size_t whole = 0, none = 0;
    const auto cut = [&](Machine& m) {
        for (unsigned variant = 0; variant < 40; ++variant) {
            sim::World after = m.crash(variant);
            const std::size_t creating = after.creating.size();
            Machine other(after, variant);
            if (other.open()) {
                throw sim::Broken(other.why());
            }
            sim::resolve(other);  // throws when it is a part
            whole += creating && after.snapshots.size() == COWSNAP_SET_MAX;
            none += after.snapshots.empty();
        }
    };
    machine.control_crash_point = cut;
    REQUIRE(machine.create(members) == 0);
    CHECK(whole > 0);
    CHECK(none > 0);
    machine.control_crash_point = nullptr;
    const std::uint64_t set = cow_snapshot_find(&machine.store(), 1)->set;
    CHECK(cow_snapshot_find(&machine.store(), COWSNAP_SET_MAX)->set == set);
    machine.write(1, 0, 2);
    machine.write(COWSNAP_SET_MAX, 1, 1);
    machine.drain();
    sim::check_contents(machine);

    // One more is refused, and nothing is changed by that.
    Machine::Members more;
    for (std::uint32_t id = 1; id <= COWSNAP_SET_MAX + 1; ++id) {
        more.emplace_back(2000 + id, id);
    }
    CHECK(machine.create(more) == -E2BIG);
    CHECK(machine.store().nr_snapshots == COWSNAP_SET_MAX);
}
