// SPDX-License-Identifier: GPL-2.0-or-later
// Finding out what a superblock said from what it described.
#include "store/super_remains.h"

#include <endian.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstring>
#include <map>
#include <set>
#include <vector>

#include <fmt/format.h>

#include "meta/slot_format.h"
#include "store/check_parts.h"

namespace cowsnap::store {

namespace {

constexpr std::uint64_t kChunkBlocks = 256;
/// The control record of the largest store ends in front of this block.
constexpr std::uint64_t kControlEnd = 1024;

/// How every structure begins.
struct Head {
    std::uint64_t magic;
    std::uint32_t crc;
    std::uint32_t other;
    Uuid::Bytes uuid;
};
static_assert(offsetof(Head, uuid) == offsetof(cowsnap_disk_table, uuid));
static_assert(offsetof(Head, uuid) == offsetof(cowsnap_disk_journal, uuid));
static_assert(offsetof(Head, uuid) == offsetof(cowsnap_disk_checkpoint, uuid));
static_assert(offsetof(Head, uuid) == offsetof(cowsnap_disk_batch, uuid));
static_assert(offsetof(Head, uuid) == offsetof(cowsnap_disk_summary, uuid));
static_assert(offsetof(Head, uuid) == offsetof(cowsnap_disk_slot, uuid));

enum class Kind { Table, Checkpoint, Journal, Batch, Summary, Slot };

/// A structure that is valid for itself.
struct Structure {
    Kind kind{};
    std::uint64_t block = 0;
    std::uint64_t segment = 0;   ///< the first one of a table; that of a batch or summary
    std::uint32_t position = 0;  ///< of a batch in its segment
    std::uint32_t summary_blocks = 0;
};

using Found = std::map<Uuid::Bytes, std::vector<Structure>>;

/// What stands in a block; summaries need the next one, too.
std::optional<Structure> structureIn(const std::byte* image, std::size_t blocks_left,
                                     const Head& head, std::uint64_t block) {
    const u8* uuid = head.uuid.data();
    Structure found;
    found.block = block;
    switch (le64toh(head.magic)) {
        case COWSNAP_MAGIC_TABLE: {
            cowsnap_disk_table disk{};
            std::memcpy(&disk, image, sizeof(disk));
            std::vector<cow_owner> owners(COWSNAP_SEGMENTS_PER_TABLE_BLOCK);
            u64 generation = 0;
            found.kind = Kind::Table;
            found.segment = le64toh(disk.first_segment);
            if (cow_table_decode(image, uuid, found.segment, &generation, owners.data(),
                                 COWSNAP_SEGMENTS_PER_TABLE_BLOCK) == COW_VALID)
                return found;
            break;
        }
        case COWSNAP_MAGIC_CHECKPOINT: {
            u64 transaction = 0;
            u64 nr_ops = 0;
            found.kind = Kind::Checkpoint;
            if (cow_checkpoint_decode(image, uuid, kControlEnd, &transaction, &nr_ops) == COW_VALID)
                return found;
            break;
        }
        case COWSNAP_MAGIC_JOURNAL: {
            std::vector<cow_op> ops(COWSNAP_OPS_PER_BLOCK);
            u64 transaction = 0;
            u16 index = 0;
            u16 count = 0;
            u32 nr_ops = 0;
            found.kind = Kind::Journal;
            if (cow_journal_decode(image, uuid, &transaction, &index, &count, ops.data(),
                                   &nr_ops) == COW_VALID)
                return found;
            break;
        }
        case COWSNAP_MAGIC_BATCH: {
            cow_batch_info info{};
            found.kind = Kind::Batch;
            if (cow_batch_decode(image, uuid, 256, &info) != COW_VALID)
                break;
            found.segment = info.segment;
            found.position = info.position;
            return found;
        }
        case COWSNAP_MAGIC_SUMMARY: {
            std::array<cow_record, 256> records{};
            std::array<u32, 256> crcs{};
            cow_summary_info info{};
            found.kind = Kind::Summary;
            for (const u32 segment_blocks : {64U, 256U}) {
                found.summary_blocks = COWSNAP_SUMMARY_BLOCKS(segment_blocks);
                if (found.summary_blocks > blocks_left ||
                    cow_summary_decode(image, segment_blocks, uuid, &info, records.data(),
                                       crcs.data()) != COW_VALID)
                    continue;
                found.segment = info.segment;
                return found;
            }
            break;
        }
        case COWSNAP_MAGIC_SLOT:
            found.kind = Kind::Slot;
            if (decodeSlotHeader({image, kBlockBytes}, Uuid(head.uuid), 1ULL << 32).state ==
                SlotState::Valid)
                return found;
            break;
        default:
            break;
    }
    return std::nullopt;
}

/// All structures from first to before end.
Found scan(Blocks& blocks, std::uint64_t first, std::uint64_t end, const Progress& progress) {
    Found found;
    // one block more: a summary may go on in the next chunk
    std::vector<std::byte> chunk((kChunkBlocks + 1) * kBlockBytes);
    for (std::uint64_t at = first; at < end; at += kChunkBlocks) {
        const std::uint64_t count = std::min(kChunkBlocks, end - at);
        const std::uint64_t with_next = std::min(count + 1, blocks.size() - at);
        if (blocks.read(at, with_next, chunk.data()))
            for (std::uint64_t i = 0; i < with_next; ++i) {
                const ReadBlock one = readBlocks(blocks, at + i);
                std::memcpy(chunk.data() + i * kBlockBytes, one.bytes.data(), kBlockBytes);
            }
        for (std::uint64_t i = 0; i < count; ++i) {
            const std::byte* image = chunk.data() + i * kBlockBytes;
            Head head{};
            std::memcpy(&head, image, sizeof(head));
            if (const auto structure = structureIn(image, with_next - i, head, at + i))
                found[head.uuid].push_back(*structure);
        }
        if (progress)
            progress(at + count - first, end - first);
    }
    return found;
}

/// Whether the superblock puts the structure where it was found.
bool agrees(const cow_super& super, const Structure& structure) {
    const std::uint64_t at = structure.block;
    const std::uint64_t journal = super.control_block + 2ULL * super.checkpoint_blocks;
    const std::uint64_t segments = cow_super_segments(&super);
    const std::uint64_t segment = structure.segment;
    u32 count = 0;
    switch (structure.kind) {
        case Kind::Checkpoint:
            return at == super.control_block || at == super.control_block + super.checkpoint_blocks;
        case Kind::Journal:
            return at >= journal && at < journal + super.journal_blocks;
        case Kind::Slot:
            return at == super.slot_block || at == super.slot_block + super.slot_blocks;
        case Kind::Table:
            return segment < segments &&
                   cow_super_table_first(&super, segment, &count) == segment &&
                   at - cow_super_table_block(&super, segment) < 2;
        case Kind::Batch:
            return segment < segments && structure.position < super.segment_blocks &&
                   at == cow_super_segment_block(&super, segment) + structure.position;
        case Kind::Summary:
            return segment < segments &&
                   structure.summary_blocks == COWSNAP_SUMMARY_BLOCKS(super.segment_blocks) &&
                   at == cow_super_segment_block(&super, segment) + super.segment_blocks -
                             structure.summary_blocks;
    }
    return false;
}

class Search {
public:
    Search(const std::vector<Structure>& structures, std::uint64_t device_blocks)
        : structures_(structures), device_blocks_(device_blocks) {
        for (const auto& structure : structures)
            if (structure.kind == Kind::Table && structure.segment != 0) {
                // either copy of the first table block of an extension
                starts_.insert(structure.block);
                starts_.insert(structure.block - 1);
            }
        starts_.insert(device_blocks);
    }

    /// All layouts that the structures agree with.
    std::vector<cow_super> run() {
        for (const u32 segment_blocks : {16U, 32U, 64U, 128U, 256U})
            for (const std::uint64_t end : starts_) {
                cow_super super{};
                if (cow_super_plan(&super, end, segment_blocks) == 0)
                    extend(super);
            }
        return agreeing_;
    }

private:
    bool tableAt(std::uint64_t block, std::uint64_t first_segment) const {
        return std::any_of(structures_.begin(), structures_.end(), [&](const Structure& s) {
            return s.kind == Kind::Table && s.segment == first_segment && s.block - block < 2;
        });
    }

    void extend(const cow_super& super) {
        if (super.store_blocks == device_blocks_) {
            if (std::all_of(structures_.begin(), structures_.end(),
                            [&](const Structure& s) { return agrees(super, s); }))
                agreeing_.push_back(super);
            return;
        }
        if (!tableAt(super.store_blocks, cow_super_segments(&super)))
            return;
        for (const std::uint64_t end : starts_) {
            cow_super longer = super;
            if (end > super.store_blocks && cow_super_extend(&longer, end) == 0)
                extend(longer);
        }
    }

    const std::vector<Structure>& structures_;
    std::uint64_t device_blocks_;
    std::set<std::uint64_t> starts_;  ///< where a region may begin, and the end
    std::vector<cow_super> agreeing_;
};

}  // namespace

bool supersGone(Blocks& blocks) {
    for (const std::uint64_t block : {std::uint64_t{0}, std::uint64_t{COWSNAP_SUPER_COPY_BLOCK}}) {
        const ReadBlock read = readBlocks(blocks, block);
        cow_super super{};
        const cow_check check = cow_super_decode(read.bytes.data(), blocks.size(), &super);
        if (check == COW_VALID || check == COW_VERSION || check == COW_FEATURE ||
            check == COW_RANGE)
            return false;
    }
    return true;
}

SuperRemains findSuper(Blocks& blocks, const Progress& progress) {
    constexpr std::uint64_t control = 2 * COWSNAP_SUPER_COPY_BLOCK;
    SuperRemains remains;
    const Found first = scan(blocks, control, std::min(blocks.size(), kControlEnd), nullptr);
    // whoever has the control record; other stores may be in what was preserved of an origin
    const auto is_control = [](const Structure& s) {
        return s.kind == Kind::Checkpoint || s.kind == Kind::Journal;
    };
    const auto owner = std::find_if(first.begin(), first.end(), [&](const auto& entry) {
        return std::any_of(entry.second.begin(), entry.second.end(), is_control);
    });
    if (owner == first.end()) {
        if (!first.empty())
            remains.why = fmt::format(
                "what stands further back was part of the store {}; its superblocks and its "
                "control record were overwritten, so nothing tells what belongs to which snapshot",
                Uuid(first.begin()->first).dashed());
        return remains;
    }
    remains.store = Uuid(owner->first);
    const Found found = scan(blocks, control, blocks.size(), progress);
    const std::vector<Structure>& structures = found.at(owner->first);
    if (std::none_of(structures.begin(), structures.end(),
                     [](const Structure& s) { return s.kind == Kind::Table; })) {
        remains.why = "no block of its segment table is left to prove where its segments are";
        return remains;
    }
    const std::vector<cow_super> agreeing = Search(structures, blocks.size()).run();
    if (agreeing.size() == 1) {
        remains.super = agreeing.front();
        std::memcpy(remains.super->uuid, owner->first.data(), owner->first.size());
    } else if (agreeing.empty()) {
        remains.why =
            "the rest does not fit a store of the size of the device: name all of its devices, in "
            "their order, and no other";
    } else {
        remains.why = "too little was ever written to it to prove the size of its segments";
    }
    return remains;
}

int writeSupers(Blocks& blocks, const cow_super& super) {
    std::vector<std::byte> image(kBlockBytes);
    cow_super_encode(&super, image.data());
    for (const std::uint64_t block : {std::uint64_t{0}, std::uint64_t{COWSNAP_SUPER_COPY_BLOCK}})
        if (const int error = blocks.write(block, 1, image.data()))
            return error;
    return 0;
}

}  // namespace cowsnap::store
