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
    std::uint64_t store_blocks = kStoreBlocks;  // at least
};

inline World make_world(const Shape& shape = {}) {
    const std::uint64_t needed = 256 + (shape.segments + 2) * shape.segment_blocks;
    World world(std::max(shape.store_blocks, needed));
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

}  // namespace sim

#endif
