// SPDX-License-Identifier: GPL-2.0-or-later
#include "stamps.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>

namespace vmtest {

namespace {

constexpr std::size_t kWords = kSectorBytes / sizeof(std::uint64_t);
constexpr std::size_t kShownDifferences = 8;

using Words = std::array<std::uint64_t, kWords>;

Words sectorWords(std::uint64_t number, Stamp stamp) {
    Words words{};
    if (stamp == kZeros)
        return words;
    const std::uint64_t base = stamp * 0x9e3779b97f4a7c15U ^ number * 0xc2b2ae3d27d4eb4fU;
    words[0] = stamp;
    for (std::size_t i = 1; i < kWords; ++i)
        words[i] = base + i;
    return words;
}

std::string stampText(Stamp stamp) {
    if (stamp == kForeign)
        return "foreign";
    return stamp == kZeros ? "zeros" : std::to_string(stamp);
}

}  // namespace

void putSector(std::span<std::byte> sector, std::uint64_t number, Stamp stamp) {
    const Words words = sectorWords(number, stamp);
    std::memcpy(sector.data(), words.data(), kSectorBytes);
}

Stamp getSector(std::span<const std::byte> sector, std::uint64_t number) {
    Stamp stamp = 0;
    std::memcpy(&stamp, sector.data(), sizeof(stamp));
    const Words words = sectorWords(number, stamp);
    return std::memcmp(sector.data(), words.data(), kSectorBytes) == 0 ? stamp : kForeign;
}

std::optional<std::string> difference(const Image& expected, const Image& found) {
    if (expected.size() != found.size())
        return fmt::format("{} sectors instead of {}", found.size(), expected.size());
    std::string text;
    std::size_t count = 0;
    for (std::size_t i = 0; i < expected.size(); ++i) {
        if (expected[i] == found[i])
            continue;
        if (count++ < kShownDifferences)
            text += fmt::format(" [sector {}: {} instead of {}]", i, stampText(found[i]),
                                stampText(expected[i]));
    }
    if (count == 0)
        return std::nullopt;
    return fmt::format("{} sectors differ:{}", count, text);
}

}  // namespace vmtest
