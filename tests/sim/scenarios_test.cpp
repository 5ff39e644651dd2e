// SPDX-License-Identifier: GPL-2.0-or-later
// Scripted scenarios: the power fails after every I/O of each, with several outcomes, and all
// promises are checked.
#include <catch2/catch.hpp>

#include <algorithm>
#include <array>
#include <optional>

#include "scenario.hpp"
#include "worlds.hpp"

using sim::Io;
using sim::IoKind;
using sim::Machine;

namespace {

// A world with a machine on it whose power fails after every I/O.
class Bed {
public:
    explicit Bed(const sim::Shape& shape = {}, const sim::Options& options = {})
        : world_(sim::make_world(shape)), options_(options) {
        restart();
    }

    Machine& operator*() { return *machine_; }
    Machine* operator->() { return &*machine_; }
    sim::World& world() { return world_; }

    void restart() {
        machine_.reset();
        machine_.emplace(world_, seed_++, options_);
        REQUIRE(machine_->open() == 0);
        crasher_.attach(*machine_);
    }

    // Everything ends; all is right; the store is empty once its snapshots are gone.
    void finish() {
        machine_->drain();
        sim::check_contents(*machine_);
        sim::check_space(*machine_, true);
        machine_->close();
        restart();
        sim::check_contents(*machine_);
        sim::check_empties(*machine_);
        CHECK(crasher_.cuts() > 0);
    }

    // Each of the origin's blocks is written once, one by one, in order.
    void overwrite(std::uint32_t origin, std::uint64_t blocks) {
        for (std::uint64_t block = 0; block < blocks; ++block) {
            machine_->write(origin, block, 1);
        }
    }

private:
    sim::World world_;
    sim::Options options_;
    sim::Crasher crasher_{1};
    std::uint64_t seed_ = 1;
    std::optional<Machine> machine_;
};

std::list<Io>::iterator last(std::list<Io>& ios) {
    return std::prev(ios.end());
}

std::list<Io>::iterator first(std::list<Io>& ios) {
    return ios.begin();
}

// Everything but batches first; of the batches the newest.
std::list<Io>::iterator batches_last_first(std::list<Io>& ios) {
    for (auto io = ios.begin(); io != ios.end(); ++io) {
        if (io->kind != IoKind::batch) {
            return io;
        }
    }
    return std::prev(ios.end());
}

}  // namespace

// The case of commit 230c83afdd9c of dm-snapshot.
TEST_CASE("ten blocks allocated and completed last first are all found after a crash") {
    Bed bed;
    REQUIRE(bed->create({{1, 1}}) == 0);
    bed.overwrite(1, 10);
    while (bed->step(last)) {
    }
    bed.finish();
}

TEST_CASE("batches that complete last first are released in order over a change of segments") {
    Bed bed;
    REQUIRE(bed->create({{1, 1}}) == 0);
    for (std::uint64_t block = 0; block < 48; block += 4) {
        bed->write(1, block, 4);
        bed->step(batches_last_first);
    }
    while (bed->step(batches_last_first)) {
    }
    bed.finish();
}

TEST_CASE("a segment is used once both copies of its table block are durable") {
    Bed bed;
    REQUIRE(bed->create({{1, 1}}) == 0);
    bed->write(1, 7, 1);
    std::size_t tables = 0;
    while (!bed->pending().empty()) {
        const bool table = bed->pending().front().kind == IoKind::table;
        tables += table;
        CHECK((bed->pending().front().kind != IoKind::batch || tables >= 2));
        bed->step(first);
    }
    bed.finish();
}

TEST_CASE("a snapshot made just after batches were released has them behind it") {
    Bed bed;
    REQUIRE(bed->create({{1, 1}}) == 0);
    for (std::uint32_t id = 2; id < 6; ++id) {
        for (std::uint64_t block = 0; block < 6; ++block) {
            bed->write(1, block * id, 2);
        }
        bed->step();
        bed->step();
        REQUIRE(bed->create({{id, 1}}) == 0);
    }
    bed.finish();
}

TEST_CASE("a set shows its origins at one instant, and is there wholly or not at all") {
    Bed bed;
    for (std::uint32_t set = 0; set < 3; ++set) {
        for (std::uint64_t number = 0; number < 6; ++number) {
            bed->write(1, number, 1);
            bed->write(2, number, 1);
            bed->step();
        }
        REQUIRE(bed->create({{2 * set + 1, 1}, {2 * set + 2, 2}}) == 0);
    }
    CHECK(cow_snapshot_find(&bed->store(), 5)->set == cow_snapshot_find(&bed->store(), 6)->set);
    REQUIRE(bed->remove({3, 4}) == 0);
    bed.finish();
}

TEST_CASE("deleting while writes are in flight leaves the other snapshots as they are") {
    sim::Shape shape;
    shape.segments = 14;
    shape.origins = 1;
    const auto victim = GENERATE(1u, 2u, 3u);
    Bed bed(shape);
    for (std::uint32_t id = 1; id <= 3; ++id) {
        REQUIRE(bed->create({{id, 1}}) == 0);
        for (std::uint64_t block = id * 4; block < id * 4 + 20; block += 4) {
            bed->write(1, block, 3);
        }
        bed->step();
    }
    REQUIRE(bed->remove({victim}) == 0);
    for (std::uint64_t block = 0; block < 60; block += 5) {
        bed->write(1, block, 5);
        bed->step();
        bed->sweep_step(4);
    }
    bed->drain();
    sim::check_contents(*bed);
    // What it had is used again.
    REQUIRE(bed->create({{9, 1}}) == 0);
    bed->write(1, 0, 40);
    bed.finish();
}

TEST_CASE("deleting the only snapshot lets waiting writes pass, and a new one starts afresh") {
    Bed bed;
    for (std::uint32_t round = 0; round < 3; ++round) {
        REQUIRE(bed->create({{1, 1}}) == 0);
        bed->write(1, 0, 60);
        bed->write(1, 3, 3);
        for (std::uint32_t i = 0; i < 3 * round; ++i) {
            bed->step();
        }
        REQUIRE(bed->remove({1}) == 0);
        // The rest of the reads of the first writer are still on their way.
        bed->write(1, 50, 6);
        REQUIRE(bed->create({{2, 1}}) == 0);
        bed->write(1, 20, 40);
        bed->drain();
        sim::check_contents(*bed);
        REQUIRE(bed->remove({2}) == 0);
    }
    bed.finish();
}

TEST_CASE("a chain of 20 snapshots deleted in any order while writing leaves the store empty") {
    sim::Shape shape;
    shape.segments = 80;
    shape.origins = 1;
    shape.origin_blocks = 24;
    Bed bed(shape);
    std::vector<std::uint32_t> ids;
    for (std::uint32_t id = 1; id <= 20; ++id) {
        REQUIRE(bed->create({{id, 1}}) == 0);
        ids.push_back(id);
        bed->write(1, id, 3);
        bed->step();
    }
    sim::Random random(5);
    while (!ids.empty()) {
        const auto id = ids.begin() + static_cast<std::ptrdiff_t>(random.below(ids.size()));
        REQUIRE(bed->remove({*id}) == 0);
        ids.erase(id);
        bed->write(1, random.below(20), 2);
        bed->step();
        bed->sweep_step(4);
    }
    bed->drain();
    CHECK(bed->store().nr_free == bed->store().nr_segments);
    bed.finish();
}

TEST_CASE("a full store loses the oldest snapshots of the waiting origin, and no write") {
    sim::Shape shape;
    shape.segments = 8;
    Bed bed(shape);
    REQUIRE(bed->create({{1, 2}}) == 0);
    bed->write(2, 5, 2);
    bed->drain();
    for (std::uint32_t id = 2; id < 7; ++id) {
        REQUIRE(bed->create({{id, 1}}) == 0);
        bed->write(1, 0, 40);
        bed->drain();
        sim::check_contents(*bed);
    }
    CHECK(bed.world().snapshots.contains(1));
    CHECK(bed.world().snapshots.size() < 6);
    bed.finish();
}

TEST_CASE("a store that is extended in the middle of writing goes on") {
    sim::Shape shape;
    shape.segments = 6;
    sim::Options options;
    options.drop_when_full = false;
    Bed bed(shape, options);
    REQUIRE(bed->create({{1, 1}, {2, 2}}) == 0);
    bed->write(1, 0, 64);
    bed->write(2, 0, 64);
    bed->drain();
    CHECK(bed->writers() > 0);
    std::uint64_t blocks = sim::kStoreBlocks;
    while (bed->writers()) {
        blocks += 80;
        REQUIRE(bed->extend(blocks) == 0);
        bed->drain();
    }
    CHECK(bed.world().snapshots.size() == 2);
    bed.finish();
}

TEST_CASE("the control record goes on over many checkpoints") {
    sim::Shape shape;
    shape.origins = 1;
    Bed bed(shape);
    for (std::uint32_t i = 0; i < 40; ++i) {
        REQUIRE(bed->create({{i + 1, 1}}) == 0);
        if (i % 8 == 0) {
            bed->write(1, i % 60, 2);
        }
        if (i >= 3) {
            REQUIRE(bed->remove({i - 2}) == 0);
        }
    }
    CHECK(bed->store().transaction > 2 * bed->store().super.journal_blocks);
    bed.finish();
}

TEST_CASE("what was written in a snapshot and acknowledged is there after a crash") {
    sim::Shape shape;
    shape.segments = 12;
    Bed bed(shape);
    REQUIRE(bed->create({{1, 1}}) == 0);
    REQUIRE(bed->create({{2, 1}}) == 0);
    for (std::uint32_t round = 0; round < 8; ++round) {
        bed->overlay_write(1, 0, 12);
        bed->overlay_write(1, 3 * round, 6);
        bed->overlay_write(2, round, 4);
        bed->write(1, 4 * round, 8);
        bed->step();
        bed->step();
        bed->read(1, round, 8);
        bed->read(2, round, 8);
    }
    bed->drain();
    REQUIRE(bed->remove({1}) == 0);
    bed.finish();
}

TEST_CASE("activated again and again, with open segments, the log goes on") {
    Bed bed;
    REQUIRE(bed->create({{1, 1}, {2, 2}}) == 0);
    for (std::uint64_t round = 0; round < 16; ++round) {
        bed->write(1, round * 4, 3);
        bed->write(2, 63 - round * 3, 1);
        for (std::uint64_t i = 0; i < round; ++i) {
            bed->step();
        }
        if (round % 3 == 0) {
            bed->drain();
            bed.restart();
        } else if (round % 3 == 1) {
            sim::World after = bed->crash(2);
            bed->drain();
            bed.world() = after;
            bed.restart();
        } else {
            bed->close();
            bed.restart();
        }
        sim::resolve(*bed);
        sim::check_contents(*bed);
    }
    bed.finish();
}

TEST_CASE("a spare segment claimed for an epoch that ended serves the next epoch") {
    Bed bed;
    REQUIRE(bed->create({{1, 1}}) == 0);
    // More than half of a segment: a spare is claimed.
    bed->write(1, 0, 10);
    while (bed->writers()) {
        bed->step();
    }
    REQUIRE(bed->create({{2, 1}}) == 0);
    bed->write(1, 5, 20);
    bed->drain();
    REQUIRE(bed->remove({1}) == 0);
    bed->write(1, 30, 3);
    bed.finish();
}

TEST_CASE("marks prove what was durable, and take nothing away") {
    Bed bed;
    REQUIRE(bed->create({{1, 1}}) == 0);
    for (std::uint64_t round = 0; round < 6; ++round) {
        bed->write(1, round * 7, 5);
        bed->drain();
        CHECK(cow_log_unproven(&cow_origin_find(&bed->store(), 1)->log));
        bed->mark();
        bed->drain();
        CHECK_FALSE(cow_log_unproven(&cow_origin_find(&bed->store(), 1)->log));
    }
    bed.finish();
}

TEST_CASE("a mark on its way when a snapshot begins is not missed if the power fails then") {
    Bed bed;
    REQUIRE(bed->create({{1, 1}}) == 0);
    bed->write(1, 0, 5);
    bed->drain();
    bed->before_commit = [&] {
        bed->mark();
        CHECK(bed->pending().size() == 1);
    };
    REQUIRE(bed->create({{2, 1}}) == 0);
    bed->before_commit = nullptr;
    bed->write(1, 3, 5);
    bed->drain();
    bed.finish();
}

TEST_CASE("a rollback does not begin when its target went, or came into use, before it could") {
    Bed bed;
    REQUIRE(bed->create({{1, 1}}) == 0);
    bed->write(1, 0, 5);
    bed->drain();
    const bool dropped = GENERATE(false, true);
    bed->before_commit = [&] {
        if (dropped) {
            CHECK(bed->remove({1}, true) == 0);
        } else {
            ++cow_snapshot_find(&bed->store(), 1)->users;
        }
    };
    CHECK(bed->roll_back(1, 1, 2) == (dropped ? -ENOENT : -EBUSY));
    CHECK_THAT(bed->why(), Catch::Contains(dropped ? "has no snapshot 1" : "has a cow-snap"));
    bed->before_commit = nullptr;
    if (!dropped) {
        --cow_snapshot_find(&bed->store(), 1)->users;
    }
    CHECK(cow_snapshot_find(&bed->store(), 2) == nullptr);
    bed->write(1, 3, 5);
    bed->drain();
    bed.finish();
}

TEST_CASE("a snapshot is not made when its number was given away before it could be") {
    Bed bed;
    REQUIRE(bed->create({{1, 1}}) == 0);
    bed->before_commit = [&] {
        bed->before_commit = nullptr;
        CHECK(bed->create({{2, 1}}) == 0);
    };
    CHECK(bed->create({{2, 1}}) == -EEXIST);
    bed.finish();
}

TEST_CASE("a loss that would end a rollback under those who copy for it is not recorded") {
    Bed bed;
    std::array<char, COW_WHY_BYTES> why{};
    REQUIRE(bed->create({{1, 1}}) == 0);
    bed->write(1, 0, 5);
    bed->drain();
    REQUIRE(bed->roll_back(1, 1, 2) == 0);
    cow_origin* origin = cow_origin_find(&bed->store(), 1);
    u64 set = cow_snapshot_find(&bed->store(), 2)->set;
    const u64 transaction = bed->store().transaction;
    origin->shell = &set;
    CHECK(cow_store_lose(&bed->store(), set, why.data()) == -EBUSY);
    CHECK_THAT(why.data(), Catch::Contains("origin 1: remove its cow-origin first"));
    CHECK(origin->rollback.state == COW_ROLLBACK_RUNNING);
    CHECK_FALSE(cow_snapshot_find(&bed->store(), 1)->lost);
    CHECK(bed->store().transaction == transaction);
    origin->shell = nullptr;
    bed->drain();
    bed.finish();
}

TEST_CASE("an origin of a size that no index can have is refused before it is recorded") {
    Bed bed;
    std::array<char, COW_WHY_BYTES> why{};
    cow_origin* origin = nullptr;
    const u64 transaction = bed->store().transaction;
    for (const u64 sectors : {u64{0}, u64{COW_MAX_ORIGIN_SECTORS} + 1, ~u64{0}}) {
        CHECK(cow_origin_register(&bed->store(), 77, sectors, &origin, why.data()) == -EFBIG);
        CHECK_THAT(why.data(), Catch::Contains("has 1 to 8796093022208 sectors"));
    }
    // Nor does anything else get into the record that would make it unreadable.
    cow_op op{};
    op.op = COWSNAP_OP_ORIGIN;
    op.origin = 77;
    CHECK(cow_control_commit(&bed->store(), &op, 1) == -EINVAL);
    CHECK(bed->store().transaction == transaction);
    REQUIRE(cow_origin_register(&bed->store(), 77, COW_MAX_ORIGIN_SECTORS, &origin, why.data()) ==
            0);
    REQUIRE(cow_origin_forget(&bed->store(), 77, why.data()) == 0);
    bed.finish();
}

TEST_CASE("a block that cannot be read from the origin is EIO in the snapshot, others are right") {
    sim::Shape shape;
    shape.origins = 1;
    Bed bed(shape);
    bed.world().bad_origin_blocks.insert({1, 9});
    REQUIRE(bed->create({{1, 1}}) == 0);
    bed->write(1, 9, 1);
    bed->write(1, 20, 4);
    bed->drain();
    CHECK(bed.world().snapshots.at(1).unreadable.size() == 1);
    sim::check_contents(*bed);
    bed.finish();
}

TEST_CASE("few extents: every write gets its turn") {
    sim::Options options;
    options.max_extents = 2;
    Bed bed({}, options);
    REQUIRE(bed->create({{1, 1}, {2, 2}}) == 0);
    bed->write(1, 0, 64);
    bed->write(2, 10, 50);
    bed->overlay_write(1, 0, 20);
    bed->write(1, 30, 4);
    bed.finish();
}

TEST_CASE("a device whose formatting was cut off is blank, refused, or a store") {
    sim::World world(sim::kStoreBlocks);
    Machine machine(world, 1);
    std::uint64_t blank = 0, refused = 0;
    machine.control_crash_point = [&](Machine& m) {
        for (unsigned variant = 0; variant < 4; ++variant) {
            sim::World after = m.crash(variant);
            Machine other(after, variant);
            const int r = other.open();
            blank += r == 1;
            refused += r < 0;
            CHECK((r == 1 || r == 0 || r == -EUCLEAN || r == -EINVAL));
        }
    };
    machine.format(16, 10);
    CHECK(blank > 0);
}

TEST_CASE("random runs with a power cut after every I/O", "[random]") {
    for (std::uint64_t seed = 1; seed <= 6; ++seed) {
        INFO("sim --seed " << seed << " --steps 200 --cuts every-io");
        sim::run_steps(seed, sim::all_steps(200), sim::Cuts::every_io);
    }
}
