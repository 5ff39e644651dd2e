// SPDX-License-Identifier: GPL-2.0-or-later
// After a repair the store passes and activates, and every snapshot that stayed is exact, now and
// in all later use; none is dropped that was not touched.
#include <catch2/catch.hpp>

#include <algorithm>
#include <set>

#include "base/error.h"
#include "bed.h"
#include "checks.hpp"
#include "cowsnap_dm.h"
#include "random_run.hpp"
#include "store/check_parts.h"
#include "store/control_remains.h"
#include "store/engine.h"
#include "store/repair.h"

using namespace cowsnap;
using namespace cowsnap::store;
using namespace cowsnap::store::test;

namespace {

/// Repairs the world's store; false when it refuses, and then nothing was written.
bool repaired(sim::World& world, RepairPlan& plan) {
    SimBlocks blocks(world.store);
    ShadowBlocks shadow(blocks);
    try {
        plan = planRepair(shadow, {true, {}});
    } catch (const Error&) {
        return false;
    }
    REQUIRE(shadow.apply() == 0);
    return true;
}

/// Whether the engine notices that the transaction in this block of the journal and the next one
/// is missing.
bool isMissed(sim::World world, std::uint64_t block) {
    flip(world, block, 100);
    flip(world, block + 1, 100);
    SimBlocks blocks(world.store);
    return !check(blocks).activates;
}

/// Snapshots that nothing on the store speaks of.
std::set<std::uint32_t> unknown(const sim::World& world, const RepairPlan& plan) {
    std::set<std::uint32_t> ids;
    for (const auto& [id, model] : world.snapshots)
        ids.insert(id);
    for (const auto& snapshot : plan.before.snapshots)
        ids.erase(snapshot.id);
    return ids;
}

/// The snapshots that stayed are exact, and stay so in use; nothing is left of the others.
void mustBeExact(sim::World world, const RepairPlan& plan) {
    for (const auto& dropped : plan.dropped)
        world.snapshots.erase(dropped.snapshot.id);
    world.damaged = false;
    SimBlocks blocks(world.store);
    const Report report = check(blocks, {true, {}});
    INFO(textOf(report));
    REQUIRE(report.passed());
    sim::Machine machine(world, 1);
    REQUIRE(machine.open() == 0);
    std::set<std::uint32_t> there;
    for (const cow_snapshot* snapshot : snapshotsOf(machine.store()))
        there.insert(snapshot->id);
    std::set<std::uint32_t> expected;
    for (const auto& [id, model] : world.snapshots)
        expected.insert(id);
    // one that nothing speaks of any more cannot be named either
    for (const auto id : unknown(world, plan)) {
        expected.erase(id);
        world.snapshots.erase(id);
    }
    REQUIRE(there == expected);
    // a rollback to one that was dropped is not scheduled any more
    std::erase_if(world.rollbacks, [&](const auto& rollback) {
        return rollback.second.scheduled && !there.contains(rollback.second.target);
    });
    sim::check_contents(machine);
    for (const auto& [id, disk] : world.origins)
        if (cow_origin_find(&machine.store(), id) == nullptr)
            machine.register_origin(id);
    sim::RandomRun run(machine, 7);
    run.steps(40);
    machine.drain();
    sim::check_contents(machine);
    sim::check_space(machine, true);
    sim::check_empties(machine);
}

}  // namespace

TEST_CASE("any single damage is repaired, and only snapshots that it touches are dropped") {
    const auto idle = GENERATE(Idle::Settled, Idle::Marked);
    const auto rot = GENERATE(Rot::Bit, Rot::Sector);
    const sim::World world = usedWorld(5, {idle, 16, 250});
    sim::Random random(5);
    std::uint64_t with_drops = 0;
    for (std::uint64_t block = 0; block < world.store.size(); ++block) {
        if (world.store.is_zero(block))
            continue;
        sim::World damaged = world;
        damage(damaged, block, rot, random);
        INFO("block " << block << " idle " << static_cast<int>(idle) << " rot "
                      << static_cast<int>(rot));
        RepairPlan plan;
        REQUIRE(repaired(damaged, plan));
        INFO(textOf(plan.before));
        with_drops += !plan.dropped.empty();
        for (const auto& dropped : plan.dropped) {
            const bool touched =
                std::any_of(plan.before.findings.begin(), plan.before.findings.end(),
                            [&](const Finding& finding) {
                                return finding.damage &&
                                       std::count(finding.snapshots.begin(),
                                                  finding.snapshots.end(), dropped.snapshot.id);
                            });
            REQUIRE(touched);
            REQUIRE_FALSE(dropped.reason.empty());
        }
        mustBeExact(damaged, plan);
    }
    CHECK(with_drops > 10);
}

namespace {

/// Something else is written over the first 128 KiB.
void overwriteStart(sim::World& world, std::uint8_t with) {
    const std::vector<std::uint8_t> other(COWSNAP_STORE_BLANK_SECTORS * 512ULL, with);
    world.store.write(0, other.data(), other.size() / kBlockBytes);
    world.damaged = true;
}

/// A store as it is formatted, and extended twice when it was nearly full.
sim::World extendedWorld(std::uint32_t segment_blocks) {
    sim::World world(2048);
    cow_super plan{};
    REQUIRE(cow_super_plan(&plan, world.store.size(), segment_blocks) == 0);
    world.origins.emplace(1, sim::OriginDisk(8192));
    sim::Machine machine(world, 1);
    machine.format(segment_blocks, plan.region[0].segments);
    REQUIRE(machine.open() == 0);
    machine.register_origin(1);
    REQUIRE(machine.create({{1, 1}}) == 0);
    std::uint64_t next = 0;
    for (int extension = 0; extension < 3; ++extension) {
        if (extension != 0)
            REQUIRE(machine.extend(world.store.size() + 9 * segment_blocks) == 0);
        while (machine.store().nr_free > 3) {
            machine.write(1, next, 12);
            machine.drain();
            next += 12;
        }
        REQUIRE(machine.create({{2U + static_cast<u32>(extension), 1}}) == 0);
    }
    machine.close();
    return world;
}

}  // namespace

TEST_CASE("both superblocks are written anew when all else proves what they said") {
    const auto idle = GENERATE(Idle::Settled, Idle::Marked);
    const std::uint32_t segment_blocks = GENERATE(16U, 64U, 128U);
    const std::uint8_t with = GENERATE(std::uint8_t{0}, std::uint8_t{0x5a});
    std::uint64_t done = 0;
    for (std::uint64_t seed = 1; seed <= 6; ++seed) {
        INFO("seed " << seed << " idle " << static_cast<int>(idle) << " segments of "
                     << segment_blocks << " overwritten with " << int{with});
        sim::World world = usedWorld(seed, {idle, segment_blocks, 200});
        const cow_super before = superOf(world);
        overwriteStart(world, with);
        const sim::World overwritten = world;
        RepairPlan plan;
        if (!repaired(world, plan)) {
            // these stores are made with fewer segments than would fit: an extension hides that
            REQUIRE(before.regions > 1);
            continue;
        }
        ++done;
        CHECK(plan.dropped.empty());
        CHECK(superOf(world).segment_blocks == before.segment_blocks);
        CHECK(superOf(world).region[0].segment_block == before.region[0].segment_block);
        mustBeExact(world, plan);
    }
    CHECK(done > 1);
}

TEST_CASE("superblocks of a store that was extended are written anew as they were") {
    const std::uint32_t segment_blocks = GENERATE(16U, 64U, 128U);
    sim::World world = extendedWorld(segment_blocks);
    const cow_super before = superOf(world);
    REQUIRE(before.regions == 3);
    overwriteStart(world, 0);
    RepairPlan plan;
    REQUIRE(repaired(world, plan));
    CHECK(plan.dropped.empty());
    const cow_super after = superOf(world);
    REQUIRE(after.regions == before.regions);
    for (u32 i = 0; i < after.regions; ++i) {
        CHECK(after.region[i].table_block == before.region[i].table_block);
        CHECK(after.region[i].segment_block == before.region[i].segment_block);
        CHECK(after.region[i].segments == before.region[i].segments);
    }
    CHECK(after.store_blocks == before.store_blocks);
    CHECK(after.slot_block == before.slot_block);
    mustBeExact(world, plan);
}

TEST_CASE("superblocks that nothing proves are not made up") {
    sim::World world = extendedWorld(16);
    const cow_super super = superOf(world);
    overwriteStart(world, 0);
    RepairPlan plan;
    {
        INFO("a header where no layout has it");
        sim::World other = world;
        std::vector<std::uint8_t> header(kBlockBytes);
        other.store.read(super.region[0].segment_block, 1, header.data());
        other.store.write(super.region[0].segment_block + 5 * 16 + 3, header.data(), 1);
        CHECK_FALSE(repaired(other, plan));
    }
    {
        INFO("a device that is larger than the store: the rest is more room");
        sim::World other = world;
        other.store.resize(other.store.size() + 100);
        REQUIRE(repaired(other, plan));
        CHECK(plan.dropped.empty());
        mustBeExact(other, plan);
    }
    {
        INFO("an extension whose table is gone");
        sim::World other = world;
        const std::vector<std::uint8_t> zero(2 * kBlockBytes);
        other.store.write(super.region[1].table_block, zero.data(), 2);
        CHECK_FALSE(repaired(other, plan));
    }
    {
        INFO("no segment table at all");
        sim::World other = world;
        const std::vector<std::uint8_t> zero(2 * kBlockBytes);
        for (u32 i = 0; i < super.regions; ++i)
            for (u64 block = super.region[i].table_block; block < super.region[i].segment_block;
                 block += 2)
                other.store.write(block, zero.data(),
                                  std::min<std::size_t>(2, super.region[i].segment_block - block));
        CHECK_FALSE(repaired(other, plan));
    }
    REQUIRE(repaired(world, plan));
}

TEST_CASE("several damages at a time are repaired, or the store is left as it is") {
    const auto idle = GENERATE(Idle::Settled, Idle::Marked);
    std::uint64_t done = 0;
    for (std::uint64_t seed = 1; seed <= 3; ++seed) {
        const sim::World world = usedWorld(seed, {idle, 16, 200});
        const cow_super super = superOf(const_cast<sim::World&>(world));
        std::vector<std::uint64_t> used;
        for (std::uint64_t block = 0; block < world.store.size(); ++block)
            if (!world.store.is_zero(block))
                used.push_back(block);
        sim::Random random(seed);
        for (int round = 0; round < 60; ++round) {
            sim::World damaged = world;
            std::string which;
            const auto hit = [&](std::uint64_t block) {
                which += " " + std::to_string(block);
                damage(damaged, block, Rot::Sector, random);
            };
            // pairs that stand for each other, among them
            if (random.one_in(3)) {
                hit(super.region[0].table_block);
                hit(super.region[0].table_block + 1);
            }
            if (random.one_in(3)) {
                const std::uint64_t pair =
                    super.control_block + 2 * super.checkpoint_blocks + 2 * random.below(4);
                // the last transaction without both copies was never made, for all one can know
                if (isMissed(world, pair)) {
                    hit(pair);
                    hit(pair + 1);
                }
            }
            if (random.one_in(4)) {
                hit(super.slot_block);
                hit(super.slot_block + super.slot_blocks);
            }
            for (std::uint64_t i = 0; i < 1 + random.below(4); ++i)
                hit(used[random.below(used.size())]);
            INFO("seed " << seed << " round " << round << " blocks" << which << " idle "
                         << static_cast<int>(idle));
            RepairPlan plan;
            if (repaired(damaged, plan)) {
                mustBeExact(damaged, plan);
                ++done;
            }
        }
    }
    CHECK(done > 100);
}

TEST_CASE("a transaction of which a block is missing proves nothing, those behind it do") {
    sim::World world = usedWorld(1);
    const cow_super super = superOf(world);
    const std::uint64_t journal = super.control_block + 2 * super.checkpoint_blocks;
    const auto put = [&](std::uint64_t position, u64 transaction, u16 index, u16 count,
                         std::uint32_t snapshot) {
        cow_op op{};
        op.op = COWSNAP_OP_CREATE;
        op.snapshot = snapshot;
        op.origin = 1;
        op.epoch = 1000 + snapshot;
        std::vector<std::byte> image(kBlockBytes);
        cow_journal_encode(image.data(), super.uuid, transaction, index, count, &op, 1);
        for (std::uint64_t copy = 0; copy < 2; ++copy)
            world.store.write(journal + position + copy, image.data(), 1);
    };
    put(0, 5000, 0, 2, 60);
    put(4, 5001, 0, 1, 62);
    SimBlocks blocks(world.store);
    ControlRemains remains = remainsOf(blocks, super);
    REQUIRE(remains.behind_gap.size() == 1);
    CHECK(remains.behind_gap[0].snapshot == 62);
    CHECK(remains.mentioned.contains(60));
    put(2, 5000, 1, 2, 61);
    remains = remainsOf(blocks, super);
    CHECK(remains.behind_gap.size() == 3);
}

TEST_CASE("there is nothing to repair in a store that is right") {
    sim::World world = usedWorld(1);
    SimBlocks blocks(world.store);
    ShadowBlocks shadow(blocks);
    CHECK_FALSE(planRepair(shadow, {true, {}}).needed());
    CHECK(shadow.writes() == 0);
}

TEST_CASE("an end of a log that cannot be read costs the snapshots of that log only") {
    sim::World world = usedWorld(6, {Idle::Marked, 16, 250});
    const cow_super super = superOf(world);
    SimBlocks blocks(world.store);
    std::uint64_t refused = 0;
    for (u64 segment = 0; segment < cow_super_segments(&super); ++segment) {
        const std::uint64_t first = cow_super_segment_block(&super, segment);
        for (u32 position = 0; position < super.segment_blocks; ++position) {
            blocks.bad = {first + position};
            ShadowBlocks shadow(blocks);
            INFO("block " << first + position);
            const RepairPlan plan = planRepair(shadow);
            if (plan.before.activates)
                continue;
            ++refused;
            CHECK(plan.after.passed());
            CHECK_FALSE(plan.dropped.empty());
            CHECK(plan.dropped.size() < plan.before.snapshots.size());
            for (const auto& dropped : plan.dropped)
                CHECK(dropped.reason.find("cannot be read") != std::string::npos);
        }
    }
    CHECK(refused > 0);
}

TEST_CASE("a repair that is interrupted can be run again") {
    sim::World world = usedWorld(5, {Idle::Marked, 16, 250});
    const cow_super super = superOf(world);
    flip(world, super.region[0].table_block, 64);
    flip(world, super.region[0].table_block + 1, 64);
    flip(world, super.slot_block, 70);
    std::uint64_t writes = 0;
    {
        SimBlocks blocks(world.store);
        ShadowBlocks shadow(blocks);
        planRepair(shadow, {true, {}});
        writes = shadow.writes();
    }
    REQUIRE(writes > 3);
    struct Cut : SimBlocks {
        using SimBlocks::SimBlocks;
        std::uint64_t left = 0;
        int write(std::uint64_t block, std::uint64_t count, const void* from) override {
            return left-- == 0 ? -EIO : SimBlocks::write(block, count, from);
        }
    };
    for (std::uint64_t cut = 0; cut < writes; ++cut) {
        sim::World half = world;
        INFO("after " << cut << " writes");
        Cut blocks(half.store);
        blocks.left = cut;
        ShadowBlocks shadow(blocks);
        const RepairPlan first = planRepair(shadow, {true, {}});
        REQUIRE(shadow.apply() == -EIO);
        RepairPlan second;
        REQUIRE(repaired(half, second));
        for (const auto& dropped : first.dropped)
            half.snapshots.erase(dropped.snapshot.id);
        mustBeExact(half, second);
    }
}

TEST_CASE("with both metadata slots damaged a backup gives the names back") {
    sim::World world = usedWorld(1);
    const cow_super super = superOf(world);
    SimBlocks blocks(world.store);
    Metadata backup;
    {
        const auto slots = readSlots(blocks, super);
        backup = parseMetadata(slots[0].header.schema, slots[0].body);
    }
    // since the backup one was deleted and another one was made
    SnapshotRecord gone = backup.snapshots.front();
    gone.id = 90;
    gone.uuid = Uuid::random();
    gone.name = "gone";
    backup.snapshots.push_back(gone);
    const std::uint32_t newer = backup.snapshots.front().id;
    backup.snapshots.erase(backup.snapshots.begin());
    backup.next_snapshot_id = 1;
    flip(world, super.slot_block, 200);
    flip(world, super.slot_block + super.slot_blocks, 200);
    ShadowBlocks shadow(blocks);
    Metadata other = backup;
    other.store = Uuid::random();
    CHECK_THROWS_AS(planRepair(shadow, {}, other), Error);
    const RepairPlan plan = planRepair(shadow, {}, backup);
    CHECK(plan.dropped.empty());
    REQUIRE(shadow.apply() == 0);
    CHECK(check(blocks).passed());
    const auto slots = readSlots(blocks, super);
    for (const auto& slot : slots) {
        const Metadata metadata = parseMetadata(slot.header.schema, slot.body);
        CHECK(metadata.name == "main");
        CHECK(metadata.origins.size() == 2);
        CHECK(metadata.snapshotWithId(90) == nullptr);
        CHECK(metadata.snapshotWithId(newer) == nullptr);
        CHECK(metadata.snapshotWithId(20)->name == "snap-20");
        CHECK(metadata.next_snapshot_id > 21);
    }
}

TEST_CASE("metadata slots that were zeroed are written from the other one, or from a backup") {
    sim::World world = usedWorld(1);
    const cow_super super = superOf(world);
    SimBlocks blocks(world.store);
    const auto as_before = readSlots(blocks, super);
    const Metadata backup = parseMetadata(as_before[0].header.schema, as_before[0].body);
    const std::vector<std::byte> zeros(kBlockBytes);
    REQUIRE(blocks.write(super.slot_block, 1, zeros.data()) == 0);
    const auto expectMended = [&](const std::optional<Metadata>& metadata) {
        ShadowBlocks shadow(blocks);
        const RepairPlan plan = planRepair(shadow, {}, metadata);
        CHECK(plan.needed());
        CHECK(plan.dropped.empty());
        REQUIRE(shadow.apply() == 0);
        for (const auto& slot : readSlots(blocks, super)) {
            REQUIRE(slot.header.state == SlotState::Valid);
            CHECK(parseMetadata(slot.header.schema, slot.body).snapshotWithId(20)->name ==
                  "snap-20");
        }
        CHECK(check(blocks).findings.empty());
    };
    SECTION("one of them") {
        const Report report = check(blocks);
        CHECK(report.passed());
        CHECK(report.findings.size() == 1);
        expectMended({});
    }
    SECTION("both, as in a store that only dmsetup had") {
        REQUIRE(blocks.write(super.slot_block + super.slot_blocks, 1, zeros.data()) == 0);
        CHECK(check(blocks).findings.empty());
        ShadowBlocks shadow(blocks);
        CHECK_FALSE(planRepair(shadow).needed());
        expectMended(backup);
    }
    SECTION("one of them, with the other one damaged") {
        flip(world, super.slot_block + super.slot_blocks, 200);
        CHECK(check(blocks).damages() == 2);
        expectMended(backup);
    }
}
