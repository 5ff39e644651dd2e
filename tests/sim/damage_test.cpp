// SPDX-License-Identifier: GPL-2.0-or-later
// Bit rot: whatever is damaged on an idle store, it is refused, or a read is right or an error; now
// and after all that follows. Never wrong data.
#include <catch2/catch.hpp>

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
