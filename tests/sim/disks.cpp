// SPDX-License-Identifier: GPL-2.0-or-later
// Simulated disks, see disks.hpp.
#include "disks.hpp"

#include <algorithm>
#include <cstring>

#include "core.hpp"

namespace sim {

namespace {

std::uint64_t key_of(std::uint32_t origin, std::uint64_t block, std::size_t sector,
                     std::uint32_t version) {
    Random random((std::uint64_t{origin} << 56) ^ (block << 36) ^ (std::uint64_t{sector} << 32) ^
                  version);
    return random.next();
}

void fill_sector(std::uint8_t* data, std::uint64_t key) {
    for (std::size_t i = 0; i < kSector / sizeof(key); ++i) {
        std::memcpy(data + i * sizeof(key), &key, sizeof(key));
        key += 0x9e3779b97f4a7c15u;
    }
}

}  // namespace

Versions all_of(std::uint32_t version) {
    Versions versions;
    versions.fill(version);
    return versions;
}

void fill(std::uint8_t* data, std::uint32_t origin, std::uint64_t block, const Versions& versions) {
    for (std::size_t s = 0; s < kSectors; ++s) {
        fill_sector(data + s * kSector, key_of(origin, block, s, versions[s]));
    }
}

bool holds(const std::uint8_t* data, std::uint32_t origin, std::uint64_t block,
           const Versions& versions) {
    std::array<std::uint8_t, kBlock> expected;
    fill(expected.data(), origin, block, versions);
    return std::memcmp(data, expected.data(), kBlock) == 0;
}

const StoreImage::Block& StoreImage::zero() {
    static const Block block{};
    return block;
}

void StoreImage::read(std::uint64_t block, std::size_t count, void* to) const {
    auto* out = static_cast<std::uint8_t*>(to);
    for (std::size_t i = 0; i < count; ++i) {
        if (blocks_[block + i]) {
            std::memcpy(out + i * kBlock, blocks_[block + i]->data.data(), kBlock);
        } else {
            std::memset(out + i * kBlock, 0, kBlock);
        }
    }
}

void StoreImage::write(std::uint64_t block, const void* from, std::size_t count) {
    const auto* in = static_cast<const std::uint8_t*>(from);
    for (std::size_t i = 0; i < count; ++i, in += kBlock) {
        if (!in[0] && std::memcmp(in, in + 1, kBlock - 1) == 0) {
            blocks_[block + i].reset();
            continue;
        }
        auto copy = std::make_shared_for_overwrite<Block>();
        std::memcpy(copy->data.data(), in, kBlock);
        blocks_[block + i] = std::move(copy);
    }
}

void StoreImage::write_sectors(std::uint64_t block, const Bytes& data,
                               const std::function<bool(std::size_t sector)>& present) {
    Bytes mixed(data.size());
    read(block, data.size() / kBlock, mixed.data());
    for (std::size_t at = 0; at < data.size(); at += kSector) {
        if (present(at / kSector)) {
            std::memcpy(mixed.data() + at, data.data() + at, kSector);
        }
    }
    write(block, mixed.data(), data.size() / kBlock);
}

void StoreImage::tear(std::uint64_t block, const Bytes& data, Random& random) {
    const std::uint64_t odds = 1 + random.below(6);
    write_sectors(block, data, [&](std::size_t) { return random.below(7) < odds; });
}

std::uint32_t StoreImage::crc(std::uint64_t block) const {
    const Block& at = blocks_[block] ? *blocks_[block] : zero();
    if (!at.crc) {
        at.crc = cow_crc32c(0, at.data.data(), kBlock);
    }
    return *at.crc;
}

bool StoreImage::holds(std::uint64_t block, std::uint32_t origin, std::uint64_t origin_block,
                       const Versions& versions) const {
    const Block& at = blocks_[block] ? *blocks_[block] : zero();
    const Block::Held asked{origin, origin_block, versions};
    if (at.held == asked) {
        return true;
    }
    if (!sim::holds(at.data.data(), origin, origin_block, versions)) {
        return false;
    }
    at.held = asked;
    return true;
}

void OriginDisk::issue(std::uint64_t block, const Versions& versions) {
    unflushed_[block].push_back({versions, false});
    log_.emplace_back(block, versions);
}

void OriginDisk::complete(std::uint64_t block, const Versions& versions) {
    for (Write& write : unflushed_[block]) {
        write.completed |= write.versions == versions;
    }
}

std::vector<Versions> OriginDisk::candidates(std::uint64_t block, bool crashed) const {
    std::vector<Versions> list = {current_[block]};
    if (crashed) {
        list.push_back(durable_[block]);
    }
    const auto writes = unflushed_.find(block);
    if (writes == unflushed_.end()) {
        return list;
    }
    for (const Write& write : writes->second) {
        if (crashed || !write.completed) {
            list.push_back(write.versions);
        }
    }
    return list;
}

std::vector<Versions> OriginDisk::issued_since(std::size_t count, std::uint64_t block) const {
    std::vector<Versions> list;
    for (; count < log_.size(); ++count) {
        if (log_[count].first == block) {
            list.push_back(log_[count].second);
        }
    }
    return list;
}

void OriginDisk::learn(std::uint64_t block, const Versions& versions) {
    unflushed_.erase(block);
    current_[block] = durable_[block] = versions;
}

void OriginDisk::flush() {
    for (auto entry = unflushed_.begin(); entry != unflushed_.end();) {
        durable_[entry->first] = current_[entry->first];
        std::erase_if(entry->second, [](const Write& write) { return write.completed; });
        entry = entry->second.empty() ? unflushed_.erase(entry) : std::next(entry);
    }
}

void OriginDisk::crash(Loss loss, Random& random) {
    for (const auto& [block, writes] : unflushed_) {
        for (std::size_t at = 0; at < kSectors; ++at) {
            std::uint32_t& sector = durable_[block][at];
            if (loss == Loss::nothing) {
                sector = writes.back().versions[at];
            } else if (loss == Loss::some) {
                const std::uint64_t choice = random.below(writes.size() + 1);
                sector = choice ? writes[choice - 1].versions[at] : sector;
            }
        }
    }
    unflushed_.clear();
    log_.clear();
    current_ = durable_;
}

}  // namespace sim
