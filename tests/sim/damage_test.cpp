// SPDX-License-Identifier: GPL-2.0-or-later
// Bit rot: whatever is damaged on an idle store, it is refused, or a read is right or an error; now
// and after all that follows. Never wrong data.
#include <catch2/catch.hpp>

#include <algorithm>

#include "worlds.hpp"

using sim::Machine;

namespace {

enum class Idle { marked, settled };

// A store with some of everything.
sim::World used_world(std::uint64_t seed, Idle idle) {
    sim::Shape shape;
    shape.segments = 30;
    shape.origin_blocks = 48;
    sim::World world = sim::make_world(shape);
    {
        Machine machine(world, seed);
        REQUIRE(machine.open() == 0);
        REQUIRE(machine.create({{1, 1}, {2, 2}}) == 0);
        sim::RandomRun run(machine, seed);
        run.steps(250);
        machine.drain();
        REQUIRE(machine.create({{20, 1}, {21, 2}}) == 0);
        for (std::uint64_t block = 0; block < 30; block += 3) {
            machine.write(1, block, 2);
            machine.write(2, 47 - block, 1);
            machine.drain();
        }
        if (!world.snapshots.empty()) {
            machine.overlay_write(20, 3, 4);
        }
        machine.drain();
        if (idle == Idle::settled) {
            machine.close();
        } else {
            machine.mark();
            machine.drain();
        }
        // What an activation finds to be done is done.
    }
    world.damaged = true;
    return world;
}

enum class Rot { bit, sector, block };

void damage(sim::World& world, std::uint64_t block, Rot rot, sim::Random& random) {
    std::vector<std::uint8_t> data(sim::kBlock);
    world.store.read(block, 1, data.data());
    if (rot == Rot::bit) {
        data[random.below(sim::kBlock)] ^= static_cast<std::uint8_t>(1u << random.below(8));
    } else {
        const std::size_t at = rot == Rot::sector ? random.below(8) * 512 : 0;
        const std::size_t length = rot == Rot::sector ? 512 : sim::kBlock;
        for (std::size_t i = 0; i < length; ++i) {
            data[at + i] = static_cast<std::uint8_t>(random.next());
        }
    }
    world.store.write(block, data.data(), 1);
}

// False when the store was refused.
bool survives(sim::World world, sim::Random& random) {
    for (int round = 0; round < 3; ++round) {
        Machine machine(world, random.next());
        if (machine.open()) {
            return false;
        }
        sim::check_contents(machine);
        sim::RandomRun run(machine, random.next());
        run.creates = round == 1;
        run.steps(30);
        machine.drain();
        sim::check_contents(machine);
        sim::check_space(machine, true);
    }
    Machine machine(world, random.next());
    if (machine.open()) {
        return false;
    }
    sim::check_contents(machine);
    sim::check_empties(machine);
    return true;
}

}  // namespace

TEST_CASE("no damage to an idle store ever returns wrong data") {
    const auto idle = GENERATE(Idle::marked, Idle::settled);
    const auto seed = GENERATE(1u, 2u, 3u);
    const auto rot = GENERATE(Rot::bit, Rot::sector, Rot::block);
    const sim::World world = used_world(seed, idle);
    sim::Random random(seed);
    std::uint64_t survived = 0, refused = 0;
    for (std::uint64_t block = 0; block < world.store.size(); ++block) {
        if (world.store.is_zero(block)) {
            continue;
        }
        sim::World damaged = world;
        damage(damaged, block, rot, random);
        INFO("seed " << seed << " block " << block << " idle " << static_cast<int>(idle) << " rot "
                     << static_cast<int>(rot));
        (survives(damaged, random) ? survived : refused) += 1;
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
        damage(damaged, block, Rot::block, random);
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
