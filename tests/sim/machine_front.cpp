// SPDX-License-Identifier: GPL-2.0-or-later
// A machine in front of its origins, and what is written to them while there is none. The first
// block of an origin stands for its file system: two of its sectors have a fingerprint each, which
// every write to it changes. So have the first sectors of some blocks, which are watched after some
// of the creates.
#include <algorithm>

#include "machine.hpp"
#include "trace.hpp"

namespace sim {

namespace {

u64 print_of(const Versions& first) {
    return u64{first[COW_PRINT_XFS_SECTOR]} << 32 | first[COW_PRINT_EXT_SECTOR];
}

u64 wide_of(const Contents& contents) {
    u64 wide = 0;
    for (const Versions* block : {&contents.front(), &contents.back()}) {
        for (const std::uint32_t version : *block) {
            wide = (wide ^ version) * 0x9e3779b97f4a7c15u;
        }
    }
    return wide;
}

// The first sector is there wholly or not at all.
u64 print_of_place(const Versions& block) {
    return u64{block.front()} << 32;
}

u64 wide_of_place(const Versions& block) {
    u64 wide = 0;
    for (const std::uint32_t version : block) {
        wide = (wide ^ version) * 0x9e3779b97f4a7c15u;
    }
    return wide;
}

u64 sector_of(std::uint64_t block) {
    return block * COWSNAP_BLOCK_SECTORS;
}

template <typename Print>
u64 fold(const std::vector<std::uint64_t>& blocks, Print print) {
    u64 result = 0;
    for (const std::uint64_t block : blocks) {
        result = cow_front_fold(result, sector_of(block), print(block));
    }
    return result;
}

std::vector<std::uint64_t> watched_blocks(const cow_origin& origin) {
    std::vector<std::uint64_t> blocks;
    for (u32 i = 0; i < origin.nr_places; ++i) {
        blocks.push_back(origin.places[i].sector / COWSNAP_BLOCK_SECTORS);
    }
    return blocks;
}

u64 narrow_watched(const Contents& contents, const std::vector<std::uint64_t>& blocks) {
    return fold(blocks, [&](std::uint64_t block) { return print_of_place(contents.at(block)); });
}

u64 wide_watched(const Contents& contents, const std::vector<std::uint64_t>& blocks) {
    return fold(blocks, [&](std::uint64_t block) { return wide_of_place(contents.at(block)); });
}

cow_sight sight_of(const World& world, const cow_origin& origin, const OriginDevice& device,
                   bool leaves) {
    const Contents& contents = world.origins.at(origin.id).current();
    const auto blocks = watched_blocks(origin);
    const bool is_wide = leaves || origin.front.state == COW_FRONT_LEFT;
    return {print_of(contents.front()), wide_of(contents),
            is_wide ? wide_watched(contents, blocks) : narrow_watched(contents, blocks),
            device.instance, device.written};
}

template <typename Visit>
void for_each_origin(cow_store& store, Visit visit) {
    for (list_head* at = store.origins.next; at != &store.origins; at = at->next) {
        visit(container_of(at, cow_origin, list));
    }
}

}  // namespace

void boot(World& world) {
    for (const auto& [id, disk] : world.origins) {
        ++world.devices[id].instance;
        world.devices[id].written = 0;
    }
}

void write_unseen(World& world, std::uint32_t origin, std::uint64_t block) {
    OriginDisk& disk = world.origins.at(origin);
    const std::uint32_t version = world.next_version++;
    disk.issue(block, all_of(version));
    disk.apply(block, all_of(version));
    disk.complete(block, all_of(version));
    world.views.erase(origin);
    disk.flush();
    world.devices[origin].written += COWSNAP_BLOCK_SECTORS;
    world.devices[origin].unseen = true;
    trace("write {} unseen: origin {}, block {}", version, origin, block);
}

int Machine::enter(cow_origin* origin) {
    OriginDevice& device = world_.devices[origin->id];
    const cow_sight sight = sight_of(world_, *origin, device, false);
    const bool matters = cow_front_matters(origin);
    const char* why = matters ? cow_front_verdict(&origin->front, &sight) : nullptr;
    if (!why && matters && device.unseen && !world_.damaged) {
        throw Broken("what was written to an origin unseen is not found out");
    }
    if (why && !device.unseen && !device.unrecorded && !world_.damaged) {
        throw Broken(std::string("snapshots are stale for no reason: ") + why);
    }
    world_.origins.at(origin->id).flush();
    Guard& guard = guards_[origin->id];
    guard.watched = watched_blocks(*origin);
    const u64 watched = narrow_watched(world_.origins.at(origin->id).current(), guard.watched);
    const int r = cow_front_enter(origin, sight.print, watched, why != nullptr);
    trace("in front of origin {}: {} {}", origin->id, r, why ? why : "");
    if (r) {
        return store_.broken ? 0 : r;
    }
    for (auto* models : {&world_.snapshots, &world_.creating}) {
        for (auto& [id, model] : *models) {
            // an activation before this one may have found them stale and lost its power
            const cow_snapshot* snapshot = cow_snapshot_find(&store_, id);
            const bool found = device.unrecorded && snapshot && snapshot->stale;
            model.stale |= model.origin == origin->id && (why || device.unseen || found);
        }
    }
    device.unseen = false;
    device.unrecorded = false;
    device.vague = false;
    device.watched = {guard.watched.begin(), guard.watched.end()};
    entered_.insert(origin->id);
    return 0;
}

int Machine::enter_all() {
    int r = 0;
    for_each_origin(store_, [&](cow_origin* origin) {
        if (!r && world_.fronts && !store_.broken) {
            r = enter(origin);
        }
    });
    if (r) {
        leave_all();
    }
    return r;
}

void Machine::leave_all() {
    for_each_origin(store_, [&](cow_origin* origin) {
        if (!entered_.erase(origin->id) || store_.broken) {
            return;
        }
        OriginDevice& device = world_.devices[origin->id];
        world_.origins.at(origin->id).flush();
        const cow_sight sight = sight_of(world_, *origin, device, true);
        const int r = cow_front_leave(origin, &sight);
        trace("origin {} is left: {}", origin->id, r);
        device.unrecorded = r != 0;
    });
}

bool Machine::guarded(const Write& write) const {
    if (!world_.fronts || write.block == 0) {
        return world_.fronts;
    }
    const auto guard = guards_.find(write.origin);
    return guard != guards_.end() &&
           std::any_of(guard->second.watched.begin(), guard->second.watched.end(),
                       [&](std::uint64_t block) {
                           return block >= write.block && block < write.block + write.length;
                       });
}

void Machine::spoil(std::uint32_t id) {
    cow_origin* origin = cow_origin_find(&store_, id);
    if (!world_.fronts || !origin || store_.broken || world_.rollbacks.contains(id)) {
        return;
    }
    // if the power fails meanwhile it may be recorded or not
    const bool before = std::exchange(world_.devices[id].unrecorded, true);
    point();
    const int r = cow_front_spoil(origin);
    trace("origin {} is spoiled: {}", id, r);
    if (store_.broken) {
        return;
    }
    world_.devices[id].unrecorded = before;
    for (auto& [snapshot, model] : world_.snapshots) {
        model.stale |= model.origin == id && !r;
    }
}

// No write to the origin is under way.
void Machine::watch_more(std::uint32_t id) {
    if (!world_.fronts || !random_.one_in(3)) {
        return;
    }
    Guard& guard = guards_[id];
    const std::uint64_t block =
        1 + random_.below(std::min<std::uint64_t>(8, world_.origins.at(id).size() - 1));
    if (std::count(guard.watched.begin(), guard.watched.end(), block) == 0) {
        guard.watched.push_back(block);
        guard.again = true;
    }
}

// What is found on the disk after a flush is all that may be there until the next write to a block
// that counts is let go.
void Machine::change_front(std::uint32_t id, Guard& guard) {
    Write* const write = guard.waiting.empty() ? nullptr : writes_.at(guard.waiting.front()).get();
    cow_origin* const origin = cow_origin_find(&store_, id);
    OriginDevice& device = world_.devices[id];
    OriginDisk& disk = world_.origins.at(id);
    disk.flush();
    guard.again = false;
    Contents next = disk.current();
    unsigned changes = 0;
    for (std::uint64_t b = 0; write && b < write->length; ++b) {
        const std::uint64_t block = write->block + b;
        const bool watched = std::count(guard.watched.begin(), guard.watched.end(), block) != 0;
        const u64 before = print_of_place(next.at(block));
        next.at(block) = write->copied.empty() ? all_of(write->version) : write->copied.at(b);
        changes += watched && print_of_place(next.at(block)) != before;
    }
    cow_front front{};
    front.state = COW_FRONT_IN;
    front.print[0] = print_of(disk.current().front());
    front.print[1] = print_of(next.front());
    front.watched[0] = narrow_watched(disk.current(), guard.watched);
    front.watched[1] = changes > 1 ? COWSNAP_NONE : narrow_watched(next, guard.watched);
    guard.vague = changes > 1;
    device.vague |= guard.vague;
    const bool records = !store_.broken;
    int r = 0;
    if (records && guard.watched.size() > origin->nr_places) {
        std::vector<cow_place> places;
        for (const std::uint64_t block : guard.watched) {
            places.push_back({sector_of(block), false});
        }
        r = cow_front_watch(origin, &front, places.data(), static_cast<u32>(places.size()));
        if (r && !store_.broken) {
            guard.watched.resize(origin->nr_places);
            guard.again = true;
            return;
        }
    } else if (records) {
        r = cow_front_change(origin, &front);
    }
    if (records) {
        device.unrecorded = r != 0;
        device.vague = r ? device.vague : guard.vague;
        device.watched = {guard.watched.begin(), guard.watched.end()};
    } else if (write) {
        device.unrecorded = true;  // the store has failed
    }
    if (write) {
        guard.waiting.pop_front();
        ++guard.under_way;
        write->counted = true;
        let_go(*write);
    }
}

// Control context.
void Machine::change_fronts() {
    for (auto& [id, guard] : guards_) {
        while (!guard.under_way && (!guard.waiting.empty() || guard.again || guard.vague)) {
            change_front(id, guard);
        }
    }
}

}  // namespace sim
