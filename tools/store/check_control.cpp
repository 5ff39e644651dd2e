// SPDX-License-Identifier: GPL-2.0-or-later
// Control record and segment table, block by block.
#include <algorithm>
#include <array>
#include <set>

#include "base/error.h"
#include "store/check_parts.h"

namespace cowsnap::store {

namespace {

struct JournalBlock {
    int error = 0;
    cow_check check = COW_BLANK;
    u64 transaction = 0;
    u16 index = 0;
    u16 count = 0;

    bool holds(u64 number, u16 at) const {
        return !error && check == COW_VALID && transaction == number && index == at;
    }
};

std::uint64_t checkpointBlock(const cow_super& super, unsigned slot) {
    return super.control_block + std::uint64_t{slot} * super.checkpoint_blocks;
}

std::uint64_t journalBlock(const cow_super& super, std::uint64_t position) {
    return super.control_block + 2ULL * super.checkpoint_blocks + position;
}

/// The transaction of the newest valid checkpoint.
std::optional<u64> checkCheckpoints(Checker& checker, bool refused,
                                    const std::vector<std::uint32_t>& touched) {
    const cow_super& super = checker.super;
    std::array<std::string, 2> faults;
    std::optional<u64> newest;
    for (unsigned slot = 0; slot < 2; ++slot) {
        const ReadBlock read =
            readBlocks(checker.blocks, checkpointBlock(super, slot), super.checkpoint_blocks);
        u64 transaction = 0;
        u64 nr_ops = 0;
        cow_check check = cow_checkpoint_decode(read.bytes.data(), super.uuid,
                                                super.checkpoint_blocks, &transaction, &nr_ops);
        const bool blank = !read.error && check == COW_BLANK;
        if (check == COW_VALID) {
            std::vector<cow_op> ops(nr_ops);
            check = cow_checkpoint_decode_ops(read.bytes.data(), read.bytes.data() + kBlockBytes,
                                              ops.data());
        }
        if (read.error || check != COW_VALID) {
            // the second one is written when the journal is full for the first time
            if (!blank || refused)
                checker.add(refused, "control record", checkpointBlock(super, slot),
                            fmt::format("checkpoint {}: {}", slot, faultText(read.error, check)),
                            touched);
            continue;
        }
        newest = std::max(newest.value_or(0), transaction);
    }
    return newest;
}

std::vector<JournalBlock> readJournal(Checker& checker) {
    const cow_super& super = checker.super;
    std::vector<JournalBlock> journal(super.journal_blocks);
    std::vector<cow_op> ops(COWSNAP_OPS_PER_BLOCK);
    for (std::uint64_t i = 0; i < journal.size(); ++i) {
        const ReadBlock read = readBlocks(checker.blocks, journalBlock(super, i));
        JournalBlock& block = journal[i];
        u32 nr_ops = 0;
        block.error = read.error;
        block.check = cow_journal_decode(read.bytes.data(), super.uuid, &block.transaction,
                                         &block.index, &block.count, ops.data(), &nr_ops);
    }
    return journal;
}

/// Whether the transaction stands whole at position, which then moves behind it.
bool checkTransaction(Checker& checker, const std::vector<JournalBlock>& journal, u64 transaction,
                      std::uint64_t& position) {
    u16 count = 1;
    std::vector<std::pair<std::uint64_t, const JournalBlock*>> single;
    for (u16 i = 0; i < count; ++i) {
        const std::uint64_t at = position + 2ULL * i;
        if (at + 2 > journal.size())
            return false;
        const bool first = journal[at].holds(transaction, i);
        const bool second = journal[at + 1].holds(transaction, i);
        if (!first && !second)
            return false;
        if (i == 0)
            count = journal[first ? at : at + 1].count;
        if (first != second)
            single.emplace_back(first ? at + 1 : at, &journal[first ? at + 1 : at]);
    }
    for (const auto& [at, block] : single)
        checker.add(
            false, "control record", journalBlock(checker.super, at),
            fmt::format(
                "journal block {}, one of two of transaction {}: {}", at, transaction,
                faultText(block->error, block->check == COW_VALID ? COW_STALE : block->check)));
    position += 2ULL * count;
    return true;
}

/// Those that are known, but not proven to exist.
std::vector<std::uint32_t> unproven(const Report& report, cow_store* proven) {
    std::vector<std::uint32_t> ids;
    for (const auto& snapshot : report.snapshots)
        if (proven != nullptr && cow_snapshot_find(proven, snapshot.id) == nullptr)
            ids.push_back(snapshot.id);
    return ids;
}

}  // namespace

void checkControl(Checker& checker, cow_store* proven) {
    const bool refused = proven != nullptr;
    const auto touched = unproven(checker.report, proven);
    const auto checkpoint = checkCheckpoints(checker, refused, touched);
    if (!checkpoint)
        return;
    const auto journal = readJournal(checker);
    u64 transaction = *checkpoint;
    std::uint64_t position = 0;
    while (checkTransaction(checker, journal, transaction + 1, position))
        ++transaction;
    if (!refused)
        return;
    for (const auto& block : journal) {
        if (block.error || block.check != COW_VALID || block.transaction <= transaction + 1)
            continue;
        const std::uint64_t at = std::min<std::uint64_t>(position, journal.size() - 1);
        checker.add(
            true, "control record", journalBlock(checker.super, at),
            fmt::format("transaction {} is missing ({}), though {} is there", transaction + 1,
                        faultText(journal[at].error,
                                  journal[at].check == COW_VALID ? COW_STALE : journal[at].check),
                        block.transaction),
            touched);
        return;
    }
    if (checker.report.damages() == 0)
        checker.add(true, "control record", journalBlock(checker.super, 0),
                    "what it says contradicts itself, or it cannot be read", touched);
}

std::vector<LostTable> lostTables(Blocks& blocks, const cow_super& super) {
    std::vector<LostTable> lost;
    const u64 segments = cow_super_segments(&super);
    std::vector<cow_owner> owners(COWSNAP_SEGMENTS_PER_TABLE_BLOCK);
    for (u64 segment = 0; segment < segments;) {
        LostTable table;
        table.first_segment = cow_super_table_first(&super, segment, &table.count);
        table.block = cow_super_table_block(&super, segment);
        segment = table.first_segment + table.count;
        std::array<cow_check, 2> checks{};
        std::array<int, 2> errors{};
        for (std::uint64_t copy = 0; copy < 2; ++copy) {
            const ReadBlock read = readBlocks(blocks, table.block + copy);
            u64 generation = 0;
            errors[copy] = read.error;
            checks[copy] = cow_table_decode(read.bytes.data(), super.uuid, table.first_segment,
                                            &generation, owners.data(), table.count);
        }
        const auto valid = [&](unsigned copy) {
            return !errors[copy] && checks[copy] == COW_VALID;
        };
        // a first copy without a second one is the first write, and was never acted upon
        if (valid(0) || valid(1) || (!errors[1] && checks[1] == COW_BLANK))
            continue;
        table.what = fmt::format("segments {} to {}: copy 0: {}; copy 1: {}", table.first_segment,
                                 segment - 1, faultText(errors[0], checks[0]),
                                 faultText(errors[1], checks[1]));
        lost.push_back(std::move(table));
    }
    return lost;
}

void checkTables(Checker& checker, const cow_store& control) {
    const auto lost = lostTables(checker.blocks, checker.super);
    for (const auto& table : lost)
        checker.add(true, "segment table", table.block, table.what,
                    tracesIn(checker.blocks, control, table).snapshots);
    const u64 segments = cow_super_segments(&checker.super);
    std::vector<cow_owner> owners(COWSNAP_SEGMENTS_PER_TABLE_BLOCK);
    for (u64 segment = 0; segment < segments;) {
        u32 count = 0;
        const u64 first = cow_super_table_first(&checker.super, segment, &count);
        const u64 block = cow_super_table_block(&checker.super, segment);
        segment = first + count;
        const bool is_lost =
            std::any_of(lost.begin(), lost.end(), [&](const auto& t) { return t.block == block; });
        for (std::uint64_t copy = 0; copy < 2 && !is_lost; ++copy) {
            const ReadBlock read = readBlocks(checker.blocks, block + copy);
            u64 generation = 0;
            const cow_check check = cow_table_decode(read.bytes.data(), checker.super.uuid, first,
                                                     &generation, owners.data(), count);
            if (read.error || (check != COW_VALID && check != COW_BLANK))
                checker.add(false, "segment table", block + copy,
                            fmt::format("copy {}: {}", copy, faultText(read.error, check)));
        }
    }
}

bool ownerLives(const cow_store& control, const cow_owner& owner) {
    if (owner.kind == COWSNAP_OWNER_OVERLAY)
        for (const cow_origin* origin : originsOf(control))
            if (origin->id == owner.origin && origin->rollback.state == COW_ROLLBACK_RUNNING &&
                origin->rollback.shown.epoch == owner.epoch)
                return true;
    return !snapshotsUsing(control, owner).empty();
}

std::vector<std::uint32_t> snapshotsUsing(const cow_store& control, const cow_owner& owner) {
    std::vector<std::uint32_t> ids;
    if (owner.kind == COWSNAP_OWNER_FREE)
        return ids;
    for (const cow_snapshot* snapshot : snapshotsOf(control)) {
        if (snapshot->origin->id != owner.origin)
            continue;
        if (owner.kind == COWSNAP_OWNER_OVERLAY ? snapshot->epoch == owner.epoch
                                                : snapshot->epoch <= owner.epoch)
            ids.push_back(snapshot->id);
    }
    return ids;
}

SegmentTraces tracesIn(Blocks& blocks, const cow_store& control, const LostTable& table) {
    const cow_super& super = control.super;
    const u32 usable = super.segment_blocks - COWSNAP_SUMMARY_BLOCKS(super.segment_blocks);
    SegmentTraces traces;
    std::set<std::uint32_t> touched;
    std::array<cow_record, 256> records{};
    std::array<u32, 256> crcs{};
    const auto trace = [&](u64 generation, u32 origin, u64 epoch) {
        traces.generation = std::max(traces.generation, generation);
        // as an epoch's segment it would touch more than as an overlay's
        const cow_owner owner{COWSNAP_OWNER_EPOCH, origin, epoch, generation};
        for (const auto id : snapshotsUsing(control, owner))
            touched.insert(id);
    };
    for (u64 number = table.first_segment; number < table.first_segment + table.count; ++number) {
        const std::uint64_t first = cow_super_segment_block(&super, number);
        bool any = false;
        bool blank = false;
        for (u32 position = 0; position < usable; ++position) {
            const ReadBlock read = readBlocks(blocks, first + position);
            cow_batch_info info{};
            const cow_check check =
                cow_batch_decode(read.bytes.data(), super.uuid, super.segment_blocks, &info);
            if (position == 0)
                blank = !read.error && check == COW_BLANK;
            if (check != COW_VALID || info.segment != number)
                continue;
            any = true;
            trace(info.generation, info.origin, info.epoch);
        }
        const ReadBlock end = readBlocks(blocks, first + usable, super.segment_blocks - usable);
        cow_summary_info info{};
        if (cow_summary_decode(end.bytes.data(), super.segment_blocks, super.uuid, &info,
                               records.data(), crcs.data()) == COW_VALID &&
            info.segment == number) {
            any = true;
            trace(info.generation, info.origin, info.epoch);
        }
        // what stands there may have been anybody's
        if (!any && !blank)
            for (const cow_snapshot* snapshot : snapshotsOf(control))
                touched.insert(snapshot->id);
    }
    traces.snapshots.assign(touched.begin(), touched.end());
    return traces;
}

}  // namespace cowsnap::store
