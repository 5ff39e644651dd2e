// SPDX-License-Identifier: GPL-2.0-or-later
// The users of origins and snapshots: what they write, wait for and read.
#include "machine.hpp"
#include "trace.hpp"

#include <algorithm>
#include <array>

namespace sim {

namespace {

cow_origin* origin_of(cow_store& store, std::uint32_t id) {
    return cow_origin_find(&store, id);
}

bool bitmap_passes(const cow_origin* origin, std::uint64_t block, std::uint64_t length) {
    return origin->epoch == COW_NO_EPOCH || cow_bitmap_preserved(origin->bitmap, block, length);
}

}  // namespace

// --------------------------------------------------------- users of origins ---

void Machine::flush(std::uint32_t origin) {
    world_.origins.at(origin).flush();
    if (const auto view = world_.views.find(origin); view != world_.views.end()) {
        view->second.flush();
    }
}

// During a rollback device-mapper splits bios where windows end.
void Machine::write(std::uint32_t origin, std::uint64_t block, std::uint64_t length) {
    const std::uint32_t version = world_.next_version++;
    trace("write {}: origin {}, {} blocks from {}", version, origin, length, block);
    if (const auto view = world_.views.find(origin); view != world_.views.end()) {
        for (std::uint64_t b = block; b < block + length; ++b) {
            view->second.issue(b, all_of(version));
        }
    }
    if (origin_of(store_, origin)->rollback.state != COW_ROLLBACK_RUNNING) {
        add_write(origin, block, length, version, false);
        return;
    }
    while (length) {
        const std::uint64_t part =
            std::min<std::uint64_t>(length, COW_WINDOW_BLOCKS - block % COW_WINDOW_BLOCKS);
        add_write(origin, block, part, version, true);
        block += part;
        length -= part;
    }
}

void Machine::add_write(std::uint32_t origin, std::uint64_t block, std::uint64_t length,
                        std::uint32_t version, bool shown) {
    auto owned = std::make_unique<Write>();
    Write& write = *owned;
    write.origin = origin;
    write.block = block;
    write.length = length;
    write.version = version;
    write.shown = shown;
    writes_.emplace(&write.waiter, std::move(owned));
    ++engine_depth_;
    advance(write);
    --engine_depth_;
    engine();
    point();
}

void Machine::advance(Write& write) {
    cow_origin* origin = origin_of(store_, write.origin);
    if (write.shown && !advance_shown(write)) {
        return;
    }
    if (bitmap_passes(origin, write.block, write.length)) {
        send(write);
        return;
    }
    INIT_LIST_HEAD(&write.waiter.list);
    write.waiter.block = write.block;
    write.waiter.length = write.length;
    if (!cow_preserve(origin, &write.waiter)) {
        return;
    }
    if (write.ended && !bitmap_passes(origin, write.block, write.length)) {
        // The store has failed: nothing is copied over what is not preserved.
        write.ended(true);
        writes_.erase(&write.waiter);
        return;
    }
    send(write);
}

void Machine::send(Write& write) {
    if (guarded(write)) {
        guards_[write.origin].waiting.push_back(&write.waiter);
    } else {
        let_go(write);
    }
}

void Machine::let_go(Write& write) {
    OriginDisk& disk = world_.origins.at(write.origin);
    const auto view = world_.views.find(write.origin);
    const bool viewed = !write.ended && view != world_.views.end();
    const bool early = random_.one_in(2);
    if (write.copied.empty()) {
        write.copied.assign(write.length, all_of(write.version));
    }
    for (std::uint64_t b = write.block; b < write.block + write.length; ++b) {
        disk.issue(b, write.versions(b));
        if (early) {
            disk.apply(b, write.versions(b));
            if (viewed) {
                view->second.apply(b, write.versions(b));
            }
        }
    }
    world_.devices[write.origin].written += write.length * COWSNAP_BLOCK_SECTORS;
    const cow_waiter* key = &write.waiter;
    issue(IoKind::origin_write, [this, key, early](int) {
        const Write& ended = *writes_.at(key);
        OriginDisk& written = world_.origins.at(ended.origin);
        const auto seen = world_.views.find(ended.origin);
        OriginDisk* plain = !ended.ended && seen != world_.views.end() ? &seen->second : nullptr;
        const bool failed = origin_write_fails && origin_write_fails();
        for (std::uint64_t b = ended.block; b < ended.block + ended.length; ++b) {
            const bool applied = !early && !(failed && random_.one_in(2));
            for (OriginDisk* disk : {&written, plain}) {
                if (disk && applied) {
                    disk->apply(b, ended.versions(b));
                }
                if (disk) {
                    disk->complete(b, ended.versions(b));
                }
            }
        }
        if (ended.ended) {
            ended.ended(failed);
        }
        if (ended.counted) {
            --guards_[ended.origin].under_way;
        }
        writes_.erase(key);
    });
}

// ------------------------------------------------------- users of snapshots ---

void Machine::put_user(cow_snapshot* snapshot) {
    if (!--snapshot->users && cow_snapshot_find(&store_, snapshot->id) != snapshot) {
        cow_snapshot_free(snapshot);
    }
}

void Machine::overlay_write(std::uint32_t snapshot, std::uint64_t block, std::uint64_t length) {
    auto owned = std::make_unique<OverlayWrite>();
    OverlayWrite& write = *owned;
    write.snapshot = snapshot;
    write.block = block;
    write.length = length;
    write.version = world_.next_version++;
    write.target = cow_snapshot_find(&store_, snapshot);
    if (cow_rollback_needs(write.target)) {
        return;  // the user is told
    }
    trace("write {}: snapshot {}, {} blocks from {}", write.version, snapshot, length, block);
    if (cow_overlay_make(write.target)) {
        return;  // no memory: the user is told
    }
    ++write.target->users;
    SnapshotModel& model = world_.snapshots.at(snapshot);
    for (std::uint64_t b = block; b < block + length; ++b) {
        model.overlay[b].unacknowledged.insert(write.version);
    }
    ++model.overlay_changes;
    overlay_writes_.emplace(&write.waiter, std::move(owned));
    ++engine_depth_;
    advance(write);
    --engine_depth_;
    engine();
    point();
}

void Machine::end(OverlayWrite& write) {
    put_user(write.target);
    overlay_writes_.erase(&write.waiter);
}

void Machine::advance(OverlayWrite& write) {
    const auto model = world_.snapshots.find(write.snapshot);
    if (model == world_.snapshots.end() || !write.target->overlay) {
        end(write);
        return;
    }
    for (; write.under_way; --write.under_way, ++write.block, --write.length) {
        OverlayBlock& block = model->second.overlay[write.block];
        block.acknowledged = write.version;
        block.unacknowledged.erase(write.version);
        ++model->second.overlay_changes;
    }
    if (!write.length) {
        end(write);
        return;
    }
    INIT_LIST_HEAD(&write.waiter.list);
    write.waiter.block = write.block;
    write.waiter.length = write.length;
    auto* extent = static_cast<Extent*>(cow_overlay_write(write.target->overlay, &write.waiter));
    if (!extent) {
        return;
    }
    for (std::uint64_t i = 0; i < extent->length; ++i) {
        fill(extent->data.data() + i * kBlock, model->second.origin, extent->block + i,
             all_of(write.version));
    }
    write.under_way = extent->length;
    cow_extent_filled(extent, 0);
}

void Machine::read(std::uint32_t snapshot, std::uint64_t block, std::uint64_t length) {
    auto read = std::make_shared<Read>();
    read->target = cow_snapshot_find(&store_, snapshot);
    read->snapshot = snapshot;
    read->model = world_.snapshots.at(snapshot);
    read->block = block;
    read->length = length;
    ++read->target->users;
    start_read(read);
    engine();
    point();
}

void Machine::end_read(const std::shared_ptr<Read>& read) {
    put_user(read->target);
}

namespace {

Versions expected(const SnapshotModel& model, std::uint64_t block) {
    const auto entry = model.overlay.find(block);
    if (entry != model.overlay.end() && entry->second.acknowledged) {
        return all_of(entry->second.acknowledged);
    }
    return (*model.contents)[block];
}

}  // namespace

void Machine::start_read(const std::shared_ptr<Read>& read) {
    enum cow_where where = COW_AT_ERROR;
    u64 location = 0;
    ++view_depth_;
    const u32 n = cow_snapshot_lookup(read->target, read->block, static_cast<u32>(read->length),
                                      &where, &location);
    --view_depth_;
    if (where == COW_AT_STORE) {
        read_from_store(read, location, n);
    } else if (where == COW_AT_ORIGIN) {
        read_from_origin(read, n);
    } else {
        const bool right =
            world_.damaged || read->target->lost || read->model.unreadable.contains(read->block);
        end_read(read);
        if (!right) {
            broken("a read fails for no reason");
        }
    }
}

void Machine::read_from_store(const std::shared_ptr<Read>& read, std::uint64_t location,
                              std::uint32_t n) {
    issue(IoKind::snapshot_read, [this, read, location, n](int) {
        const bool failed = read_fails && read_fails(IoKind::snapshot_read);
        const auto now = world_.snapshots.find(read->snapshot);
        const bool changed = now == world_.snapshots.end() ||
                             now->second.overlay_changes != read->model.overlay_changes;
        for (u32 i = 0; !failed && i < n; ++i) {
            const std::uint64_t block = read->block + i;
            if (world_.store.crc(location + i) != *cow_store_crcs(&store_, location + i)) {
                if (!world_.damaged) {
                    broken("a read of the store has a wrong checksum");
                }
            } else if (!read->model.stale && !(changed && read->model.overlay.contains(block)) &&
                       read->model.overlay_changes == 0 &&
                       !world_.store.holds(location + i, read->model.origin, block,
                                           expected(read->model, block))) {
                broken("a read of snapshot " + std::to_string(read->snapshot) + " block " +
                       std::to_string(block) + " from the store is wrong");
            }
        }
        ++view_depth_;
        cow_store_unpin(&store_, location);
        --view_depth_;
        end_read(read);
    });
}

void Machine::read_from_origin(const std::shared_ptr<Read>& read, std::uint32_t n) {
    const Contents& now = world_.origins.at(read->model.origin).current();
    const bool early = random_.one_in(2);
    Contents sampled(now.begin() + static_cast<std::ptrdiff_t>(read->block),
                     now.begin() + static_cast<std::ptrdiff_t>(read->block + n));
    issue(IoKind::snapshot_read, [this, read, n, early, sampled = std::move(sampled)](int) {
        const Contents& later = world_.origins.at(read->model.origin).current();
        for (u32 i = 0; i < n; ++i) {
            const std::uint64_t block = read->block + i;
            const Versions seen = early ? sampled[i] : later[block];
            if (read->model.stale || read->model.overlay_changes ||
                !world_.snapshots.contains(read->snapshot)) {
                continue;
            }
            std::size_t which = 0;
            const std::vector<Versions> right = {expected(read->model, block)};
            if (look(read->target, block, &seen, right, which) == Answer::other &&
                !world_.snapshots.at(read->snapshot).overlay_changes) {
                broken("a read of snapshot " + std::to_string(read->snapshot) + " block " +
                       std::to_string(block) + " from the origin is wrong");
            }
        }
        end_read(read);
    });
}

// One block of a snapshot as a read returns it now, without waiting: which of "candidates" it is.
// "sampled": what a read of the origin returned before.
Machine::Answer Machine::look(cow_snapshot* snapshot, std::uint64_t block, const Versions* sampled,
                              const std::vector<Versions>& candidates, std::size_t& which) {
    enum cow_where where = COW_AT_ERROR;
    u64 location = 0;
    ++view_depth_;
    const u32 n = cow_snapshot_lookup(snapshot, block, 1, &where, &location);
    --view_depth_;
    const std::uint32_t origin = snapshot->origin->id;
    if (n != 1) {
        broken("a lookup of one block has another length");
    }
    if (where == COW_AT_ERROR) {
        return Answer::error;
    }
    if (where == COW_AT_ORIGIN) {
        const Versions& now = sampled ? *sampled : world_.origins.at(origin).current()[block];
        which = static_cast<std::size_t>(std::find(candidates.begin(), candidates.end(), now) -
                                         candidates.begin());
        return which < candidates.size() ? Answer::right : Answer::other;
    }
    const bool valid = world_.store.crc(location) == *cow_store_crcs(&store_, location);
    ++view_depth_;
    cow_store_unpin(&store_, location);
    --view_depth_;
    if (!valid) {
        return Answer::error;
    }
    for (which = 0; which < candidates.size(); ++which) {
        if (world_.store.holds(location, origin, block, candidates[which])) {
            return Answer::right;
        }
    }
    return Answer::other;
}

void Machine::check_block(std::uint32_t id, std::uint64_t block, bool learn) {
    SnapshotModel& model = world_.snapshots.at(id);
    if (model.stale && model.loss == Loss::none) {
        return;
    }
    std::vector<Versions> right = {expected(model, block)};
    const auto overlay = model.overlay.find(block);
    if (overlay != model.overlay.end()) {
        for (const std::uint32_t version : overlay->second.unacknowledged) {
            right.push_back(all_of(version));
        }
    }
    std::size_t which = 0;
    const Answer answer = look(cow_snapshot_find(&store_, id), block, nullptr, right, which);
    const std::string name = "snapshot " + std::to_string(id) + " block " + std::to_string(block);
    if (answer == Answer::other) {
        throw Broken(name + " is wrong");
    }
    if (answer == Answer::error && !world_.damaged && !model.unreadable.contains(block) &&
        model.loss == Loss::none) {
        throw Broken(name + " cannot be read");
    }
    if (answer != Answer::error && model.loss == Loss::recorded) {
        throw Broken(name + " is taken for exact although it missed writes");
    }
    if (answer == Answer::right && learn && overlay != model.overlay.end()) {
        overlay->second = {which ? right[which][0] : overlay->second.acknowledged, {}};
    }
}

}  // namespace sim
