// SPDX-License-Identifier: GPL-2.0-or-later
// A machine that rolls origins back: the shell's part of rollback.c, one I/O at a time, and what an
// origin must look like meanwhile.
#include <algorithm>
#include <array>

#include "machine.hpp"
#include "trace.hpp"

namespace sim {

namespace {

cow_origin* origin_of(cow_store& store, std::uint32_t id) {
    return cow_origin_find(&store, id);
}

bool allowed(const Versions& found, const std::vector<Versions>& candidates) {
    for (std::size_t s = 0; s < kSectors; ++s) {
        if (std::none_of(candidates.begin(), candidates.end(),
                         [&](const Versions& one) { return one[s] == found[s]; })) {
            return false;
        }
    }
    return true;
}

std::string name_of(std::uint32_t origin, std::uint64_t block) {
    return "origin " + std::to_string(origin) + " block " + std::to_string(block);
}

}  // namespace

// ------------------------------------------------------------ begin, cancel ---

Contents Machine::contents_of(std::uint32_t snapshot) const {
    const SnapshotModel& model = world_.snapshots.at(snapshot);
    Contents contents = *model.contents;
    for (const auto& [block, written] : model.overlay) {
        if (written.acknowledged) {
            contents[block] = all_of(written.acknowledged);
        }
    }
    return contents;
}

RollbackChange Machine::now(std::uint32_t origin) const {
    RollbackChange change{origin, {}, {}};
    if (const auto found = world_.rollbacks.find(origin); found != world_.rollbacks.end()) {
        change.rollback = found->second;
    }
    return change;
}

void Machine::become(const RollbackChange& change) {
    world_.rollbacks.erase(change.origin);
    if (change.rollback) {
        world_.rollbacks.emplace(change.origin, *change.rollback);
    }
    if (change.view) {
        world_.views.insert_or_assign(change.origin, *change.view);
    }
}

int Machine::roll_back(std::uint32_t origin, std::uint32_t target, std::uint32_t undo) {
    cow_member member{};
    member.snapshot = undo;
    member.origin = origin;
    member.target = target;
    trace("roll origin {} back to snapshot {}, undo {}", origin, target, undo);
    const int r = create_members({member});
    if (!r) {
        copiers_[origin] = {};
    }
    return r;
}

int Machine::schedule(std::uint32_t origin, std::uint32_t target, std::uint32_t undo) {
    std::array<char, COW_WHY_BYTES> why{};
    cow_member member{};
    member.snapshot = undo;
    member.origin = origin;
    member.target = target;
    if (store_.broken) {
        return -EIO;
    }
    world_.changing = now(origin);
    world_.changing->rollback = RollbackModel{target, undo, true};
    const int r = cow_rollback_schedule(&store_, &member, why.data());
    why_ = why.data();
    trace("schedule origin {} to snapshot {}: {}", origin, target, r);
    engine();
    if (!r) {
        become(*world_.changing);
    }
    if (!r || !store_.broken) {  // else it may be recorded or not
        world_.changing.reset();
    }
    point();
    return r;
}

int Machine::cancel(std::uint32_t id) {
    if (store_.broken) {
        return -EIO;
    }
    std::array<char, COW_WHY_BYTES> why{};
    cow_origin* origin = origin_of(store_, id);
    if (origin->rollback.state == COW_ROLLBACK_RUNNING) {
        stop_copying();
        const auto writing = [&] {
            return std::any_of(writes_.begin(), writes_.end(),
                               [&](const auto& write) { return write.second->origin == id; });
        };
        while (writing()) {
            if (!step()) {
                return -EBUSY;
            }
        }
    }
    RollbackChange next = now(id);
    const bool running = origin->rollback.state == COW_ROLLBACK_RUNNING;
    if (running) {
        const std::uint32_t undo = origin->rollback.undo;
        next.rollback = RollbackModel{undo, 0, false};
        if (undo) {
            next.view.emplace(contents_of(undo));
        }
    } else {
        next.rollback.reset();
    }
    world_.changing = next;
    const int r = running ? cow_rollback_reverse(origin, why.data())
                          : cow_rollback_unschedule(origin, why.data());
    why_ = why.data();
    trace("cancel the rollback of origin {}: {} {}", id, r, why_);
    const bool unknown = running && r && store_.broken && origin->rollback.undo == 0 &&
                         next.rollback->target == origin->rollback.target->id;
    if (!r || unknown) {
        RollbackChange before = now(id);
        if (running) {
            before.view = world_.views.at(id);
        }
        become(next);
        world_.changing = before;
    }
    engine();
    const bool recorded_or_not = !running && r && store_.broken;
    if (!unknown && !recorded_or_not) {
        world_.changing.reset();
    }
    if (running) {
        copiers_[id] = {};
    }
    point();
    return r;
}

void Machine::begin_scheduled() {
    const std::map<std::uint32_t, RollbackModel> rollbacks = world_.rollbacks;
    for (const auto& [origin, model] : rollbacks) {
        if (model.scheduled) {
            roll_back(origin, model.target, model.undo);
        }
    }
}

// ------------------------------------------------------------------ copying ---

void Machine::give_back(std::uint32_t origin) {
    ++engine_depth_;
    cow_rollback_give_back(origin_of(store_, origin));
    --engine_depth_;
    copiers_.at(origin).failed = false;
    copiers_.at(origin).phase = Copier::Phase::open;
    copiers_.at(origin).first = false;
    engine();
}

// A preserved write of the copier's own.
void Machine::copy_back(std::uint32_t origin, std::uint64_t block, std::vector<Versions> contents) {
    auto owned = std::make_unique<Write>();
    Write& write = *owned;
    write.origin = origin;
    write.block = block;
    write.length = contents.size();
    write.version = 0;
    write.copied = std::move(contents);
    ++copiers_.at(origin).under_way;
    write.ended = [this, origin](bool failed) {
        Copier& copier = copiers_.at(origin);
        --copier.under_way;
        copier.failed |= failed;
    };
    trace("copy back: origin {}, {} blocks from {}", origin, write.length, block);
    writes_.emplace(&write.waiter, std::move(owned));
    ++engine_depth_;
    advance(write);
    --engine_depth_;
}

void Machine::read_for_copying(std::uint32_t id, std::uint64_t block) {
    Copier& copier = copiers_.at(id);
    enum cow_where where = COW_AT_ERROR;
    u64 location = 0;
    ++view_depth_;
    cow_snapshot_lookup(&origin_of(store_, id)->rollback.shown, block, 1, &where, &location);
    --view_depth_;
    if (where == COW_AT_ERROR) {
        copier.failed = true;
        copier.unreadable.insert(block);
    }
    if (where != COW_AT_STORE) {
        return;
    }
    ++copier.under_way;
    issue(IoKind::snapshot_read, [this, id, block, location](int) {
        Copier& reader = copiers_.at(id);
        --reader.under_way;
        reader.failed |= read_fails && read_fails(IoKind::snapshot_read);
        const std::vector<Versions> right = world_.views.at(id).candidates(block, false);
        const auto shown = std::find_if(right.begin(), right.end(), [&](const Versions& one) {
            return world_.store.holds(location, id, block, one);
        });
        if (shown == right.end()) {
            broken("what would be copied back to " + name_of(id, block) + " is wrong");
        } else {
            reader.blocks[block] = *shown;
        }
        ++view_depth_;
        cow_store_unpin(&store_, location);
        --view_depth_;
    });
}

// Reads what must be copied of the window, or of the first blocks. False: not yet.
bool Machine::collect(std::uint32_t id) {
    cow_origin* origin = origin_of(store_, id);
    Copier& copier = copiers_.at(id);
    if (!cow_rollback_settled(origin)) {
        return false;
    }
    copier.blocks.clear();
    copier.unreadable.clear();
    const u64 from = copier.first ? 0 : origin->rollback.mark;
    const u64 to = copier.first ? std::min<u64>(COWSNAP_MARKER_BLOCKS, origin->blocks)
                                : origin->rollback.window;
    for (u64 block = from; block < to; ++block) {
        read_for_copying(id, block);
    }
    copier.phase = Copier::Phase::write;
    return true;
}

bool Machine::write_all(std::uint32_t id, std::uint64_t from, std::uint64_t to) {
    std::map<std::uint64_t, Versions>& blocks = copiers_.at(id).blocks;
    for (auto block = blocks.lower_bound(from); block != blocks.end() && block->first < to;) {
        const std::uint64_t begin = block->first;
        std::vector<Versions> run;
        for (; block != blocks.end() && block->first == begin + run.size() && block->first < to;
             ++block) {
            run.push_back(block->second);
        }
        copy_back(id, begin, std::move(run));
    }
    return true;
}

// What has been recorded, or not.
bool Machine::passed(std::uint32_t id, int r) {
    engine();
    if (r && !store_.broken) {
        give_back(id);
    }
    return r == 0;
}

void Machine::copy_first(std::uint32_t id) {
    Copier& copier = copiers_.at(id);
    const std::uint64_t blocks = world_.origins.at(id).size();
    const std::uint64_t most = std::min<std::uint64_t>(COWSNAP_MARKER_BLOCKS, blocks);
    const Versions marker = all_of(world_.next_version++);
    if (copier.phase == Copier::Phase::marker) {
        copier.phase = Copier::Phase::zeros;
        copy_back(id, 0, {marker});
        return;
    }
    world_.origins.at(id).flush();
    copier.phase = Copier::Phase::open;
    if (most > 1) {
        copy_back(id, 1, std::vector<Versions>(most - 1, marker));
    }
}

bool Machine::copy(std::uint32_t id) {
    const auto found = copiers_.find(id);
    if (found == copiers_.end() || store_.broken || found->second.under_way) {
        return false;
    }
    Copier& copier = found->second;
    cow_origin* origin = origin_of(store_, id);
    OriginDisk& disk = world_.origins.at(id);
    using Phase = Copier::Phase;
    if (copier.failed) {
        const bool stuck = !copier.unreadable.empty();
        const bool marker =
            copier.phase == Phase::zeros || (copier.phase == Phase::open && !copier.first);
        give_back(id);
        copier.phase = marker ? Phase::marker : stuck ? Phase::stuck : Phase::open;
        return copier.phase != Phase::stuck;
    }
    switch (copier.phase) {
        case Phase::marker:
        case Phase::zeros:
            copy_first(id);
            break;
        case Phase::open:
            disk.flush();
            ++engine_depth_;
            copier.first = !cow_rollback_open(origin, 1 + static_cast<u32>(random_.below(20)));
            --engine_depth_;
            copier.phase = Phase::settle;
            break;
        case Phase::settle:
            if (!collect(id)) {
                return false;
            }
            break;
        case Phase::write:
            copier.phase = copier.first ? Phase::first : Phase::pass;
            write_all(id, copier.first ? 1 : 0, COWSNAP_NONE);
            break;
        case Phase::pass: {
            disk.flush();
            copier.phase = Phase::open;
            const int r = cow_rollback_pass(origin);
            trace("origin {} is rolled back up to {}: {}", id, origin->rollback.mark, r);
            passed(id, r);
            break;
        }
        case Phase::first:
            disk.flush();
            copier.phase = Phase::finish;
            write_all(id, 0, 1);
            break;
        case Phase::finish: {
            disk.flush();
            world_.changing = now(id);
            world_.changing->rollback.reset();
            const int r = cow_rollback_finish(origin);
            trace("origin {} is rolled back: {}", id, r);
            if (!r) {
                become(*world_.changing);
            }
            const bool over = passed(id, r);
            world_.changing.reset();
            if (over) {
                copiers_.erase(id);
            }
            break;
        }
        default:
            return false;
    }
    engine();
    point();
    return true;
}

// What the user does when copying waits for good: what cannot be had any more is written anew;
// where nobody knows what was written, the rollback is cancelled. False: there is nothing to do.
bool Machine::help(std::uint32_t id) {
    const cow_rollback& rollback = origin_of(store_, id)->rollback;
    if (rollback.shown.overlay->incomplete) {
        return rollback.undo && cancel(id) == 0;
    }
    const auto is_writing = [id](const auto& write) { return write.second->origin == id; };
    if (std::any_of(writes_.begin(), writes_.end(), is_writing)) {
        return false;  // perhaps for room
    }
    Copier& copier = copiers_.at(id);
    for (const std::uint64_t block : copier.unreadable) {
        write(id, block, 1);
    }
    copier.phase = copier.unreadable.empty() ? Copier::Phase::open : Copier::Phase::stuck;
    copier.unreadable.clear();
    return true;
}

bool Machine::copy() {
    bool more = false;
    for (const auto& [id, disk] : world_.origins) {
        const cow_origin* origin = origin_of(store_, id);
        if (origin && origin->rollback.state == COW_ROLLBACK_RUNNING) {
            copiers_.try_emplace(id);
            more |= copy(id);
            const auto found = copiers_.find(id);
            if (found != copiers_.end() && found->second.phase == Copier::Phase::stuck) {
                more |= help(id);
            }
        }
    }
    return more;
}

void Machine::stop_copying() {
    for (auto& [id, copier] : copiers_) {
        while (copier.under_way && step()) {
        }
        if (!store_.broken && !copier.under_way) {
            give_back(id);
            copier.phase = Copier::Phase::marker;
        }
    }
}

// ----------------------------------------------------------- users of origins ---

// True: the write goes to the origin.
bool Machine::advance_shown(Write& write) {
    const auto view = world_.views.find(write.origin);
    if (write.under_way && store_.broken) {
        writes_.erase(&write.waiter);  // nobody knows where it is: an error
        return false;
    }
    for (; write.under_way; --write.under_way, ++write.block, --write.length) {
        if (view != world_.views.end()) {
            view->second.apply(write.block, all_of(write.version));
            view->second.complete(write.block, all_of(write.version));
        }
    }
    if (!write.length) {
        writes_.erase(&write.waiter);
        return false;
    }
    INIT_LIST_HEAD(&write.waiter.list);
    write.waiter.block = write.block;
    write.waiter.length = write.length;
    cow_extent* extent = nullptr;
    switch (cow_rollback_write(origin_of(store_, write.origin), &write.waiter, &extent)) {
        case COW_ROUTE_ORIGIN:
            return true;
        case COW_ROUTE_ERROR:
            writes_.erase(&write.waiter);
            return false;
        default:
            break;
    }
    if (extent) {
        auto* own = static_cast<Extent*>(extent);
        for (std::uint64_t i = 0; i < extent->length; ++i) {
            fill(own->data.data() + i * kBlock, write.origin, extent->block + i,
                 all_of(write.version));
        }
        write.under_way = extent->length;
        cow_extent_filled(extent, 0);
    }
    return false;
}

void Machine::read_origin(std::uint32_t id, std::uint64_t block) {
    cow_origin* origin = origin_of(store_, id);
    const auto view = world_.views.find(id);
    if (view == world_.views.end() || !cow_rollback_shows(&origin->rollback, block)) {
        return;
    }
    const std::size_t since = view->second.issued();
    const std::vector<Versions> before = view->second.candidates(block, false);
    enum cow_where where = COW_AT_ERROR;
    u64 location = 0;
    ++view_depth_;
    ++origin->rollback.readers;
    cow_snapshot_lookup(&origin->rollback.shown, block, 1, &where, &location);
    --view_depth_;
    const Versions sampled = world_.origins.at(id).current()[block];
    issue(IoKind::snapshot_read, [=, this](int) {
        std::vector<Versions> right = before;
        const auto now = world_.views.find(id);
        if (now != world_.views.end()) {
            const auto later = now->second.issued_since(since, block);
            right.insert(right.end(), later.begin(), later.end());
        }
        bool wrong = false;
        if (where == COW_AT_STORE) {
            wrong = std::none_of(right.begin(), right.end(), [&](const Versions& one) {
                return world_.store.holds(location, id, block, one);
            });
            ++view_depth_;
            cow_store_unpin(&store_, location);
            --view_depth_;
        } else if (where == COW_AT_ORIGIN) {
            std::size_t which = 0;
            wrong = look(&origin->rollback.shown, block, &sampled, right, which) == Answer::other;
        }
        ++view_depth_;
        --origin->rollback.readers;
        --view_depth_;
        // Cancelled meanwhile: it may show either.
        if (wrong && now != world_.views.end() && now->second.issued() >= since) {
            broken("a read of " + name_of(id, block) + " during a rollback is wrong");
        }
    });
    point();
}

void Machine::check_view(std::uint32_t id, bool learn) {
    cow_origin* origin = origin_of(store_, id);
    OriginDisk& view = world_.views.at(id);
    const auto rollback = world_.rollbacks.find(id);
    for (std::uint64_t block = 0; block < view.size(); ++block) {
        const std::vector<Versions> right = view.candidates(block, world_.cut);
        Versions found = world_.origins.at(id).current()[block];
        if (cow_rollback_shows(&origin->rollback, block)) {
            std::size_t which = 0;
            const Answer answer = look(&origin->rollback.shown, block, nullptr, right, which);
            const SnapshotModel& target = world_.snapshots.at(rollback->second.target);
            if (answer == Answer::error && (target.unreadable.contains(block) || world_.damaged)) {
                continue;
            }
            if (answer == Answer::error) {
                throw Broken(name_of(id, block) + " cannot be read during a rollback");
            }
            if (answer == Answer::other) {
                throw Broken(name_of(id, block) + " is wrong during a rollback");
            }
            found = right[which];
        } else if (!allowed(found, right)) {
            throw Broken(name_of(id, block) + " is wrong since a rollback");
        }
        if (learn && world_.cut) {
            view.learn(block, found);
        }
    }
}

}  // namespace sim
