// SPDX-License-Identifier: GPL-2.0-or-later
// What is written is read back as it was; what is wrong in any way is refused.
#include <catch2/catch.hpp>

#include <algorithm>
#include <array>
#include <initializer_list>
#include <memory>
#include <string_view>

#include "core.hpp"

namespace {

constexpr u64 kStoreBlocks = 100000;
constexpr u32 kSegmentBlocks = 256;

template <typename Disk, typename Field>
std::size_t offset_of(Field Disk::*field) {
    alignas(8) static const Disk disk{};
    return static_cast<std::size_t>(reinterpret_cast<const char*>(&(disk.*field)) -
                                    reinterpret_cast<const char*>(&disk));
}

Bytes copy_with_uuid(const Bytes& structure, const u8* uuid) {
    Bytes changed = structure;
    std::copy_n(uuid, COWSNAP_UUID_SIZE, changed.begin() + 16);
    reseal(changed);
    return changed;
}

// ---------------------------------------------------------------- superblock

std::unique_ptr<cow_super> example_super() {
    auto super = std::make_unique<cow_super>();
    REQUIRE(cow_super_plan(super.get(), kStoreBlocks, kSegmentBlocks) == 0);
    REQUIRE(cow_super_extend(super.get(), kStoreBlocks * 2) == 0);
    std::copy_n(kUuid, COWSNAP_UUID_SIZE, super->uuid);
    super->generation = 77;
    super->compatible = 5;
    super->ro_compatible = 6;
    return super;
}

Bytes encoded(const cow_super& super) {
    Bytes block = blocks(1);
    cow_super_encode(&super, block.data());
    return block;
}

cow_check super_check(const Bytes& block, u64 device_blocks = kStoreBlocks * 2) {
    auto super = std::make_unique<cow_super>();
    return cow_super_decode(block.data(), device_blocks, super.get());
}

template <typename Change>
cow_check changed_super_check(Change change) {
    auto super = example_super();
    change(*super);
    return super_check(encoded(*super));
}

}  // namespace

TEST_CASE("A superblock is read as it was written", "[format]") {
    const auto super = example_super();
    auto decoded = std::make_unique<cow_super>();
    const Bytes block = encoded(*super);
    REQUIRE(cow_super_decode(block.data(), kStoreBlocks * 2, decoded.get()) == COW_VALID);
    CHECK(std::memcmp(decoded->uuid, kUuid, sizeof(kUuid)) == 0);
    CHECK(decoded->generation == 77);
    CHECK(decoded->compatible == 5);
    CHECK(decoded->ro_compatible == 6);
    CHECK(decoded->incompatible == 0);
    CHECK(decoded->store_blocks == super->store_blocks);
    CHECK(decoded->control_block == super->control_block);
    CHECK(decoded->checkpoint_blocks == super->checkpoint_blocks);
    CHECK(decoded->journal_blocks == super->journal_blocks);
    CHECK(decoded->slot_block == super->slot_block);
    CHECK(decoded->slot_blocks == super->slot_blocks);
    CHECK(decoded->segment_blocks == super->segment_blocks);
    REQUIRE(decoded->regions == 2);
    CHECK(std::memcmp(decoded->region, super->region, sizeof(super->region)) == 0);
}

TEST_CASE("A superblock with any bit flipped is refused", "[format]") {
    CHECK(unnoticed_flips(encoded(*example_super()),
                          [](const Bytes& block) { return super_check(block) == COW_VALID; }) == 0);
}

TEST_CASE("A superblock is told apart from what is none", "[format]") {
    const Bytes good = encoded(*example_super());
    Bytes bad = good;
    CHECK(super_check(blocks(1)) == COW_BLANK);
    CHECK(super_check(Bytes(kBlockBytes, 0xff)) == COW_FOREIGN);
    bad[0] ^= 1;
    CHECK(super_check(bad) == COW_FOREIGN);
    bad = good;
    bad[4000] ^= 1;
    CHECK(super_check(bad) == COW_CORRUPT);
    Bytes late(kBlockBytes);
    late[kBlockBytes - 1] = 1;
    CHECK(super_check(late) == COW_FOREIGN);

    CHECK(super_check(with<u32>(good, offset_of(&cowsnap_disk_super::version), 2)) == COW_VERSION);
    CHECK(super_check(with<u64>(good, offset_of(&cowsnap_disk_super::incompatible), 1)) ==
          COW_FEATURE);
    CHECK(super_check(with<u64>(good, offset_of(&cowsnap_disk_super::ro_compatible), ~u64{0})) ==
          COW_VALID);
    CHECK(super_check(good, kStoreBlocks * 2 - 1) == COW_RANGE);
}

TEST_CASE("A superblock whose areas overlap or lie outside is refused", "[format]") {
    constexpr u64 huge[] = {u64{1} << 44, u64{1} << 63, ~u64{0}, ~u64{0} - 255};
    CHECK(changed_super_check([](cow_super&) {}) == COW_VALID);

    CHECK(changed_super_check([](cow_super& s) { s.store_blocks = 2047; }) == COW_RANGE);
    CHECK(changed_super_check([](cow_super& s) { s.store_blocks = kStoreBlocks; }) == COW_RANGE);
    CHECK(changed_super_check([](cow_super& s) { s.control_block = 16; }) == COW_RANGE);
    CHECK(changed_super_check([](cow_super& s) { s.control_block++; }) == COW_RANGE);
    CHECK(changed_super_check([](cow_super& s) { s.checkpoint_blocks = 1; }) == COW_RANGE);
    CHECK(changed_super_check([](cow_super& s) { s.checkpoint_blocks++; }) == COW_RANGE);
    CHECK(changed_super_check([](cow_super& s) { s.journal_blocks--; }) == COW_RANGE);
    CHECK(changed_super_check([](cow_super& s) { s.journal_blocks += 2; }) == COW_RANGE);
    CHECK(changed_super_check([](cow_super& s) { s.journal_blocks = 30; }) == COW_RANGE);
    CHECK(changed_super_check([](cow_super& s) { s.slot_block--; }) == COW_RANGE);
    CHECK(changed_super_check([](cow_super& s) { s.slot_block++; }) == COW_RANGE);
    CHECK(changed_super_check([](cow_super& s) { s.slot_blocks = 0; }) == COW_RANGE);
    CHECK(changed_super_check([](cow_super& s) { s.slot_blocks++; }) == COW_RANGE);
    for (const u32 wrong : {0u, 8u, 17u, 512u, ~0u}) {
        CHECK(changed_super_check([wrong](cow_super& s) { s.segment_blocks = wrong; }) ==
              COW_RANGE);
        CHECK(changed_super_check([wrong](cow_super& s) {
                  s.checkpoint_blocks = std::max(wrong, 512u);
              }) == COW_RANGE);
    }
    const Bytes good = encoded(*example_super());
    for (const u32 wrong : {0u, u32{COWSNAP_MAX_REGIONS} + 1, 3u, ~0u}) {
        CHECK(super_check(with<u32>(good, offset_of(&cowsnap_disk_super::regions), wrong)) ==
              COW_RANGE);
    }
    for (const u64 value : huge) {
        CHECK(changed_super_check([value](cow_super& s) { s.store_blocks = value; }) == COW_RANGE);
        CHECK(changed_super_check([value](cow_super& s) { s.control_block = value; }) == COW_RANGE);
        CHECK(changed_super_check([value](cow_super& s) { s.slot_block = value; }) == COW_RANGE);
        for (const u32 i : {0u, 1u}) {
            CHECK(changed_super_check([=](cow_super& s) { s.region[i].table_block = value; }) ==
                  COW_RANGE);
            CHECK(changed_super_check([=](cow_super& s) { s.region[i].segment_block = value; }) ==
                  COW_RANGE);
            CHECK(changed_super_check([=](cow_super& s) { s.region[i].segments = value; }) ==
                  COW_RANGE);
        }
    }
    CHECK(changed_super_check([](cow_super& s) { s.region[0].table_block--; }) == COW_RANGE);
    CHECK(changed_super_check([](cow_super& s) {
              s.region[1].table_block =
                  s.region[0].segment_block + s.region[0].segments * s.segment_blocks - 1;
          }) == COW_RANGE);
    for (const u32 i : {0u, 1u}) {
        CHECK(changed_super_check([i](cow_super& s) { s.region[i].segments = 0; }) == COW_RANGE);
        CHECK(changed_super_check([i](cow_super& s) { s.region[i].segments++; }) == COW_RANGE);
        CHECK(changed_super_check([i](cow_super& s) {
                  s.region[i].segment_block = s.region[i].table_block + 1;
              }) == COW_RANGE);
    }
}

// ------------------------------------------------------------- segment table

namespace {

using Owners = std::array<cow_owner, COWSNAP_SEGMENTS_PER_TABLE_BLOCK>;
constexpr u64 kFirstSegment = 252;

Owners example_owners() {
    Owners owners{};
    for (u32 i = 0; i < owners.size(); ++i) {
        owners[i] = {.kind = i % 3,
                     .origin = i % 3 != 0 ? i + 1 : 0,
                     .epoch = 1000 + i,
                     .generation = 5000 + i};
    }
    return owners;
}

Bytes example_table(const Owners& owners = example_owners(),
                    u32 count = COWSNAP_SEGMENTS_PER_TABLE_BLOCK) {
    Bytes block = blocks(1);
    cow_table_encode(block.data(), kUuid, 9, kFirstSegment, owners.data(), count);
    return block;
}

cow_check table_check(const Bytes& block, u64 first_segment = kFirstSegment) {
    Owners owners{};
    u64 generation = 0;
    return cow_table_decode(block.data(), kUuid, first_segment, &generation, owners.data(),
                            COWSNAP_SEGMENTS_PER_TABLE_BLOCK);
}

}  // namespace

TEST_CASE("A segment table is read as it was written", "[format]") {
    const Owners owners = example_owners();
    for (const u32 count : {0u, 1u, 125u, 126u}) {
        Owners decoded{};
        u64 generation = 0;
        const Bytes block = example_table(owners, count);
        REQUIRE(cow_table_decode(block.data(), kUuid, kFirstSegment, &generation, decoded.data(),
                                 count) == COW_VALID);
        CHECK(generation == 9);
        CHECK(std::memcmp(decoded.data(), owners.data(), count * sizeof(cow_owner)) == 0);
        REQUIRE(table_check(block) == COW_VALID);
    }
}

TEST_CASE("A segment table with any bit flipped is refused", "[format]") {
    CHECK(unnoticed_flips(example_table(),
                          [](const Bytes& block) { return table_check(block) == COW_VALID; }) == 0);
}

TEST_CASE("A segment table that is blank, another's or of another place is refused", "[format]") {
    const Bytes good = example_table();
    CHECK(table_check(blocks(1)) == COW_BLANK);
    CHECK(table_check(encoded(*example_super())) == COW_FOREIGN);
    CHECK(table_check(copy_with_uuid(good, kOtherUuid)) == COW_OTHER_STORE);
    CHECK(table_check(good, kFirstSegment + 126) == COW_STALE);
    Owners owners = example_owners();
    owners[125].kind = 3;
    CHECK(table_check(example_table(owners)) == COW_RANGE);
    owners[125] = {.kind = COWSNAP_OWNER_EPOCH, .origin = 0, .epoch = 1, .generation = 1};
    CHECK(table_check(example_table(owners)) == COW_RANGE);
    owners[125] = {
        .kind = COWSNAP_OWNER_OVERLAY, .origin = 0xffffffff, .epoch = 1, .generation = 1};
    CHECK(table_check(example_table(owners)) == COW_RANGE);
    owners[125] = {
        .kind = COWSNAP_OWNER_EPOCH, .origin = 1, .epoch = u64{1} << 32, .generation = 1};
    CHECK(table_check(example_table(owners)) == COW_RANGE);
}

// ------------------------------------------------------------ control record

namespace {

std::vector<cow_op> example_ops(u64 count) {
    std::vector<cow_op> ops(count);
    for (u32 i = 0; i < count; ++i) {
        ops[i].op = COWSNAP_OP_ORIGIN + i % 8;
        ops[i].snapshot = i + 1;
        ops[i].origin = i + 2;
        ops[i].flags = ops[i].op == COWSNAP_OP_DELETE ? COWSNAP_OP_FLAG_DROPPED : 0;
        ops[i].epoch = i + 3;
        ops[i].sequence = u64{1} << 40 | i;
        ops[i].size_sectors = 8000 + i;
        ops[i].created = 1700000000 + i;
        ops[i].set = i + 4;
        ops[i].activation = i + 5;
    }
    return ops;
}

bool same_ops(const std::vector<cow_op>& ops, const cow_op* others) {
    return std::equal(ops.begin(), ops.end(), others, [](const cow_op& a, const cow_op& b) {
        return a.op == b.op && a.snapshot == b.snapshot && a.origin == b.origin &&
               a.flags == b.flags && a.epoch == b.epoch && a.sequence == b.sequence &&
               a.size_sectors == b.size_sectors && a.created == b.created && a.set == b.set &&
               a.activation == b.activation;
    });
}

struct Journal {
    u64 transaction = 0;
    u16 index = 0;
    u16 count = 0;
    u32 nr_ops = 0;
    std::array<cow_op, COWSNAP_OPS_PER_BLOCK> ops{};

    cow_check decode(const Bytes& block) {
        return cow_journal_decode(block.data(), kUuid, &transaction, &index, &count, ops.data(),
                                  &nr_ops);
    }
};

Bytes example_journal(const std::vector<cow_op>& ops, u16 index = 2, u16 count = 5,
                      u64 transaction = 1234) {
    Bytes block = blocks(1);
    cow_journal_encode(block.data(), kUuid, transaction, index, count, ops.data(),
                       static_cast<u32>(ops.size()));
    return block;
}

cow_check journal_check(const Bytes& block) {
    return Journal{}.decode(block);
}

cow_check op_check(cow_op op) {
    return journal_check(example_journal({op}));
}

}  // namespace

TEST_CASE("A journal block is read as it was written", "[format]") {
    for (const u64 count : {0, 1, 62, 63}) {
        const std::vector<cow_op> ops = example_ops(count);
        Journal journal;
        REQUIRE(journal.decode(example_journal(ops)) == COW_VALID);
        CHECK(journal.transaction == 1234);
        CHECK(journal.index == 2);
        CHECK(journal.count == 5);
        REQUIRE(journal.nr_ops == count);
        CHECK(same_ops(ops, journal.ops.data()));
    }
}

TEST_CASE("A journal block with any bit flipped is refused", "[format]") {
    CHECK(unnoticed_flips(example_journal(example_ops(30)), [](const Bytes& block) {
              return journal_check(block) == COW_VALID;
          }) == 0);
}

TEST_CASE("A journal block with a field out of range is refused", "[format]") {
    const std::vector<cow_op> ops = example_ops(3);
    const Bytes good = example_journal(ops);
    CHECK(journal_check(blocks(1)) == COW_BLANK);
    CHECK(journal_check(example_table()) == COW_FOREIGN);
    CHECK(journal_check(copy_with_uuid(good, kOtherUuid)) == COW_OTHER_STORE);
    CHECK(journal_check(example_journal(ops, 0, 0)) == COW_RANGE);
    CHECK(journal_check(example_journal(ops, 5, 5)) == COW_RANGE);
    CHECK(journal_check(example_journal(ops, 16, 17)) == COW_RANGE);
    CHECK(journal_check(example_journal(ops, 15, 16)) == COW_VALID);
    CHECK(journal_check(example_journal(ops, 0, 1, COWSNAP_NONE)) == COW_RANGE);
    for (const u32 wrong : {64u, 0x10000u, ~0u}) {
        CHECK(journal_check(with<u32>(good, offset_of(&cowsnap_disk_journal::ops), wrong)) ==
              COW_RANGE);
    }
}

TEST_CASE("An op that cannot be replayed is refused", "[format]") {
    constexpr u32 no_id = 0xffffffff;
    cow_op op{};
    CHECK(op_check(op) == COW_RANGE);
    op.op = COWSNAP_OP_ROLLBACK_END + 1;
    CHECK(op_check(op) == COW_RANGE);

    op = {};
    op.op = COWSNAP_OP_ORIGIN;
    op.origin = 1;
    CHECK(op_check(op) == COW_RANGE);
    op.size_sectors = u64{1} << 43;
    CHECK(op_check(op) == COW_VALID);
    op.size_sectors++;
    CHECK(op_check(op) == COW_RANGE);
    op.size_sectors = 1;
    op.origin = 0;
    CHECK(op_check(op) == COW_RANGE);
    op.origin = no_id;
    CHECK(op_check(op) == COW_RANGE);
    op.origin = COWSNAP_ID_MAX;
    CHECK(op_check(op) == COW_VALID);
    op.flags = COWSNAP_OP_FLAG_DROPPED;
    CHECK(op_check(op) == COW_RANGE);

    op = {};
    op.op = COWSNAP_OP_CREATE;
    op.snapshot = 1;
    CHECK(op_check(op) == COW_RANGE);
    op.origin = 1;
    CHECK(op_check(op) == COW_VALID);
    op.epoch = u64{1} << 32;
    CHECK(op_check(op) == COW_RANGE);
    op.epoch = 1;
    op.flags = COWSNAP_OP_FLAG_STALE;
    CHECK(op_check(op) == COW_VALID);
    op.flags = COWSNAP_OP_FLAG_DROPPED;
    CHECK(op_check(op) == COW_RANGE);
    op.flags = 0;
    op.snapshot = no_id;
    CHECK(op_check(op) == COW_RANGE);

    op = {};
    op.op = COWSNAP_OP_FRONT;
    CHECK(op_check(op) == COW_RANGE);
    op.origin = 1;
    for (const u32 flags : {0u, COWSNAP_OP_FLAG_IN_FRONT, COWSNAP_OP_FLAG_LEFT}) {
        op.flags = flags;
        op.epoch = op.sequence = op.size_sectors = COWSNAP_NONE;
        CHECK(op_check(op) == COW_VALID);
    }
    for (const u32 flags : {COWSNAP_OP_FLAG_IN_FRONT | COWSNAP_OP_FLAG_LEFT, 1u, 2u, 16u}) {
        op.flags = flags;
        CHECK(op_check(op) == COW_RANGE);
    }
    op = {};
    op.op = COWSNAP_OP_WATCH;
    CHECK(op_check(op) == COW_RANGE);
    op.origin = 1;
    op.epoch = COW_MAX_ORIGIN_SECTORS - 1;
    op.sequence = COWSNAP_WATCH_MAX - 1;
    for (const u32 flags : {0u, COWSNAP_OP_FLAG_RAW}) {
        op.flags = flags;
        CHECK(op_check(op) == COW_VALID);
    }
    op.flags = COWSNAP_OP_FLAG_LEFT;
    CHECK(op_check(op) == COW_RANGE);
    op.flags = 0;
    op.sequence = COWSNAP_WATCH_MAX;
    CHECK(op_check(op) == COW_RANGE);
    op.sequence = 0;
    op.epoch = COW_MAX_ORIGIN_SECTORS;
    CHECK(op_check(op) == COW_RANGE);

    op = {};
    op.op = COWSNAP_OP_STALE;
    CHECK(op_check(op) == COW_RANGE);
    op.origin = 1;
    CHECK(op_check(op) == COW_VALID);
    op.flags = COWSNAP_OP_FLAG_STALE;
    CHECK(op_check(op) == COW_RANGE);

    op = {};
    op.op = COWSNAP_OP_ROLLBACK;
    op.origin = 1;
    CHECK(op_check(op) == COW_RANGE);
    op.snapshot = COWSNAP_ID_MAX;
    op.set = COWSNAP_ID_MAX;
    op.epoch = 0xffffffff;
    op.sequence = u64{1} << 40;
    CHECK(op_check(op) == COW_VALID);
    for (u64* field : {&op.set, &op.epoch, &op.sequence}) {
        ++*field;
        CHECK(op_check(op) == COW_RANGE);
        --*field;
    }
    for (const u32 flags :
         {COWSNAP_OP_FLAG_SCHEDULED, COWSNAP_OP_FLAG_SCHEDULED | COWSNAP_OP_FLAG_FORCE}) {
        op.flags = flags;
        CHECK(op_check(op) == COW_VALID);
    }
    for (const u32 flags : {COWSNAP_OP_FLAG_FORCE, 1u, 2u}) {
        op.flags = flags;
        CHECK(op_check(op) == COW_RANGE);
    }
    op = {};
    op.op = COWSNAP_OP_ROLLBACK_END;
    CHECK(op_check(op) == COW_RANGE);
    op.origin = 1;
    CHECK(op_check(op) == COW_VALID);
    op.flags = COWSNAP_OP_FLAG_SCHEDULED;
    CHECK(op_check(op) == COW_RANGE);

    for (const u32 kind : {COWSNAP_OP_DELETE, COWSNAP_OP_LOST}) {
        op = {};
        op.op = kind;
        CHECK(op_check(op) == COW_RANGE);
        op.snapshot = 1;
        CHECK(op_check(op) == COW_VALID);
        op.flags = 2;
        CHECK(op_check(op) == COW_RANGE);
    }

    op = {};
    op.op = COWSNAP_OP_FORGET;
    CHECK(op_check(op) == COW_RANGE);
    op = {};
    op.op = COWSNAP_OP_COUNTERS;
    CHECK(op_check(op) == COW_VALID);
    op.activation = u64{1} << 32;
    CHECK(op_check(op) == COW_RANGE);
    op.activation = 0;
    op.epoch = (u64{1} << 32) + 1;
    CHECK(op_check(op) == COW_RANGE);
}

namespace {

struct Checkpoint {
    explicit Checkpoint(const std::vector<cow_op>& ops)
        : header(blocks(1)), op_blocks(((ops.size() + 63) / 64) * kBlockBytes, 0xee) {
        cow_checkpoint_encode_ops(op_blocks.data(), ops.data(), ops.size());
        cow_checkpoint_encode(header.data(), kUuid, 4321, ops.size(), op_blocks.data());
    }

    Bytes header;
    Bytes op_blocks;
};

cow_check checkpoint_check(const Bytes& header, u32 checkpoint_blocks = 17) {
    u64 transaction = 0;
    u64 nr_ops = 0;
    return cow_checkpoint_decode(header.data(), kUuid, checkpoint_blocks, &transaction, &nr_ops);
}

}  // namespace

TEST_CASE("A checkpoint is read as it was written", "[format]") {
    for (const u64 count : {0, 1, 63, 64, 65, 1024}) {
        const std::vector<cow_op> ops = example_ops(count);
        const Checkpoint checkpoint(ops);
        u64 transaction = 0;
        u64 nr_ops = 0;
        REQUIRE(cow_checkpoint_decode(checkpoint.header.data(), kUuid, 17, &transaction, &nr_ops) ==
                COW_VALID);
        CHECK(transaction == 4321);
        REQUIRE(nr_ops == count);
        std::vector<cow_op> decoded(count + 1);
        REQUIRE(cow_checkpoint_decode_ops(checkpoint.header.data(), checkpoint.op_blocks.data(),
                                          decoded.data()) == COW_VALID);
        CHECK(same_ops(ops, decoded.data()));
        const std::size_t used = count * sizeof(cowsnap_disk_op);
        CHECK(std::all_of(checkpoint.op_blocks.begin() + static_cast<std::ptrdiff_t>(used),
                          checkpoint.op_blocks.end(), [](u8 byte) { return byte == 0; }));
    }
}

TEST_CASE("A checkpoint with any bit flipped is refused", "[format]") {
    const Checkpoint checkpoint(example_ops(64));
    CHECK(unnoticed_flips(checkpoint.header, [](const Bytes& header) {
              return checkpoint_check(header) == COW_VALID;
          }) == 0);
    std::vector<cow_op> decoded(64);
    CHECK(unnoticed_flips(checkpoint.op_blocks, [&](const Bytes& op_blocks) {
              return cow_checkpoint_decode_ops(checkpoint.header.data(), op_blocks.data(),
                                               decoded.data()) == COW_VALID;
          }) == 0);
}

TEST_CASE("A checkpoint with a field out of range is refused", "[format]") {
    const Bytes header = Checkpoint(example_ops(65)).header;
    CHECK(checkpoint_check(blocks(1)) == COW_BLANK);
    CHECK(checkpoint_check(example_table()) == COW_FOREIGN);
    CHECK(checkpoint_check(copy_with_uuid(header, kOtherUuid)) == COW_OTHER_STORE);
    CHECK(checkpoint_check(header, 3) == COW_VALID);
    CHECK(checkpoint_check(header, 2) == COW_RANGE);
    CHECK(checkpoint_check(header, 0) == COW_RANGE);
    CHECK(checkpoint_check(with<u64>(header, offset_of(&cowsnap_disk_checkpoint::ops), ~u64{0})) ==
          COW_RANGE);
    CHECK(checkpoint_check(with<u64>(header, offset_of(&cowsnap_disk_checkpoint::ops),
                                     u64{1} << 58)) == COW_RANGE);
    CHECK(checkpoint_check(with<u64>(header, offset_of(&cowsnap_disk_checkpoint::transaction),
                                     ~u64{0})) == COW_RANGE);

    std::vector<cow_op> wrong = example_ops(1);
    wrong[0].op = 99;
    const Checkpoint checkpoint(wrong);
    cow_op decoded{};
    CHECK(cow_checkpoint_decode_ops(checkpoint.header.data(), checkpoint.op_blocks.data(),
                                    &decoded) == COW_RANGE);
}

// ----------------------------------------------------------------------- log

namespace {

struct Log {
    std::vector<cow_record> records;
    std::vector<u32> crc;
};

// "count" records of lengths 1, 2, 3, 1, 2, 3 ..., the first one's data at "position".
Log example_log(u16 count, u16 position) {
    Log log;
    for (u16 i = 0; i < count; ++i) {
        const u16 length = static_cast<u16>(1 + i % 3);
        log.records.push_back({.block = 1000000u * i,
                               .length = length,
                               .flags = static_cast<u16>(i % 4),
                               .position = position});
        position = static_cast<u16>(position + length);
        for (u16 k = 0; k < length; ++k) {
            log.crc.push_back(0x9e3779b9u * (static_cast<u32>(log.crc.size()) + 1));
        }
    }
    return log;
}

bool same_records(const std::vector<cow_record>& records, const cow_record* others) {
    return std::equal(records.begin(), records.end(), others,
                      [](const cow_record& a, const cow_record& b) {
                          return a.block == b.block && a.length == b.length && a.flags == b.flags &&
                                 a.position == b.position;
                      });
}

cow_batch_info example_batch_info(const Log& log, u16 position) {
    return {.activation = 3,
            .segment = 17,
            .generation = 99,
            .sequence = 1000,
            .durable_sequence = 998,
            .segment_sequence = 990,
            .epoch = 12,
            .origin = 4,
            .position = position,
            .records = static_cast<u16>(log.records.size()),
            .blocks = static_cast<u16>(log.crc.size())};
}

Bytes encoded(const cow_batch_info& info, const Log& log) {
    Bytes block = blocks(1);
    cow_batch_encode(block.data(), kUuid, &info, log.records.data(), log.crc.data());
    return block;
}

cow_check batch_check(const Bytes& block, u32 segment_blocks = kSegmentBlocks) {
    cow_batch_info info{};
    return cow_batch_decode(block.data(), kUuid, segment_blocks, &info);
}

template <typename Change>
cow_check changed_batch_check(Change change) {
    Log log = example_log(6, 21);
    cow_batch_info info = example_batch_info(log, 20);
    change(info, log);
    return batch_check(encoded(info, log));
}

}  // namespace

TEST_CASE("A batch is read as it was written", "[format]") {
    for (const u16 count : std::initializer_list<u16>{0, 1, 7, 60}) {
        const Log log = example_log(count, 21);
        const cow_batch_info info = example_batch_info(log, 20);
        const Bytes block = encoded(info, log);
        cow_batch_info decoded{};
        REQUIRE(cow_batch_decode(block.data(), kUuid, kSegmentBlocks, &decoded) == COW_VALID);
        CHECK(decoded.activation == info.activation);
        CHECK(decoded.segment == info.segment);
        CHECK(decoded.generation == info.generation);
        CHECK(decoded.sequence == info.sequence);
        CHECK(decoded.durable_sequence == info.durable_sequence);
        CHECK(decoded.segment_sequence == info.segment_sequence);
        CHECK(decoded.epoch == info.epoch);
        CHECK(decoded.origin == info.origin);
        CHECK(decoded.position == info.position);
        REQUIRE(decoded.records == info.records);
        REQUIRE(decoded.blocks == info.blocks);

        std::vector<cow_record> records(log.records.size() + 1);
        std::vector<u32> crc(log.crc.size() + 1);
        cow_batch_unpack(block.data(), records.data(), crc.data());
        CHECK(same_records(log.records, records.data()));
        CHECK(std::equal(log.crc.begin(), log.crc.end(), crc.begin()));
        for (u32 i = 0; i < log.records.size(); ++i) {
            cow_record record{};
            cow_batch_record(block.data(), i, &record);
            CHECK(same_records({record}, &log.records[i]));
        }
        for (u32 i = 0; i < log.crc.size(); ++i) {
            REQUIRE(cow_batch_crc(block.data(), i) == log.crc[i]);
        }
    }
}

TEST_CASE("A batch fits if its records and checksums do", "[format]") {
    CHECK(cow_batch_fits(0, 0));
    CHECK(cow_batch_fits(248, 248));
    CHECK_FALSE(cow_batch_fits(249, 249));
    CHECK(cow_batch_fits(1, 989));
    CHECK_FALSE(cow_batch_fits(1, 990));
    CHECK_FALSE(cow_batch_fits(2, 1));
    CHECK_FALSE(cow_batch_fits(~u32{0}, ~u32{0}));
    CHECK_FALSE(cow_batch_fits(1, ~u32{0}));
    CHECK_FALSE(cow_batch_fits(0x15555556, 0x15555556));

    Log log;
    for (u16 i = 0; i < 248; ++i) {
        log.records.push_back({.block = i, .length = 1, .flags = 0, .position = 0});
        log.crc.push_back(i);
    }
    cow_batch_info info = example_batch_info(log, 0);
    info.segment_sequence = info.sequence;
    const Bytes block = encoded(info, log);
    REQUIRE(batch_check(block) == COW_VALID);
    CHECK(cow_batch_crc(block.data(), 247) == 247);
}

TEST_CASE("A batch with any bit flipped is refused", "[format]") {
    const Log log = example_log(60, 21);
    CHECK(unnoticed_flips(encoded(example_batch_info(log, 20), log),
                          [](const Bytes& block) { return batch_check(block) == COW_VALID; }) == 0);
}

TEST_CASE("A batch with a field out of range is refused", "[format]") {
    const Log log = example_log(6, 21);
    const Bytes good = encoded(example_batch_info(log, 20), log);
    CHECK(batch_check(blocks(1)) == COW_BLANK);
    CHECK(batch_check(example_table()) == COW_FOREIGN);
    CHECK(batch_check(copy_with_uuid(good, kOtherUuid)) == COW_OTHER_STORE);
    REQUIRE(batch_check(good) == COW_VALID);
    // 20, the header, 12 blocks of data; then the summary.
    CHECK(batch_check(good, 64) == COW_VALID);
    CHECK(batch_check(good, 32) == COW_RANGE);

    using Info = cow_batch_info;
    CHECK(changed_batch_check([](Info& info, Log&) { info.position = 241; }) == COW_VALID);
    CHECK(changed_batch_check([](Info& info, Log&) { info.position = 242; }) == COW_RANGE);
    CHECK(changed_batch_check([](Info& info, Log&) { info.position = 0xffff; }) == COW_RANGE);
    CHECK(changed_batch_check([](Info& info, Log&) { info.position = 0; }) == COW_RANGE);
    CHECK(changed_batch_check([](Info& info, Log&) { info.origin = 0; }) == COW_RANGE);
    CHECK(changed_batch_check([](Info& info, Log&) { info.origin = 0xffffffff; }) == COW_RANGE);
    CHECK(changed_batch_check([](Info& info, Log&) { info.epoch = u64{1} << 32; }) == COW_RANGE);
    CHECK(changed_batch_check([](Info& info, Log&) { info.segment = u64{1} << 44; }) == COW_RANGE);
    CHECK(changed_batch_check([](Info& info, Log&) { info.sequence = COWSNAP_NONE; }) == COW_RANGE);
    CHECK(changed_batch_check([](Info& info, Log&) { info.segment_sequence = 1001; }) == COW_RANGE);
    CHECK(changed_batch_check([](Info& info, Log&) { info.durable_sequence = 1000; }) == COW_RANGE);
    CHECK(changed_batch_check([](Info& info, Log&) { info.durable_sequence = 0; }) == COW_VALID);
    CHECK(changed_batch_check([](Info&, Log& l) { l.records[5].length = 0; }) == COW_RANGE);
    CHECK(changed_batch_check([](Info&, Log& l) { l.records[5].length++; }) == COW_RANGE);
    CHECK(changed_batch_check([](Info&, Log& l) { l.records[5].flags = 4; }) == COW_RANGE);
    CHECK(changed_batch_check([](Info&, Log& l) { l.records[5].block = (u64{1} << 40) - 3; }) ==
          COW_VALID);
    CHECK(changed_batch_check([](Info&, Log& l) { l.records[5].block = (u64{1} << 40) - 2; }) ==
          COW_RANGE);
    CHECK(changed_batch_check([](Info&, Log& l) { l.records[5].block = ~u64{0}; }) == COW_RANGE);
    for (const u16 wrong : std::initializer_list<u16>{5, 7, 13, 400, 0xffff}) {
        CHECK(batch_check(with<u16>(good, offset_of(&cowsnap_disk_batch::records), wrong)) ==
              COW_RANGE);
        CHECK(batch_check(with<u16>(good, offset_of(&cowsnap_disk_batch::blocks), wrong)) ==
              COW_RANGE);
    }
}

namespace {

constexpr u32 kAllSegmentBlocks[] = {16, 32, 64, 128, 256};

struct Summary {
    cow_summary_info info{};
    std::array<cow_record, COW_SUMMARY_MAX_RECORDS> records{};
    std::array<u32, COW_SUMMARY_MAX_RECORDS> crc{};

    cow_check decode(const Bytes& block, u32 segment_blocks) {
        return cow_summary_decode(block.data(), segment_blocks, kUuid, &info, records.data(),
                                  crc.data());
    }
};

cow_summary_info example_summary_info(const Log& log) {
    return {.activation = 3,
            .segment = 17,
            .generation = 99,
            .sequence = 1000,
            .segment_sequence = 990,
            .durable_sequence = 1003,
            .epoch = 12,
            .origin = 4,
            .records = static_cast<u16>(log.records.size()),
            .blocks = static_cast<u16>(log.crc.size())};
}

Bytes encoded(const cow_summary_info& info, const Log& log, u32 segment_blocks = kSegmentBlocks) {
    Bytes block = blocks(COWSNAP_SUMMARY_BLOCKS(segment_blocks));
    cow_summary_encode(block.data(), segment_blocks, kUuid, &info, log.records.data(),
                       log.crc.data());
    return block;
}

cow_check summary_check(const Bytes& block, u32 segment_blocks = kSegmentBlocks) {
    return Summary{}.decode(block, segment_blocks);
}

template <typename Change>
cow_check changed_summary_check(Change change) {
    Log log = example_log(6, 1);
    cow_summary_info info = example_summary_info(log);
    change(info, log);
    return summary_check(encoded(info, log));
}

}  // namespace

TEST_CASE("A summary is read as it was written", "[format]") {
    for (const u32 segment_blocks : kAllSegmentBlocks) {
        const u32 data_blocks = segment_blocks - COWSNAP_SUMMARY_BLOCKS(segment_blocks) - 1;
        // None, some, and as many records as there can be.
        std::vector<Log> logs = {example_log(0, 1), example_log(5, 3), Log{}};
        for (u16 i = 0; i < data_blocks; ++i) {
            logs.back().records.push_back(
                {.block = i * 7u, .length = 1, .flags = 0, .position = static_cast<u16>(i + 1)});
            logs.back().crc.push_back(i * 0x01010101u);
        }
        for (const Log& log : logs) {
            const cow_summary_info info = example_summary_info(log);
            Summary summary;
            REQUIRE(summary.decode(encoded(info, log, segment_blocks), segment_blocks) ==
                    COW_VALID);
            CHECK(summary.info.activation == info.activation);
            CHECK(summary.info.segment == info.segment);
            CHECK(summary.info.generation == info.generation);
            CHECK(summary.info.sequence == info.sequence);
            CHECK(summary.info.segment_sequence == info.segment_sequence);
            CHECK(summary.info.durable_sequence == info.durable_sequence);
            CHECK(summary.info.epoch == info.epoch);
            CHECK(summary.info.origin == info.origin);
            REQUIRE(summary.info.records == info.records);
            REQUIRE(summary.info.blocks == info.blocks);
            CHECK(same_records(log.records, summary.records.data()));
            CHECK(std::equal(log.crc.begin(), log.crc.end(), summary.crc.begin()));
        }
    }
}

TEST_CASE("A summary with any bit flipped is refused", "[format]") {
    const Log log = example_log(100, 1);
    for (const u32 segment_blocks : {16u, 256u}) {
        const Log& used = segment_blocks == 16 ? example_log(6, 1) : log;
        CHECK(unnoticed_flips(encoded(example_summary_info(used), used, segment_blocks),
                              [=](const Bytes& block) {
                                  return summary_check(block, segment_blocks) == COW_VALID;
                              }) == 0);
    }
}

TEST_CASE("A summary with a field out of range is refused", "[format]") {
    const Log log = example_log(6, 1);
    const Bytes good = encoded(example_summary_info(log), log);
    CHECK(summary_check(blocks(2)) == COW_BLANK);
    CHECK(summary_check(Bytes(2 * kBlockBytes, 1)) == COW_FOREIGN);
    CHECK(summary_check(copy_with_uuid(good, kOtherUuid)) == COW_OTHER_STORE);
    REQUIRE(summary_check(good) == COW_VALID);

    using Info = cow_summary_info;
    CHECK(changed_summary_check([](Info& info, Log&) { info.origin = 0; }) == COW_RANGE);
    CHECK(changed_summary_check([](Info& info, Log&) { info.epoch = u64{1} << 32; }) == COW_RANGE);
    CHECK(changed_summary_check([](Info& info, Log&) { info.segment = ~u64{0}; }) == COW_RANGE);
    CHECK(changed_summary_check([](Info& info, Log&) { info.sequence = COWSNAP_NONE; }) ==
          COW_RANGE);
    CHECK(changed_summary_check([](Info& info, Log&) { info.segment_sequence = 1001; }) ==
          COW_RANGE);
    CHECK(changed_summary_check([](Info& info, Log&) { info.durable_sequence = 1000; }) ==
          COW_VALID);
    CHECK(changed_summary_check([](Info& info, Log&) { info.durable_sequence = 999; }) ==
          COW_RANGE);
    CHECK(changed_summary_check([](Info& info, Log&) { info.durable_sequence = COWSNAP_NONE; }) ==
          COW_RANGE);
    CHECK(changed_summary_check([](Info&, Log& l) { l.records[0].position = 0; }) == COW_RANGE);
    CHECK(changed_summary_check([](Info&, Log& l) { l.records[1].position = 1; }) == COW_RANGE);
    CHECK(changed_summary_check([](Info&, Log& l) { std::swap(l.records[1], l.records[4]); }) ==
          COW_RANGE);
    CHECK(changed_summary_check([](Info&, Log& l) { l.records[5].position = 251; }) == COW_VALID);
    CHECK(changed_summary_check([](Info&, Log& l) { l.records[5].position = 252; }) == COW_RANGE);
    CHECK(changed_summary_check([](Info&, Log& l) { l.records[5].position = 0xffff; }) ==
          COW_RANGE);
    CHECK(changed_summary_check([](Info&, Log& l) { l.records[5].length = 0; }) == COW_RANGE);
    CHECK(changed_summary_check([](Info&, Log& l) { l.records[5].length = 0xffff; }) == COW_RANGE);
    CHECK(changed_summary_check([](Info&, Log& l) { l.records[5].flags = 0x8000; }) == COW_RANGE);
    CHECK(changed_summary_check([](Info&, Log& l) { l.records[5].block = u64{1} << 40; }) ==
          COW_RANGE);
    for (const u16 wrong : std::initializer_list<u16>{5, 7, 13, 254, 255, 400, 0xffff}) {
        CHECK(summary_check(with<u16>(good, offset_of(&cowsnap_disk_summary::records), wrong)) ==
              COW_RANGE);
        CHECK(summary_check(with<u16>(good, offset_of(&cowsnap_disk_summary::blocks), wrong)) ==
              COW_RANGE);
    }
}

TEST_CASE("Every outcome of a check has a name", "[format]") {
    for (u32 check = COW_VALID; check <= COW_STALE; ++check) {
        CHECK(std::string_view(cow_check_name(static_cast<cow_check>(check))) != "unknown");
    }
    CHECK(std::string_view(cow_check_name(COW_CORRUPT)) == "wrong checksum");
}
