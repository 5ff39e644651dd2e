// SPDX-License-Identifier: GPL-2.0-or-later
// What the layout planner promises for stores of any size.
#include <catch2/catch.hpp>

#include <memory>
#include <random>

#include "core.hpp"

namespace {

constexpr u64 kMiB = 256;  // blocks
constexpr u64 kGiB = 1024 * kMiB;
constexpr u64 kMostBlocks = u64{1} << 44;
constexpr u32 kSegmentSizes[] = {16, 32, 64, 128, 256};

std::unique_ptr<cow_super> planned(u64 store_blocks, u32 segment_blocks) {
    auto super = std::make_unique<cow_super>();
    std::memcpy(super->uuid, kUuid, sizeof(super->uuid));
    INFO("store of " << store_blocks << " blocks, segments of " << segment_blocks);
    REQUIRE(cow_super_plan(super.get(), store_blocks, segment_blocks) == 0);
    return super;
}

u64 table_blocks_of(const cow_region& region) {
    return (region.segments + COWSNAP_SEGMENTS_PER_TABLE_BLOCK - 1) /
           COWSNAP_SEGMENTS_PER_TABLE_BLOCK * 2;
}

// Areas follow each other without overlap and end inside the store.
void check_areas(const cow_super& super) {
    REQUIRE(super.control_block >= 2 * COWSNAP_SUPER_COPY_BLOCK);
    REQUIRE(super.checkpoint_blocks >= 17);
    REQUIRE(super.journal_blocks % 2 == 0);
    REQUIRE(super.journal_blocks >= 2 * COWSNAP_TRANSACTION_MAX_BLOCKS);
    u64 end = super.control_block + 2 * super.checkpoint_blocks + super.journal_blocks;
    REQUIRE(super.slot_block >= end);
    end = super.slot_block + 2 * super.slot_blocks;
    for (u32 i = 0; i < super.regions; ++i) {
        const cow_region& region = super.region[i];
        REQUIRE(region.segments >= 1);
        REQUIRE(region.table_block >= end);
        REQUIRE(region.segment_block >= region.table_block + table_blocks_of(region));
        end = region.segment_block + region.segments * super.segment_blocks;
    }
    REQUIRE(end <= super.store_blocks);
}

// Segment numbers and blocks are the same thing said in two ways.
void check_mapping(const cow_super& super, u64 segment) {
    const u64 block = cow_super_segment_block(&super, segment);
    REQUIRE(cow_super_block_segment(&super, block) == segment);
    REQUIRE(cow_super_block_segment(&super, block + super.segment_blocks - 1) == segment);
    if (segment + 1 < cow_super_segments(&super)) {
        REQUIRE(cow_super_segment_block(&super, segment + 1) >= block + super.segment_blocks);
    }

    u32 count = 0;
    const u64 first = cow_super_table_first(&super, segment, &count);
    const u64 table = cow_super_table_block(&super, segment);
    REQUIRE(first <= segment);
    REQUIRE(segment < first + count);
    REQUIRE(count <= COWSNAP_SEGMENTS_PER_TABLE_BLOCK);
    REQUIRE(cow_super_table_block(&super, first) == table);
    REQUIRE(cow_super_table_block(&super, first + count - 1) == table);
    REQUIRE(cow_super_block_segment(&super, table) == COW_NONE_SEGMENT);
    REQUIRE(cow_super_block_segment(&super, table + 1) == COW_NONE_SEGMENT);
}

void check_decodes(const cow_super& super) {
    Bytes block = blocks(1);
    auto decoded = std::make_unique<cow_super>();
    cow_super_encode(&super, block.data());
    REQUIRE(cow_super_decode(block.data(), super.store_blocks, decoded.get()) == COW_VALID);
    REQUIRE(cow_super_segments(decoded.get()) == cow_super_segments(&super));
    REQUIRE(cow_super_decode(block.data(), super.store_blocks - 1, decoded.get()) == COW_RANGE);
}

}  // namespace

TEST_CASE("A planned store has its areas in order and inside the device", "[layout]") {
    std::mt19937_64 random(2);
    std::vector<u64> sizes;
    for (u64 size = 8 * kMiB; size < 12 * kMiB; size += 7) {
        sizes.push_back(size);
    }
    for (u64 size = 8 * kMiB; size <= kMostBlocks; size *= 2) {
        sizes.insert(sizes.end(), {size, size + 1, size * 2 - 1});
        sizes.push_back(size + random() % size);
    }
    for (const u64 size : sizes) {
        for (const u32 segment_blocks : kSegmentSizes) {
            if (size > kMostBlocks) {
                continue;
            }
            const auto super = planned(size, segment_blocks);
            check_areas(*super);
            check_decodes(*super);
            const u64 segments = cow_super_segments(super.get());
            for (const u64 segment : {u64{0}, segments / 2, segments - 1, random() % segments}) {
                check_mapping(*super, segment);
            }
            if (size >= 64 * kMiB) {
                REQUIRE(super->region[0].segment_block % segment_blocks == 0);
            }
            // All but the fixed areas, the tables and at most two segments is used.
            const u64 fixed = super->region[0].table_block;
            const u64 room = size - fixed - table_blocks_of(super->region[0]);
            REQUIRE(segments * segment_blocks + 2 * segment_blocks + 2 > room);
        }
    }
}

TEST_CASE("The smallest store is mostly segments", "[layout]") {
    const u64 small = COWSNAP_STORE_MIN_SECTORS / COWSNAP_BLOCK_SECTORS;
    CHECK(cow_super_segments(planned(small, 16).get()) * 16 > small * 9 / 10);
    CHECK(cow_super_segments(planned(small, 256).get()) >= 4);
}

TEST_CASE("The areas grow with the store up to their bounds", "[layout]") {
    const auto small = planned(8 * kMiB, 256);
    CHECK(small->checkpoint_blocks == 17);
    CHECK(small->journal_blocks == 32);
    CHECK(small->slot_blocks == 16);
    const auto middle = planned(kGiB, 256);
    CHECK(middle->checkpoint_blocks == 257);
    CHECK(middle->journal_blocks == 128);
    const auto large = planned(4 * kGiB, 256);
    CHECK(large->checkpoint_blocks == 257);
    CHECK(large->slot_blocks == 1024);
    CHECK(planned(kMostBlocks, 256)->slot_blocks == 1024);
}

TEST_CASE("A store that cannot be laid out is refused", "[layout]") {
    auto super = std::make_unique<cow_super>();
    CHECK(cow_super_plan(super.get(), 8 * kMiB - 1, 256) == -ENOSPC);
    CHECK(cow_super_plan(super.get(), 0, 256) == -ENOSPC);
    CHECK(cow_super_plan(super.get(), kMostBlocks + 1, 256) == -EINVAL);
    for (const u32 wrong : {0u, 1u, 8u, 17u, 255u, 384u, 512u, 0x80000000u}) {
        CHECK(cow_super_plan(super.get(), kGiB, wrong) == -EINVAL);
    }
}

TEST_CASE("Extending keeps every segment where it was", "[layout]") {
    std::mt19937_64 random(3);
    for (const u32 segment_blocks : kSegmentSizes) {
        const auto super = planned(8 * kMiB + random() % kMiB, segment_blocks);
        while (super->regions < COWSNAP_MAX_REGIONS) {
            const cow_super before = *super;
            const u64 old_segments = cow_super_segments(super.get());
            const u64 size =
                super->store_blocks + segment_blocks + 2 + segment_blocks + random() % (64 * kMiB);
            REQUIRE(cow_super_extend(super.get(), size) == 0);
            REQUIRE(super->store_blocks == size);
            REQUIRE(cow_super_segments(super.get()) > old_segments);
            for (int i = 0; i < 8; ++i) {
                const u64 segment = random() % old_segments;
                REQUIRE(cow_super_segment_block(super.get(), segment) ==
                        cow_super_segment_block(&before, segment));
                REQUIRE(cow_super_table_block(super.get(), segment) ==
                        cow_super_table_block(&before, segment));
            }
            check_areas(*super);
            check_decodes(*super);
        }
        for (u64 segment = 0; segment < cow_super_segments(super.get()); ++segment) {
            check_mapping(*super, segment);
        }
        CHECK(cow_super_extend(super.get(), super->store_blocks + kGiB) == -E2BIG);
    }
}

TEST_CASE("An extension too small for a segment changes nothing", "[layout]") {
    const auto super = planned(100 * kMiB, 256);
    const cow_super before = *super;
    for (const u64 more : {0, 1, 2, 255, 257}) {
        CHECK(cow_super_extend(super.get(), super->store_blocks + more) == -ENOSPC);
    }
    CHECK(cow_super_extend(super.get(), super->store_blocks - 1) == -ENOSPC);
    CHECK(cow_super_extend(super.get(), kMostBlocks + 1) == -EINVAL);
    CHECK(std::memcmp(&before, super.get(), sizeof(before)) == 0);
}

TEST_CASE("Blocks outside the segments belong to none", "[layout]") {
    const auto super = planned(100 * kMiB, 256);
    const cow_region& region = super->region[0];
    CHECK(cow_super_block_segment(super.get(), 0) == COW_NONE_SEGMENT);
    CHECK(cow_super_block_segment(super.get(), super->slot_block) == COW_NONE_SEGMENT);
    CHECK(cow_super_block_segment(super.get(), region.segment_block - 1) == COW_NONE_SEGMENT);
    CHECK(cow_super_block_segment(super.get(), region.segment_block + region.segments * 256) ==
          COW_NONE_SEGMENT);
    CHECK(cow_super_block_segment(super.get(), ~u64{0}) == COW_NONE_SEGMENT);
}
