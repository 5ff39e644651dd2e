// SPDX-License-Identifier: GPL-2.0-or-later
// Makes what a snapshot with very many exceptions has on its disk, as a sparse file: of random
// blocks of 4 KiB, the same for both formats with the same seed.
//
//   make-exceptions cow-store FILE STORE_MIB ORIGIN_MIB EXCEPTIONS SNAPSHOTS SEED
//   make-exceptions dm-snapshot FILE AREA_MIB ORIGIN_MIB EXCEPTIONS SNAPSHOTS SEED
//
// SNAPSHOTS: of a store; the oldest one has the exceptions. A dm-snapshot has one.
// Prints JSON: "stamped", the blocks of the exceptions that have contents (exceptions.h says
// which); the others are zeros.
#include <charconv>
#include <exception>
#include <iostream>
#include <random>
#include <string_view>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "exceptions.h"

namespace bench {

Block contentsOf(std::uint64_t block) {
    Block contents{};
    if (!stamped(block))
        return contents;
    for (std::size_t i = 0; i < contents.size(); ++i)
        contents[i] = static_cast<std::byte>((block + 1) >> (8 * (i % 8)));
    return contents;
}

namespace {

constexpr std::uint64_t kBlocksPerMib = (1U << 20) / kBlockBytes;
/// 16 TiB, and what is more than any machine has.
constexpr std::uint64_t kMostMib = 1ULL << 24;
constexpr std::uint64_t kMostExceptions = 1ULL << 28;
constexpr std::uint64_t kMostSnapshots = 1ULL << 16;
constexpr std::uint64_t kMostSeed = 1ULL << 31;

std::uint64_t numberOf(std::string_view what, std::string_view text, std::uint64_t least,
                       std::uint64_t most) {
    std::uint64_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end != text.data() + text.size() || value < least || value > most)
        cowsnap::fail(cowsnap::ErrorKind::InvalidArgument,
                      "{} must be a number from {} to {}, not \"{}\"", what, least, most, text);
    return value;
}

/// Different ones, at random.
std::vector<std::uint64_t> someBlocks(std::uint64_t count, std::uint64_t of, std::uint64_t seed) {
    std::mt19937_64 random(seed);
    std::vector<bool> taken(of);
    std::vector<std::uint64_t> blocks;
    blocks.reserve(count);
    while (blocks.size() < count) {
        const std::uint64_t block = random() % of;
        if (!taken[block])
            blocks.push_back(block);
        taken[block] = true;
    }
    return blocks;
}

void make(const std::vector<std::string>& words) {
    if (words.size() != 7 || (words[0] != "cow-store" && words[0] != "dm-snapshot"))
        cowsnap::fail(
            cowsnap::ErrorKind::InvalidArgument,
            "needed: cow-store|dm-snapshot FILE MIB ORIGIN_MIB EXCEPTIONS SNAPSHOTS SEED");
    const bool is_store = words[0] == "cow-store";
    Exceptions exceptions;
    const std::uint64_t blocks = kBlocksPerMib * numberOf("the file's size", words[2], 1, kMostMib);
    exceptions.origin_blocks = kBlocksPerMib * numberOf("the origin's size", words[3], 1, kMostMib);
    // in half of the origin they are found quickly
    exceptions.blocks =
        someBlocks(numberOf("the number of exceptions", words[4], 0,
                            std::min(kMostExceptions, exceptions.origin_blocks / 2)),
                   exceptions.origin_blocks, numberOf("the seed", words[6], 0, kMostSeed));
    const auto snapshots = static_cast<std::uint32_t>(
        numberOf("the number of snapshots", words[5], 1, is_store ? kMostSnapshots : 1));
    SparseFile file(words[1], blocks);
    if (is_store)
        writeCowStore(file, exceptions, snapshots);
    else
        writeDmSnapshot(file, exceptions);
    nlohmann::json stamped_blocks = nlohmann::json::array();
    for (const std::uint64_t block : exceptions.blocks)
        if (stamped(block))
            stamped_blocks.push_back(block);
    std::cout << nlohmann::json{{"stamped", stamped_blocks}} << '\n';
}

}  // namespace

}  // namespace bench

int main(int argc, char** argv) {
    try {
        bench::make({argv + 1, argv + argc});
        return 0;
    } catch (const std::exception& error) {
        std::cerr << "make-exceptions: " << error.what() << '\n';
        return 1;
    }
}
