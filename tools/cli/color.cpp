// SPDX-License-Identifier: GPL-2.0-or-later
#include "cli/color.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <string_view>

#include <fmt/format.h>

#include "cowsnap_dm.h"

namespace cowsnap::cli {

namespace {

constexpr std::string_view kGreen = "32";
constexpr std::string_view kYellow = "33";
constexpr std::string_view kRed = "31";
constexpr std::string_view kBoldRed = "1;31";
constexpr std::string_view kBoldYellow = "1;33";

// Of snapshots, stores, origins and jobs.
constexpr std::array<std::string_view, 3> kWell{COWSNAP_STATE_ACTIVE, "attached", "done"};
constexpr std::array<std::string_view, 4> kUnderWay{
    "queued", COWSNAP_ROLLBACK_RUNNING, COWSNAP_ROLLBACK_WAITING, COWSNAP_ROLLBACK_SCHEDULED};

template <typename States>
bool has(const States& states, const std::string& state) {
    return std::find(states.begin(), states.end(), state) != states.end();
}

std::string painted(std::string_view color, const std::string& text) {
    return fmt::format("\033[{}m{}\033[0m", color, text);
}

}  // namespace

bool takesColor(int descriptor) {
    // no-color.org: whatever its value is, unless it is empty.
    const char* const no_color = std::getenv("NO_COLOR");
    const char* const terminal = std::getenv("TERM");
    return (no_color == nullptr || *no_color == '\0') && terminal != nullptr &&
           std::string_view(terminal) != "dumb" && ::isatty(descriptor) == 1;
}

std::string coloredState(const std::string& state) {
    if (has(kWell, state))
        return painted(kGreen, state);
    return painted(has(kUnderWay, state) ? kYellow : kRed, state);
}

std::string coloredError(const std::string& text) {
    return painted(kBoldRed, text);
}

std::string coloredWarning(const std::string& text) {
    return painted(kBoldYellow, text);
}

}  // namespace cowsnap::cli
