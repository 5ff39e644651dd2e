// SPDX-License-Identifier: GPL-2.0-or-later
// CRC32C, one byte at a time: the daemon sums a few kilobytes now and then.
#include "base/crc32c.h"

#include <array>

namespace cowsnap {

namespace {

constexpr std::array<std::uint32_t, 256> makeTable() {
    std::array<std::uint32_t, 256> table{};
    for (std::uint32_t index = 0; index < table.size(); ++index) {
        std::uint32_t value = index;
        for (int bit = 0; bit < 8; ++bit)
            value = value & 1u ? value >> 1 ^ 0x82f63b78u : value >> 1;
        table[index] = value;
    }
    return table;
}

constexpr auto kTable = makeTable();

}  // namespace

std::uint32_t crc32c(std::span<const std::byte> data) {
    std::uint32_t crc = 0xffffffffu;
    for (const std::byte byte : data)
        crc = crc >> 8 ^ kTable[(crc ^ std::to_integer<std::uint32_t>(byte)) & 0xffu];
    return crc ^ 0xffffffffu;
}

}  // namespace cowsnap
