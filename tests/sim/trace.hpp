// SPDX-License-Identifier: GPL-2.0-or-later
// What a run does, a line each, to find out why it fails: sim --only LIST --trace.
#ifndef COWSNAP_TESTS_SIM_TRACE_HPP
#define COWSNAP_TESTS_SIM_TRACE_HPP

#include <cstdio>
#include <utility>

#include <fmt/format.h>

namespace sim {

inline bool tracing = false;

template <typename... Arguments>
void trace(fmt::format_string<Arguments...> format, Arguments&&... arguments) {
    if (tracing) {
        fmt::print("  {}\n", fmt::format(format, std::forward<Arguments>(arguments)...));
    }
}

}  // namespace sim

#endif
