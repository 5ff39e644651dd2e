// SPDX-License-Identifier: GPL-2.0-or-later
// What the engine asks of its surroundings, with writes that end when the engine has returned.
#include "store/engine.h"

#include <cstring>

#include "cowsnap_dm.h"

namespace cowsnap::store {

const cow_ops& Engine::ops() {
    static const cow_ops table = [] {
        cow_ops o{};
        o.engine_enter = [](cow_store*) {};
        o.engine_leave = [](cow_store*) {};
        o.view_lock = [](cow_store*) {};
        o.view_unlock = [](cow_store*) {};
        // Nobody writes, so there are no waiters, and extents and batches are never asked for.
        o.summary_write = [](cow_store* store, cow_summary_data* summary) {
            of(store).asked_.emplace_back(summary);
        };
        o.table_write = [](cow_store* store, cow_table_block* table_block, u64 block) {
            of(store).asked_.emplace_back(TableWrite{table_block, block});
        };
        o.event = [](cow_store* store, const char* event, u64) {
            Engine& engine = of(store);
            // The engine reads a segment as a whole, then says that something is missing in it.
            if (std::strcmp(event, COWSNAP_EVENT_DAMAGE) == 0)
                engine.damaged_segments_.push_back(
                    cow_super_block_segment(&store->super, engine.last_read_));
        };
        o.read = [](cow_store* store, u64 block, u32 blocks, void* buffer) {
            of(store).last_read_ = block;
            return of(store).blocks_.read(block, blocks, buffer);
        };
        o.write = [](cow_store* store, u64 block, u32 blocks, const void* buffer) {
            return of(store).blocks_.write(block, blocks, buffer);
        };
        return o;
    }();
    return table;
}

Engine::Engine(Blocks& blocks) : blocks_(blocks) {
    cow_store_init(&store_, &ops(), this);
}

Engine::~Engine() {
    cow_store_destroy(&store_);
}

int Engine::answer(int result, const char* why) {
    why_ = result < 0 && why[0] == 0 ? std::strerror(-result) : why;
    return result;
}

int Engine::probe() {
    std::array<char, COW_WHY_BYTES> why{};
    const int result = cow_store_probe(&store_, blocks_.size(), why.data());
    return answer(result, why.data());
}

int Engine::open() {
    std::array<char, COW_WHY_BYTES> why{};
    const int result = cow_store_open(&store_, why.data());
    return answer(result, why.data());
}

int Engine::loadControl() {
    std::array<char, COW_WHY_BYTES> why{};
    int result = cow_segments_make(&store_);
    if (result == 0)
        result = cow_control_load(&store_, why.data());
    return answer(result, why.data());
}

void Engine::finish(cow_summary_data* summary) {
    const u32 blocks = COWSNAP_SUMMARY_BLOCKS(store_.super.segment_blocks);
    std::vector<std::byte> image(blocks * kBlockBytes);
    cow_summary_image(summary, image.data());
    const int error = blocks_.write(summary->store_block, blocks, image.data());
    error_ = error_ ? error_ : error;
    cow_summary_written(summary, error);
}

void Engine::finish(cow_table_block* table, std::uint64_t block) {
    const int error = blocks_.write(block, 1, table->image);
    error_ = error_ ? error_ : error;
    cow_table_written(table, error, &store_);
}

int Engine::run() {
    bool more = true;
    while (more) {
        cow_store_run(&store_);
        more = !asked_.empty();
        for (const auto& write : std::exchange(asked_, {})) {
            if (const auto* summary = std::get_if<cow_summary_data*>(&write))
                finish(*summary);
            else
                finish(std::get<TableWrite>(write).table, std::get<TableWrite>(write).block);
        }
        for (cow_origin* origin : originsOf(store_))
            while (cow_sweep(origin, 1024))
                more = true;
    }
    return error_;
}

int Engine::drop(const std::vector<std::uint32_t>& snapshots) {
    std::array<char, COW_WHY_BYTES> why{};
    // One transaction has room for so many.
    constexpr std::size_t most = COWSNAP_TRANSACTION_MAX_BLOCKS * COWSNAP_OPS_PER_BLOCK;
    int result = 0;
    for (std::size_t done = 0; !result && done < snapshots.size(); done += most)
        result =
            cow_delete(&store_, snapshots.data() + done,
                       static_cast<u32>(std::min(most, snapshots.size() - done)), true, why.data());
    return answer(result, why.data());
}

std::vector<cow_origin*> originsOf(const cow_store& store) {
    return elements(store.origins,
                    [](list_head* at) { return container_of(at, cow_origin, list); });
}

std::vector<cow_snapshot*> snapshotsOf(const cow_store& store) {
    return elements(store.snapshots,
                    [](list_head* at) { return container_of(at, cow_snapshot, all); });
}

std::vector<cow_snapshot*> snapshotsOf(const cow_origin& origin) {
    return elements(origin.snapshots,
                    [](list_head* at) { return container_of(at, cow_snapshot, list); });
}

}  // namespace cowsnap::store
