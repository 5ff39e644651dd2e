// SPDX-License-Identifier: GPL-2.0-or-later
// Users who do anything at any time.
#ifndef COWSNAP_TESTS_SIM_RANDOM_RUN_HPP
#define COWSNAP_TESTS_SIM_RANDOM_RUN_HPP

#include <cstdint>

#include "machine.hpp"

namespace sim {

class RandomRun {
public:
    RandomRun(Machine& machine, std::uint64_t seed)
        : machine_(machine), seed_(seed), random_(seed) {}

    // Whether snapshots are made and deleted.
    bool creates = true;
    std::size_t max_snapshots = 6;

    // What a step does depends on the seed, its number and the state of the machine only.
    void step(std::uint64_t number);
    void steps(std::uint64_t count);

private:
    void act();
    void end_io(std::uint64_t number);
    void write();
    void create();
    void between_drained_and_committed();
    void remove();
    void use_snapshot();
    void extend();
    void use_rollback();
    std::uint32_t any_origin();
    std::uint32_t any_snapshot();

    Machine& machine_;
    std::uint64_t seed_;
    Random random_;
};

}  // namespace sim

#endif
