// SPDX-License-Identifier: GPL-2.0-or-later
// Each damage is named: structure, block, and the snapshots that it touches.
#include <catch2/catch.hpp>

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "bed.h"
#include "store/check_parts.h"

using namespace cowsnap;
using namespace cowsnap::store;
using namespace cowsnap::store::test;

namespace {

Report checked(sim::World& world, bool data = false) {
    SimBlocks blocks(world.store);
    return check(blocks, {data, {}});
}

std::vector<std::uint32_t> allSnapshots(const Report& report) {
    std::vector<std::uint32_t> ids;
    for (const auto& snapshot : report.snapshots)
        ids.push_back(snapshot.id);
    return ids;
}

/// The header of the last batch with data for the newest snapshot of origin 1.
struct FoundBatch {
    std::uint64_t block = 0;
    cow_batch_info info{};
};

FoundBatch batchIn(sim::World& world) {
    const cow_super super = superOf(world);
    FoundBatch found;
    for (std::uint64_t block = super.region[0].segment_block; block < super.store_blocks; ++block) {
        std::vector<std::byte> data(kBlockBytes);
        world.store.read(block, 1, data.data());
        cow_batch_info info{};
        const u64 segment = cow_super_block_segment(&super, block);
        if (segment != COW_NONE_SEGMENT &&
            cow_batch_decode(data.data(), super.uuid, super.segment_blocks, &info) == COW_VALID &&
            info.origin == 1 && info.blocks != 0 && info.segment == segment &&
            std::pair(info.epoch, info.sequence) > std::pair(found.info.epoch, found.info.sequence))
            found = {block, info};
    }
    REQUIRE(found.block != 0);
    return found;
}

}  // namespace

TEST_CASE("one damaged superblock is a notice, two are damage") {
    sim::World world = usedWorld(1);
    flip(world, COWSNAP_SUPER_COPY_BLOCK, 100);
    Report report = checked(world);
    CHECK(report.passed());
    REQUIRE(find(report, "superblock", false) != nullptr);
    CHECK(find(report, "superblock", false)->block == COWSNAP_SUPER_COPY_BLOCK);
    flip(world, 0, 100);
    report = checked(world);
    CHECK_FALSE(report.passed());
    CHECK(report.damages() == 2);
    CHECK(report.findings[0].block == 0);
    CHECK(report.findings[1].block == COWSNAP_SUPER_COPY_BLOCK);
}

TEST_CASE("a store whose first blocks were overwritten is not taken for none") {
    for (const std::uint8_t with : {std::uint8_t{0}, std::uint8_t{0x5a}}) {
        sim::World world = usedWorld(2, {Idle::Settled, 128, 200});
        const std::size_t snapshots = checked(world).snapshots.size();
        const std::vector<std::uint8_t> other(32 * kBlockBytes, with);
        world.store.write(0, other.data(), 32);
        const Report report = checked(world, true);
        INFO(textOf(report));
        CHECK_FALSE(report.activates);
        CHECK(report.damages() == 2);
        REQUIRE(find(report, "superblock") != nullptr);
        CHECK(report.snapshots.size() == snapshots);
        CHECK(find(report, "superblock")->snapshots == allSnapshots(report));
        CHECK(report.refusal.find("written anew") != std::string::npos);
        CHECK(report.data_blocks > 0);
    }
}

TEST_CASE("the names of the snapshots come from the metadata") {
    sim::World world = usedWorld(1);
    const Report report = checked(world);
    REQUIRE_FALSE(report.snapshots.empty());
    for (const auto& snapshot : report.snapshots)
        CHECK(snapshot.name == "snap-" + std::to_string(snapshot.id));
}

TEST_CASE("one damaged metadata slot is a notice, two are damage") {
    sim::World world = usedWorld(1);
    const cow_super super = superOf(world);
    flip(world, super.slot_block, 200);
    CHECK(checked(world).passed());
    CHECK(find(checked(world), "metadata slot", false) != nullptr);
    flip(world, super.slot_block + super.slot_blocks, 200);
    const Report report = checked(world);
    CHECK_FALSE(report.passed());
    CHECK(report.activates);
    CHECK(report.damages() == 2);
}

TEST_CASE("a transaction that is missing in front of another is named") {
    sim::World world = usedWorld(1);
    const cow_super super = superOf(world);
    const std::uint64_t journal = super.control_block + 2 * super.checkpoint_blocks;
    flip(world, journal, 300);
    Report report = checked(world);
    CHECK(report.passed());
    REQUIRE(find(report, "control record", false) != nullptr);
    CHECK(find(report, "control record", false)->block == journal);
    flip(world, journal + 1, 300);
    report = checked(world);
    CHECK_FALSE(report.passed());
    CHECK_FALSE(report.activates);
    REQUIRE(find(report, "control record") != nullptr);
    CHECK(find(report, "control record")->block == journal);
}

TEST_CASE("both copies of a block of the segment table are damage to all who may be in it") {
    sim::World world = usedWorld(1);
    const cow_super super = superOf(world);
    flip(world, super.region[0].table_block, 200);
    CHECK(checked(world).passed());
    flip(world, super.region[0].table_block + 1, 200);
    const Report report = checked(world);
    CHECK_FALSE(report.activates);
    REQUIRE(find(report, "segment table") != nullptr);
    CHECK(find(report, "segment table")->block == super.region[0].table_block);
    CHECK(find(report, "segment table")->snapshots == allSnapshots(report));
}

TEST_CASE("a batch that was durable and is damaged is named with the snapshots it touches") {
    sim::World world = usedWorld(2, {Idle::Marked, 32, 250});
    const FoundBatch batch = batchIn(world);
    flip(world, batch.block, 40);
    const Report report = checked(world);
    INFO(textOf(report));
    CHECK(report.activates);
    CHECK_FALSE(report.passed());
    REQUIRE(find(report, "batch") != nullptr);
    CHECK(find(report, "batch")->block == batch.block);
    const auto& touched = find(report, "batch")->snapshots;
    CHECK(std::count(touched.begin(), touched.end(), 20) == 1);
    CHECK(std::count(touched.begin(), touched.end(), 21) == 0);
}

TEST_CASE("damaged data is found only by comparing data") {
    sim::World world = usedWorld(2, {Idle::Settled, 16, 250});
    const FoundBatch batch = batchIn(world);
    flip(world, batch.block + 1, 1000);
    CHECK(checked(world).passed());
    const Report report = checked(world, true);
    INFO(textOf(report));
    CHECK(report.activates);
    REQUIRE(find(report, "data") != nullptr);
    CHECK(find(report, "data")->block == batch.block + 1);
    CHECK_FALSE(find(report, "data")->snapshots.empty());
}

TEST_CASE("a damaged summary is a notice: its batches are read") {
    sim::World world = usedWorld(3, {Idle::Marked, 16, 250});
    const cow_super super = superOf(world);
    std::uint64_t noticed = 0;
    for (u64 segment = 0; segment < cow_super_segments(&super); ++segment) {
        sim::World damaged = world;
        flip(damaged, cow_super_segment_block(&super, segment) + super.segment_blocks - 1, 130);
        const Report report = checked(damaged);
        CHECK(report.passed());
        noticed += find(report, "summary", false) != nullptr;
    }
    CHECK(noticed > 0);
}

TEST_CASE("a block that cannot be read is named") {
    sim::World world = usedWorld(2, {Idle::Settled, 16, 250});
    const FoundBatch batch = batchIn(world);
    SimBlocks blocks(world.store);
    blocks.bad = {batch.block + 1};
    const Report report = check(blocks, {true, {}});
    REQUIRE(find(report, "data") != nullptr);
    CHECK(find(report, "data")->what.find("cannot be read") != std::string::npos);
}

TEST_CASE("what is no store is no damage") {
    sim::StoreImage blank(4096);
    SimBlocks blocks(blank);
    try {
        check(blocks);
        FAIL("a blank disk was taken for a store");
    } catch (const Error& error) {
        CHECK(error.kind() == ErrorKind::NotFound);
    }
    std::vector<std::byte> noise(kBlockBytes, std::byte{7});
    blank.write(0, noise.data(), 1);
    CHECK_THROWS_AS(check(blocks), Error);
}

TEST_CASE("checking does not write") {
    struct ReadOnly : SimBlocks {
        using SimBlocks::SimBlocks;
        int write(std::uint64_t, std::uint64_t, const void*) override {
            FAIL("check wrote to the store");
            return -EIO;
        }
    };
    sim::World world = usedWorld(4, {Idle::Cut, 16, 100});
    ReadOnly blocks(world.store);
    CHECK(check(blocks, {true, {}}).passed());
}
