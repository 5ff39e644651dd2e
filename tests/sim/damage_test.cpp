// SPDX-License-Identifier: GPL-2.0-or-later
// Bit rot: whatever is damaged on an idle store, it is refused, or a read is right or an error; now
// and after all that follows. Never wrong data.
#include <catch2/catch.hpp>

#include <map>
#include <tuple>
#include <vector>

#include "damage.hpp"
#include "worlds.hpp"

using sim::Idle;
using sim::Machine;
using sim::Rot;

TEST_CASE("no damage to an idle store ever returns wrong data") {
    const auto idle = GENERATE(Idle::marked, Idle::settled);
    const auto seed = GENERATE(1u, 2u, 3u);
    const auto rot = GENERATE(Rot::bit, Rot::sector, Rot::block);
    const sim::World world = sim::used_world(seed, idle);
    sim::Random random(seed);
    std::uint64_t survived = 0, refused = 0;
    for (std::uint64_t block = 0; block < world.store.size(); ++block) {
        if (world.store.is_zero(block)) {
            continue;
        }
        sim::World damaged = world;
        sim::damage(damaged, block, rot, random);
        INFO("seed " << seed << " block " << block << " idle " << static_cast<int>(idle) << " rot "
                     << static_cast<int>(rot));
        (sim::survives(damaged, random) ? survived : refused) += 1;
    }
    CHECK(survived > 10 * refused);
}

namespace {

// First blocks of the segments of each log, in its order.
std::vector<std::vector<std::uint64_t>> logs_of(sim::World world) {
    Machine machine(world, 1);
    if (machine.open()) {
        throw sim::Broken("a store is refused: " + machine.why());
    }
    std::map<std::tuple<u32, u32, u64>, std::map<u64, std::uint64_t>> logs;
    for (u64 number = 0; number < machine.store().nr_segments; ++number) {
        const cow_segment& segment = machine.store().segments[number];
        const cow_owner& owner = segment.owner;
        const u64 overlay = owner.kind == COWSNAP_OWNER_OVERLAY ? owner.epoch : 0;
        if (segment.state != COW_SEGMENT_FREE) {
            logs[{owner.kind, owner.origin, overlay}][owner.generation] =
                cow_super_segment_block(&machine.store().super, number);
        }
    }
    std::vector<std::vector<std::uint64_t>> result;
    for (const auto& [log, segments] : logs) {
        result.emplace_back();
        for (const auto& [generation, block] : segments) {
            result.back().push_back(block);
        }
    }
    return result;
}

}  // namespace

// What is missing behind the first of them may have been in the second one, of another epoch. What
// is behind them proves that something was there.
TEST_CASE("two segments in a row of which nothing is left never make a read return wrong data") {
    const auto idle = GENERATE(Idle::marked, Idle::settled);
    const auto seed = GENERATE(range(1u, 9u));
    const sim::World world = sim::used_world(seed, idle);
    sim::Random random(seed);
    for (const auto& log : logs_of(world)) {
        for (std::size_t i = 0; i + 2 < log.size(); ++i) {
            sim::World damaged = world;
            for (std::uint64_t block = 0; block < sim::Shape{}.segment_blocks; ++block) {
                sim::damage(damaged, log[i] + block, Rot::block, random);
                sim::damage(damaged, log[i + 1] + block, Rot::block, random);
            }
            INFO("seed " << seed << " segments at " << log[i] << " and " << log[i + 1]);
            sim::survives(damaged, random);
        }
    }
}

namespace {

enum cow_where where_is(Machine& machine, std::uint64_t block, u64* location) {
    enum cow_where where = COW_AT_ERROR;
    cow_snapshot_lookup(cow_snapshot_find(&machine.store(), 1), block, 1, &where, location);
    if (where == COW_AT_STORE) {
        cow_store_unpin(&machine.store(), *location);
    }
    return where;
}

}  // namespace

// One log, one open segment: what is missing at its end was never acknowledged and is no damage;
// what is missing in front of its end was committed, and must be an error and nothing else.
TEST_CASE("bit rot in a committed batch of an open segment is told from the log's end") {
    constexpr std::uint64_t kBatches = 6;
    sim::Shape shape;
    shape.segment_blocks = 64;
    shape.origins = 1;
    sim::World world = sim::make_world(shape);
    std::map<std::uint64_t, u64> places;  // of the blocks that were preserved
    {
        Machine machine(world, 1);
        REQUIRE(machine.open() == 0);
        REQUIRE(machine.create({{1, 1}}) == 0);
        for (std::uint64_t batch = 0; batch < kBatches; ++batch) {
            machine.write(1, 8 * batch, 2);
            machine.drain();
        }
        for (std::uint64_t batch = 0; batch < kBatches; ++batch) {
            for (const std::uint64_t block : {8 * batch, 8 * batch + 1}) {
                REQUIRE(where_is(machine, block, &places[block]) == COW_AT_STORE);
            }
        }
        const cow_log& log = cow_origin_find(&machine.store(), 1)->log;
        REQUIRE(machine.store().segments[log.segment].state == COW_SEGMENT_OPEN);

        // The log's end: one more batch, of which the power cut leaves nothing or a part.
        machine.write(1, 60, 2);
        while (machine.pending().front().kind != sim::IoKind::batch) {
            REQUIRE(machine.step());
        }
        for (unsigned variant = 0; variant < 40; ++variant) {
            sim::World cut = machine.crash(variant == 1 ? 0 : variant);
            Machine after(cut, variant);
            REQUIRE(after.open() == 0);
            CHECK(after.store().damaged_blocks == 0);
            CHECK_FALSE(cow_snapshot_find(&after.store(), 1)->damaged);
            sim::check_contents(after);
        }
        machine.drain();
        machine.mark();
        machine.drain();
    }
    world.damaged = true;
    sim::Random random(1);
    for (std::uint64_t batch = 0; batch < kBatches; ++batch) {
        const u64 header = places.at(8 * batch) - 1;
        for (u64 at = header; at <= header + 2; ++at) {
            for (const Rot rot : {Rot::bit, Rot::sector, Rot::block}) {
                // In a header's last sectors nothing has a meaning, but its checksum covers all.
                INFO("batch " << batch << ", block " << at - header << ", rot "
                              << static_cast<int>(rot));
                sim::World rotten = world;
                sim::damage(rotten, at, rot, random);
                Machine machine(rotten, 1);
                REQUIRE(machine.open() == 0);
                const bool lost = at == header;
                CHECK((machine.store().damaged_blocks != 0) == lost);
                CHECK(cow_snapshot_find(&machine.store(), 1)->damaged == lost);
                for (const auto& [block, place] : places) {
                    u64 found = 0;
                    const enum cow_where where = where_is(machine, block, &found);
                    const bool gone = lost && block / 8 == batch;
                    CHECK(where == (gone ? COW_AT_ERROR : COW_AT_STORE));
                    CHECK((gone || found == place));
                }
                u64 found = 0;
                CHECK(where_is(machine, 30, &found) == (lost ? COW_AT_ERROR : COW_AT_ORIGIN));
                sim::check_contents(machine);
            }
        }
    }
}

TEST_CASE("one damaged block of the control record costs nothing") {
    const auto transactions = GENERATE(3u, 20u, 33u, 47u, 70u);
    sim::World world = sim::make_world();
    cow_super super{};
    {
        Machine machine(world, transactions);
        REQUIRE(machine.open() == 0);
        for (std::uint32_t id = 1; id <= transactions; ++id) {
            REQUIRE(machine.create({{id, 1 + id % 2}}) == 0);
            machine.write(1 + id % 2, id % 40, 3);
            machine.drain();
            if (id > 4) {
                REQUIRE(machine.remove({id - 4}) == 0);
            }
        }
        super = machine.store().super;
        machine.close();
    }
    sim::Random random(transactions);
    const std::uint64_t end =
        super.control_block + 2 * super.checkpoint_blocks + super.journal_blocks;
    std::uint64_t damaged_blocks = 0;
    for (std::uint64_t block = super.control_block; block < end; ++block) {
        if (world.store.is_zero(block)) {
            continue;
        }
        ++damaged_blocks;
        INFO("after " << transactions << " transactions, block " << block
                      << " of the control record at " << super.control_block);
        sim::World damaged = world;
        sim::damage(damaged, block, Rot::block, random);
        for (int activation = 0; activation < 2; ++activation) {
            Machine machine(damaged, block);
            REQUIRE(machine.open() == 0);
            sim::check_contents(machine);
            sim::check_space(machine, true);
            machine.close();
        }
    }
    CHECK(damaged_blocks > 4);
}

TEST_CASE("a control record that is older than the segments is refused") {
    sim::World world = sim::make_world();
    cow_super super{};
    {
        Machine machine(world, 1);
        REQUIRE(machine.open() == 0);
        REQUIRE(machine.create({{1, 1}}) == 0);
        machine.write(1, 0, 3);
        super = machine.store().super;
        machine.close();
    }
    // The last transaction is gone without a trace.
    const std::uint64_t journal = super.control_block + 2 * super.checkpoint_blocks;
    std::uint64_t last = journal;
    while (!world.store.is_zero(last + 2)) {
        last += 2;
    }
    const std::vector<std::uint8_t> zero(2 * sim::kBlock);
    world.store.write(last, zero.data(), 2);
    Machine machine(world, 2);
    CHECK(machine.open() == -EUCLEAN);
    CHECK_THAT(machine.why(), Catch::Contains("control record is older"));
}
