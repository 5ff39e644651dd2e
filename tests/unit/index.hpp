// SPDX-License-Identifier: GPL-2.0-or-later
// What the tests of the index share.
#ifndef COWSNAP_TESTS_UNIT_INDEX_HPP
#define COWSNAP_TESTS_UNIT_INDEX_HPP

#include <catch2/catch.hpp>

#include "core.hpp"

namespace unit {

// An index with a pool of its own, fed as its callers must feed it.
class Index {
public:
    Index() {
        cow_pool_init(&pool);
        cow_index_init(&index, &pool);
    }
    Index(const Index&) = delete;
    Index& operator=(const Index&) = delete;
    ~Index() {
        cow_index_destroy(&index);
        cow_pool_destroy(&pool);
    }

    void reserve(u32 nodes) {
        for (u32 missing = cow_pool_missing(&pool, nodes); missing > 0; --missing) {
            cow_pool_give(&pool, cow_node_new());
        }
        REQUIRE(cow_pool_missing(&pool, nodes) == 0);
        REQUIRE(cow_pool_reserve(&pool, nodes));
    }

    void insert(u64 block, u32 length, u64 epoch, u64 location) {
        const u32 promised = cow_index_worst_nodes(cow_index_run_entries(block, length));
        const u64 before = index.nodes;
        reserve(promised);
        REQUIRE(cow_index_insert(&index, block, length, epoch, location) == 0);
        REQUIRE(index.nodes - before <= promised);
        cow_pool_unreserve(&pool, promised);
    }

    [[nodiscard]] double bytes_per_entry() const {
        return static_cast<double>(index.nodes * cow_node_bytes()) /
               static_cast<double>(index.entries);
    }

    cow_node_pool pool{};
    cow_index index{};
};

}  // namespace unit

#endif
