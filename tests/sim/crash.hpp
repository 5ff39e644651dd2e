// SPDX-License-Identifier: GPL-2.0-or-later
// Power cuts: from each state that a machine goes through, what the disks may hold after a cut is
// tried out, on copies.
#ifndef COWSNAP_TESTS_SIM_CRASH_HPP
#define COWSNAP_TESTS_SIM_CRASH_HPP

#include <cstdint>

#include "machine.hpp"

namespace sim {

class Crasher {
public:
    // "variants": outcomes tried out at each point.
    explicit Crasher(std::uint64_t seed, unsigned variants = 4)
        : random_(seed), variants_(variants) {}

    // From now on, the power fails after each I/O of the machine.
    void attach(Machine& machine);
    std::uint64_t cuts() const { return cuts_; }
    std::uint64_t recoveries() const { return recoveries_; }
    void reseed(std::uint64_t seed) { random_ = Random(seed); }
    // With up to this many writes in flight each subset of them is tried, with more as many
    // subsets by chance; 0: only the variants.
    unsigned subsets_of = 0;
    // One I/O in this many is a point for a cut.
    unsigned cut_one_in = 1;
    // One power cut in this many is followed by more work, with more cuts.
    unsigned continue_one_in = 12;
    // One write of an activation in this many is a point for another cut.
    unsigned nest_one_in = 3;

private:
    void point(Machine& machine, unsigned depth, unsigned variants);
    void try_subsets(Machine& machine, unsigned depth);
    void recover(World world, unsigned depth, bool thorough);
    void go_on(World& world, unsigned depth);

    Random random_;
    unsigned variants_;
    std::uint64_t cuts_ = 0;
    std::uint64_t recoveries_ = 0;
};

}  // namespace sim

#endif
