// SPDX-License-Identifier: GPL-2.0-or-later
// Every write of the control context torn at every sector: superblocks, the control record's
// journal and both of its checkpoints, the segment table when a store is activated. And the end of
// a log torn twice.
#include <catch2/catch.hpp>

#include <algorithm>
#include <functional>
#include <set>
#include <string>
#include <vector>

#include "worlds.hpp"

using sim::Machine;

namespace {

struct Tears {
    std::size_t tried = 0;
    std::set<std::uint64_t> blocks;  // that the torn writes began at
};

// Activates what a power cut has left, once and again; either time all must be there and exact.
void recovers(sim::World world) {
    for (int activation = 0; activation < 2; ++activation) {
        Machine machine(world, 1);
        if (machine.open()) {
            throw sim::Broken("activation " + std::to_string(activation) + ": " + machine.why());
        }
        sim::resolve(machine);
        sim::check_contents(machine, true);
        sim::check_space(machine, false);
    }
}

using Sectors = std::function<bool(std::size_t sector)>;

// What a torn write of so many sectors has written: its first ones; its last ones; all but one;
// only one.
std::vector<Sectors> patterns(std::size_t sectors) {
    std::vector<Sectors> all;
    for (std::size_t at = 0; at < sectors; ++at) {
        all.emplace_back([at](std::size_t sector) { return sector < at; });
        all.emplace_back([at](std::size_t sector) { return sector > at; });
        all.emplace_back([at](std::size_t sector) { return sector != at; });
        all.emplace_back([at](std::size_t sector) { return sector == at; });
    }
    return all;
}

// The power fails in each write of the machine's control context.
void tear_all(Machine& machine, Tears& tears) {
    machine.control_crash_point = [&tears](Machine& m) {
        tears.blocks.insert(m.control_block());
        for (const auto& present : patterns(m.control_sectors())) {
            recovers(m.crash_torn(present));
            ++tears.tried;
        }
    };
}

// What another use of the device left there.
void fill_with_garbage(sim::World& world) {
    Machine machine(world, 1);
    REQUIRE(machine.open() == 0);
    const cow_super& super = machine.store().super;
    sim::Random random(1);
    sim::Bytes garbage(sim::kBlock);
    for (u64 segment = 0; segment < machine.store().nr_segments; ++segment) {
        for (u32 block = 0; block < super.segment_blocks; ++block) {
            for (auto& byte : garbage) {
                byte = static_cast<std::uint8_t>(random.next());
            }
            world.store.write(cow_super_segment_block(&super, segment) + block, garbage.data(), 1);
        }
    }
}

// The next write to the log of snapshot 1: a batch, or a mark.
void write_end(Machine& machine, bool mark) {
    if (mark) {
        machine.mark();
    } else {
        machine.overlay_write(1, 10, 1);
    }
    REQUIRE(machine.writes_in_flight() == 1);
}

}  // namespace

TEST_CASE("every tear: snapshots made and deleted until both checkpoints were written") {
    sim::Shape shape;
    shape.origins = 2;
    shape.origin_blocks = 8;
    sim::World world = sim::make_world(shape);
    Machine machine(world, 1);
    REQUIRE(machine.open() == 0);
    Tears tears;
    tear_all(machine, tears);
    const cow_super super = machine.store().super;
    const u64 end = machine.store().transaction + 2 * super.journal_blocks;
    for (std::uint32_t id = 1; machine.store().transaction < end; ++id) {
        machine.write(1, id % 8, 1);
        machine.drain();
        REQUIRE(machine.create({{2 * id, 1}, {2 * id + 1, 2}}) == 0);
        if (id > 2) {
            REQUIRE(machine.remove({2 * id - 4, 2 * id - 3}) == 0);
        }
    }
    CHECK(tears.blocks.contains(super.control_block));
    CHECK(tears.blocks.contains(super.control_block + super.checkpoint_blocks));
    CHECK(tears.tried > 4 * 2 * sim::kSectors * super.journal_blocks);
    machine.control_crash_point = nullptr;
    sim::check_contents(machine);
}

TEST_CASE("every tear: a store is extended") {
    sim::World world = sim::make_world();
    Machine machine(world, 1);
    REQUIRE(machine.open() == 0);
    REQUIRE(machine.create({{1, 1}}) == 0);
    machine.write(1, 0, 20);
    machine.drain();
    Tears tears;
    tear_all(machine, tears);
    std::uint64_t blocks = sim::kStoreBlocks;
    // Regions enough for a superblock of more than one sector.
    for (int region = 0; region < 20; ++region) {
        REQUIRE(machine.extend(blocks += 40) == 0);
    }
    CHECK(tears.tried > 20 * 2 * 4 * sim::kSectors);
    machine.control_crash_point = nullptr;
    sim::check_contents(machine);
}

TEST_CASE("every tear: a store is activated after a power cut") {
    for (const unsigned variant : {0u, 1u, 2u}) {
        sim::World world = sim::make_world();
        {
            Machine machine(world, variant + 1);
            REQUIRE(machine.open() == 0);
            REQUIRE(machine.create({{1, 1}, {2, 2}}) == 0);
            for (std::uint64_t block = 0; block < 40; block += 4) {
                machine.write(1, block, 4);
                machine.write(2, block, 2);
                machine.step();
            }
            sim::World cut = machine.crash(variant);
            machine.drain();
            world = std::move(cut);
        }
        Machine machine(world, 1);
        Tears tears;
        tear_all(machine, tears);
        REQUIRE(machine.open() == 0);
        CHECK(tears.tried > 0);
        machine.control_crash_point = nullptr;
        sim::resolve(machine);
        sim::check_contents(machine, true);
    }
}

TEST_CASE("every tear: what is behind the end of a log does not come back") {
    const bool mark = GENERATE(false, true);
    sim::World world = sim::make_world();
    fill_with_garbage(world);
    Machine machine(world, 1);
    REQUIRE(machine.open() == 0);
    REQUIRE(machine.create({{1, 1}}) == 0);
    machine.overlay_write(1, 0, 2);
    machine.drain();
    write_end(machine, mark);
    machine.overlay_write(1, 20, 1);
    REQUIRE(machine.writes_in_flight() == 2);

    std::size_t tried = 0;
    for (const auto& first : patterns(sim::kSectors)) {
        // all but a part of the first header
        sim::World torn = machine.crash_sectors([&](std::size_t write, std::size_t sector) {
            return write == 1 || sector >= sim::kSectors || first(sector);
        });
        Machine again(torn, 1);
        REQUIRE(again.open() == 0);
        sim::resolve(again);
        sim::check_contents(again, true);
        write_end(again, mark);
        for (const auto& second : patterns(sim::kSectors)) {
            // nothing but a part of the header
            recovers(again.crash_sectors([&](std::size_t, std::size_t sector) {
                return sector < sim::kSectors && second(sector);
            }));
            ++tried;
        }
    }
    CHECK(tried == 32 * 32);
}
