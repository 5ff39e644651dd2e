// SPDX-License-Identifier: GPL-2.0-or-later
// The index of exceptions against a model that is plainly right, and its bounds on memory.
#include <catch2/catch.hpp>

#include <algorithm>
#include <iostream>
#include <map>
#include <optional>
#include <random>
#include <set>
#include <tuple>
#include <utility>

#include "index.hpp"

namespace {

using unit::Index;

struct Answer {
    u64 location = COW_NOT_FOUND;
    u64 epoch = 0;
    bool operator==(const Answer&) const = default;
};

// Where each block of each epoch is; more than one place when it was inserted twice.
class Model {
public:
    void insert(u64 block, u32 length, u64 epoch, u64 location) {
        for (u32 i = 0; i < length; ++i) {
            places_[block + i][epoch].insert(location + i);
        }
    }

    [[nodiscard]] const std::set<u64>* find(u64 block, u64 from_epoch, u64* epoch) const {
        const auto epochs = places_.find(block);
        if (epochs == places_.end()) {
            return nullptr;
        }
        const auto found = epochs->second.lower_bound(from_epoch);
        if (found == epochs->second.end()) {
            return nullptr;
        }
        *epoch = found->first;
        return &found->second;
    }

    bool remove(u64 block, u64 epoch, u64 location) {
        const auto epochs = places_.find(block);
        if (epochs == places_.end() || !epochs->second.contains(epoch)) {
            return false;
        }
        auto& locations = epochs->second[epoch];
        const bool removed = locations.erase(location) > 0;
        if (locations.empty()) {
            epochs->second.erase(epoch);
        }
        return removed;
    }

    [[nodiscard]] u64 blocks() const {
        u64 count = 0;
        for (const auto& [block, epochs] : places_) {
            for (const auto& [epoch, locations] : epochs) {
                count += locations.size();
            }
        }
        return count;
    }

    // From @chunk on, in the order in which a filter visits: chunk, epoch, then what is in them.
    using Place = std::tuple<u64, u64, u64, u64>;  // chunk, epoch, block, location
    [[nodiscard]] std::vector<Place> from_chunk(u64 chunk) const {
        std::vector<Place> all;
        for (auto at = places_.lower_bound(chunk * COW_CHUNK_BLOCKS); at != places_.end(); ++at) {
            for (const auto& [epoch, locations] : at->second) {
                for (const u64 location : locations) {
                    all.emplace_back(at->first / COW_CHUNK_BLOCKS, epoch, at->first, location);
                }
            }
        }
        std::sort(all.begin(), all.end());
        return all;
    }

private:
    std::map<u64, std::map<u64, std::set<u64>>> places_;
};

void check_lookup(const Index& index, const Model& model, u64 block, u64 from_epoch) {
    u64 epoch = 0;
    u64 model_epoch = 0;
    const u64 location = cow_index_lookup(&index.index, block, from_epoch, &epoch);
    const std::set<u64>* expected = model.find(block, from_epoch, &model_epoch);
    REQUIRE((location != COW_NOT_FOUND) == (expected != nullptr));
    REQUIRE(cow_index_lookup(&index.index, block, from_epoch, nullptr) == location);
    if (expected != nullptr) {
        REQUIRE(epoch == model_epoch);
        REQUIRE(expected->contains(location));
    }
}

// Is it right that the run has this length? Where a block has several places any of them will do.
void check_lookup_run(const Index& index, const Model& model, u64 block, u32 length,
                      u64 from_epoch) {
    Answer answer;
    const u32 run = cow_index_lookup_run(&index.index, block, length, from_epoch, &answer.location,
                                         &answer.epoch);
    REQUIRE(run >= 1);
    REQUIRE(run <= length);
    bool ambiguous = false;
    for (u32 i = 0; i < std::min(run + 1, length) && block + i <= COW_INDEX_MAX_BLOCK; ++i) {
        u64 epoch = 0;
        const std::set<u64>* places = model.find(block + i, from_epoch, &epoch);
        ambiguous = ambiguous || (places != nullptr && places->size() > 1);
        const bool same = answer.location == COW_NOT_FOUND
                              ? places == nullptr
                              : places != nullptr && epoch == answer.epoch &&
                                    places->contains(answer.location + i);
        if (i < run) {
            REQUIRE(same);
        } else if (!ambiguous) {
            REQUIRE_FALSE(same);
        }
    }
}

// Keeps what "keep" says, in the index and in the model, and checks each visit.
struct Filter {
    const std::set<u64>* doomed;
    std::vector<Model::Place> visited;
    std::vector<std::pair<u64, u64>> keys;
};

u16 visit(void* context, u64 chunk, u64 epoch, u64 base, u16 bits) {
    auto& filter = *static_cast<Filter*>(context);
    u16 stay = bits;
    filter.keys.emplace_back(chunk, epoch);
    for (u32 i = 0; i < COW_CHUNK_BLOCKS; ++i) {
        if ((bits >> i & 1) == 0) {
            continue;
        }
        filter.visited.emplace_back(chunk, epoch, chunk * COW_CHUNK_BLOCKS + i, base + i);
        if (filter.doomed->contains(base + i)) {
            stay = static_cast<u16>(stay & ~(1u << i));
        }
    }
    return stay;
}

void filter_both(Index& index, Model& model, const std::set<u64>& doomed, u64 from_chunk,
                 u32 budget) {
    const std::vector<Model::Place> expected = model.from_chunk(from_chunk);
    Filter filter{&doomed, {}, {}};
    u64 chunk = from_chunk;
    while (chunk != COW_NOT_FOUND) {
        filter.keys.clear();
        const u64 next = cow_index_filter(&index.index, chunk, budget, visit, &filter);
        REQUIRE(cow_index_check(&index.index));
        REQUIRE(std::is_sorted(filter.keys.begin(), filter.keys.end()));
        if (next != COW_NOT_FOUND) {
            REQUIRE(next > chunk);
            REQUIRE(filter.keys.size() >= budget);
            REQUIRE(filter.keys.back().first < next);
            // It stopped at the first chunk where it could.
            REQUIRE(filter.keys[filter.keys.size() - 1].first == filter.keys[budget - 1].first);
        }
        chunk = next;
    }
    std::sort(filter.visited.begin(), filter.visited.end());
    REQUIRE(filter.visited == expected);
    for (const auto& [in_chunk, epoch, block, location] : expected) {
        if (doomed.contains(location)) {
            model.remove(block, epoch, location);
        }
    }
}

struct Universe {
    u64 first_block;
    u64 blocks;
    u64 epochs;
    u64 locations;
};

void check_random_operations(u64 seed, const Universe& universe, int operations) {
    INFO("seed " << seed);
    std::mt19937_64 random(seed);
    Index index;
    Model model;
    const auto block = [&] { return universe.first_block + random() % universe.blocks; };
    const auto location = [&] { return COW_CHUNK_BLOCKS + random() % universe.locations; };

    for (int operation = 0; operation < operations; ++operation) {
        const u64 kind = random() % 1000;
        if (kind < 400) {
            const u64 first = block();
            const u64 most =
                std::min<u64>(universe.first_block + universe.blocks - first, 1 + random() % 70);
            const u32 length = kind < 200 ? 1 : static_cast<u32>(most);
            const u64 epoch = random() % universe.epochs;
            const u64 place = location();
            index.insert(first, length, epoch, place);
            model.insert(first, length, epoch, place);
        } else if (kind < 600) {
            check_lookup(index, model, block(), random() % (universe.epochs + 1));
        } else if (kind < 750) {
            check_lookup_run(index, model, block(), static_cast<u32>(1 + random() % 200),
                             random() % (universe.epochs + 1));
        } else if (kind < 998) {
            u64 epoch = random() % universe.epochs;
            const u64 at = block();
            const std::set<u64>* places = model.find(at, epoch, &epoch);
            const u64 wanted = places != nullptr && kind % 4 != 0 ? *places->begin() : location();
            const bool there = places != nullptr && places->contains(wanted);
            REQUIRE(cow_index_remove(&index.index, at, epoch, wanted) ==
                    (there ? wanted : COW_NOT_FOUND));
            model.remove(at, epoch, wanted);
        } else {
            std::set<u64> doomed;
            const u64 share = random() % 4;
            for (u64 i = 0; i < universe.locations + 100; ++i) {
                if (random() % 4 < share) {
                    doomed.insert(COW_CHUNK_BLOCKS + i);
                }
            }
            filter_both(index, model, doomed, block() / COW_CHUNK_BLOCKS,
                        static_cast<u32>(1 + random() % 300));
        }
        if (operation % 256 == 0) {
            REQUIRE(cow_index_check(&index.index));
            REQUIRE(index.index.blocks == model.blocks());
        }
    }
    REQUIRE(cow_index_check(&index.index));
    REQUIRE(index.index.blocks == model.blocks());
    REQUIRE(index.pool.allocated == index.pool.free + index.index.nodes);
}

}  // namespace

TEST_CASE("The index answers as its model does after any operations", "[index]") {
    for (u64 seed = 1; seed <= 4; ++seed) {
        check_random_operations(seed, {0, 3000, 12, 100000}, 12000);
    }
    // Few blocks and places: many entries of one key, runs that coalesce by chance.
    for (u64 seed = 11; seed <= 14; ++seed) {
        check_random_operations(seed, {0, 64, 3, 200}, 6000);
    }
    // Many epochs of few chunks.
    check_random_operations(21, {160, 48, 1000, 5000}, 8000);
    // The upper end of what can be addressed.
    check_random_operations(31, {COW_INDEX_MAX_BLOCK - 1999, 2000, 7, 50000}, 8000);
}

TEST_CASE("Entries of one key are found and removed on both sides of a node border", "[index]") {
    std::mt19937_64 random(5);
    Index index;
    std::vector<u64> locations;
    index.insert(15, 1, 7, 1000);  // the chunk in front
    index.insert(32, 1, 7, 1001);  // the chunk behind
    index.insert(16, 1, 6, 1002);  // the epoch before
    for (u64 i = 0; i < 2000; ++i) {
        const u64 location = 5000 + i * 32;
        index.insert(16, 1, 7, location);
        locations.push_back(location);
    }
    REQUIRE(cow_index_check(&index.index));
    REQUIRE(index.index.entries == 2003);

    std::shuffle(locations.begin(), locations.end(), random);
    while (!locations.empty()) {
        const u64 location = locations.back();
        locations.pop_back();
        REQUIRE(cow_index_remove(&index.index, 16, 7, location + 1) == COW_NOT_FOUND);
        REQUIRE(cow_index_remove(&index.index, 16, 7, location) == location);
        REQUIRE(cow_index_remove(&index.index, 16, 7, location) == COW_NOT_FOUND);
        u64 epoch = 0;
        REQUIRE((cow_index_lookup(&index.index, 16, 7, &epoch) != COW_NOT_FOUND) ==
                !locations.empty());
        if (locations.size() % 100 == 0) {
            REQUIRE(cow_index_check(&index.index));
        }
    }
    CHECK(index.index.entries == 3);
    CHECK(cow_index_lookup(&index.index, 15, 0, nullptr) == 1000);
    CHECK(cow_index_lookup(&index.index, 32, 0, nullptr) == 1001);
    CHECK(cow_index_lookup(&index.index, 16, 0, nullptr) == 1002);
}

TEST_CASE("A filter visits each entry of one key once however nodes are folded", "[index]") {
    for (const u64 keep_every : {2, 3, 5, 40, 100000}) {
        Index index;
        Model model;
        std::set<u64> doomed;
        for (u64 i = 0; i < 3000; ++i) {
            const u64 location = 64 + i * 32;
            index.insert(16 * (i / 700), 1, 7, location);
            model.insert(16 * (i / 700), 1, 7, location);
            if (i % keep_every != 0) {
                doomed.insert(location);
            }
        }
        filter_both(index, model, doomed, 0, 10);
        REQUIRE(index.index.blocks == model.blocks());
        filter_both(index, model, doomed, 0, 1000000);
        filter_both(index, model, {}, 0, 1);
    }
}

TEST_CASE("The oldest exception that a snapshot must see is found", "[index]") {
    Index index;
    u64 epoch = 0;
    index.insert(100, 1, 5, 500);
    index.insert(100, 1, 9, 900);
    CHECK(cow_index_lookup(&index.index, 100, 0, &epoch) == 500);
    CHECK(epoch == 5);
    CHECK(cow_index_lookup(&index.index, 100, 5, &epoch) == 500);
    CHECK(cow_index_lookup(&index.index, 100, 6, &epoch) == 900);
    CHECK(epoch == 9);
    CHECK(cow_index_lookup(&index.index, 100, 10, &epoch) == COW_NOT_FOUND);
    CHECK(cow_index_lookup(&index.index, 100, ~u64{0}, &epoch) == COW_NOT_FOUND);
    CHECK(cow_index_lookup(&index.index, ~u64{0}, 0, &epoch) == COW_NOT_FOUND);
    CHECK(cow_index_remove(&index.index, ~u64{0}, 5, COW_NOT_FOUND) == COW_NOT_FOUND);
    CHECK(cow_index_remove(&index.index, 100, ~u64{0}, COW_NOT_FOUND) == COW_NOT_FOUND);
    CHECK(cow_index_remove(&index.index, 100, 5, COW_NOT_FOUND) == 500);
    CHECK(cow_index_lookup(&index.index, 100, 0, &epoch) == 900);
}

TEST_CASE("A run is one answer across chunks", "[index]") {
    Index index;
    u64 location = 0;
    u64 epoch = 0;
    index.insert(1000, 500, 3, 70000);
    CHECK(cow_index_lookup_run(&index.index, 1000, 4000, 0, &location, &epoch) == 500);
    CHECK(location == 70000);
    CHECK(epoch == 3);
    CHECK(cow_index_lookup_run(&index.index, 1003, 100, 3, &location, &epoch) == 100);
    CHECK(location == 70003);
    CHECK(cow_index_lookup_run(&index.index, 0, 4000, 0, &location, &epoch) == 1000);
    CHECK(location == COW_NOT_FOUND);
    CHECK(cow_index_lookup_run(&index.index, 1200, 4000, 4, &location, &epoch) == 4000);
    CHECK(location == COW_NOT_FOUND);
    CHECK(cow_index_lookup_run(&index.index, ~u64{0} - 5, 4000, 0, &location, &epoch) == 4000);
    CHECK(location == COW_NOT_FOUND);
    index.insert(1500, 16, 4, 70500);
    CHECK(cow_index_lookup_run(&index.index, 1400, 4000, 0, &location, &epoch) == 100);
    CHECK(cow_index_lookup_run(&index.index, 1504, 4000, 0, &location, &epoch) == 12);
    index.insert(1520, 16, 5, 70520);
    index.insert(1516, 4, 4, 70516);
    CHECK(cow_index_lookup_run(&index.index, 1500, 4000, 0, &location, &epoch) == 20);
    CHECK(epoch == 4);
    CHECK(cow_index_lookup_run(&index.index, COW_INDEX_MAX_BLOCK, 8, 0, &location, &epoch) == 1);
}

TEST_CASE("Blocks of one chunk that are written one after the other share an entry", "[index]") {
    Index index;
    for (u64 block = 0; block < 16000; ++block) {
        index.insert(block, 1, 1, 100 + block);
    }
    CHECK(index.index.entries == 1000);
    CHECK(index.index.blocks == 16000);
    index.insert(0, 1, 1, 100);
    CHECK(index.index.entries == 1000);
    CHECK(index.index.blocks == 16000);
    REQUIRE(cow_index_check(&index.index));
}

TEST_CASE("Values that an entry cannot hold are refused and change nothing", "[index]") {
    Index index;
    index.reserve(100);
    const u64 most_block = COW_INDEX_MAX_BLOCK;
    const u64 most_location = COW_INDEX_MAX_LOCATION;
    CHECK(cow_index_insert(&index.index, 0, 0, 0, 100) == -EINVAL);
    CHECK(cow_index_insert(&index.index, most_block + 1, 1, 0, 100) == -EINVAL);
    CHECK(cow_index_insert(&index.index, most_block, 2, 0, 100) == -EINVAL);
    CHECK(cow_index_insert(&index.index, ~u64{0}, 2, 0, 100) == -EINVAL);
    CHECK(cow_index_insert(&index.index, 0, 1, 0, COW_CHUNK_BLOCKS - 1) == -EINVAL);
    CHECK(cow_index_insert(&index.index, 0, 1, 0, most_location + 1) == -EINVAL);
    CHECK(cow_index_insert(&index.index, 0, 2, 0, most_location) == -EINVAL);
    CHECK(cow_index_insert(&index.index, 0, 1, COW_INDEX_MAX_EPOCH + 1, 100) == -EINVAL);
    CHECK(index.index.entries == 0);
    REQUIRE(cow_index_insert(&index.index, most_block, 1, COW_INDEX_MAX_EPOCH, most_location) == 0);
    REQUIRE(cow_index_insert(&index.index, 15, 1, 0, COW_CHUNK_BLOCKS) == 0);
    u64 epoch = 0;
    CHECK(cow_index_lookup(&index.index, most_block, 0, &epoch) == most_location);
    CHECK(epoch == COW_INDEX_MAX_EPOCH);
    CHECK(cow_index_lookup(&index.index, 15, 0, &epoch) == COW_CHUNK_BLOCKS);
    CHECK(cow_index_lookup(&index.index, most_block, COW_INDEX_MAX_EPOCH, &epoch) == most_location);
    CHECK(cow_index_check(&index.index));
}

TEST_CASE("A pool that runs dry leaves the index whole", "[index]") {
    std::mt19937_64 random(6);
    for (u32 nodes = 0; nodes < 40; ++nodes) {
        Index index;
        for (u32 i = 0; i < nodes; ++i) {
            cow_pool_give(&index.pool, cow_node_new());
        }
        int result = 0;
        u64 inserted = 0;
        while (result == 0) {
            result =
                cow_index_insert(&index.index, random() % 1000000 * 16, 1, 1, 16 + inserted * 16);
            inserted += result == 0 ? 1 : 0;
        }
        REQUIRE(result == -ENOSPC);
        REQUIRE(index.index.entries == inserted);
        REQUIRE(cow_index_check(&index.index));
    }
}

TEST_CASE("What is promised of the pool is not promised twice", "[index]") {
    Index index;
    index.reserve(10);
    CHECK(cow_pool_missing(&index.pool, 1) == 1);
    CHECK_FALSE(cow_pool_reserve(&index.pool, 1));
    CHECK(cow_pool_reserve(&index.pool, 0));
    index.reserve(5);
    CHECK(index.pool.allocated == 15);
    cow_pool_unreserve(&index.pool, 10);
    CHECK(cow_pool_missing(&index.pool, 10) == 0);
    CHECK(cow_pool_missing(&index.pool, 11) == 1);
    CHECK(cow_pool_missing(&index.pool, ~u32{0}) == ~u32{0} - 10);
    cow_pool_unreserve(&index.pool, 5);
}

TEST_CASE("A run becomes one entry for each chunk it touches", "[index]") {
    CHECK(cow_index_run_entries(0, 0) == 0);
    CHECK(cow_index_run_entries(0, 1) == 1);
    CHECK(cow_index_run_entries(0, 16) == 1);
    CHECK(cow_index_run_entries(0, 17) == 2);
    CHECK(cow_index_run_entries(15, 2) == 2);
    CHECK(cow_index_run_entries(15, 18) == 3);
    CHECK(cow_index_worst_nodes(0) == 0);
    CHECK(cow_index_worst_nodes(~u32{0}) == ~u32{0});
}

TEST_CASE("Insertions never need more nodes than were promised", "[index]") {
    // A tree filled to the brim in ascending order, then hit where every level must split;
    // Index::insert() checks.
    Index index;
    constexpr u64 chunks = 200000;
    for (u64 chunk = 0; chunk < chunks; ++chunk) {
        index.insert(chunk * 2 * 16, 1, 1, 16 + chunk * 16);
    }
    CHECK(index.bytes_per_entry() < 17.5);
    u64 most = 0;
    for (u64 chunk = 0; chunk < chunks; chunk += 31) {
        const u64 before = index.index.nodes;
        index.insert((chunk * 2 + 1) * 16, 1, 1, 16 + chunk * 16);
        most = std::max(most, index.index.nodes - before);
    }
    CHECK(most >= index.index.height - 1);
    // Falling, from the middle outwards, and in one place.
    for (u64 i = 0; i < 20000; ++i) {
        index.insert((chunks * 4 - i) * 16, 1, 1, 16 + i * 16);
        index.insert((chunks * 8 + (i % 2 != 0 ? i : 50000 - i)) * 16, 1, 1, 16 + i * 16);
        index.insert(7, 1, 2, 16 + i * 16);
    }
    REQUIRE(cow_index_check(&index.index));
    REQUIRE(index.pool.allocated == index.pool.free + index.index.nodes);
}

TEST_CASE("An exception of a random block costs at most 27 bytes", "[index]") {
    std::mt19937_64 random(7);
    Index index;
    constexpr u64 count = 1000000;
    for (u64 i = 0; i < count; ++i) {
        const u32 promised = cow_index_worst_nodes(1);
        while (cow_pool_missing(&index.pool, promised) > 0) {
            cow_pool_give(&index.pool, cow_node_new());
        }
        if (cow_index_insert(&index.index, random() % COW_INDEX_MAX_BLOCK, 1, i / 100000,
                             16 + i * 256 / 248) != 0) {
            FAIL("insertion failed");
        }
    }
    REQUIRE(index.index.entries == count);
    REQUIRE(index.index.blocks == count);
    std::cout << "index: random single blocks: " << index.bytes_per_entry()
              << " bytes an exception, height " << index.index.height << '\n';
    CHECK(index.bytes_per_entry() <= 27.0);

    // Deleting nine of ten snapshots must not leave the memory of ten.
    constexpr auto keep_last = [](void*, u64, u64 epoch, u64, u16 bits) -> u16 {
        return epoch == 9 ? bits : u16{0};
    };
    u64 chunk = 0;
    while (chunk != COW_NOT_FOUND) {
        chunk = cow_index_filter(&index.index, chunk, 5000, keep_last, nullptr);
    }
    REQUIRE(cow_index_check(&index.index));
    REQUIRE(index.index.entries == count / 10);
    std::cout << "index: after removing nine of ten: " << index.bytes_per_entry()
              << " bytes an exception\n";
    CHECK(index.bytes_per_entry() <= 32.0);
}

TEST_CASE("A destroyed index has given everything back and can be used again", "[index]") {
    Index index;
    for (u64 i = 0; i < 50000; ++i) {
        index.insert(i * 7919 % 100000 * 16, 1, 1, 16 + i);
    }
    cow_index_destroy(&index.index);
    CHECK(index.pool.free == index.pool.allocated);
    CHECK(index.index.nodes == 0);
    CHECK(cow_index_check(&index.index));
    CHECK(cow_index_lookup(&index.index, 16, 0, nullptr) == COW_NOT_FOUND);
    index.insert(16, 1, 1, 99);
    CHECK(cow_index_lookup(&index.index, 16, 0, nullptr) == 99);
    CHECK(cow_index_remove(&index.index, 16, 1, 99) == 99);
    CHECK(index.pool.free == index.pool.allocated);
    CHECK(cow_index_check(&index.index));
}
