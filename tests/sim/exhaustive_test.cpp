// SPDX-License-Identifier: GPL-2.0-or-later
// Scripted scenarios with a power cut at every I/O, each with every subset of the writes in flight
// (up to 2^4), and torn ones; and with power cuts at every write of the activations that follow.
#include <catch2/catch.hpp>

#include <optional>
#include <vector>

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

    // For long scenarios: subsets of up to two writes, and fewer cuts in activations.
    void lighten() {
        crasher_.subsets_of = 2;
        crasher_.nest_one_in = 4;
        crasher_.continue_one_in = 60;
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

// Ends one that is no batch, or else the newest batch; false: there was nothing.
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
        end_others(bed.operator->());
        most = std::max(most, batches_in_flight(bed.operator->()));
    }
    CHECK(most >= 3);
    while (end_others(bed.operator->())) {
    }
    bed.finish();
}

TEST_CASE("every subset: two batches at any time, a third one for a quarter of what is under way") {
    Exhaustive bed;
    REQUIRE(bed->create({{1, 1}}) == 0);
    // with a segment at hand
    bed->write(1, 30, 1);
    bed->drain();
    for (std::uint64_t block = 0; block < 24; block += 2) {
        bed->write(1, block, 1);
    }
    std::vector<std::size_t> in_flight;
    for (int reads = 1; reads <= 6; ++reads) {
        end_others(bed.operator->());
        in_flight.push_back(batches_in_flight(bed.operator->()));
    }
    CHECK(in_flight == std::vector<std::size_t>{1, 2, 2, 2, 3, 3});
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

namespace {

sim::Shape rollback_shape() {
    sim::Shape shape;
    shape.origins = 1;
    shape.origin_blocks = 44;
    return shape;
}

// Snapshots 1 to 3, of which 2 is written to, and changes behind each.
void make_history(Machine* machine) {
    for (std::uint32_t id = 1; id <= 3; ++id) {
        REQUIRE(machine->create({{id, 1}}) == 0);
        machine->write(1, 3 * id, 4);
        machine->write(1, 30 + 3 * id, 3);
        machine->drain();
    }
    machine->overlay_write(2, 42, 2);
    machine->drain();
}

// Copies back, with users who write and read in between.
void use_while_copying(Machine* machine, int steps) {
    for (int i = 0; i < steps; ++i) {
        machine->copy();
        if (i % 7 == 2) {
            machine->write(1, static_cast<std::uint64_t>(i * 5 % 42), 2);
        }
        if (i % 5 == 1) {
            machine->read_origin(1, static_cast<std::uint64_t>(i * 11 % 44));
        }
        if (i % 9 == 4) {
            machine->flush(1);
        }
        machine->step();
    }
}

}  // namespace

TEST_CASE("every subset: a rollback, written to meanwhile, and undone by another one") {
    Exhaustive bed(rollback_shape());
    bed.lighten();
    make_history(bed.operator->());
    REQUIRE(bed->roll_back(1, 2, 10) == 0);
    CHECK(bed->create({{11, 1}}) == -EBUSY);
    CHECK(bed->remove({2}) == -EBUSY);
    CHECK(bed->remove({10}, true) == -EBUSY);
    sim::check_contents(*bed.operator->());
    use_while_copying(bed.operator->(), 24);
    bed->drain();
    CHECK(bed.world().rollbacks.empty());
    REQUIRE(bed->roll_back(1, 10, 12) == 0);
    bed.finish();
    CHECK(bed.world().rollbacks.empty());
    CHECK(bed->remove({1, 2, 3, 10, 12}) == 0);
    bed->drain();
    CHECK(bed->store().nr_free == bed->store().nr_segments);
}

TEST_CASE("every subset: a rollback is cancelled while it runs") {
    Exhaustive bed(rollback_shape());
    bed.lighten();
    make_history(bed.operator->());
    REQUIRE(bed->roll_back(1, 1, 10) == 0);
    use_while_copying(bed.operator->(), GENERATE(4, 22));
    REQUIRE(bed->cancel(1) == 0);
    CHECK(bed->cancel(1) == -EBUSY);
    CHECK(bed->remove({1}) == 0);
    sim::check_contents(*bed.operator->());
    use_while_copying(bed.operator->(), 10);
    bed.finish();
    CHECK(bed.world().rollbacks.empty());
}

TEST_CASE("every subset: a rollback is scheduled, and cancelled without a trace, or begins") {
    Exhaustive bed(rollback_shape());
    bed.lighten();
    make_history(bed.operator->());
    REQUIRE(bed->schedule(1, 1, 10) == 0);
    CHECK(bed->schedule(1, 1, 11) == -EBUSY);
    CHECK(bed->remove({1}) == -EBUSY);
    REQUIRE(bed->cancel(1) == 0);
    CHECK(bed->cancel(1) == -ENOENT);
    REQUIRE(bed->schedule(1, 1, 10) == 0);
    bed->write(1, 0, 20);
    for (std::uint32_t id = 20; id < 36; ++id) {  // so that it comes into a checkpoint
        REQUIRE(bed->create({{id, 1}}) == 0);
        REQUIRE(bed->remove({id}) == 0);
    }
    bed->drain();
    bed->begin_scheduled();
    CHECK(bed.world().rollbacks.at(1).undo == 10);
    sim::check_contents(*bed.operator->());
    bed.finish();
}

TEST_CASE("every subset: a rollback of a small origin in a store that is full") {
    sim::Shape shape;
    shape.origins = 1;
    shape.origin_blocks = 20;
    shape.segments = 5;
    Exhaustive bed(shape);
    bed.lighten();
    for (std::uint32_t id = 1; id <= 2; ++id) {
        REQUIRE(bed->create({{id, 1}}) == 0);
        bed->write(1, id, 12);
        bed->drain();
    }
    REQUIRE(bed->roll_back(1, 2, 10) == 0);
    bed->write(1, 5, 10);
    bed.finish();
    CHECK(bed.world().rollbacks.empty());
    CHECK(bed.world().snapshots.contains(2));
    CHECK(bed.world().snapshots.contains(10));
}
