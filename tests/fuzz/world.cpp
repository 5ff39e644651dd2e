// SPDX-License-Identifier: GPL-2.0-or-later
// A store that was used.
#include "world.h"

#include "worlds.hpp"

namespace cowsnap::fuzz {

MemoryBlocks usedStore(std::uint64_t seed, bool settled, std::uint64_t steps) {
    sim::Shape shape;
    shape.segments = 20;
    shape.origin_blocks = 40;
    sim::World world = sim::make_world(shape);
    sim::Machine machine(world, seed);
    require(machine.open() == 0 && machine.create({{1, 1}, {2, 2}}) == 0, "a store can be used");
    sim::RandomRun run(machine, seed);
    run.steps(steps);
    machine.drain();
    require(machine.create({{20, 1}}) == 0, "a snapshot can be made");
    for (std::uint64_t block = 0; block < 20; block += 3) {
        machine.write(1, block, 2);
        machine.drain();
    }
    machine.overlay_write(20, 3, 4);
    machine.drain();
    if (settled) {
        machine.close();
    } else {
        machine.mark();
        machine.drain();
    }
    MemoryBlocks blocks(world.store.size());
    for (std::uint64_t block = 0; block < blocks.size(); ++block)
        if (!world.store.is_zero(block))
            world.store.read(block, 1, blocks.at(block).data());
    return blocks;
}

}  // namespace cowsnap::fuzz
