// SPDX-License-Identifier: GPL-2.0-or-later
// A store of which some blocks cannot be read while it is activated, and can be later: it is
// refused, or what cannot be told meanwhile is an error; and then all is there again.
#include <catch2/catch.hpp>

#include <algorithm>
#include <bit>
#include <list>
#include <map>
#include <vector>

#include "worlds.hpp"

using sim::Machine;

namespace {

// All I/O ends but that of summaries.
void drain_batches(Machine& machine) {
    const auto wanted = [](const sim::Io& io) { return io.kind != sim::IoKind::summary; };
    while (std::any_of(machine.pending().begin(), machine.pending().end(), wanted)) {
        machine.step(
            [&](std::list<sim::Io>& ios) { return std::find_if(ios.begin(), ios.end(), wanted); });
    }
}

struct Logs {
    std::uint64_t batches;       // of each of the two
    std::uint64_t batch_blocks;  // with 15 usable blocks in a segment, one of them for each header
    bool summarized;             // the power fails after summaries of full segments were written
    bool marked = false;
};

// Two logs, an origin's and an overlay's, of some segments each, the last one open. A power cut.
sim::World two_logs(const Logs& logs) {
    sim::Shape shape;
    shape.origins = 1;
    shape.segments = 12;
    sim::World world = sim::make_world(shape);
    Machine machine(world, 1);
    REQUIRE(machine.open() == 0);
    REQUIRE(machine.create({{1, 1}}) == 0);
    for (std::uint64_t batch = 0; batch < logs.batches; ++batch) {
        const std::uint64_t block = batch * std::bit_ceil(logs.batch_blocks);
        machine.write(1, block, logs.batch_blocks);
        logs.summarized ? machine.drain() : drain_batches(machine);
        machine.overlay_write(1, block, logs.batch_blocks);
        logs.summarized ? machine.drain() : drain_batches(machine);
    }
    REQUIRE(machine.writers() == 0);
    if (logs.marked) {
        machine.mark();
        drain_batches(machine);
    }
    return machine.crash(0);
}

// By segment.
std::vector<std::vector<std::uint64_t>> used_blocks(const sim::World& of) {
    sim::World world = of;
    Machine machine(world, 1);
    REQUIRE(machine.open() == 0);
    const cow_super& super = machine.store().super;
    std::vector<std::vector<std::uint64_t>> used;
    for (u64 segment = 0; segment < super.region[0].segments; ++segment) {
        std::vector<std::uint64_t> blocks;
        const u64 first = cow_super_segment_block(&super, segment);
        for (u64 block = first; block < first + super.segment_blocks; ++block) {
            if (!of.store.is_zero(block)) {
                blocks.push_back(block);
            }
        }
        if (!blocks.empty()) {
            used.push_back(std::move(blocks));
        }
    }
    return used;
}

constexpr std::uint64_t kAlways = 1'000'000;
using Bad = std::map<std::uint64_t, std::uint64_t>;  // of which block so many reads fail

// Whether the store was activated although these could not be read.
bool passes(sim::World world, const Bad& bad, bool used) {
    world.bad_store_blocks = bad;
    world.damaged = true;
    bool activated = false;
    {
        Machine machine(world, 1);
        activated = machine.open() == 0;
        if (activated) {
            sim::resolve(machine);
            sim::check_contents(machine, true);
        }
        if (activated && used) {
            machine.write(1, 0, 1);
            machine.write(1, 40, 8);
            machine.drain();
            sim::check_contents(machine);
        }
    }
    world.bad_store_blocks.clear();
    world.damaged = false;
    Machine machine(world, 1);
    if (machine.open()) {
        throw sim::Broken("what can be read again is refused: " + machine.why());
    }
    sim::resolve(machine);
    sim::check_contents(machine, true);
    return activated;
}

}  // namespace

TEST_CASE("any two blocks of the logs that cannot be read for a while cost nothing") {
    const bool marked = GENERATE(false, true);
    const bool used = GENERATE(false, true);
    const std::uint64_t batches = GENERATE(4u, 5u, 6u);
    const sim::World world =
        two_logs({.batches = batches, .batch_blocks = 3, .summarized = false, .marked = marked});
    std::vector<std::uint64_t> blocks;
    for (const auto& segment : used_blocks(world)) {
        blocks.insert(blocks.end(), segment.begin(), segment.end());
    }
    REQUIRE(blocks.size() > 30);
    std::uint64_t activated = 0, refused = 0;
    for (const std::uint64_t first : blocks) {
        for (const std::uint64_t second : blocks) {
            INFO("blocks " << first << " and " << second);
            (passes(world, {{first, kAlways}, {second, kAlways}}, used) ? activated : refused) += 1;
        }
    }
    CHECK(activated > 0);
    CHECK(refused > 0);
}

// Then it is known which batches there must be in a segment, and they cannot be read.
TEST_CASE("a summary that can be read again sooner than headers cuts off no log") {
    const std::uint64_t batches = GENERATE(2u, 3u);
    const sim::World world = two_logs({.batches = batches, .batch_blocks = 14, .summarized = true});
    std::vector<std::uint64_t> headers, summaries;
    for (const auto& segment : used_blocks(world)) {
        headers.push_back(segment.front());
        if (segment.size() > 15) {
            summaries.push_back(segment.back());
        }
    }
    REQUIRE(summaries.size() >= 2 * (batches - 1));
    std::uint64_t activated = 0, refused = 0;
    for (const std::uint64_t summary : summaries) {
        for (const std::uint64_t first : headers) {
            for (const std::uint64_t second : headers) {
                for (const std::uint64_t times : {std::uint64_t{1}, std::uint64_t{2}, kAlways}) {
                    INFO("summary " << summary << ", headers " << first << " and " << second);
                    const Bad bad = {{first, kAlways}, {second, kAlways}, {summary, times}};
                    (passes(world, bad, false) ? activated : refused) += 1;
                }
            }
        }
    }
    CHECK(activated > 0);
    CHECK(refused > 0);
}
