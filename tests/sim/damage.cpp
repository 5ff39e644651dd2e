// SPDX-License-Identifier: GPL-2.0-or-later
// Bit rot, see damage.hpp.
#include "damage.hpp"

#include <string>
#include <vector>

#include "checks.hpp"
#include "worlds.hpp"

namespace sim {

namespace {

void must(int error, const Machine& machine) {
    if (error) {
        throw Broken("a store without damage: error " + std::to_string(-error) + " " +
                     machine.why());
    }
}

}  // namespace

World used_world(std::uint64_t seed, Idle idle) {
    Shape shape;
    shape.segments = 30;
    shape.origin_blocks = 48;
    World world = make_world(shape);
    {
        Machine machine(world, seed);
        must(machine.open(), machine);
        must(machine.create({{1, 1}, {2, 2}}), machine);
        RandomRun run(machine, seed);
        run.steps(250);
        machine.drain();
        must(machine.create({{20, 1}, {21, 2}}), machine);
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
    }
    world.damaged = true;
    return world;
}

void damage(World& world, std::uint64_t block, Rot rot, Random& random) {
    std::vector<std::uint8_t> data(kBlock);
    world.store.read(block, 1, data.data());
    if (rot == Rot::bit) {
        data[random.below(kBlock)] ^= static_cast<std::uint8_t>(1u << random.below(8));
    } else {
        const std::size_t at = rot == Rot::sector ? random.below(8) * 512 : 0;
        const std::size_t length = rot == Rot::sector ? 512 : kBlock;
        for (std::size_t i = 0; i < length; ++i) {
            data[at + i] = static_cast<std::uint8_t>(random.next());
        }
    }
    world.store.write(block, data.data(), 1);
}

bool survives(World world, Random& random) {
    for (int round = 0; round < 3; ++round) {
        Machine machine(world, random.next());
        if (machine.open()) {
            return false;
        }
        check_contents(machine);
        RandomRun run(machine, random.next());
        run.creates = round == 1;
        run.steps(30);
        machine.drain();
        check_contents(machine);
        check_space(machine, true);
    }
    Machine machine(world, random.next());
    if (machine.open()) {
        return false;
    }
    check_contents(machine);
    check_empties(machine);
    return true;
}

Counts damage_at_random(std::uint64_t seed, std::uint64_t damages) {
    Random random(seed);
    const World world = used_world(random.next(), random.one_in(2) ? Idle::marked : Idle::settled);
    std::vector<std::uint64_t> used;
    for (std::uint64_t block = 0; block < world.store.size(); ++block) {
        if (!world.store.is_zero(block)) {
            used.push_back(block);
        }
    }
    Counts counts;
    for (; counts.damages < damages; ++counts.damages) {
        World damaged = world;
        damage(damaged, used[random.below(used.size())], random.one_in(2) ? Rot::bit : Rot::sector,
               random);
        counts.refused += survives(std::move(damaged), random) ? 0 : 1;
    }
    return counts;
}

}  // namespace sim
