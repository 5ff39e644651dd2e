// SPDX-License-Identifier: GPL-2.0-or-later
// The promises, see checks.hpp.
#include "checks.hpp"

#include <algorithm>
#include <set>

namespace sim {

namespace {

template <typename Visit>
void for_each_origin(cow_store& store, Visit visit) {
    for (list_head* at = store.origins.next; at != &store.origins; at = at->next) {
        visit(container_of(at, cow_origin, list));
    }
}

template <typename Visit>
void for_each_snapshot(cow_store& store, Visit visit) {
    for (list_head* at = store.snapshots.next; at != &store.snapshots; at = at->next) {
        visit(container_of(at, cow_snapshot, all));
    }
}

struct Recount {
    cow_store* store;
    const cow_origin* origin;  // nullptr: an overlay
    std::vector<std::uint64_t> live;
};

// Counts blocks by segment, leaving out what nobody can see any more.
u16 count_entry(void* context, u64, u64 epoch, u64 base, u16 bits) {
    auto& recount = *static_cast<Recount*>(context);
    if (recount.origin && epoch < cow_origin_oldest_epoch(recount.origin)) {
        return bits;
    }
    for (unsigned i = 0; i < COW_CHUNK_BLOCKS; ++i) {
        if (bits >> i & 1) {
            ++recount.live[cow_super_block_segment(&recount.store->super, base + i)];
        }
    }
    return bits;
}

void count_index(Recount& recount, cow_index& index) {
    if (!cow_index_check(&index)) {
        throw Broken("an index is not in order");
    }
    for (u64 chunk = 0; chunk != COW_NOT_FOUND;) {
        chunk = cow_index_filter(&index, chunk, 1000, count_entry, &recount);
    }
}

std::set<std::uint64_t> list_of(const cow_store& store, const list_head& head) {
    std::set<std::uint64_t> numbers;
    for (const list_head* at = head.next; at != &head; at = at->next) {
        numbers.insert(cow_segment_number(&store, container_of(at, cow_segment, list)));
    }
    return numbers;
}

void check_segment(Machine& machine, const cow_segment& segment, std::uint64_t number,
                   std::uint64_t live, bool idle) {
    const std::string name = "segment " + std::to_string(number);
    if (segment.state == COW_SEGMENT_FREE) {
        if (segment.sums || segment.live || live) {
            throw Broken(name + " is free, but in use");
        }
        return;
    }
    if (segment.orphan) {
        if (idle && !segment.pins && segment.state == COW_SEGMENT_CLOSED) {
            throw Broken(name + " has lost its owner and is not free");
        }
        return;
    }
    if (segment.live != live) {
        throw Broken(name + " counts " + std::to_string(segment.live) + " live blocks, has " +
                     std::to_string(live));
    }
    if (idle && segment.state == COW_SEGMENT_CLOSED && !live && !segment.pins &&
        !machine.world().damaged && !machine.store().broken) {
        throw Broken(name + " has no live block and is not free");
    }
}

}  // namespace

namespace {

// Snapshots that missed writes, and nothing in the store says so: the shell drops them all.
void drop_lost(Machine& machine) {
    World& world = machine.world();
    std::vector<std::uint32_t> ids;
    for_each_snapshot(machine.store(),
                      [&](const cow_snapshot* snapshot) { ids.push_back(snapshot->id); });
    const auto needed = [&](std::uint32_t id) {
        return cow_rollback_needs(cow_snapshot_find(&machine.store(), id));
    };
    world.snapshots.merge(world.creating);
    for (auto& [id, model] : world.snapshots) {
        model.loss = Loss::recorded;
    }
    std::erase_if(world.snapshots, [&](const auto& snapshot) {
        return !cow_snapshot_find(&machine.store(), snapshot.first) || !needed(snapshot.first);
    });
    world.creating.clear();
    std::erase_if(ids, needed);
    for (const std::uint32_t id : ids) {
        if (machine.remove({id}, true)) {
            throw Broken("a lost snapshot cannot be dropped: " + machine.why());
        }
    }
    world.deleting.clear();
    world.loss_known_elsewhere = false;
}

void learn_loss(SnapshotModel& model, const cow_snapshot& snapshot) {
    const std::string name = "snapshot " + std::to_string(snapshot.id);
    if (model.loss == Loss::none && snapshot.lost) {
        throw Broken(name + " is lost for no reason");
    }
    if (model.loss == Loss::recorded && !snapshot.lost) {
        throw Broken(name + " missed writes and is not lost");
    }
    model.loss = snapshot.lost ? Loss::recorded : Loss::none;
}

void check_stale(const World& world, const SnapshotModel& model, const cow_snapshot& snapshot) {
    if (world.fronts && !world.damaged && !snapshot.lost && model.stale != snapshot.stale) {
        throw Broken("snapshot " + std::to_string(snapshot.id) +
                     (model.stale ? " is not stale any more" : " is stale for no reason"));
    }
}

}  // namespace

namespace {

bool is_now(const cow_rollback& found, const std::optional<RollbackModel>& model) {
    if (!model) {
        return found.state == COW_ROLLBACK_NONE;
    }
    return found.state == (model->scheduled ? COW_ROLLBACK_SCHEDULED : COW_ROLLBACK_RUNNING) &&
           found.target->id == model->target && found.undo == model->undo;
}

void resolve_rollbacks(Machine& machine) {
    World& world = machine.world();
    for_each_origin(machine.store(), [&](cow_origin* origin) {
        std::optional<RollbackModel> model;
        if (const auto found = world.rollbacks.find(origin->id); found != world.rollbacks.end()) {
            model = found->second;
        }
        // what a store that fails was told last may be there or not
        const bool may_go = model && model->scheduled &&
                            (world.deleting.contains(model->target) || world.loss_known_elsewhere);
        const bool gone = may_go && !cow_snapshot_find(&machine.store(), model->target);
        if (gone) {
            model.reset();
            world.rollbacks.erase(origin->id);
        }
        if (is_now(origin->rollback, model)) {
            return;
        }
        if (!world.changing || world.changing->origin != origin->id ||
            !is_now(origin->rollback, world.changing->rollback)) {
            throw Broken("the rollback of origin " + std::to_string(origin->id) +
                         " is not what it was");
        }
        machine.become(*world.changing);
    });
    world.changing.reset();
}

}  // namespace

void resolve(Machine& machine) {
    World& world = machine.world();
    const std::optional<RollbackChange> changing = world.changing;
    resolve_rollbacks(machine);
    if (world.loss_known_elsewhere) {
        drop_lost(machine);
        return;
    }
    const auto exists = [&](std::uint32_t id) {
        return cow_snapshot_find(&machine.store(), id) != nullptr;
    };
    std::size_t created = 0, deleted = 0;
    std::set<std::uint64_t> sets;
    for (const auto& [id, model] : world.creating) {
        created += exists(id);
        if (exists(id)) {
            sets.insert(cow_snapshot_find(&machine.store(), id)->set);
        }
    }
    if (created && (created != world.creating.size() || sets.size() != 1)) {
        throw Broken("a part of a set was made");
    }
    for (const std::uint32_t id : world.deleting) {
        deleted += !exists(id);
    }
    if (deleted && deleted != world.deleting.size()) {
        throw Broken("a part of the snapshots was deleted");
    }
    if (created) {
        world.snapshots.merge(world.creating);
    }
    if (deleted) {
        for (const std::uint32_t id : world.deleting) {
            world.snapshots.erase(id);
        }
    }
    const bool begins =
        changing && changing->rollback && world.creating.contains(changing->rollback->undo);
    const auto begun = begins ? world.rollbacks.find(changing->origin) : world.rollbacks.end();
    const bool runs = begun != world.rollbacks.end() && !begun->second.scheduled;
    if (begins && runs != (created != 0)) {
        throw Broken("a rollback began without its undo snapshot, or that without it");
    }
    world.creating.clear();
    world.deleting.clear();
    for (auto& [id, model] : world.snapshots) {
        if (!exists(id)) {
            throw Broken("snapshot " + std::to_string(id) + " is gone");
        }
        learn_loss(model, *cow_snapshot_find(&machine.store(), id));
        check_stale(world, model, *cow_snapshot_find(&machine.store(), id));
    }
    for_each_snapshot(machine.store(), [&](const cow_snapshot* snapshot) {
        if (!world.snapshots.contains(snapshot->id)) {
            throw Broken("snapshot " + std::to_string(snapshot->id) + " came back");
        }
    });
}

void check_contents(Machine& machine, bool learn) {
    std::vector<std::pair<std::uint32_t, std::uint64_t>> sizes;
    for (const auto& [id, model] : machine.world().snapshots) {
        sizes.emplace_back(id, model.contents->size());
    }
    for (const auto& [id, blocks] : sizes) {
        for (std::uint64_t block = 0; block < blocks; ++block) {
            machine.check_block(id, block, learn);
        }
    }
    const auto& views = machine.world().views;
    for (auto view = views.begin(); view != views.end(); ++view) {
        machine.check_view(view->first, learn);
    }
    machine.world().cut &= !learn;
}

void check_space(Machine& machine, bool idle) {
    cow_store& store = machine.store();
    Recount recount{&store, nullptr, std::vector<std::uint64_t>(store.nr_segments)};
    std::vector<unsigned> owners(store.nr_segments);
    const auto own = [&](const list_head& list) {
        for (const std::uint64_t number : list_of(store, list)) {
            ++owners[number];
        }
    };
    for_each_origin(store, [&](cow_origin* origin) {
        recount.origin = origin;
        count_index(recount, origin->index);
        for (list_head* at = origin->epochs.next; at != &origin->epochs; at = at->next) {
            own(container_of(at, cow_epoch, list)->segments);
        }
    });
    recount.origin = nullptr;
    for_each_origin(store, [&](cow_origin* origin) {
        if (cow_overlay* shown = origin->rollback.shown.overlay) {
            count_index(recount, shown->index);
            own(shown->segments);
        }
    });
    for_each_snapshot(store, [&](cow_snapshot* snapshot) {
        if (snapshot->overlay) {
            count_index(recount, snapshot->overlay->index);
            own(snapshot->overlay->segments);
        }
    });
    own(store.zombies);
    const std::set<std::uint64_t> free = list_of(store, store.free_segments);
    if (free.size() != store.nr_free) {
        throw Broken("the count of free segments is wrong");
    }
    for (std::uint64_t i = 0; i < store.nr_segments; ++i) {
        if (owners[i] + free.contains(i) != 1 ||
            free.contains(i) != (store.segments[i].state == COW_SEGMENT_FREE)) {
            throw Broken("segment " + std::to_string(i) + " leaked");
        }
        check_segment(machine, store.segments[i], i, recount.live[i], idle);
    }
    if (idle && store.pool.reserved) {
        throw Broken("nodes of the index are promised to nobody");
    }
}

void check_empties(Machine& machine) {
    const std::map<std::uint32_t, RollbackModel> rollbacks = machine.world().rollbacks;
    for (const auto& [origin, rollback] : rollbacks) {
        if (rollback.scheduled && machine.cancel(origin)) {
            throw Broken("a scheduled rollback cannot be cancelled: " + machine.why());
        }
    }
    machine.drain();
    while (!machine.world().snapshots.empty()) {
        if (machine.remove({machine.world().snapshots.begin()->first})) {
            throw Broken("a snapshot cannot be deleted: " + machine.why());
        }
    }
    machine.drain();
    if (machine.store().nr_free != machine.store().nr_segments) {
        throw Broken(std::to_string(machine.store().nr_segments - machine.store().nr_free) +
                     " segments are not free although there is no snapshot");
    }
    check_space(machine, true);
}

}  // namespace sim
