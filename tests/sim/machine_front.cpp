// SPDX-License-Identifier: GPL-2.0-or-later
// A machine in front of its origins, and what is written to them while there is none. The first
// block of an origin stands for its file system: two of its sectors have a fingerprint each, which
// every write to it changes.
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

cow_sight sight_of(const World& world, std::uint32_t id, const OriginDevice& device) {
    const Contents& contents = world.origins.at(id).current();
    return {print_of(contents.front()), wide_of(contents), device.instance, device.written};
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
    const cow_sight sight = sight_of(world_, origin->id, device);
    const bool matters = cow_front_matters(origin);
    const char* why = matters ? cow_front_verdict(&origin->front, &sight) : nullptr;
    if (!why && matters && device.unseen && !world_.damaged) {
        throw Broken("what was written to an origin unseen is not found out");
    }
    if (why && !device.unseen && !device.unrecorded && !world_.damaged) {
        throw Broken(std::string("snapshots are stale for no reason: ") + why);
    }
    world_.origins.at(origin->id).flush();
    const int r = cow_front_enter(origin, sight.print, why != nullptr);
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
        const cow_sight sight = sight_of(world_, origin->id, device);
        const int r = cow_front_leave(origin, &sight);
        trace("origin {} is left: {}", origin->id, r);
        device.unrecorded = r != 0;
    });
}

// Control context. What is found on the disk after a flush is all that may be there until the next
// write to the first block is let go.
void Machine::change_fronts() {
    for (auto& [id, guard] : guards_) {
        while (!guard.waiting.empty() && !guard.under_way) {
            Write& write = *writes_.at(guard.waiting.front());
            guard.waiting.pop_front();
            OriginDisk& disk = world_.origins.at(id);
            disk.flush();
            const u64 now = print_of(disk.current().front());
            const u64 next =
                print_of(write.copied.empty() ? all_of(write.version) : write.copied.front());
            if (!store_.broken) {
                world_.devices[id].unrecorded =
                    cow_front_change(cow_origin_find(&store_, id), now, next) != 0;
            }
            ++guard.under_way;
            let_go(write);
        }
    }
}

}  // namespace sim
