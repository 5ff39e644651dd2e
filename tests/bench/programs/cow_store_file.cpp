// SPDX-License-Identifier: GPL-2.0-or-later
// A store made by the engine itself: all I/O that it asks for is done when it has returned.
#include <algorithm>
#include <cstring>
#include <deque>
#include <functional>
#include <memory>

#include "base/error.h"
#include "exceptions.h"
#include "sim/core.hpp"

namespace bench {

namespace {

constexpr std::uint32_t kOrigin = 1;
constexpr std::uint32_t kSegmentBlocks = 256;
/// Blocks that are being preserved at a time: more than a few batches.
constexpr std::size_t kWaiters = 2048;

class Engine {
public:
    Engine(SparseFile& file, std::uint64_t origin_blocks);
    ~Engine() { cow_store_destroy(&store_); }
    Engine(const Engine&) = delete;
    Engine& operator=(const Engine&) = delete;

    void create(std::uint32_t snapshot);
    void preserve(const std::vector<std::uint64_t>& blocks);
    /// Ends the log, as when a store is let go.
    void settle();

private:
    static Engine& of(cow_store* store) { return *static_cast<Engine*>(store->shell); }
    static const cow_ops& ops();
    void later(std::function<void()> what) { asked_.push_back(std::move(what)); }
    /// Until nothing is asked for any more.
    void run();
    void write(cow_batch* batch);
    void write(cow_summary_data* summary);

    SparseFile& file_;
    cow_store store_{};
    cow_origin* origin_ = nullptr;
    std::deque<std::function<void()>> asked_;
    std::size_t waiting_ = 0;
};

/// Throws for what the engine refuses.
void must(int result, const char* what, const char* why) {
    if (result)
        cowsnap::fail(cowsnap::ErrorKind::Failed, "{}: {} ({})", what, why, std::strerror(-result));
}

const cow_ops& Engine::ops() {
    static const cow_ops table = [] {
        cow_ops o{};
        o.engine_enter = [](cow_store*) {};
        o.engine_leave = [](cow_store*) {};
        o.view_lock = [](cow_store*) {};
        o.view_unlock = [](cow_store*) {};
        o.extent_new = [](cow_log*, u32) { return std::make_unique<cow_extent>().release(); };
        o.extent_free = [](cow_store*, cow_extent* extent) {
            const std::unique_ptr<cow_extent> owned(extent);
        };
        o.batch_new = [](cow_store*) { return std::make_unique<cow_batch>().release(); };
        o.batch_free = [](cow_store*, cow_batch* batch) {
            const std::unique_ptr<cow_batch> owned(batch);
        };
        o.extent_read = [](cow_store* store, cow_extent* extent) {
            of(store).later([extent] { cow_extent_filled(extent, 0); });
        };
        o.batch_write = [](cow_store* store, cow_batch* batch) { of(store).write(batch); };
        o.summary_write = [](cow_store* store, cow_summary_data* summary) {
            of(store).write(summary);
        };
        o.table_write = [](cow_store* store, cow_table_block* table, u64 block) {
            of(store).file_.write(block, 1, table->image);
            of(store).later([store, table] { cow_table_written(table, 0, store); });
        };
        o.waiter_ready = [](cow_store* store, cow_waiter*) { --of(store).waiting_; };
        o.no_room = [](cow_store* store, cow_log*) {
            of(store).later(
                [] { cowsnap::fail(cowsnap::ErrorKind::NoSpace, "the store is too small"); });
        };
        o.room_again = [](cow_store*, cow_log*) {};
        o.event = [](cow_store*, const char*, u64) {};
        o.read = [](cow_store* store, u64 block, u32 blocks, void* to) {
            of(store).file_.read(block, blocks, to);
            return 0;
        };
        o.write = [](cow_store* store, u64 block, u32 blocks, const void* from) {
            of(store).file_.write(block, blocks, from);
            return 0;
        };
        return o;
    }();
    return table;
}

Engine::Engine(SparseFile& file, std::uint64_t origin_blocks) : file_(file) {
    const std::array<u8, COWSNAP_UUID_SIZE> uuid{'m', 'i', 'l', 'l', 'i', 'o', 'n'};
    std::array<char, COW_WHY_BYTES> why{};
    cow_store_init(&store_, &ops(), this);
    must(cow_store_format(&store_, file.blocks(), kSegmentBlocks, uuid.data(), why.data()),
         "formatting the store", why.data());
    must(cow_store_open(&store_, why.data()), "activating the store", why.data());
    run();
    must(cow_origin_register(&store_, kOrigin, origin_blocks * COWSNAP_BLOCK_SECTORS, &origin_,
                             why.data()),
         "registering the origin", why.data());
    run();
}

void Engine::write(cow_batch* batch) {
    std::uint64_t at = batch->store_block + 1;
    for (list_head* entry = batch->extents.next; entry != &batch->extents; entry = entry->next) {
        cow_extent* extent = container_of(entry, cow_extent, queue);
        for (u32 i = 0; i < extent->length; ++i, ++at) {
            const Block contents = contentsOf(extent->block + i);
            extent->crc[i] = cow_crc32c(0, contents.data(), contents.size());
            if (stamped(extent->block + i))
                file_.write(at, 1, contents.data());
        }
    }
    Block header{};
    cow_batch_image(batch, header.data());
    file_.write(batch->store_block, 1, header.data());
    later([batch] { cow_batch_written(batch, 0); });
}

void Engine::write(cow_summary_data* summary) {
    std::array<Block, COWSNAP_SUMMARY_BLOCKS(kSegmentBlocks)> image{};
    cow_summary_image(summary, image.data());
    file_.write(summary->store_block, image.size(), image.data());
    later([summary] { cow_summary_written(summary, 0); });
}

void Engine::run() {
    do {
        cow_store_run(&store_);
        // what is asked for meanwhile is the next turn's: batches get full
        for (const auto& ended : std::exchange(asked_, {}))
            ended();
    } while (!asked_.empty() || cow_store_wants_run(&store_) || !cow_store_idle(&store_));
}

void Engine::create(std::uint32_t snapshot) {
    std::array<char, COW_WHY_BYTES> why{};
    cow_member member{};
    member.snapshot = snapshot;
    member.origin = kOrigin;
    must(cow_create_prepare(&store_, &member, 1, why.data()), "creating a snapshot", why.data());
    run();
    must(cow_create_commit(&store_, &member, 1, 1, why.data()), "creating a snapshot", why.data());
    run();
}

void Engine::preserve(const std::vector<std::uint64_t>& blocks) {
    std::vector<cow_waiter> waiters(kWaiters);
    for (std::size_t first = 0; first < blocks.size(); first += waiters.size()) {
        const std::size_t count = std::min(waiters.size(), blocks.size() - first);
        for (std::size_t i = 0; i < count; ++i) {
            waiters[i].block = blocks[first + i];
            waiters[i].length = 1;
            if (cow_preserve(origin_, &waiters[i]))
                cowsnap::fail(cowsnap::ErrorKind::Failed, "block {} needs not be preserved",
                              blocks[first + i]);
            ++waiting_;
        }
        run();
        if (waiting_)
            cowsnap::fail(cowsnap::ErrorKind::Failed, "{} blocks were not preserved", waiting_);
    }
}

void Engine::settle() {
    cow_store_settle(&store_);
    run();
}

}  // namespace

void writeCowStore(SparseFile& file, const Exceptions& exceptions, std::uint32_t snapshots) {
    Engine engine(file, exceptions.origin_blocks);
    for (std::uint32_t snapshot = 1; snapshot <= snapshots; ++snapshot) {
        engine.create(snapshot);
        if (snapshot == 1)
            engine.preserve(exceptions.blocks);
    }
    engine.settle();
}

}  // namespace bench
