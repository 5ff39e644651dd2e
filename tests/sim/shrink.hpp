// SPDX-License-Identifier: GPL-2.0-or-later
// Makes a failing run short.
#ifndef COWSNAP_TESTS_SIM_SHRINK_HPP
#define COWSNAP_TESTS_SIM_SHRINK_HPP

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace sim {

using Steps = std::vector<std::uint64_t>;

// Leaves out of "steps", which fail, what is not needed for that: until no single step can be left
// out any more.
Steps shrink(Steps steps, const std::function<bool(const Steps&)>& fails);

// As "3,7,10-20".
std::string list_of_steps(const Steps& steps);
// False when it is no such list.
bool parse_steps(const std::string& list, Steps& steps);

}  // namespace sim

#endif
