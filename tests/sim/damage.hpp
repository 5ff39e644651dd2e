// SPDX-License-Identifier: GPL-2.0-or-later
// Bit rot: stores with some of everything, damaged while they are not in use. An activation may
// refuse them; else every read is right or an error, then and after all that follows.
#ifndef COWSNAP_TESTS_SIM_DAMAGE_HPP
#define COWSNAP_TESTS_SIM_DAMAGE_HPP

#include <cstdint>

#include "random.hpp"
#include "scenario.hpp"
#include "world.hpp"

namespace sim {

// How the store was left: with open segments whose batches are all proven durable, or closed.
enum class Idle { marked, settled };

// A store after a random run; throws Broken.
World used_world(std::uint64_t seed, Idle idle);

// What is damaged of a block: one bit of it, one sector, all.
enum class Rot { bit, sector, block };

void damage(World& world, std::uint64_t block, Rot rot, Random& random);

// Three activations with work between them, then all is deleted; throws Broken when what is read is
// wrong. False when the store was refused.
bool survives(World world, Random& random);

// Single damages, of bits or sectors, each of the same store anew; the store and they follow from
// the seed.
Counts damage_at_random(std::uint64_t seed, std::uint64_t damages);

}  // namespace sim

#endif
