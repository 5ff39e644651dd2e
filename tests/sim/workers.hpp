// SPDX-License-Identifier: GPL-2.0-or-later
// Runs in processes of their own: several at a time, and one that ends in an assertion or a wrong
// pointer is a failed run like any other.
#ifndef COWSNAP_TESTS_SIM_WORKERS_HPP
#define COWSNAP_TESTS_SIM_WORKERS_HPP

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "scenario.hpp"

namespace sim {

struct Outcome {
    std::string failure;          // empty: all promises were kept
    std::uint64_t steps_run = 0;  // the last of them failed
};

// One run in a process of its own.
Outcome try_steps(std::uint64_t seed, const std::vector<std::uint64_t>& steps, Cuts cuts);

struct Sweep {
    std::uint64_t first_seed, seeds;
    unsigned jobs;
    std::function<Counts(std::uint64_t seed)> run;  // throws when a promise is broken
    std::string again;                              // what sim needs behind --seed N to do the same
};

struct SweepResult {
    Counts counts;
    std::vector<std::uint64_t> failed;  // seeds
};

// Prints each seed that fails as soon as it does.
SweepResult sweep(const Sweep& what);

}  // namespace sim

#endif
