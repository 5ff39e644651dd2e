// SPDX-License-Identifier: GPL-2.0-or-later
// Reading all of a control record that can be read, wherever it stands.
#include "store/control_remains.h"

#include <algorithm>
#include <optional>

#include "store/check_parts.h"

namespace cowsnap::store {

namespace {

/// A transaction as far as it can be read: its blocks' ops by index.
struct Pieces {
    u16 count = 0;
    std::map<u16, std::vector<cow_op>> ops;

    bool whole() const { return count != 0 && ops.size() == count; }
};

std::vector<std::pair<u64, std::vector<cow_op>>> readCheckpoints(Blocks& blocks,
                                                                 const cow_super& super) {
    std::vector<std::pair<u64, std::vector<cow_op>>> checkpoints;
    for (u64 slot = 0; slot < 2; ++slot) {
        const ReadBlock read = readBlocks(
            blocks, super.control_block + slot * super.checkpoint_blocks, super.checkpoint_blocks);
        u64 transaction = 0;
        u64 nr_ops = 0;
        if (cow_checkpoint_decode(read.bytes.data(), super.uuid, super.checkpoint_blocks,
                                  &transaction, &nr_ops) != COW_VALID)
            continue;
        std::vector<cow_op> ops(nr_ops);
        if (cow_checkpoint_decode_ops(read.bytes.data(), read.bytes.data() + kBlockBytes,
                                      ops.data()) == COW_VALID)
            checkpoints.emplace_back(transaction, std::move(ops));
    }
    std::sort(checkpoints.begin(), checkpoints.end(),
              [](const auto& a, const auto& b) { return a.first < b.first; });
    return checkpoints;
}

std::map<u64, Pieces> readJournal(Blocks& blocks, const cow_super& super) {
    std::map<u64, Pieces> transactions;
    for (u32 i = 0; i < super.journal_blocks; ++i) {
        const ReadBlock read =
            readBlocks(blocks, super.control_block + 2ULL * super.checkpoint_blocks + i);
        std::vector<cow_op> ops(COWSNAP_OPS_PER_BLOCK);
        u64 transaction = 0;
        u16 index = 0;
        u16 count = 0;
        u32 nr_ops = 0;
        if (cow_journal_decode(read.bytes.data(), super.uuid, &transaction, &index, &count,
                               ops.data(), &nr_ops) != COW_VALID)
            continue;
        ops.resize(nr_ops);
        Pieces& pieces = transactions[transaction];
        pieces.count = count;
        pieces.ops[index] = std::move(ops);
    }
    return transactions;
}

void mention(ControlRemains& remains, const std::vector<cow_op>& ops) {
    for (const auto& op : ops) {
        if (op.op == COWSNAP_OP_CREATE)
            remains.mentioned[op.snapshot] = op.origin;
        if (op.op == COWSNAP_OP_DELETE)
            remains.mentioned.erase(op.snapshot);
        const bool rollback = op.op == COWSNAP_OP_ROLLBACK;
        if (rollback && !(op.flags & COWSNAP_OP_FLAG_SCHEDULED))
            remains.rollbacks[op.origin] = op.snapshot;
        if (op.op == COWSNAP_OP_ROLLBACK_END)
            remains.rollbacks.erase(op.origin);
        if (op.op == COWSNAP_OP_CREATE || op.op == COWSNAP_OP_COUNTERS || rollback)
            remains.epoch = std::max(remains.epoch, op.epoch);
        if (!rollback && op.op != COWSNAP_OP_FRONT)  // they have something else there
            remains.set = std::max(remains.set, op.set);
        remains.activation = std::max(remains.activation, op.activation);
    }
}

/// The table knows epochs that no readable transaction does.
u64 highestEpochInTable(Blocks& blocks, const cow_super& super) {
    u64 epoch = 0;
    for (u64 segment = 0; segment < cow_super_segments(&super);) {
        u32 count = 0;
        const u64 first = cow_super_table_first(&super, segment, &count);
        std::vector<cow_owner> owners(count);
        for (u64 copy = 0; copy < 2; ++copy) {
            const ReadBlock read =
                readBlocks(blocks, cow_super_table_block(&super, segment) + copy);
            u64 generation = 0;
            if (cow_table_decode(read.bytes.data(), super.uuid, first, &generation, owners.data(),
                                 count) != COW_VALID)
                continue;
            for (const auto& owner : owners)
                epoch = std::max(epoch, owner.epoch);
        }
        segment = first + count;
    }
    return epoch;
}

void applyOrigin(cow_store& store, const cow_op& op) {
    if (cow_origin* old = cow_origin_find(&store, op.origin)) {
        if (old->size_sectors == op.size_sectors || old->nr_snapshots != 0)
            return;
        cow_origin_free(old);
    }
    if (cow_origin* origin = cow_origin_new(&store, op.origin, op.size_sectors))
        cow_origin_link(origin);
}

void applyCreate(cow_store& store, const cow_op& op) {
    cow_origin* origin = cow_origin_find(&store, op.origin);
    if (origin == nullptr || cow_snapshot_find(&store, op.snapshot) != nullptr ||
        op.epoch <= cow_origin_newest_epoch(origin))
        return;
    cow_snapshot* snapshot = cow_snapshot_new(op.snapshot);
    if (snapshot == nullptr)
        throw std::bad_alloc();
    snapshot->epoch = op.epoch;
    snapshot->sequence = op.sequence;
    snapshot->created = op.created;
    snapshot->set = op.set;
    snapshot->stale = (op.flags & COWSNAP_OP_FLAG_STALE) != 0;
    cow_snapshot_link(origin, snapshot);
}

void apply(cow_store& store, const cow_op& op) {
    cow_snapshot* snapshot = cow_snapshot_find(&store, op.snapshot);
    switch (op.op) {
        case COWSNAP_OP_ORIGIN:
            applyOrigin(store, op);
            break;
        case COWSNAP_OP_FORGET:
            if (cow_origin* origin = cow_origin_find(&store, op.origin);
                origin != nullptr && origin->nr_snapshots == 0)
                cow_origin_free(origin);
            break;
        case COWSNAP_OP_CREATE:
            applyCreate(store, op);
            break;
        case COWSNAP_OP_DELETE:
            if (snapshot != nullptr) {
                cow_rollback_forget_target(snapshot);
                cow_snapshot_unlink(snapshot);
                cow_snapshot_free(snapshot);
            }
            break;
        case COWSNAP_OP_LOST:
            if (snapshot != nullptr)
                snapshot->lost = true;
            break;
        case COWSNAP_OP_FRONT:
            if (cow_origin* origin = cow_origin_find(&store, op.origin))
                cow_front_replay(origin, &op);
            break;
        case COWSNAP_OP_WATCH:
            if (cow_origin* origin = cow_origin_find(&store, op.origin))
                cow_front_replay_place(origin, &op);
            break;
        case COWSNAP_OP_STALE:
            if (cow_origin* origin = cow_origin_find(&store, op.origin))
                cow_front_replay_stale(origin);
            break;
        case COWSNAP_OP_ROLLBACK:
        case COWSNAP_OP_ROLLBACK_END:
            // one to a snapshot that is not known any more is none
            if (cow_origin* origin = cow_origin_find(&store, op.origin))
                cow_rollback_replay(origin, &op);
            break;
        default:
            break;
    }
}

}  // namespace

ControlRemains remainsOf(Blocks& blocks, const cow_super& super) {
    ControlRemains remains;
    const auto checkpoints = readCheckpoints(blocks, super);
    const auto transactions = readJournal(blocks, super);
    // in the order of time, so that a later deletion is seen as one
    auto checkpoint = checkpoints.begin();
    const auto mentionCheckpoints = [&](u64 before) {
        for (; checkpoint != checkpoints.end() && checkpoint->first < before; ++checkpoint) {
            mention(remains, checkpoint->second);
            remains.transaction = std::max(remains.transaction, checkpoint->first);
        }
    };
    for (const auto& [number, pieces] : transactions) {
        mentionCheckpoints(number);
        for (const auto& [index, ops] : pieces.ops)
            mention(remains, ops);
        remains.transaction = std::max(remains.transaction, number);
    }
    mentionCheckpoints(COWSNAP_NONE);

    std::vector<const Pieces*> whole;
    for (u64 number = remains.transaction; transactions.contains(number); --number) {
        const Pieces& pieces = transactions.at(number);
        if (!pieces.whole())
            break;
        whole.push_back(&pieces);
    }
    for (auto pieces = whole.rbegin(); pieces != whole.rend(); ++pieces)
        for (const auto& [index, ops] : (*pieces)->ops)
            remains.behind_gap.insert(remains.behind_gap.end(), ops.begin(), ops.end());

    // Transactions that cannot be read may have used more, each at most so many.
    const u64 unread = super.journal_blocks / 2 + 1;
    remains.transaction += unread;
    remains.activation += unread;
    remains.set += unread;
    remains.epoch += unread * COWSNAP_OPS_PER_BLOCK;
    remains.epoch = std::max(remains.epoch, highestEpochInTable(blocks, super));
    return remains;
}

void rebuildControl(cow_store& store, const ControlRemains& remains) {
    for (cow_snapshot* snapshot : snapshotsOf(store)) {
        cow_rollback_forget_target(snapshot);
        cow_snapshot_unlink(snapshot);
        cow_snapshot_free(snapshot);
    }
    for (const auto& op : remains.behind_gap)
        apply(store, op);
    store.transaction = remains.transaction + 1;
    store.next_epoch = std::min(remains.epoch + 1, u64{COW_INDEX_MAX_EPOCH});
    store.next_set = remains.set + 1;
    store.activation = static_cast<u32>(std::min<u64>(remains.activation + 1, 0xfffffffe));
}

}  // namespace cowsnap::store
