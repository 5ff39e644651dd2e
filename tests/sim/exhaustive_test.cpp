// SPDX-License-Identifier: GPL-2.0-or-later
// Scripted scenarios with a power cut at every I/O, each with every subset of the writes in flight
// (up to 2^4), and torn ones; and with power cuts at every write of the activations that follow.
#include <catch2/catch.hpp>

#include <optional>

#include "worlds.hpp"

using sim::Io;
using sim::IoKind;
using sim::Machine;

namespace {

class Exhaustive {
public:
    explicit Exhaustive(const sim::Shape& shape = {}, const sim::Options& options = {})
        : world_(sim::make_world(shape)), crasher_(7, 3) {
        crasher_.subsets_of = 4;
        crasher_.nest_one_in = 1;
        crasher_.continue_one_in = 100;
        machine_.emplace(world_, 1, options);
        REQUIRE(machine_->open() == 0);
        crasher_.attach(*machine_);
    }

    Machine* operator->() { return &*machine_; }
    sim::World& world() { return world_; }
    void finish() {
        machine_->drain();
        sim::check_contents(*machine_);
        sim::check_space(*machine_, true);
        CHECK(crasher_.cuts() > 100);
    }

private:
    sim::World world_;
    sim::Crasher crasher_;
    std::optional<Machine> machine_;
};

std::list<Io>::iterator newest(std::list<Io>& ios) {
    return std::prev(ios.end());
}

// Ends everything but batches; true while there is something else.
bool end_others(Machine* machine) {
    return machine->step([](std::list<Io>& ios) {
        for (auto io = ios.begin(); io != ios.end(); ++io) {
            if (io->kind != IoKind::batch) {
                return io;
            }
        }
        return std::prev(ios.end());
    });
}

std::size_t batches_in_flight(Machine* machine) {
    std::size_t batches = 0;
    for (const Io& io : machine->pending()) {
        batches += io.kind == IoKind::batch;
    }
    return batches;
}

}  // namespace

TEST_CASE("every subset: batches in flight together, completed last first, over segments") {
    Exhaustive bed;
    REQUIRE(bed->create({{1, 1}}) == 0);
    std::size_t most = 0;
    for (std::uint64_t block = 0; block < 28; block += 2) {
        bed->write(1, block, 2);
        bed->step([](std::list<Io>& ios) { return ios.begin(); });
        most = std::max(most, batches_in_flight(bed.operator->()));
    }
    CHECK(most >= 3);
    while (end_others(bed.operator->())) {
    }
    bed.finish();
}

TEST_CASE("every subset: deleting and merging a middle snapshot") {
    sim::Shape shape;
    shape.segments = 16;
    shape.origins = 1;
    shape.origin_blocks = 32;
    Exhaustive bed(shape);
    for (std::uint32_t id = 1; id <= 3; ++id) {
        REQUIRE(bed->create({{id, 1}}) == 0);
        bed->write(1, 4 * id, 12);
        bed->drain();
    }
    bed->write(1, 0, 6);
    REQUIRE(bed->remove({2}) == 0);
    while (bed->sweep_step(1) || bed->step(newest)) {
        sim::check_contents(*bed.operator->());
    }
    bed.finish();
    CHECK(bed->remove({1, 3}) == 0);
    bed->drain();
    CHECK(bed->store().nr_free == bed->store().nr_segments);
}

TEST_CASE("every subset: what only a deleted middle snapshot needed is free again") {
    sim::Shape shape;
    shape.origins = 1;
    shape.origin_blocks = 32;
    Exhaustive bed(shape);
    for (std::uint32_t id = 1; id <= 3; ++id) {
        REQUIRE(bed->create({{id, 1}}) == 0);
        bed->write(1, 0, 32);
        bed->drain();
    }
    const u64 before = bed->store().nr_free;
    REQUIRE(bed->remove({2}) == 0);
    bed->drain();
    CHECK(bed->store().nr_free >= before + 2);
    bed.finish();
}

TEST_CASE("every subset: a store that fills during a create, a write, an overlay write, a delete") {
    sim::Shape shape;
    shape.segments = 7;
    shape.origin_blocks = 48;
    Exhaustive bed(shape);
    REQUIRE(bed->create({{1, 1}, {2, 2}}) == 0);
    bed->write(1, 0, 48);
    bed->write(2, 0, 30);
    bed->step();
    CHECK(bed->create({{3, 2}}) <= 0);
    if (bed.world().snapshots.contains(2)) {
        bed->overlay_write(2, 3, 20);
    }
    for (int i = 0; i < 6; ++i) {
        bed->step();
    }
    CHECK(bed->store().nr_free == 0);
    if (bed.world().snapshots.contains(2)) {
        REQUIRE(bed->remove({2}, true) == 0);  // it is in use
    }
    bed->drain();
    CHECK(bed->writers() == 0);
    bed.finish();
}

TEST_CASE("every subset: an epoch begins while batches of other origins are in flight") {
    sim::Shape shape;
    shape.origins = 3;
    shape.origin_blocks = 24;
    sim::Options options;
    options.busy_control = true;
    Exhaustive bed(shape, options);
    REQUIRE(bed->create({{1, 1}, {2, 2}, {3, 3}}) == 0);
    for (std::uint32_t round = 0; round < 2; ++round) {
        for (std::uint64_t block = 0; block < 24; block += 12) {
            bed->write(2, block, 4);
            bed->write(3, block + 1, 3);
            bed->write(1, block, 2);
        }
        for (int i = 0; i < 5; ++i) {
            bed->step();
        }
        REQUIRE(bed->create({{10 + round, 1}}) == 0);
    }
    bed.finish();
}

TEST_CASE("every subset: the control record turns over to the other checkpoint") {
    sim::Shape shape;
    shape.origins = 1;
    shape.origin_blocks = 8;
    Exhaustive bed(shape);
    for (std::uint32_t i = 1; i <= 24; ++i) {
        REQUIRE(bed->create({{i, 1}}) == 0);
        if (i > 1) {
            REQUIRE(bed->remove({i - 1}) == 0);
        }
    }
    CHECK(bed->store().transaction > bed->store().super.journal_blocks);
    bed.finish();
}

TEST_CASE("every subset: what was acknowledged before a create is in the snapshot after a crash") {
    sim::Shape shape;
    shape.origins = 1;
    shape.origin_blocks = 16;
    Exhaustive bed(shape);
    for (std::uint32_t id = 1; id <= 3; ++id) {
        // Acknowledged, and in the origin's cache only.
        bed->write(1, 4, 4);
        bed->write(1, id, 1);
        bed->drain();
        REQUIRE(bed->create({{id, 1}}) == 0);
    }
    bed.finish();
}
