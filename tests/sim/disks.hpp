// SPDX-License-Identifier: GPL-2.0-or-later
// Simulated disks. The store's writes are durable when they complete; the origins have a volatile
// cache. Sectors of 512 bytes are atomic, nothing else is.
#ifndef COWSNAP_TESTS_SIM_DISKS_HPP
#define COWSNAP_TESTS_SIM_DISKS_HPP

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "random.hpp"

namespace sim {

inline constexpr std::size_t kBlock = 4096;
inline constexpr std::size_t kSector = 512;
inline constexpr std::size_t kSectors = kBlock / kSector;

using Bytes = std::vector<std::uint8_t>;

// What a block of an origin holds: a version for each sector. 0 is what was there first.
using Versions = std::array<std::uint32_t, kSectors>;
using Contents = std::vector<Versions>;

Versions all_of(std::uint32_t version);
// The 4 KiB that stand for these versions of a block of an origin.
void fill(std::uint8_t* data, std::uint32_t origin, std::uint64_t block, const Versions& versions);
bool holds(const std::uint8_t* data, std::uint32_t origin, std::uint64_t block,
           const Versions& versions);

// The durable contents of a store. Copies share blocks.
class StoreImage {
public:
    explicit StoreImage(std::uint64_t blocks) : blocks_(blocks) {}

    std::uint64_t size() const { return blocks_.size(); }
    void resize(std::uint64_t blocks) { blocks_.resize(blocks); }
    bool is_zero(std::uint64_t block) const { return !blocks_[block]; }
    void read(std::uint64_t block, std::size_t count, void* to) const;
    void write(std::uint64_t block, const void* from, std::size_t count);
    // Only those sectors of the write that "present" names.
    void write_sectors(std::uint64_t block, const Bytes& data,
                       const std::function<bool(std::size_t sector)>& present);
    // Only some of the sectors of the write.
    void tear(std::uint64_t block, const Bytes& data, Random& random);
    // CRC32C of a block's data.
    std::uint32_t crc(std::uint64_t block) const;
    // Whether it is these versions of a block of an origin.
    bool holds(std::uint64_t block, std::uint32_t origin, std::uint64_t origin_block,
               const Versions& versions) const;

private:
    // Never changed, so what was found out about it stays true; copies of the image share it.
    struct Block {
        std::array<std::uint8_t, kBlock> data;
        mutable std::optional<std::uint32_t> crc;
        struct Held {
            std::uint32_t origin;
            std::uint64_t block;
            Versions versions;
            bool operator==(const Held&) const = default;
        };
        mutable std::optional<Held> held;
    };
    static const Block& zero();
    std::vector<std::shared_ptr<const Block>> blocks_;
};

// An origin's disk.
class OriginDisk {
public:
    explicit OriginDisk(std::uint64_t blocks)
        : durable_(blocks, all_of(0)), current_(blocks, all_of(0)) {}
    explicit OriginDisk(const Contents& contents) : durable_(contents), current_(contents) {}

    std::uint64_t size() const { return current_.size(); }
    // What reads return.
    const Contents& current() const { return current_; }
    // From issue on a write may be durable; from here on reads return it.
    void issue(std::uint64_t block, const Versions& versions);
    void apply(std::uint64_t block, const Versions& versions) { current_[block] = versions; }
    void complete(std::uint64_t block, const Versions& versions);
    void flush();
    enum class Loss { everything, nothing, some };
    // After a crash: what was not flushed may be there, sector by sector.
    void crash(Loss loss, Random& random);

    // What a block may hold as a whole: first what reads return; "crashed": after a power cut.
    std::vector<Versions> candidates(std::uint64_t block, bool crashed) const;
    // How many writes were issued, and those of a block since there were so many.
    std::size_t issued() const { return log_.size(); }
    std::vector<Versions> issued_since(std::size_t count, std::uint64_t block) const;
    // From now on the block holds this, durably.
    void learn(std::uint64_t block, const Versions& versions);

private:
    struct Write {
        Versions versions;
        bool completed;
    };
    Contents durable_, current_;
    std::map<std::uint64_t, std::vector<Write>> unflushed_;
    std::vector<std::pair<std::uint64_t, Versions>> log_;
};

}  // namespace sim

#endif
