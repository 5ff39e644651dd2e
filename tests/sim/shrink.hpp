// SPDX-License-Identifier: GPL-2.0-or-later
// Makes a failing run short.
#ifndef COWSNAP_TESTS_SIM_SHRINK_HPP
#define COWSNAP_TESTS_SIM_SHRINK_HPP

#include <chrono>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "workers.hpp"

namespace sim {

using Steps = std::vector<std::uint64_t>;

// Leaves out of "steps", which fail, what is not needed for that: until no single step can be left
// out any more.
Steps shrink(Steps steps, const std::function<bool(const Steps&)>& fails);

struct Shrunk {
    Steps steps;
    std::string failure;  // of these steps; empty: the run did not fail
};

// A failing run with as few of its steps as are found in that time. What is wrong stays the same,
// but for numbers, such as which block it is.
Shrunk shrink_run(const Steps& steps, const std::function<Outcome(const Steps&)>& run,
                  std::chrono::steady_clock::duration limit);

// As "3,7,10-20".
std::string list_of_steps(const Steps& steps);
// False when it is no such list.
bool parse_steps(const std::string& list, Steps& steps);

}  // namespace sim

#endif
