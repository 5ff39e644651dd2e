// SPDX-License-Identifier: GPL-2.0-or-later
// Times as people write them. Knows no verb.
#ifndef COWSNAP_CLI_TIMES_H
#define COWSNAP_CLI_TIMES_H

#include <cstdint>
#include <ctime>
#include <string>

namespace cowsnap::cli {

inline constexpr const char* kExpiryHelp =
    "When it expires: 30m (minutes), 12h, 30d, 8w (from now on), 2030-12-31, \"2030-12-31 18:00\" "
    "(local time), or never. What has expired is deleted by prune, and by the timer "
    "cowsnap-prune.timer, not by itself";

/// Seconds since 1970; 0 for "never". Failure (Usage) for what is no time, such as February 30.
std::uint64_t timeFrom(const std::string& text, std::time_t now);

}  // namespace cowsnap::cli

#endif
