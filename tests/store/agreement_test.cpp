// SPDX-License-Identifier: GPL-2.0-or-later
// The tool and the engine agree: what "check" passes, activates with all snapshots exact; what
// activates without damage, passes. Held against the simulator's machine, which is not the tool's.
#include <catch2/catch.hpp>

#include <algorithm>

#include "bed.h"
#include "checks.hpp"
#include "store/engine.h"

using namespace cowsnap::store;
using namespace cowsnap::store::test;

namespace {

bool slotsDamaged(const Report& report) {
    return find(report, "metadata slot") != nullptr;
}

/// Opens the store with the machine and holds what it says against the report.
void compare(sim::World world, const Report& report) {
    INFO(textOf(report));
    sim::Machine machine(world, 1);
    const bool opened = machine.open() == 0;
    INFO(machine.why());
    REQUIRE(report.activates == opened);
    if (!opened) {
        REQUIRE_FALSE(report.passed());
        return;
    }
    bool damaged = machine.store().damaged_blocks != 0;
    for (const cow_snapshot* snapshot : snapshotsOf(machine.store())) {
        damaged |= snapshot->damaged;
        // who is damaged is touched by a finding
        if (snapshot->damaged) {
            const bool named = std::any_of(
                report.findings.begin(), report.findings.end(), [&](const auto& finding) {
                    return finding.damage && std::count(finding.snapshots.begin(),
                                                        finding.snapshots.end(), snapshot->id) != 0;
                });
            REQUIRE(named);
        }
    }
    bool data_damaged = false;
    for (const auto& finding : report.findings)
        data_damaged |= finding.damage && finding.structure == "data";
    REQUIRE(report.passed() == (!damaged && !data_damaged && !slotsDamaged(report)));
    // With its data checked, "passed" means exact: no error is forgiven.
    world.damaged = !report.passed();
    sim::check_contents(machine);
}

}  // namespace

TEST_CASE("a store that nothing happened to passes, and after a power cut too") {
    const auto idle = GENERATE(Idle::Settled, Idle::Marked, Idle::Cut);
    const std::uint32_t segment_blocks = GENERATE(16U, 128U);
    for (std::uint64_t seed = 1; seed <= 20; ++seed) {
        INFO("seed " << seed << " idle " << static_cast<int>(idle));
        sim::World world = usedWorld(seed, {idle, segment_blocks, 150});
        SimBlocks blocks(world.store);
        const Report report = check(blocks, {true, {}});
        INFO(textOf(report));
        CHECK(report.passed());
        CHECK(report.damages() == 0);
        if (idle != Idle::Cut) {
            CHECK(report.findings.empty());
            CHECK(report.data_blocks > 0);
        }
    }
}

TEST_CASE("check and activation agree on every block damaged, by bit, sector and block") {
    const auto idle = GENERATE(Idle::Settled, Idle::Marked);
    const auto rot = GENERATE(Rot::Bit, Rot::Sector, Rot::Block);
    std::uint64_t damages = 0;
    for (std::uint64_t seed = 1; seed <= 3; ++seed) {
        const sim::World world = usedWorld(seed, {idle, 16, 250});
        sim::Random random(seed);
        for (std::uint64_t block = 0; block < world.store.size(); ++block) {
            if (world.store.is_zero(block))
                continue;
            sim::World damaged = world;
            damage(damaged, block, rot, random);
            INFO("seed " << seed << " block " << block << " idle " << static_cast<int>(idle)
                         << " rot " << static_cast<int>(rot));
            SimBlocks blocks(damaged.store);
            compare(damaged, check(blocks, {true, {}}));
            ++damages;
        }
    }
    CHECK(damages > 500);
}

namespace {

/// What proves that all batches before it were complete: a summary, or a header without data. At
/// the end of a log, with the batch before it damaged as well, a log ends there as it does after a
/// power cut, when that batch was not acknowledged.
bool isProof(const sim::World& world, std::uint64_t block) {
    auto& store = const_cast<sim::World&>(world).store;
    const cow_super super = superOf(const_cast<sim::World&>(world));
    const u64 segment = cow_super_block_segment(&super, block);
    if (segment == COW_NONE_SEGMENT)
        return false;
    const u32 summary_blocks = COWSNAP_SUMMARY_BLOCKS(super.segment_blocks);
    if (block - cow_super_segment_block(&super, segment) >= super.segment_blocks - summary_blocks)
        return true;
    std::vector<std::byte> data(kBlockBytes);
    store.read(block, 1, data.data());
    cow_batch_info info{};
    return cow_batch_decode(data.data(), super.uuid, super.segment_blocks, &info) == COW_VALID &&
           info.blocks == 0;
}

}  // namespace

TEST_CASE("check and activation agree on several damages at a time") {
    const auto idle = GENERATE(Idle::Settled, Idle::Marked, Idle::Cut);
    for (std::uint64_t seed = 1; seed <= 4; ++seed) {
        const sim::World world = usedWorld(seed, {idle, 16, 200});
        std::vector<std::uint64_t> used;
        for (std::uint64_t block = 0; block < world.store.size(); ++block)
            if (!world.store.is_zero(block) && !isProof(world, block))
                used.push_back(block);
        sim::Random random(seed);
        for (int round = 0; round < 100; ++round) {
            sim::World damaged = world;
            std::string which;
            for (std::uint64_t i = 0; i < 2 + random.below(4); ++i) {
                const std::uint64_t block = used[random.below(used.size())];
                which += " " + std::to_string(block);
                damage(damaged, block, random.one_in(2) ? Rot::Bit : Rot::Sector, random);
            }
            INFO("seed " << seed << " round " << round << " blocks" << which << " idle "
                         << static_cast<int>(idle));
            SimBlocks blocks(damaged.store);
            Report report;
            try {
                report = check(blocks, {true, {}});
            } catch (const std::exception&) {
                sim::Machine machine(damaged, 1);
                REQUIRE(machine.open() != 0);
                continue;
            }
            if (idle == Idle::Cut) {
                // the model does not say what a cut left: only the verdicts are compared
                sim::Machine machine(damaged, 1);
                REQUIRE(report.activates == (machine.open() == 0));
            } else {
                compare(damaged, report);
            }
        }
    }
}
