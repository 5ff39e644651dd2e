// SPDX-License-Identifier: GPL-2.0-or-later
// What the fuzz targets share: blocks in memory, reading numbers from the input, and checksums put
// right, so that what is behind them is reached.
#ifndef COWSNAP_TESTS_FUZZ_BLOCKS_H
#define COWSNAP_TESTS_FUZZ_BLOCKS_H

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "store/blocks.h"
#include "store/core.h"

namespace cowsnap::fuzz {

using store::kBlockBytes;

/// Ends the run with a finding unless condition holds.
void require(bool condition, const char* what);

class Input {
public:
    Input(const std::uint8_t* data, std::size_t bytes) : rest_(data, bytes) {}

    bool empty() const { return rest_.empty(); }
    std::size_t left() const { return rest_.size(); }
    /// The next number; 0 where the input ends.
    std::uint64_t number(std::size_t bytes);
    std::uint8_t byte() { return static_cast<std::uint8_t>(number(1)); }
    /// The next bytes, or fewer.
    std::span<const std::uint8_t> bytes(std::size_t count);
    /// The rest in so many blocks, zeros behind it.
    std::vector<std::uint8_t> blocks(std::size_t count);

private:
    std::span<const std::uint8_t> rest_;
};

/// The checksum of a structure (its crc field is at byte 8) is put right.
void seal(std::span<std::uint8_t> structure);

/// Blocks in memory; copies share those that none of them changed, blocks never written are zero.
class MemoryBlocks : public store::Blocks {
public:
    explicit MemoryBlocks(std::uint64_t blocks) : blocks_(blocks) {}
    MemoryBlocks(const MemoryBlocks& other) : blocks_(other.blocks_) {}
    MemoryBlocks& operator=(const MemoryBlocks&) = delete;
    ~MemoryBlocks() override = default;

    std::uint64_t size() const override { return blocks_.size(); }
    int read(std::uint64_t block, std::uint64_t count, void* to) override;
    int write(std::uint64_t block, std::uint64_t count, const void* from) override;
    /// To change it.
    std::span<std::uint8_t> at(std::uint64_t block);
    bool isZero(std::uint64_t block) const { return !blocks_[block]; }

private:
    using Block = std::array<std::uint8_t, kBlockBytes>;
    std::vector<std::shared_ptr<Block>> blocks_;
};

inline constexpr std::array<std::uint8_t, COWSNAP_UUID_SIZE> kUuid = {
    0xc0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};

}  // namespace cowsnap::fuzz

#endif
