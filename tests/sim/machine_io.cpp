// SPDX-License-Identifier: GPL-2.0-or-later
// What the engine asks a machine for: memory, I/O, and to tell who waits.
#include "machine.hpp"
#include "trace.hpp"

#include <algorithm>
#include <array>
#include <cstring>

namespace sim {

const cow_ops& Machine::ops() {
    static const cow_ops table = [] {
        cow_ops o{};
        o.engine_enter = [](cow_store* s) { ++of(s).engine_depth_; };
        o.engine_leave = [](cow_store* s) { --of(s).engine_depth_; };
        o.view_lock = [](cow_store* s) {
            if (++of(s).view_depth_ != 1) {
                of(s).broken("the view lock was taken twice");
            }
        };
        o.view_unlock = [](cow_store* s) { --of(s).view_depth_; };
        o.extent_new = [](cow_log* log, u32 blocks) -> cow_extent* {
            Machine& m = of(log->store);
            if (m.extents_ >= m.options_.max_extents) {
                return nullptr;
            }
            ++m.extents_;
            auto extent = std::make_unique<Extent>();
            extent->data.resize(blocks * kBlock);
            return extent.release();
        };
        o.extent_free = [](cow_store* s, cow_extent* extent) {
            --of(s).extents_;
            std::unique_ptr<Extent> owned(static_cast<Extent*>(extent));
        };
        o.batch_new = [](cow_store*) { return std::make_unique<cow_batch>().release(); };
        o.batch_free = [](cow_store*, cow_batch* batch) {
            std::unique_ptr<cow_batch> owned(batch);
        };
        o.extent_read = [](cow_store* s, cow_extent* e) {
            of(s).extent_read(static_cast<Extent*>(e));
        };
        o.batch_write = [](cow_store* s, cow_batch* batch) { of(s).batch_write(batch); };
        o.summary_write = [](cow_store* s, cow_summary_data* summary) {
            Bytes data(COWSNAP_SUMMARY_BLOCKS(s->super.segment_blocks) * kBlock);
            cow_summary_image(summary, data.data());
            of(s).issue_store(IoKind::summary, summary->store_block, std::move(data),
                              [summary](int error) { cow_summary_written(summary, error); });
        };
        o.table_write = [](cow_store* s, cow_table_block* table, u64 block) {
            of(s).table_write(table, block);
        };
        o.waiter_ready = [](cow_store* s, cow_waiter* waiter) { of(s).ready_.push_back(waiter); };
        o.no_room = [](cow_store* s, cow_log* log) { of(s).full_.push_back(log); };
        o.room_again = [](cow_store* s, cow_log* log) { std::erase(of(s).full_, log); };
        o.event = [](cow_store* s, const char* event, u64) {
            if (std::strcmp(event, COWSNAP_EVENT_FAILED) == 0) {
                of(s).store_failed_ = true;
                of(s).lose(Loss::unrecorded);
            }
        };
        o.read = [](cow_store* s, u64 block, u32 blocks, void* buffer) {
            return of(s).control_read(block, blocks, buffer);
        };
        o.write = [](cow_store* s, u64 block, u32 blocks, const void* buffer) {
            return of(s).control_write(block, blocks, buffer);
        };
        return o;
    }();
    return table;
}

void Machine::issue(IoKind kind, Done done) {
    pending_.push_back({kind, next_io_++, 0, {}, std::move(done)});
}

void Machine::check_overlap(std::uint64_t block, const Bytes& data) const {
    for (const Io& io : pending_) {
        const bool apart =
            io.block + io.data.size() / kBlock <= block || block + data.size() / kBlock <= io.block;
        if (!io.data.empty() && !apart) {
            throw Broken("two writes to block " + std::to_string(block) +
                         " of the store at a time");
        }
    }
}

void Machine::issue_store(IoKind kind, std::uint64_t block, Bytes data, Done done) {
    try {
        check_overlap(block, data);
    } catch (const Broken& error) {
        broken(error.what());
    }
    trace("store write {}: kind {}, {} blocks at {}", next_io_, static_cast<int>(kind),
          data.size() / kBlock, block);
    pending_.push_back({kind, next_io_++, block, std::move(data), std::move(done)});
}

void Machine::extent_read(Extent* extent) {
    const std::uint32_t id = extent->log->origin->id;
    const auto sample = [this, extent, id] {
        for (std::uint64_t i = 0; i < extent->length; ++i) {
            const std::uint64_t block = extent->block + i;
            fill(extent->data.data() + i * kBlock, id, block,
                 world_.origins.at(id).current()[block]);
        }
    };
    const bool early = random_.one_in(2);
    if (early) {
        sample();
    }
    issue(IoKind::origin_read, [this, extent, id, early, sample](int) {
        if (!early) {
            sample();
        }
        int error = read_fails && read_fails(IoKind::origin_read) ? -EIO : 0;
        for (std::uint64_t i = 0; i < extent->length; ++i) {
            error |= world_.bad_origin_blocks.contains({id, extent->block + i}) ? -EIO : 0;
        }
        if (error) {
            // what a read that failed leaves is anything
            std::fill(extent->data.begin(), extent->data.end(), std::uint8_t{0xee});
            for (auto& [snapshot, model] : world_.snapshots) {
                for (std::uint64_t i = 0; model.origin == id && i < extent->length; ++i) {
                    model.unreadable.insert(extent->block + i);
                }
            }
        }
        cow_extent_filled(extent, error);
    });
}

// Both copies of the table must name the batch's owner, durably, before the batch is written.
void Machine::check_claimed(const cow_batch& batch) {
    u32 count = 0;
    const u64 first = cow_super_table_first(&store_.super, batch.info.segment, &count);
    const u64 block = cow_super_table_block(&store_.super, batch.info.segment);
    for (u64 copy = 0; copy < 2; ++copy) {
        Bytes image(kBlock);
        std::vector<cow_owner> owners(count);
        u64 generation = 0;
        world_.store.read(block + copy, 1, image.data());
        const bool valid = cow_table_decode(image.data(), store_.super.uuid, first, &generation,
                                            owners.data(), count) == COW_VALID;
        bool in_flight = false;
        for (const Io& io : pending_) {
            in_flight |= io.kind == IoKind::table && io.block == block + copy;
        }
        // A newer image of the block may be under way, it has the owner too.
        if (!in_flight &&
            !(valid && owners[batch.info.segment - first].generation == batch.info.generation)) {
            broken("a batch is written to a segment that is not claimed durably");
        }
    }
}

void Machine::batch_write(cow_batch* batch) {
    Bytes data(kBlock);
    for (list_head* at = batch->extents.next; at != &batch->extents; at = at->next) {
        auto* extent = static_cast<Extent*>(container_of(at, cow_extent, queue));
        for (std::size_t i = 0; i < extent->length; ++i) {
            extent->crc[i] = cow_crc32c(0, extent->data.data() + i * kBlock, kBlock);
        }
        data.insert(data.end(), extent->data.begin(),
                    extent->data.begin() + static_cast<std::ptrdiff_t>(extent->length * kBlock));
    }
    cow_batch_image(batch, data.data());
    check_claimed(*batch);
    issue_store(IoKind::batch, batch->store_block, std::move(data),
                [batch](int error) { cow_batch_written(batch, error); });
}

void Machine::table_write(cow_table_block* table, std::uint64_t block) {
    Bytes data(kBlock);
    std::memcpy(data.data(), table->image, kBlock);
    issue_store(IoKind::table, block, std::move(data),
                [this, table](int error) { cow_table_written(table, error, &store_); });
}

int Machine::control_read(std::uint64_t block, std::uint32_t blocks, void* buffer) {
    if (engine_depth_ || view_depth_) {
        broken("control context waits for I/O inside the engine");
    }
    bool unreadable = false;
    for (auto bad = world_.bad_store_blocks.lower_bound(block);
         bad != world_.bad_store_blocks.end() && bad->first < block + blocks; ++bad) {
        unreadable |= bad->second > 0;
        bad->second -= bad->second > 0;
    }
    if (block + blocks > world_.store.size() || unreadable ||
        (read_fails && read_fails(IoKind::control))) {
        trace("control read of {} blocks at {} fails", blocks, block);
        return -EIO;
    }
    world_.store.read(block, blocks, buffer);
    return 0;
}

// While control context waits, the rest goes on.
void Machine::busy() {
    if (!open_ || !options_.busy_control || engine_depth_) {
        return;
    }
    ++control_depth_;
    try {
        for (std::uint64_t i = random_.below(4); i; --i) {
            step();
        }
    } catch (const std::exception& error) {
        broken(error.what());
    }
    --control_depth_;
}

int Machine::control_write(std::uint64_t block, std::uint32_t blocks, const void* buffer) {
    if (engine_depth_ || view_depth_) {
        broken("control context waits for I/O inside the engine");
    }
    const auto* bytes = static_cast<const std::uint8_t*>(buffer);
    control_in_flight_.emplace(block, Bytes(bytes, bytes + blocks * kBlock));
    ++next_io_;
    try {
        if (control_crash_point) {
            control_crash_point(*this);
        }
    } catch (const std::exception& error) {
        broken(error.what());
    }
    busy();
    const Bytes data = std::move(control_in_flight_->second);
    control_in_flight_.reset();
    if (fails && fails(IoKind::control)) {
        world_.store.tear(block, data, random_);
        trace("control write of {} blocks at {} fails", blocks, block);
        return -EIO;
    }
    world_.store.write(block, buffer, blocks);
    trace("control write of {} blocks at {}", blocks, block);
    return 0;
}

}  // namespace sim
