// SPDX-License-Identifier: GPL-2.0-or-later
// Where scenarios start: a store and its origins, and the random scenario.
#ifndef COWSNAP_TESTS_SIM_WORLDS_HPP
#define COWSNAP_TESTS_SIM_WORLDS_HPP

#include <algorithm>
#include <cstdint>

#include "checks.hpp"
#include "crash.hpp"
#include "random_run.hpp"

namespace sim {

inline constexpr std::uint64_t kStoreBlocks = 2048;

struct Shape {
    std::uint32_t segment_blocks = 16;
    std::uint64_t segments = 40;
    std::uint32_t origins = 2;
    std::uint64_t origin_blocks = 64;
};

inline World make_world(const Shape& shape = {}) {
    const std::uint64_t needed = 256 + (shape.segments + 2) * shape.segment_blocks;
    World world(std::max(kStoreBlocks, needed));
    for (std::uint32_t id = 1; id <= shape.origins; ++id) {
        world.origins.emplace(id, OriginDisk(shape.origin_blocks));
    }
    Machine machine(world, 1);
    machine.format(shape.segment_blocks, shape.segments);
    if (machine.open()) {
        throw Broken("a new store is refused: " + machine.why());
    }
    for (const auto& [id, disk] : world.origins) {
        machine.register_origin(id);
    }
    return world;
}

// How many power cuts it went through.
inline std::uint64_t random_scenario(std::uint64_t seed, std::uint64_t steps) {
    Random random(seed);
    Shape shape;
    shape.segment_blocks = 16u << random.below(3);
    shape.segments = 12 + random.below(20);
    shape.origins = static_cast<std::uint32_t>(1 + random.below(3));
    shape.origin_blocks = 20 + random.below(80);
    World world = make_world(shape);
    Crasher crasher(random.next(), 2);
    crasher.continue_one_in = 40;
    std::uint64_t done = 0;
    while (done < steps) {
        const std::uint64_t part = std::min<std::uint64_t>(steps - done, 60 + random.below(200));
        Options options;
        options.max_extents = static_cast<std::uint32_t>(random.one_in(3) ? 3 : 64);
        Machine machine(world, random.next(), options);
        if (machine.open()) {
            throw Broken("the store is refused: " + machine.why());
        }
        resolve(machine);
        check_contents(machine, true);
        crasher.attach(machine);
        RandomRun run(machine, random.next());
        run.steps(part);
        done += part;
        machine.crash_point = nullptr;
        machine.control_crash_point = nullptr;
        if (random.one_in(3)) {
            machine.close();
        } else if (random.one_in(2)) {
            const World after = machine.crash(2);
            machine.drain();
            check_contents(machine);
            check_space(machine, true);
            world = after;
        } else {
            machine.drain();
            check_contents(machine);
            check_space(machine, true);
        }
    }
    Machine machine(world, random.next());
    if (machine.open()) {
        throw Broken("the store is refused: " + machine.why());
    }
    resolve(machine);
    check_contents(machine, true);
    check_empties(machine);
    return crasher.cuts();
}

}  // namespace sim

#endif
