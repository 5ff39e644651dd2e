// SPDX-License-Identifier: GPL-2.0-or-later
// A machine's control context: formatting, activation, snapshots made and deleted, extension.
#include "machine.hpp"
#include "trace.hpp"

#include <algorithm>
#include <array>

namespace sim {

namespace {

constexpr std::array<u8, COWSNAP_UUID_SIZE> kUuid = {0xc0, 1, 2,  3,  4,  5,  6,  7,
                                                     8,    9, 10, 11, 12, 13, 14, 15};

cow_origin* origin_of(cow_store& store, std::uint32_t id) {
    return cow_origin_find(&store, id);
}

}  // namespace

void Machine::format(std::uint32_t segment_blocks, std::uint64_t segments) {
    std::array<char, COW_WHY_BYTES> why{};
    if (cow_store_format(&store_, world_.store.size(), segment_blocks, kUuid.data(), why.data())) {
        throw Broken(std::string("format: ") + why.data());
    }
    if (segments > store_.super.region[0].segments) {
        throw Broken("the disk is too small for so many segments");
    }
    store_.super.region[0].segments = segments;
    Bytes image(kBlock);
    cow_super_encode(&store_.super, image.data());
    world_.store.write(0, image.data(), 1);
    world_.store.write(COWSNAP_SUPER_COPY_BLOCK, image.data(), 1);
    cow_store_destroy(&store_);
    cow_store_init(&store_, &ops(), this);
}

int Machine::open() {
    std::array<char, COW_WHY_BYTES> why{};
    int r = cow_store_probe(&store_, world_.store.size(), why.data());
    if (!r) {
        r = cow_store_open(&store_, why.data());
    }
    if (!r && world_.lost_sets) {
        r = cow_store_lose(&store_, *world_.lost_sets, why.data());
        if (!r) {
            world_.lost_sets.reset();
        }
    }
    why_ = why.data();
    if (!r) {
        r = enter_all();
        why_ = r ? "it cannot be told who is in front" : why_;
    }
    if (!failure_.empty()) {
        throw Broken(failure_);
    }
    open_ = r == 0;
    if (open_) {
        world_.same_boot = false;
        engine();
    }
    return r;
}

void Machine::close() {
    stop_copying();
    drain(false);
    leave_all();
    engine();
    ++engine_depth_;
    cow_store_settle(&store_);
    --engine_depth_;
    drain(false);
    cow_store_destroy(&store_);
    cow_store_init(&store_, &ops(), this);
    copiers_.clear();
    open_ = false;
}

void Machine::register_origin(std::uint32_t id) {
    std::array<char, COW_WHY_BYTES> why{};
    cow_origin* origin = nullptr;
    if (cow_origin_register(&store_, id, world_.origins.at(id).size() * COWSNAP_BLOCK_SECTORS,
                            &origin, why.data())) {
        throw Broken(std::string("register: ") + why.data());
    }
    if (world_.fronts && enter(origin)) {
        throw Broken("a new origin cannot be entered");
    }
    point();
}

int Machine::forget_origin(std::uint32_t id) {
    std::array<char, COW_WHY_BYTES> why{};
    const int r = cow_origin_forget(&store_, id, why.data());
    why_ = why.data();
    if (!r) {
        guards_.erase(id);
        world_.devices[id].watched.clear();
    }
    point();
    return r;
}

int Machine::create(const Members& members) {
    std::vector<cow_member> list(members.size());
    for (std::size_t i = 0; i < members.size(); ++i) {
        list[i].snapshot = members[i].first;
        list[i].origin = members[i].second;
    }
    return create_members(std::move(list));
}

int Machine::create_members(std::vector<cow_member> list) {
    std::array<char, COW_WHY_BYTES> why{};
    Members members;
    for (const cow_member& member : list) {
        members.emplace_back(member.snapshot, member.origin);
    }
    const u32 count = static_cast<u32>(members.size());
    const std::uint32_t target = list.front().target;
    int r = cow_create_prepare(&store_, list.data(), count, why.data());
    why_ = why.data();
    if (r) {
        return r;
    }
    const auto quiet = [&] {
        return std::all_of(members.begin(), members.end(), [&](const auto& member) {
            const bool writing = std::any_of(
                writes_.begin(), writes_.end(),
                [&](const auto& write) { return write.second->origin == member.second; });
            return !writing && cow_origin_quiet(origin_of(store_, member.second));
        });
    };
    while (!quiet()) {
        if (!step()) {
            cow_create_abort(&store_, list.data(), count);
            return -EBUSY;
        }
    }
    for (const auto& [snapshot, origin] : members) {
        flush(origin);
        world_.creating[snapshot].origin = origin;
        world_.creating[snapshot].contents =
            std::make_shared<const Contents>(world_.origins.at(origin).current());
    }
    if (target) {
        world_.changing =
            RollbackChange{list.front().origin, RollbackModel{target, list.front().snapshot, false},
                           OriginDisk(contents_of(target))};
    }
    point();
    if (before_commit) {
        before_commit();
    }
    r = cow_create_commit(&store_, list.data(), count, 1, why.data());
    why_ = why.data();
    for (const auto& [snapshot, origin] : members) {
        trace("create snapshot {} of origin {}: {} {}", snapshot, origin, r, r ? why_ : "");
    }
    if (!r) {
        world_.snapshots.merge(world_.creating);
        for (const auto& [snapshot, origin] : members) {
            watch_more(origin);
            const auto rollback = world_.rollbacks.find(origin);
            if (rollback != world_.rollbacks.end() && !rollback->second.scheduled) {
                throw Broken("a snapshot was made during a rollback");
            }
        }
        if (target) {
            become(*world_.changing);
        }
    } else {
        engine();  // a store that failed in this may have the record, until its loss is recorded
    }
    world_.creating.clear();
    world_.changing.reset();
    if (r && target && store_.broken) {
        // If the beginning is in the store all the same, it is undone with the loss: then nothing
        // is scheduled any more.
        world_.changing = now(list.front().origin);
        world_.changing->rollback.reset();
    }
    engine();
    point();
    return r;
}

int Machine::remove(const std::vector<std::uint32_t>& snapshots, bool dropped) {
    std::array<char, COW_WHY_BYTES> why{};
    world_.deleting = {snapshots.begin(), snapshots.end()};
    const int r = cow_delete(&store_, snapshots.data(), static_cast<u32>(snapshots.size()), dropped,
                             why.data());
    why_ = why.data();
    for (const std::uint32_t id : snapshots) {
        trace("delete snapshot {}: {} {}", id, r, r ? why_ : "");
    }
    if (r) {
        engine();
    }
    world_.deleting.clear();
    if (!r) {
        for (const std::uint32_t id : snapshots) {
            world_.snapshots.erase(id);
            for (const auto& [origin, rollback] : world_.rollbacks) {
                if (!rollback.scheduled && (rollback.target == id || rollback.undo == id)) {
                    throw Broken("a snapshot that a rollback needs was deleted");
                }
            }
            std::erase_if(world_.rollbacks,
                          [id](const auto& rollback) { return rollback.second.target == id; });
        }
    }
    engine();
    point();
    return r;
}

int Machine::extend(std::uint64_t device_blocks) {
    std::array<char, COW_WHY_BYTES> why{};
    world_.store.resize(device_blocks);
    const int r = cow_store_extend(&store_, device_blocks, why.data());
    why_ = why.data();
    trace("extend to {}: {} {}", device_blocks, r, r ? why_ : "");
    engine();
    point();
    return r;
}

void Machine::mark() {
    const auto mark_log = [](cow_log& log) {
        if (cow_log_idle(&log) && cow_log_unproven(&log)) {
            cow_log_mark(&log);
        }
    };
    for (list_head* at = store_.origins.next; at != &store_.origins; at = at->next) {
        cow_origin* origin = container_of(at, cow_origin, list);
        mark_log(origin->log);
        if (origin->rollback.shown.overlay) {
            mark_log(origin->rollback.shown.overlay->log);
        }
    }
    for (list_head* at = store_.snapshots.next; at != &store_.snapshots; at = at->next) {
        cow_snapshot* snapshot = container_of(at, cow_snapshot, all);
        if (snapshot->overlay) {
            mark_log(snapshot->overlay->log);
        }
    }
    engine();
    point();
}

}  // namespace sim
