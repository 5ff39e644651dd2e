// SPDX-License-Identifier: GPL-2.0-or-later
// What the fuzz targets share.
#include "blocks.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace cowsnap::fuzz {

void require(bool condition, const char* what) {
    if (condition)
        return;
    std::fprintf(stderr, "this must hold, and does not: %s\n", what);
    std::abort();
}

std::uint64_t Input::number(std::size_t count) {
    std::uint64_t value = 0;
    const auto from = bytes(count);
    for (std::size_t i = 0; i < from.size(); ++i)
        value |= std::uint64_t{from[i]} << (8 * i);
    return value;
}

std::span<const std::uint8_t> Input::bytes(std::size_t count) {
    const auto result = rest_.first(std::min(count, rest_.size()));
    rest_ = rest_.subspan(result.size());
    return result;
}

std::vector<std::uint8_t> Input::blocks(std::size_t count) {
    const auto from = bytes(count * kBlockBytes);
    std::vector<std::uint8_t> result(from.begin(), from.end());
    result.resize(count * kBlockBytes);
    return result;
}

void seal(std::span<std::uint8_t> structure) {
    constexpr std::size_t crc_at = 8;
    std::memset(structure.data() + crc_at, 0, sizeof(u32));
    const u32 crc = cpu_to_le32(cow_crc32c(0, structure.data(), structure.size()));
    std::memcpy(structure.data() + crc_at, &crc, sizeof(crc));
}

int MemoryBlocks::read(std::uint64_t block, std::uint64_t count, void* to) {
    if (block > size() || count > size() - block)
        return -EIO;
    for (std::uint64_t i = 0; i < count; ++i) {
        auto* at = static_cast<std::uint8_t*>(to) + i * kBlockBytes;
        if (blocks_[block + i])
            std::memcpy(at, blocks_[block + i]->data(), kBlockBytes);
        else
            std::memset(at, 0, kBlockBytes);
    }
    return 0;
}

int MemoryBlocks::write(std::uint64_t block, std::uint64_t count, const void* from) {
    if (block > size() || count > size() - block)
        return -EIO;
    for (std::uint64_t i = 0; i < count; ++i)
        std::memcpy(at(block + i).data(), static_cast<const std::uint8_t*>(from) + i * kBlockBytes,
                    kBlockBytes);
    return 0;
}

std::span<std::uint8_t> MemoryBlocks::at(std::uint64_t block) {
    auto& held = blocks_[block];
    if (!held)
        held = std::make_shared<Block>();
    else if (held.use_count() > 1)
        held = std::make_shared<Block>(*held);
    return *held;
}

}  // namespace cowsnap::fuzz
