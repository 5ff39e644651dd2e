// SPDX-License-Identifier: GPL-2.0-or-later
#include "history.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <sstream>
#include <stdexcept>

#include "sim/core.hpp"

namespace vmtest {

namespace {

using Block = std::array<std::uint8_t, sim::kBlock>;

constexpr std::size_t kSectorsPerBlock = sim::kBlock / sim::kSector;

std::uint64_t firstBlock(const LoggedWrite& write) {
    return write.first / kSectorsPerBlock;
}

std::uint64_t endBlock(const LoggedWrite& write) {
    const std::uint64_t end = write.first + write.data.size() / sim::kSector;
    return (end + kSectorsPerBlock - 1) / kSectorsPerBlock;
}

[[noreturn]] void wrong(const std::string& text) {
    throw std::runtime_error(text);
}

}  // namespace

sim::StoreImage emptyImage(std::uint64_t sectors) {
    return sim::StoreImage((sectors + kSectorsPerBlock - 1) / kSectorsPerBlock);
}

void applyTo(sim::StoreImage& image, const LoggedWrite& write) {
    std::uint64_t sector = write.first;
    auto data = write.data;
    while (!data.empty()) {
        const std::uint64_t block = sector / kSectorsPerBlock;
        const std::size_t offset = sector % kSectorsPerBlock * sim::kSector;
        const std::size_t bytes = std::min(data.size(), sim::kBlock - offset);
        Block contents;
        if (bytes < sim::kBlock)
            image.read(block, 1, contents.data());
        std::copy_n(data.begin(), bytes, contents.begin() + static_cast<std::ptrdiff_t>(offset));
        image.write(block, contents.data(), 1);
        data = data.subspan(bytes);
        sector += bytes / sim::kSector;
    }
}

History::History(const WriteLog& log, const LogRoles& roles)
    : roles_(roles),
      origin_(emptyImage(log.diskSectors().at(roles.origin))),
      store_(emptyImage(log.diskSectors().at(roles.store))) {
    for (const LogStep& step : log.steps()) {
        now_ = step.instant;
        for (const std::size_t number : step.writes) {
            if (step.flush_ended)
                durable(log.writes()[number]);
            else
                sent(log.writes()[number]);
        }
        if (step.flush_ended)
            std::erase_if(headers_, [this](std::uint64_t block) { return publishIfWhole(block); });
    }
    if (ready_ == kNever)
        wrong("the guest has never noted that it is ready");
}

void History::sent(const LoggedWrite& write) {
    if (write.disk == roles_.origin)
        sentToOrigin(write);
    else if (write.disk == roles_.store)
        sentToStore(write);
    else if (write.disk == roles_.notes)
        note(write);
}

const LoggedSnapshot* History::newestSnapshot() const {
    const LoggedSnapshot* newest = nullptr;
    for (const auto& [id, snapshot] : snapshots_)
        if (snapshot.deleted_durable == kNever &&
            (!newest || snapshot.created_sent > newest->created_sent))
            newest = &snapshot;
    return newest;
}

/// The promise: whatever a snapshot needs of these blocks is durable in the store by now.
void History::sentToOrigin(const LoggedWrite& write) {
    ++counts_.origin_writes;
    if (const LoggedSnapshot* newest = newestSnapshot()) {
        if (newest->created_durable == kNever)
            wrong(fmt::format("at {} the origin is written while a snapshot is made", write.sent));
        for (std::uint64_t block = firstBlock(write); block < endBlock(write); ++block) {
            ++counts_.guarded_blocks;
            const auto preserved = preserved_.find(block);
            if (preserved == preserved_.end() || preserved->second < newest->created_sent)
                wrong(
                    fmt::format("at {} block {} of the origin is overwritten, and what it held "
                                "since {} is not durable in the store",
                                write.sent, block, newest->created_sent));
        }
    }
    applyTo(origin_, write);
}

void History::sentToStore(const LoggedWrite& write) {
    forEachJournalOp(write, [this, &write](const cow_op& op) {
        if (op.op == COWSNAP_OP_CREATE)
            snapshots_.try_emplace(op.snapshot,
                                   LoggedSnapshot{.origin = origin_, .created_sent = write.sent});
        else if (op.op == COWSNAP_OP_DELETE && snapshots_.contains(op.snapshot))
            snapshots_.at(op.snapshot).deleted_sent = write.sent;
        else if (op.op == COWSNAP_OP_LOST)
            wrong(fmt::format("at {} snapshot {} is given up", write.sent, op.snapshot));
    });
}

void History::note(const LoggedWrite& write) {
    const std::string text(reinterpret_cast<const char*>(write.data.data()), write.data.size());
    std::istringstream words(text.substr(0, text.find('\0')));
    std::string what;
    std::uint32_t id = 0;
    words >> what >> id;
    if (what == "ready")
        ready_ = write.sent;
    else if (snapshots_.find(id) == snapshots_.end())
        wrong(fmt::format("at {} the guest notes '{}', but there is no record of it", write.sent,
                          words.str()));
    else if (what == "created")
        snapshots_.at(id).created = write.sent;
    else if (what == "deleted")
        snapshots_.at(id).deleted = write.sent;
    else
        wrong("an unknown note: " + words.str());
}

void History::learnSuper() {
    Block block;
    cow_super super{};
    store_.read(0, 1, block.data());
    if (cow_super_decode(block.data(), store_.size(), &super) != COW_VALID)
        return;
    uuid_.assign(super.uuid, super.uuid + COWSNAP_UUID_SIZE);
    journal_first_ = super.control_block + 2ULL * super.checkpoint_blocks;
    journal_blocks_ = super.journal_blocks;
    segment_blocks_ = super.segment_blocks;
}

/// The ops of the transactions that are written: each block of one stands there twice.
template <typename Visit>
void History::forEachJournalOp(const LoggedWrite& write, Visit visit) const {
    if (uuid_.empty() || write.first % kSectorsPerBlock)
        return;
    std::array<cow_op, COWSNAP_OPS_PER_BLOCK> ops{};
    for (std::size_t i = 0; i < write.data.size() / sim::kBlock; ++i) {
        const std::uint64_t block = firstBlock(write) + i;
        if (block < journal_first_ || block >= journal_first_ + journal_blocks_)
            continue;
        u64 transaction = 0;
        u16 index = 0;
        u16 count = 0;
        u32 nr_ops = 0;
        if (cow_journal_decode(write.data.data() + i * sim::kBlock, uuid_.data(), &transaction,
                               &index, &count, ops.data(), &nr_ops) == COW_VALID)
            std::for_each_n(ops.begin(), nr_ops, visit);
    }
}

void History::durable(const LoggedWrite& write) {
    if (write.disk != roles_.store)
        return;
    applyTo(store_, write);
    if (uuid_.empty())
        learnSuper();
    forEachJournalOp(write, [this](const cow_op& op) {
        const auto found = snapshots_.find(op.snapshot);
        if (op.op == COWSNAP_OP_CREATE && found->second.created_durable == kNever)
            found->second.created_durable = now_;
        else if (op.op == COWSNAP_OP_DELETE && found->second.deleted_durable == kNever)
            found->second.deleted_durable = now_;
    });
    for (std::uint64_t block = firstBlock(write); block < endBlock(write); ++block) {
        block_sent_[block] = write.sent;
        lookForBatch(block);
    }
}

void History::lookForBatch(std::uint64_t block) {
    Block header;
    cow_batch_info info{};
    store_.read(block, 1, header.data());
    headers_.erase(block);
    if (!uuid_.empty() &&
        cow_batch_decode(header.data(), uuid_.data(), segment_blocks_, &info) == COW_VALID)
        headers_.insert(block);
}

/// Whether all data of a batch are durable, too; its records count from then on.
bool History::publishIfWhole(std::uint64_t header_block) {
    Block header;
    cow_batch_info info{};
    store_.read(header_block, 1, header.data());
    cow_batch_decode(header.data(), uuid_.data(), segment_blocks_, &info);
    std::vector<Block> data(info.blocks);
    for (u32 i = 0; i < info.blocks; ++i) {
        store_.read(header_block + 1 + i, 1, data[i].data());
        if (cow_crc32c(0, data[i].data(), sim::kBlock) != cow_batch_crc(header.data(), i))
            return false;
    }
    std::size_t next = 0;
    for (u32 i = 0; i < info.records; ++i) {
        cow_record record{};
        cow_batch_record(header.data(), i, &record);
        if (record.flags)
            wrong(fmt::format("the store's block {} has a record with flags {}", header_block,
                              record.flags));
        for (u16 n = 0; n < record.length; ++n)
            publish(record.block + n, data[next++].data(), block_sent_.at(header_block));
    }
    return true;
}

void History::publish(std::uint64_t block, const std::uint8_t* data, Instant header_sent) {
    const LoggedSnapshot* newest = newestSnapshot();
    Instant& preserved = preserved_[block];
    const bool is_first =
        newest && preserved < newest->created_sent && header_sent > newest->created_sent;
    preserved = std::max(preserved, header_sent);
    ++counts_.preserved_blocks;
    if (!is_first)
        return;
    Block expected;
    newest->origin.read(block, 1, expected.data());
    if (std::memcmp(expected.data(), data, sim::kBlock) != 0)
        wrong(fmt::format("at {} block {} was preserved with other contents than it had at {}",
                          now_, block, newest->created_sent));
}

}  // namespace vmtest
