// SPDX-License-Identifier: GPL-2.0-or-later
// Many runs into an index at once: as if they had been inserted one after the other, also where
// there is no memory, and in bounded memory.
#include <catch2/catch.hpp>

#include <algorithm>
#include <iostream>
#include <map>
#include <random>
#include <tuple>
#include <utility>

#include "index.hpp"

namespace {

using unit::Index;

struct Run {
    u64 block;
    u32 length;
    u64 epoch;
    u64 location;
};

using Runs = std::vector<Run>;

// An entry as it is visited: chunk, epoch, base, bits.
using Entry = std::tuple<u64, u64, u64, u16>;

std::vector<Entry> entries_of(Index& index) {
    std::vector<Entry> entries;
    const auto visit = [](void* context, u64 chunk, u64 epoch, u64 base, u16 bits) -> u16 {
        static_cast<std::vector<Entry>*>(context)->emplace_back(chunk, epoch, base, bits);
        return bits;
    };
    u64 chunk = 0;
    while (chunk != COW_NOT_FOUND) {
        chunk = cow_index_filter(&index.index, chunk, 1000, visit, &entries);
    }
    return entries;
}

std::vector<Entry> sorted(std::vector<Entry> entries) {
    std::sort(entries.begin(), entries.end());
    return entries;
}

// What must be there, in order: entries of a key in the order in which their first blocks came.
std::vector<Entry> expected_of(const Runs& runs) {
    std::map<std::pair<u64, u64>, std::vector<std::pair<u64, u16>>> keys;
    for (const Run& run : runs) {
        for (u32 i = 0; i < run.length; ++i) {
            const u64 block = run.block + i;
            const u64 base = run.location + i - block % COW_CHUNK_BLOCKS;
            auto& of_key = keys[{block / COW_CHUNK_BLOCKS, run.epoch}];
            auto at = std::find_if(of_key.begin(), of_key.end(),
                                   [&](const auto& entry) { return entry.first == base; });
            if (at == of_key.end()) {
                at = of_key.insert(of_key.end(), {base, u16{0}});
            }
            at->second = static_cast<u16>(at->second | 1u << block % COW_CHUNK_BLOCKS);
        }
    }
    std::vector<Entry> entries;
    for (const auto& [key, of_key] : keys) {
        for (const auto& [base, bits] : of_key) {
            entries.emplace_back(key.first, key.second, base, bits);
        }
    }
    return entries;
}

// All of them at once.
class Bulk {
public:
    explicit Bulk(Index& index) { cow_bulk_init(&bulk, &index.index); }
    Bulk(const Bulk&) = delete;
    Bulk& operator=(const Bulk&) = delete;
    ~Bulk() { cow_bulk_drop(&bulk); }

    int add(const Runs& runs) {
        for (const Run& run : runs) {
            const int result = cow_bulk_add(&bulk, run.block, run.length, run.epoch, run.location);
            if (result != 0) {
                return result;
            }
        }
        return 0;
    }

    cow_bulk bulk{};
};

void build(Index& index, const Runs& runs) {
    Bulk bulk(index);
    REQUIRE(bulk.add(runs) == 0);
    REQUIRE(cow_bulk_build(&bulk.bulk) == 0);
    REQUIRE(cow_index_check(&index.index));
    REQUIRE(bulk.bulk.list.first == nullptr);
    REQUIRE(index.pool.allocated == index.pool.free + index.index.nodes);
}

struct Universe {
    const char* what;
    u64 first_block;
    u64 blocks;
    u64 first_epoch;
    u64 epochs;
    u64 locations;
    u32 longest;
};

constexpr Universe kUniverses[] = {
    {"random blocks of one epoch", 0, 1000000, 1, 1, 1000000, 1},
    {"all blocks that there can be", 0, COW_INDEX_MAX_BLOCK - 300, 1, 1, 1000000, 1},
    {"all epochs that there can be", 0, 5000, 0, COW_INDEX_MAX_EPOCH + 1, 1000000, 1},
    {"the highest values", COW_INDEX_MAX_BLOCK - 2000, 1800, COW_INDEX_MAX_EPOCH - 40, 41, 9000,
     200},
    {"runs of neighbours", 0, 100000, 5, 20, 1000000, 254},
    {"the same blocks over and over", 0, 40, 1, 3, 400, 4},
    {"epochs that differ in low bits", 0, 300, 16, 16, 100000, 3},
    {"one chunk of one epoch", 160, 16, 7, 1, 300, 1},
};

Runs some_runs(const Universe& universe, std::size_t count, u64 seed) {
    std::mt19937_64 random(seed);
    Runs runs;
    while (runs.size() < count) {
        Run run{};
        run.block = universe.first_block + random() % universe.blocks;
        run.length =
            1 + static_cast<u32>(std::min(random() % universe.longest,
                                          universe.first_block + universe.blocks - 1 - run.block));
        run.epoch = universe.first_epoch + random() % universe.epochs;
        run.location = COW_CHUNK_BLOCKS + random() % universe.locations;
        runs.push_back(run);
        // one that follows, as when neighbours are written one after the other
        if (random() % 3 == 0 && runs.size() < count &&
            run.block + 2 * run.length <= universe.first_block + universe.blocks) {
            run.block += run.length;
            run.location += run.length;
            runs.push_back(run);
        }
    }
    return runs;
}

// Where no block is twice in an epoch, the oldest of those that came first is found.
void check_first_wins(const Index& index, const Runs& runs) {
    std::map<std::pair<u64, u64>, u64> first;
    std::map<u64, u64> oldest;
    for (const Run& run : runs) {
        for (u32 i = 0; i < run.length; ++i) {
            first.try_emplace({run.block + i, run.epoch}, run.location + i);
            const auto at = oldest.try_emplace(run.block + i, run.epoch).first;
            at->second = std::min(at->second, run.epoch);
        }
    }
    std::size_t checked = 0;
    for (const auto& [key, location] : first) {
        if (++checked > 20000) {
            break;
        }
        u64 epoch = 0;
        cow_index_lookup(&index.index, key.first, 0, &epoch);
        REQUIRE(epoch == oldest.at(key.first));
        REQUIRE(cow_index_lookup(&index.index, key.first, key.second, &epoch) != COW_NOT_FOUND);
        REQUIRE(epoch == key.second);
    }
}

}  // namespace

TEST_CASE("Runs that are inserted at once are where they would be one after the other", "[bulk]") {
    for (const Universe& universe : kUniverses) {
        // Around a leaf that is full as added (31) and as made (26), and trees of two and three
        // levels.
        for (const std::size_t count :
             {0, 1, 2, 25, 26, 27, 30, 31, 32, 52, 53, 62, 63, 624, 625, 3000, 20000}) {
            if (universe.blocks < 100 && count > 3000) {
                continue;
            }
            INFO(universe.what << ", " << count);
            const Runs runs = some_runs(universe, count, count + 1);
            Index one;
            for (const Run& run : runs) {
                one.insert(run.block, run.length, run.epoch, run.location);
            }
            Index all;
            build(all, runs);
            const std::vector<Entry> entries = entries_of(all);
            REQUIRE(entries == expected_of(runs));
            REQUIRE(sorted(entries) == sorted(entries_of(one)));
            REQUIRE(all.index.entries == one.index.entries);
            REQUIRE(all.index.blocks == one.index.blocks);
            check_first_wins(all, runs);
        }
    }
}

TEST_CASE("Of a block that is twice in an epoch the one that came first is found", "[bulk]") {
    std::mt19937_64 random(3);
    Runs runs;
    std::map<u64, u64> first;
    for (u64 i = 0; i < 50000; ++i) {
        runs.push_back({random() % 20000, 1, 9, COW_CHUNK_BLOCKS + i * 32});
        first.try_emplace(runs.back().block, runs.back().location);
    }
    Index index;
    build(index, runs);
    for (const auto& [block, location] : first) {
        REQUIRE(cow_index_lookup(&index.index, block, 0, nullptr) == location);
        REQUIRE(cow_index_lookup(&index.index, block, 9, nullptr) == location);
        REQUIRE(cow_index_lookup(&index.index, block, 10, nullptr) == COW_NOT_FOUND);
    }
}

TEST_CASE("An index that was made at once goes on like any other", "[bulk]") {
    std::mt19937_64 random(4);
    for (const Universe& universe : kUniverses) {
        INFO(universe.what);
        const Runs runs = some_runs(universe, 3000, 17);
        Index one;
        for (const Run& run : runs) {
            one.insert(run.block, run.length, run.epoch, run.location);
        }
        Index all;
        build(all, runs);
        for (const Run& run : some_runs(universe, 3000, 18)) {
            one.insert(run.block, run.length, run.epoch, run.location);
            all.insert(run.block, run.length, run.epoch, run.location);
            const Run& gone = runs[random() % runs.size()];
            REQUIRE(cow_index_remove(&one.index, gone.block, gone.epoch, gone.location) ==
                    cow_index_remove(&all.index, gone.block, gone.epoch, gone.location));
        }
        REQUIRE(cow_index_check(&all.index));
        REQUIRE(sorted(entries_of(all)) == sorted(entries_of(one)));
        cow_index_destroy(&all.index);
        REQUIRE(all.pool.free == all.pool.allocated);
        build(all, runs);
        REQUIRE(entries_of(all) == expected_of(runs));
    }
}

namespace {

// Memory is refused once, this many allocations from now.
std::size_t refused_in;

bool allowed(size_t) {
    return refused_in-- != 0;
}

// 0, or the error with the allocation that was refused.
int build_without(std::size_t allocation, const Runs& runs, const std::vector<Entry>& expected) {
    Index index;
    Bulk bulk(index);
    refused_in = allocation;
    cow_alloc_allowed = allowed;
    int result = bulk.add(runs);
    const bool added = result == 0;
    if (added) {
        result = cow_bulk_build(&bulk.bulk);
    }
    cow_alloc_allowed = nullptr;
    if (result != 0) {
        CHECK(index.index.root == nullptr);
        CHECK(cow_index_check(&index.index));
    }
    if (result != 0 && added) {
        // Nothing has changed: it can be tried again.
        CHECK(cow_bulk_build(&bulk.bulk) == 0);
    }
    cow_bulk_drop(&bulk.bulk);
    CHECK(cow_index_check(&index.index));
    CHECK(index.pool.free + index.index.nodes == index.pool.allocated);
    if (added) {
        CHECK(entries_of(index) == expected);
    }
    return result;
}

}  // namespace

TEST_CASE("Memory that is refused at any step leaves the index as it was", "[bulk]") {
    for (const std::size_t count : {1, 40, 500}) {
        const Runs runs = some_runs(kUniverses[0], count, 5);
        const std::vector<Entry> expected = expected_of(runs);
        std::size_t refused = 0;
        for (;; ++refused) {
            INFO(count << " runs, allocation " << refused);
            const int result = build_without(refused, runs, expected);
            if (result == 0) {
                break;
            }
            REQUIRE(result == -ENOMEM);
        }
        // A node for what is added, the table of the sort, and nodes for that.
        CHECK(refused > 2 + std::min<std::size_t>(count, 512));
    }
}

TEST_CASE("What cannot be is not inserted at once either", "[bulk]") {
    Index index;
    Bulk bulk(index);
    const u64 most_block = COW_INDEX_MAX_BLOCK;
    const u64 most_location = COW_INDEX_MAX_LOCATION;
    CHECK(cow_bulk_add(&bulk.bulk, 0, 0, 0, 100) == -EINVAL);
    CHECK(cow_bulk_add(&bulk.bulk, most_block, 2, 0, 100) == -EINVAL);
    CHECK(cow_bulk_add(&bulk.bulk, ~u64{0}, 2, 0, 100) == -EINVAL);
    CHECK(cow_bulk_add(&bulk.bulk, 0, 1, 0, COW_CHUNK_BLOCKS - 1) == -EINVAL);
    CHECK(cow_bulk_add(&bulk.bulk, 0, 2, 0, most_location) == -EINVAL);
    CHECK(cow_bulk_add(&bulk.bulk, 0, 1, COW_INDEX_MAX_EPOCH + 1, 100) == -EINVAL);
    CHECK(bulk.bulk.list.first == nullptr);
    CHECK(cow_bulk_build(&bulk.bulk) == 0);
    CHECK(index.index.root == nullptr);
    REQUIRE(cow_bulk_add(&bulk.bulk, most_block, 1, COW_INDEX_MAX_EPOCH, most_location) == 0);
    REQUIRE(cow_bulk_build(&bulk.bulk) == 0);
    CHECK(cow_index_lookup(&index.index, most_block, COW_INDEX_MAX_EPOCH, nullptr) ==
          most_location);

    // An index that has something already stays as it is.
    REQUIRE(cow_bulk_add(&bulk.bulk, 5, 1, 1, 100) == 0);
    CHECK(cow_bulk_build(&bulk.bulk) == -EINVAL);
    CHECK(index.index.entries == 1);
    CHECK(bulk.bulk.list.first != nullptr);
}

TEST_CASE("Nodes that are promised to others are not taken", "[bulk]") {
    const Runs runs = some_runs(kUniverses[0], 5000, 6);
    Index index;
    index.reserve(100);
    Bulk bulk(index);
    REQUIRE(bulk.add(runs) == 0);
    CHECK(index.pool.free == 100);
    REQUIRE(cow_bulk_build(&bulk.bulk) == 0);
    CHECK(index.pool.free >= 100);
    cow_pool_trim(&index.pool);
    CHECK(index.pool.free == 100);
    cow_pool_unreserve(&index.pool, 100);
    cow_pool_trim(&index.pool);
    CHECK(index.pool.free == 0);
    CHECK(index.pool.allocated == index.index.nodes);
    CHECK(entries_of(index) == expected_of(runs));
}

TEST_CASE("What is inserted at once takes at most 21 bytes, and 29 whatever follows", "[bulk]") {
    std::mt19937_64 random(8);
    constexpr u64 count = 200000;
    Runs runs;
    for (u64 i = 0; i < count; ++i) {
        runs.push_back({random() % COW_INDEX_MAX_BLOCK, 1, 1, COW_CHUNK_BLOCKS + i});
    }
    Index index;
    build(index, runs);
    std::cout << "index: at once: " << index.bytes_per_entry() << " bytes an exception\n";
    CHECK(index.bytes_per_entry() <= 21.0);
    // The most there was at a time: two nodes more for each value of a digit, and a few.
    CHECK(index.pool.allocated - index.index.nodes <= 2 * 512 + 20);

    double most = 0;
    for (u64 i = 0; i < 2 * count; ++i) {
        const u32 promised = cow_index_worst_nodes(1);
        while (cow_pool_missing(&index.pool, promised) > 0) {
            cow_pool_give(&index.pool, cow_node_new());
        }
        if (cow_index_insert(&index.index, random() % COW_INDEX_MAX_BLOCK, 1, 1,
                             COW_CHUNK_BLOCKS + count + i) != 0) {
            FAIL("insertion failed");
        }
        most = std::max(most, index.bytes_per_entry());
    }
    REQUIRE(cow_index_check(&index.index));
    std::cout << "index: the most while it grew: " << most << " bytes an exception\n";
    CHECK(most <= 29.0);
}
