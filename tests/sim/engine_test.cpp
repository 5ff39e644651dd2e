// SPDX-License-Identifier: GPL-2.0-or-later
// The engine's pieces one by one: bitmap, control record, segments and their table, lookups.
#include <catch2/catch.hpp>

#include <array>
#include <cstring>

#include "worlds.hpp"

using sim::Machine;

namespace {

sim::World world_with_snapshots(std::uint32_t count, const sim::Shape& shape = {}) {
    sim::World world = sim::make_world(shape);
    Machine machine(world, 1);
    REQUIRE(machine.open() == 0);
    for (std::uint32_t id = 1; id <= count; ++id) {
        REQUIRE(machine.create({{id, 1}}) == 0);
        machine.write(1, id, 3);
        machine.drain();
    }
    return world;
}

void flip(sim::World& world, std::uint64_t block) {
    std::vector<std::uint8_t> data(sim::kBlock);
    world.store.read(block, 1, data.data());
    data[600] ^= 4;
    world.store.write(block, data.data(), 1);
}

int open_result(sim::World world) {
    Machine machine(world, 1);
    return machine.open();
}

cow_super super_of(sim::World world) {
    Machine machine(world, 1);
    REQUIRE(machine.open() == 0);
    return machine.store().super;
}

std::uint64_t journal_block(const cow_super& super) {
    return super.control_block + 2ull * super.checkpoint_blocks;
}

// Blocks of the journal that hold a transaction.
std::uint64_t journal_used(const sim::World& world, const cow_super& super) {
    std::uint64_t used = 0;
    while (used < super.journal_blocks && !world.store.is_zero(journal_block(super) + used)) {
        ++used;
    }
    return used;
}

// Activates the world; at each write of that, with the outcomes of a power cut, activates again.
// All must succeed.
void repair_with_power_cuts(const sim::World& before) {
    sim::World world = before;
    Machine machine(world, 1);
    unsigned cuts = 0;
    machine.control_crash_point = [&](Machine& m) {
        for (unsigned variant = 0; variant < 12; ++variant, ++cuts) {
            sim::World after = m.crash(variant);
            Machine other(after, variant);
            if (other.open()) {
                throw sim::Broken(other.why());
            }
            sim::resolve(other);
            sim::check_contents(other);
        }
    };
    REQUIRE(machine.open() == 0);
    sim::check_contents(machine);
    CHECK(cuts > 0);
}

cow_segment& segment_of(Machine& machine, std::uint64_t location) {
    return machine.store().segments[cow_super_block_segment(&machine.store().super, location)];
}

enum cow_where where_is(Machine& machine, std::uint32_t snapshot, std::uint64_t block,
                        std::uint64_t* location) {
    enum cow_where where = COW_AT_ERROR;
    cow_snapshot_lookup(cow_snapshot_find(&machine.store(), snapshot), block, 1, &where, location);
    return where;
}

}  // namespace

TEST_CASE("a bitmap has the bits that were set, and makes pages where they are wanted") {
    constexpr std::uint64_t page = COW_BITMAP_PAGE_BITS;
    cow_bitmap* bitmap = cow_bitmap_new(2 * page + 10);
    REQUIRE(bitmap);
    CHECK(bitmap->pages == 3);
    CHECK_FALSE(cow_bitmap_preserved(bitmap, 0, 1));
    CHECK_FALSE(cow_bitmap_has_page(bitmap, page));
    cow_bitmap_give(bitmap, page - 1, cow_alloc(COW_BITMAP_PAGE_BYTES));
    cow_bitmap_give(bitmap, page, cow_alloc(COW_BITMAP_PAGE_BYTES));
    cow_bitmap_set(bitmap, page - 3, 7);
    CHECK(cow_bitmap_preserved(bitmap, page - 3, 7));
    CHECK_FALSE(cow_bitmap_preserved(bitmap, page - 4, 2));
    CHECK_FALSE(cow_bitmap_preserved(bitmap, page - 3, 8));
    CHECK(cow_bitmap_preserved(bitmap, 2 * page, 0));
    CHECK_FALSE(cow_bitmap_get(bitmap, 2 * page));
    CHECK(bitmap->set == 7);
    cow_bitmap_set(bitmap, page, 2);
    CHECK(bitmap->set == 7);
    cow_bitmap_destroy(bitmap);
    cow_bitmap_destroy(nullptr);
}

TEST_CASE("a transaction is there when one copy of each block is") {
    const sim::World world = world_with_snapshots(3);
    const cow_super super = super_of(world);
    const std::uint64_t used = journal_used(world, super);
    REQUIRE(used >= 8);
    for (std::uint64_t i = 0; i < used; ++i) {
        sim::World damaged = world;
        flip(damaged, journal_block(super) + i);
        Machine machine(damaged, 1);
        REQUIRE(machine.open() == 0);
        sim::resolve(machine);
        sim::check_contents(machine);
    }
}

TEST_CASE("a journal with a hole is refused, one with a torn end is not") {
    sim::World world = world_with_snapshots(3);
    {
        Machine machine(world, 1);
        REQUIRE(machine.open() == 0);
        // Nothing on the store tells that there was this one.
        REQUIRE(machine.create({{4, 1}}) == 0);
    }
    const cow_super super = super_of(world);
    const std::uint64_t used = journal_used(world, super);
    for (std::uint64_t i = 0; i < used; i += 2) {
        sim::World damaged = world;
        flip(damaged, journal_block(super) + i);
        flip(damaged, journal_block(super) + i + 1);
        const bool end = i + 2 == used;
        CHECK(open_result(damaged) == (end ? 0 : -EUCLEAN));
    }
}

TEST_CASE("with one checkpoint damaged the other and the journal serve") {
    sim::World world = world_with_snapshots(20);
    const cow_super super = super_of(world);
    const std::uint64_t slots[] = {super.control_block,
                                   super.control_block + super.checkpoint_blocks};
    for (const unsigned slot : {0, 1}) {
        for (std::uint64_t i = 0; i < 2; ++i) {
            sim::World damaged = world;
            flip(damaged, slots[slot] + i);
            {
                Machine machine(damaged, 1);
                REQUIRE(machine.open() == 0);
                sim::resolve(machine);
                sim::check_contents(machine);
            }
            // It was written anew: now the other one may be damaged.
            flip(damaged, slots[1 - slot] + i);
            Machine machine(damaged, 1);
            REQUIRE(machine.open() == 0);
            sim::resolve(machine);
            sim::check_contents(machine);
        }
    }
}

TEST_CASE("the good copy of the segment table is not overwritten before the other is repaired") {
    const sim::World world = world_with_snapshots(3);
    const std::uint64_t table = super_of(world).region[0].table_block;
    for (const std::uint64_t copy : {0, 1}) {
        sim::World damaged = world;
        flip(damaged, table + copy);
        repair_with_power_cuts(damaged);
    }
    sim::World damaged = world;
    flip(damaged, table);
    flip(damaged, table + 1);
    CHECK(open_result(damaged) == -EUCLEAN);
}

TEST_CASE("the good copy of the superblock is not overwritten before the other is repaired") {
    const sim::World world = world_with_snapshots(3);
    for (const std::uint64_t copy : {0, COWSNAP_SUPER_COPY_BLOCK}) {
        sim::World damaged = world;
        flip(damaged, copy);
        repair_with_power_cuts(damaged);
        Machine machine(damaged, 1);
        REQUIRE(machine.open() == 0);
        machine.close();
        flip(damaged, copy ? 0 : COWSNAP_SUPER_COPY_BLOCK);
        CHECK(open_result(damaged) == 0);
    }
}

TEST_CASE("one superblock that cannot be read costs nothing, and is written anew") {
    const sim::World world = world_with_snapshots(3);
    constexpr int kWhole = 1;  // the first read is of all first blocks
    for (const int unreadable : {0, int{COWSNAP_SUPER_COPY_BLOCK}}) {
        sim::World bad = world;
        flip(bad, static_cast<std::uint64_t>(unreadable));
        Machine machine(bad, 1);
        int reads = 0;
        machine.read_fails = [&](sim::IoKind) {
            const int read = reads++;
            return read == 0 || read == kWhole + unreadable;
        };
        REQUIRE(machine.open() == 0);
        machine.read_fails = nullptr;
        sim::check_contents(machine);
        machine.close();
        flip(bad, unreadable ? 0 : COWSNAP_SUPER_COPY_BLOCK);
        CHECK(open_result(bad) == 0);
    }
}

TEST_CASE("a device whose first blocks cannot be read is neither blank nor a store") {
    for (const bool blank : {false, true}) {
        sim::World world = blank ? sim::World(sim::kStoreBlocks) : world_with_snapshots(1);
        Machine machine(world, 1);
        machine.read_fails = [](sim::IoKind) { return true; };
        CHECK(machine.open() == -EIO);
        CHECK_THAT(machine.why(), Catch::Contains("cannot be read"));
    }
    sim::World blank(sim::kStoreBlocks);
    Machine machine(blank, 1);
    int reads = 0;
    machine.read_fails = [&](sim::IoKind) { return reads++ == 0; };
    CHECK(machine.open() == -EIO);
}

TEST_CASE("a superblock that a failed extension tore is written before the good one") {
    sim::World extended = world_with_snapshots(2);
    std::uint64_t blocks = sim::kStoreBlocks;
    {
        Machine machine(extended, 1);
        REQUIRE(machine.open() == 0);
        // Regions enough for a superblock of several sectors: one sector is never torn.
        for (unsigned i = 0; i < 40; ++i) {
            REQUIRE(machine.extend(blocks += 40) == 0);
        }
    }
    unsigned failing = 0;
    for (std::uint64_t seed = 1; failing < 3; ++seed) {
        sim::World world = extended;
        Machine machine(world, seed);
        REQUIRE(machine.open() == 0);
        unsigned writes = 0;
        machine.fails = [&](sim::IoKind) { return writes++ == failing; };
        const int result = machine.extend(blocks + 40);
        machine.fails = nullptr;
        REQUIRE(result);
        failing += seed % 8 ? 0 : 1;
        unsigned cuts = 0;
        machine.control_crash_point = [&](Machine& m) {
            for (unsigned variant = 0; variant < 12; ++variant, ++cuts) {
                sim::World after = m.crash(variant);
                INFO("write " << failing << " failed, cut " << cuts);
                CHECK(open_result(after) == 0);
            }
        };
        REQUIRE(machine.extend(blocks + 80) == 0);
        CHECK(cuts > 0);
    }
}

TEST_CASE("an extension that one superblock missed is not lost by the next one") {
    sim::World world = world_with_snapshots(2);
    std::vector<std::uint8_t> old(sim::kBlock);
    world.store.read(0, 1, old.data());
    {
        Machine machine(world, 1);
        REQUIRE(machine.open() == 0);
        REQUIRE(machine.extend(sim::kStoreBlocks + 200) == 0);
    }
    world.store.write(COWSNAP_SUPER_COPY_BLOCK, old.data(), 1);
    repair_with_power_cuts(world);
    Machine machine(world, 1);
    REQUIRE(machine.open() == 0);
    CHECK(machine.store().super.regions == 2);
    REQUIRE(machine.extend(sim::kStoreBlocks + 400) == 0);
    CHECK(machine.store().super.regions == 3);
}

TEST_CASE("a claimed segment becomes spare when both copies of its table block are written") {
    sim::World world = world_with_snapshots(0);
    Machine machine(world, 1);
    REQUIRE(machine.open() == 0);
    REQUIRE(machine.create({{1, 1}}) == 0);
    cow_log& log = cow_origin_find(&machine.store(), 1)->log;
    machine.write(1, 0, 1);
    while (log.spare == COW_NONE_SEGMENT) {
        REQUIRE(machine.step());
    }
    const cow_segment& spare = machine.store().segments[log.spare];
    CHECK(spare.state == COW_SEGMENT_CLAIMED);
    const u64 generation = spare.owner.generation;
    REQUIRE(machine.step());
    CHECK(spare.state == COW_SEGMENT_CLAIMED);
    REQUIRE(machine.step());
    CHECK(spare.state == COW_SEGMENT_OPEN);
    CHECK(spare.owner.generation == generation);
    machine.drain();
}

TEST_CASE("what was cut off is not taken for what was written instead of it") {
    // The first activation finds a batch whose data are torn, and the log ends before it, in a
    // segment of an epoch whose snapshot was deleted: it is closed at once, as it is. The log goes
    // on in another segment, with the same sequences, and the summary that says where the first one
    // ends is lost.
    const auto end_all_but_summaries = [](Machine& machine) {
        const auto is_other = [](const sim::Io& io) { return io.kind != sim::IoKind::summary; };
        while (std::any_of(machine.pending().begin(), machine.pending().end(), is_other)) {
            machine.step([&](std::list<sim::Io>& ios) {
                return std::find_if(ios.begin(), ios.end(), is_other);
            });
        }
    };
    sim::World world = world_with_snapshots(0);
    {
        Machine machine(world, 1);
        REQUIRE(machine.open() == 0);
        REQUIRE(machine.create({{1, 1}}) == 0);
        REQUIRE(machine.create({{2, 1}}) == 0);
        machine.write(1, 0, 1);
        machine.drain();
        REQUIRE(machine.remove({2}) == 0);
        machine.write(1, 10, 2);
        while (machine.pending().front().kind != sim::IoKind::batch) {
            REQUIRE(machine.step());
        }
        const sim::Io& batch = machine.pending().front();
        const std::uint64_t last_block = batch.block + batch.data.size() / sim::kBlock - 1;
        sim::World cut = machine.crash(1);
        flip(cut, last_block);
        world = std::move(cut);
    }
    {
        Machine machine(world, 2);
        REQUIRE(machine.open() == 0);
        sim::resolve(machine);
        for (const std::uint64_t block : {20, 30}) {
            machine.write(1, block, 1);
            end_all_but_summaries(machine);
        }
        CHECK(machine.pending().size() == 1);
        sim::World cut = machine.crash(0);
        world = std::move(cut);
    }
    Machine machine(world, 3);
    REQUIRE(machine.open() == 0);
    sim::resolve(machine);
    sim::check_contents(machine);
    sim::check_space(machine, false);
}

TEST_CASE("a pinned segment is not free before its last reader is done") {
    sim::World world = world_with_snapshots(1);
    Machine machine(world, 1);
    REQUIRE(machine.open() == 0);
    u64 location = 0, again = 0;
    REQUIRE(where_is(machine, 1, 2, &location) == COW_AT_STORE);
    REQUIRE(where_is(machine, 1, 2, &again) == COW_AT_STORE);
    REQUIRE(machine.remove({1}) == 0);
    machine.drain();
    CHECK(segment_of(machine, location).state != COW_SEGMENT_FREE);
    CHECK_FALSE(cow_store_unpin(&machine.store(), location));
    machine.drain();
    CHECK(segment_of(machine, location).state != COW_SEGMENT_FREE);
    CHECK(cow_store_unpin(&machine.store(), location));
    machine.drain();
    CHECK(segment_of(machine, location).state == COW_SEGMENT_FREE);
    CHECK(machine.store().nr_free == machine.store().nr_segments);
}

TEST_CASE("a lookup finds the overlay first, then the oldest exception, then the origin") {
    sim::World world = world_with_snapshots(2);
    Machine machine(world, 1);
    REQUIRE(machine.open() == 0);
    u64 location = 0, overlay = 0;
    CHECK(where_is(machine, 1, 20, &location) == COW_AT_ORIGIN);
    REQUIRE(where_is(machine, 1, 2, &location) == COW_AT_STORE);
    CHECK(*cow_store_crcs(&machine.store(), location) != 0);
    cow_store_unpin(&machine.store(), location);
    machine.overlay_write(1, 2, 1);
    machine.drain();
    REQUIRE(where_is(machine, 1, 2, &overlay) == COW_AT_STORE);
    CHECK(overlay != location);
    cow_store_unpin(&machine.store(), overlay);
    REQUIRE(where_is(machine, 2, 2, &location) == COW_AT_STORE);
    CHECK(location != overlay);
    cow_store_unpin(&machine.store(), location);
}

TEST_CASE(
    "in an incomplete epoch what is not found in it is an error, later epochs are not asked") {
    sim::World world = world_with_snapshots(1);
    world.damaged = true;
    u64 location = 0;
    {
        Machine machine(world, 1);
        REQUIRE(machine.open() == 0);
        machine.write(1, 10, 1);
        machine.drain();
        machine.write(1, 11, 1);
        machine.drain();
        machine.mark();
        machine.drain();
        REQUIRE(where_is(machine, 1, 10, &location) == COW_AT_STORE);
    }
    // The header in front of it.
    flip(world, location - 1);
    for (int round = 0; round < 2; ++round) {
        Machine machine(world, 1);
        REQUIRE(machine.open() == 0);
        CHECK(machine.store().damaged_blocks > 0);
        CHECK(cow_snapshot_find(&machine.store(), 1)->damaged);
        CHECK(where_is(machine, 1, 10, &location) == COW_AT_ERROR);
        CHECK(where_is(machine, 1, 40, &location) == COW_AT_ERROR);
        REQUIRE(where_is(machine, 1, 11, &location) == COW_AT_STORE);
        cow_store_unpin(&machine.store(), location);
        machine.write(1, 10, 1);
        machine.write(1, 40, 1);
        machine.drain();
        CHECK(where_is(machine, 1, 10, &location) == COW_AT_ERROR);
        sim::check_contents(machine);
    }
}

TEST_CASE("behind damage no segment of a log is freed alone: it may prove what was lost") {
    sim::World world = world_with_snapshots(1);
    world.damaged = true;
    u64 location = 0;
    {
        Machine machine(world, 1);
        REQUIRE(machine.open() == 0);
        machine.write(1, 10, 1);
        machine.drain();
        machine.write(1, 11, 1);
        machine.drain();
        machine.mark();
        machine.drain();
        REQUIRE(where_is(machine, 1, 10, &location) == COW_AT_STORE);
    }
    flip(world, location - 1);
    Machine machine(world, 1);
    REQUIRE(machine.open() == 0);
    REQUIRE(machine.create({{2, 1}}) == 0);
    machine.write(1, 11, 1);
    machine.drain();
    REQUIRE(where_is(machine, 2, 11, &location) == COW_AT_STORE);
    cow_store_unpin(&machine.store(), location);
    REQUIRE(machine.create({{3, 1}}) == 0);
    // Snapshot 1 has the block already: nothing in the segment is live any more.
    REQUIRE(machine.remove({2}) == 0);
    machine.drain();
    CHECK(segment_of(machine, location).live == 0);
    CHECK(segment_of(machine, location).state == COW_SEGMENT_CLOSED);
}

TEST_CASE("the store's refusals change nothing") {
    sim::World world = world_with_snapshots(2);
    Machine machine(world, 1);
    REQUIRE(machine.open() == 0);
    const u64 transaction = machine.store().transaction;
    CHECK(machine.create({{1, 1}}) == -EEXIST);
    CHECK(machine.create({{7, 9}}) == -ENOENT);
    CHECK(machine.create({{7, 1}, {8, 1}}) == -EINVAL);
    CHECK(machine.create({{7, 1}, {7, 2}}) == -EINVAL);
    CHECK(machine.remove({3}) == -ENOENT);
    CHECK(machine.remove({1, 1}) == -EINVAL);
    CHECK(machine.forget_origin(1) == -EBUSY);
    CHECK(machine.forget_origin(9) == -ENOENT);
    CHECK(machine.extend(sim::kStoreBlocks) == -ENOSPC);
    ++cow_snapshot_find(&machine.store(), 1)->users;
    CHECK(machine.remove({2, 1}) == -EBUSY);
    --cow_snapshot_find(&machine.store(), 1)->users;
    CHECK(machine.store().transaction == transaction);
    sim::check_contents(machine);
    ++cow_origin_find(&machine.store(), 2)->users;
    CHECK(machine.forget_origin(2) == -EBUSY);
    --cow_origin_find(&machine.store(), 2)->users;
    CHECK(machine.forget_origin(2) == 0);
}

TEST_CASE("a dropped snapshot that is in use is an error to its readers, and nobody else's") {
    sim::World world = world_with_snapshots(2);
    Machine machine(world, 1);
    REQUIRE(machine.open() == 0);
    cow_snapshot* snapshot = cow_snapshot_find(&machine.store(), 1);
    ++snapshot->users;
    REQUIRE(machine.remove({1}, true) == 0);
    enum cow_where where = COW_AT_ORIGIN;
    u64 location = 0;
    cow_snapshot_lookup(snapshot, 2, 1, &where, &location);
    CHECK(where == COW_AT_ERROR);
    sim::check_contents(machine);
    --snapshot->users;
    cow_snapshot_free(snapshot);
    machine.drain();
}
