// SPDX-License-Identifier: GPL-2.0-or-later
// Stores to check and to repair: made by the engine on the simulator's disks, with metadata, and
// ways to damage them.
#ifndef COWSNAP_TESTS_STORE_BED_H
#define COWSNAP_TESTS_STORE_BED_H

#include <cstdint>
#include <string>
#include <vector>

#include "machine.hpp"
#include "store/blocks.h"
#include "store/check.h"
#include "store/core.h"
#include "world.hpp"

namespace cowsnap::store::test {

/// The store of a world of the simulator.
class SimBlocks : public Blocks {
public:
    explicit SimBlocks(sim::StoreImage& image) : image_(image) {}

    std::uint64_t size() const override { return image_.size(); }
    int read(std::uint64_t block, std::uint64_t count, void* to) override;
    int write(std::uint64_t block, std::uint64_t count, const void* from) override;

    /// Reading these is an error.
    std::vector<std::uint64_t> bad;

private:
    sim::StoreImage& image_;
};

enum class Idle {
    Settled,  ///< let go of in order: all segments have summaries
    Marked,   ///< its segments are open, what they have is proven
    Cut,      ///< the power failed while it was in use
};

struct WorldOptions {
    Idle idle = Idle::Settled;
    std::uint32_t segment_blocks = 16;
    std::uint64_t steps = 250;
};

/// A store with origins 1 and 2, some snapshots of random use, and the snapshots 20 (written to)
/// and 21.
sim::World usedWorld(std::uint64_t seed, const WorldOptions& options = {});

/// The superblock.
cow_super superOf(sim::World& world);

enum class Rot { Bit, Sector, Block };
void damage(sim::World& world, std::uint64_t block, Rot rot, sim::Random& random);
/// Turns one bit of a block.
void flip(sim::World& world, std::uint64_t block, std::size_t byte);

/// The first finding that is damage (or not) of a structure; nullptr if there is none.
const Finding* find(const Report& report, const std::string& structure, bool damage = true);

/// All findings as text, for messages.
std::string textOf(const Report& report);

}  // namespace cowsnap::store::test

#endif
