// SPDX-License-Identifier: GPL-2.0-or-later
// Control records: checkpoints and journals with any ops in any order, some copies spoilt. What
// loads is consistent; what does not is rebuilt into something that does.
//
// Input: a row of commands, each a byte and what belongs to it: an op, the end of a transaction
// (or checkpoint), or bytes that replace others anywhere in the record.
#include <algorithm>
#include <array>

#include "blocks.h"
#include "store/control_remains.h"
#include "store/engine.h"

using namespace cowsnap::fuzz;
using namespace cowsnap::store;

namespace {

constexpr std::uint64_t kStoreBlocks = 2048;

enum Command : std::uint8_t { Op, Transaction, Checkpoint, Patch, Commands };

const cow_super& plan() {
    static const cow_super super = [] {
        cow_super planned{};
        require(cow_super_plan(&planned, kStoreBlocks, 16) == 0, "a small store can be planned");
        std::copy(kUuid.begin(), kUuid.end(), planned.uuid);
        return planned;
    }();
    return super;
}

class Writer {
public:
    explicit Writer(MemoryBlocks& blocks) : blocks_(blocks) {}

    void run(Input& input) {
        while (!input.empty()) {
            switch (input.byte() % Commands) {
                case Op:
                    op(input);
                    break;
                case Transaction:
                    transaction(input.byte());
                    break;
                case Checkpoint:
                    checkpoint(input.byte());
                    break;
                default:
                    patch(input);
                    break;
            }
        }
    }

private:
    void op(Input& input) {
        cow_op one{};
        one.op = input.byte() % 10;
        one.snapshot = input.byte();
        one.origin = input.byte() % 8;
        constexpr std::array<u32, 8> flags{1, 0, 0, 0, 2, 4, 8, 12};
        one.flags = flags[input.byte() % flags.size()];
        one.epoch = input.byte();
        one.sequence = input.byte();
        one.size_sectors = input.number(2);
        one.set = input.byte();
        one.activation = input.byte();
        ops_.push_back(one);
    }

    /// kind: bit 0 leaves a number out, bit 1 and 2 leave out a copy.
    void transaction(std::uint8_t kind) {
        const cow_super& super = plan();
        const std::uint64_t journal = super.control_block + 2ULL * super.checkpoint_blocks;
        transaction_ += 1 + (kind & 1);
        const auto count = static_cast<u16>(std::max<std::size_t>(
            1, (ops_.size() + COWSNAP_OPS_PER_BLOCK - 1) / COWSNAP_OPS_PER_BLOCK));
        for (u16 i = 0; i < count && count <= COWSNAP_TRANSACTION_MAX_BLOCKS; ++i) {
            const std::size_t first = std::size_t{i} * COWSNAP_OPS_PER_BLOCK;
            const auto n =
                static_cast<u32>(std::min<std::size_t>(COWSNAP_OPS_PER_BLOCK, ops_.size() - first));
            for (unsigned copy = 0; copy < 2; ++copy) {
                if (position_ >= super.journal_blocks)
                    position_ = 0;
                if (!(kind >> (1 + copy) & 1))
                    cow_journal_encode(blocks_.at(journal + position_).data(), super.uuid,
                                       transaction_, i, count, ops_.data() + first, n);
                ++position_;
            }
        }
        ops_.clear();
    }

    void checkpoint(std::uint8_t slot) {
        const cow_super& super = plan();
        const auto at = super.control_block + (slot & 1) * super.checkpoint_blocks;
        const std::size_t most = (super.checkpoint_blocks - 1) * std::size_t{64};
        ops_.resize(std::min(ops_.size(), most));
        std::vector<std::uint8_t> image(super.checkpoint_blocks * kBlockBytes);
        cow_checkpoint_encode_ops(image.data() + kBlockBytes, ops_.data(), ops_.size());
        cow_checkpoint_encode(image.data(), super.uuid, transaction_, ops_.size(),
                              image.data() + kBlockBytes);
        blocks_.write(at, super.checkpoint_blocks, image.data());
        position_ = 0;
        ops_.clear();
    }

    void patch(Input& input) {
        const cow_super& super = plan();
        const std::uint64_t control_blocks = 2ULL * super.checkpoint_blocks + super.journal_blocks;
        const std::uint64_t block = super.control_block + input.byte() % control_blocks;
        const auto image = blocks_.at(block);
        const std::size_t at = input.number(2) % kBlockBytes;
        const auto bytes = input.bytes(input.byte() % 16);
        for (std::size_t i = 0; i < bytes.size() && at + i < image.size(); ++i)
            image[at + i] = bytes[i];
        if (at & 1)
            seal(image);
    }

    MemoryBlocks& blocks_;
    std::vector<cow_op> ops_;
    u64 transaction_ = 0;
    u32 position_ = 0;
};

void checkState(const cow_store& store) {
    std::size_t linked = 0;
    for (const cow_origin* origin : originsOf(store)) {
        u64 epoch = 0;
        for (const cow_snapshot* snapshot : snapshotsOf(*origin)) {
            require(snapshot->origin == origin, "a snapshot knows its origin");
            require(snapshot->epoch > epoch, "epochs rise");
            epoch = snapshot->epoch;
            ++linked;
        }
        require(snapshotsOf(*origin).size() == origin->nr_snapshots, "snapshots are counted");
        require(epoch < store.next_epoch, "the next epoch is a new one");
    }
    require(linked == store.nr_snapshots && snapshotsOf(store).size() == linked,
            "every snapshot is found by origin and by id");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t bytes) {
    MemoryBlocks blocks(kStoreBlocks);
    Input input(data, bytes);
    Writer(blocks).run(input);
    {
        Engine engine(blocks);
        engine.get().super = plan();
        const int result = engine.loadControl();
        if (result == 0) {
            checkState(engine.get());
            return 0;
        }
        rebuildControl(engine.get(), remainsOf(blocks, plan()));
        checkState(engine.get());
        require(cow_control_format(&engine.get()) == 0, "a rebuilt control record can be written");
    }
    Engine again(blocks);
    again.get().super = plan();
    require(again.loadControl() == 0, "a rebuilt control record can be read");
    checkState(again.get());
    return 0;
}
