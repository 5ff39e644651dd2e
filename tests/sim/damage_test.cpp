// SPDX-License-Identifier: GPL-2.0-or-later
// Bit rot: whatever is damaged on an idle store, it is refused, or a read is right or an error; now
// and after all that follows. Never wrong data.
#include <catch2/catch.hpp>

#include <algorithm>

#include "worlds.hpp"

using sim::Machine;

namespace {

enum class Idle { marked, settled };

// A store with some of everything.
sim::World used_world(std::uint64_t seed, Idle idle) {
    sim::Shape shape;
    shape.segments = 30;
    shape.origin_blocks = 48;
    sim::World world = sim::make_world(shape);
    {
        Machine machine(world, seed);
        REQUIRE(machine.open() == 0);
        REQUIRE(machine.create({{1, 1}, {2, 2}}) == 0);
        sim::RandomRun run(machine, seed);
        run.steps(250);
        machine.drain();
        REQUIRE(machine.create({{20, 1}, {21, 2}}) == 0);
        for (std::uint64_t block = 0; block < 30; block += 3) {
            machine.write(1, block, 2);
            machine.write(2, 47 - block, 1);
            machine.drain();
        }
        if (!world.snapshots.empty()) {
            machine.overlay_write(20, 3, 4);
        }
        machine.drain();
        if (idle == Idle::settled) {
            machine.close();
        } else {
            machine.mark();
            machine.drain();
        }
        // What an activation finds to be done is done.
    }
    world.damaged = true;
    return world;
}

enum class Rot { bit, sector, block };

void damage(sim::World& world, std::uint64_t block, Rot rot, sim::Random& random) {
    std::vector<std::uint8_t> data(sim::kBlock);
    world.store.read(block, 1, data.data());
    if (rot == Rot::bit) {
        data[random.below(sim::kBlock)] ^= static_cast<std::uint8_t>(1u << random.below(8));
    } else {
        const std::size_t at = rot == Rot::sector ? random.below(8) * 512 : 0;
        const std::size_t length = rot == Rot::sector ? 512 : sim::kBlock;
        for (std::size_t i = 0; i < length; ++i) {
            data[at + i] = static_cast<std::uint8_t>(random.next());
        }
    }
    world.store.write(block, data.data(), 1);
}

// False when the store was refused.
bool survives(sim::World world, sim::Random& random) {
    for (int round = 0; round < 3; ++round) {
        Machine machine(world, random.next());
        if (machine.open()) {
            return false;
        }
        sim::check_contents(machine);
        sim::RandomRun run(machine, random.next());
        run.creates = round == 1;
        run.steps(30);
        machine.drain();
        sim::check_contents(machine);
        sim::check_space(machine, true);
    }
    Machine machine(world, random.next());
    if (machine.open()) {
        return false;
    }
    sim::check_contents(machine);
    sim::check_empties(machine);
    return true;
}

}  // namespace

TEST_CASE("no damage to an idle store ever returns wrong data") {
    const auto idle = GENERATE(Idle::marked, Idle::settled);
    const auto seed = GENERATE(1u, 2u, 3u);
    const auto rot = GENERATE(Rot::bit, Rot::sector, Rot::block);
    const sim::World world = used_world(seed, idle);
    sim::Random random(seed);
    std::uint64_t survived = 0, refused = 0;
    for (std::uint64_t block = 0; block < world.store.size(); ++block) {
        if (world.store.is_zero(block)) {
            continue;
        }
        sim::World damaged = world;
        damage(damaged, block, rot, random);
        INFO("seed " << seed << " block " << block << " idle " << static_cast<int>(idle) << " rot "
                     << static_cast<int>(rot));
        (survives(damaged, random) ? survived : refused) += 1;
    }
    CHECK(survived > 10 * refused);
}
