// SPDX-License-Identifier: GPL-2.0-or-later
#include "base/size_text.h"

#include <cstddef>
#include <string_view>

#include <fmt/format.h>

namespace cowsnap {

std::string sizeText(std::uint64_t bytes) {
    constexpr std::uint64_t unit = 1024;
    constexpr std::string_view prefixes = "KMGTPE";
    if (bytes < unit)
        return fmt::format("{} B", bytes);
    auto value = static_cast<double>(bytes) / static_cast<double>(unit);
    std::size_t prefix = 0;
    while (value >= static_cast<double>(unit) && prefix + 1 < prefixes.size()) {
        value /= static_cast<double>(unit);
        ++prefix;
    }
    return fmt::format("{:.1f} {}iB", value, prefixes[prefix]);
}

}  // namespace cowsnap
