// SPDX-License-Identifier: GPL-2.0-or-later
// The machine, see machine.hpp: the scheduler, and what a power cut leaves.
#include "machine.hpp"
#include "trace.hpp"

#include <algorithm>
#include <array>
#include <cstring>

namespace sim {

Machine::Machine(World& world, std::uint64_t seed, Options options)
    : world_(world), random_(seed), options_(options) {
    cow_store_init(&store_, &ops(), this);
    if (!world_.same_boot) {
        boot(world_);
    }
}

Machine::~Machine() {
    // As after a power cut: what was in flight is forgotten, memory is not.
    std::vector<cow_extent*> extents;
    std::vector<cow_batch*> batches;
    const auto collect = [&](cow_log& log) {
        for (list_head& bucket : log.hash) {
            for (list_head* at = bucket.next; at != &bucket; at = at->next) {
                extents.push_back(container_of(at, cow_extent, hash));
            }
        }
        for (list_head* at = log.writing.next; at != &log.writing; at = at->next) {
            batches.push_back(container_of(at, cow_batch, list));
        }
    };
    for (list_head* at = store_.origins.next; at != &store_.origins; at = at->next) {
        cow_origin* origin = container_of(at, cow_origin, list);
        collect(origin->log);
        if (origin->rollback.shown.overlay) {
            collect(origin->rollback.shown.overlay->log);
        }
    }
    for (list_head* at = store_.snapshots.next; at != &store_.snapshots; at = at->next) {
        cow_snapshot* snapshot = container_of(at, cow_snapshot, all);
        if (snapshot->overlay) {
            collect(snapshot->overlay->log);
        }
    }
    for (list_head* at = store_.dying_overlays.next; at != &store_.dying_overlays; at = at->next) {
        collect(container_of(at, cow_overlay, dying)->log);
    }
    cow_store_destroy(&store_);
    for (cow_extent* extent : extents) {
        std::unique_ptr<Extent> owned(static_cast<Extent*>(extent));
    }
    for (cow_batch* batch : batches) {
        std::unique_ptr<cow_batch> owned(batch);
    }
}

void Machine::broken(const std::string& what) {
    if (failure_.empty()) {
        failure_ = what;
    }
}

void Machine::point() {
    if (!failure_.empty()) {
        throw Broken(failure_);
    }
    if (crash_point) {
        crash_point(*this);
    }
}

void Machine::engine() {
    run_engine();
    // Control functions are one at a time.
    if (!control_depth_ && std::exchange(store_failed_, false)) {
        record_loss();
        run_engine();
    }
    if (!control_depth_) {
        change_fronts();
    }
}

void Machine::lose(Loss loss) {
    for (auto& [id, model] : world_.snapshots) {
        model.loss = loss;
    }
    for (auto& [id, model] : world_.creating) {
        model.loss = loss;
    }
}

// What the shell does when the store has failed: origins go on only after this.
void Machine::record_loss() {
    ++control_depth_;
    const int r = cow_store_record_loss(&store_);
    if (r) {
        world_.lost_sets = cow_store_last_set(&store_);
        cow_store_let_go(&store_);
    }
    --control_depth_;
    world_.loss_known_elsewhere |= r != 0;
    lose(Loss::recorded);
}

void Machine::run_engine() {
    ++engine_depth_;
    cow_store_run(&store_);
    while (!ready_.empty()) {
        const std::vector<const cow_waiter*> ready = std::exchange(ready_, {});
        for (const cow_waiter* waiter : ready) {
            if (const auto found = writes_.find(waiter); found != writes_.end()) {
                advance(*found->second);
            } else {
                advance(*overlay_writes_.at(waiter));
            }
        }
        cow_store_run(&store_);
    }
    --engine_depth_;
    if (!failure_.empty()) {
        throw Broken(failure_);
    }
}

void Machine::complete(std::list<Io>::iterator io) {
    const Io ended = std::move(*io);
    pending_.erase(io);
    const bool failed = !ended.data.empty() && fails && fails(ended.kind);
    trace("I/O {} ends{}", ended.number, failed ? " with an error" : "");
    if (failed) {
        world_.store.tear(ended.block, ended.data, random_);
    } else if (!ended.data.empty()) {
        world_.store.write(ended.block, ended.data.data(), ended.data.size() / kBlock);
    }
    ++engine_depth_;
    ended.done(failed ? -EIO : 0);
    --engine_depth_;
    engine();
    point();
}

bool Machine::step(const Choice& choice) {
    if (pending_.empty()) {
        return false;
    }
    complete(choice(pending_));
    return true;
}

bool Machine::step() {
    return step([this](std::list<Io>& ios) {
        return std::next(ios.begin(), static_cast<std::ptrdiff_t>(random_.below(ios.size())));
    });
}

bool Machine::sweep_step(std::uint32_t budget) {
    bool more = false;
    for (list_head* at = store_.origins.next; at != &store_.origins; at = at->next) {
        cow_origin* origin = container_of(at, cow_origin, list);
        if (origin->sweep_chunk != COW_NOT_FOUND) {
            ++engine_depth_;
            more |= cow_sweep(origin, budget) || origin->sweep_chunk != COW_NOT_FOUND;
            --engine_depth_;
        }
    }
    engine();
    return more;
}

bool Machine::drop_for_room() {
    if (!options_.drop_when_full || full_.empty() || store_.nr_free) {
        return false;
    }
    const cow_snapshot* oldest = nullptr;
    for (const cow_log* log : full_) {
        oldest = oldest ? oldest : cow_oldest_to_drop(log->origin);
    }
    if (!oldest) {
        return extend_for_rollback();
    }
    if (remove({oldest->id}, true)) {
        throw Broken("the oldest snapshot cannot be dropped: " + why_);
    }
    return true;
}

// Whether writes wait for copying to come by.
static bool is_held(cow_store& store) {
    for (list_head* at = store.origins.next; at != &store.origins; at = at->next) {
        if (!list_empty(&container_of(at, cow_origin, list)->rollback.waiting)) {
            return true;
        }
    }
    return false;
}

// A rollback needs what is there: only more room helps.
bool Machine::extend_for_rollback() {
    return std::any_of(full_.begin(), full_.end(),
                       [](const cow_log* log) {
                           return log->origin->rollback.state == COW_ROLLBACK_RUNNING;
                       }) &&
           !extend(world_.store.size() + 300);
}

void Machine::drain(bool roll_back) {
    // Many times what copying back takes, with all that fails and is tried again.
    constexpr unsigned most_copies = 20'000;
    unsigned copies = 0;
    engine();
    for (bool retried = false;;) {
        if (copies > most_copies) {
            throw Broken("copying back does not end");
        }
        // What fails has the engine begin I/O, too.
        if (step() || sweep_step(16) || (roll_back && copy() && ++copies != 0) || drop_for_room() ||
            (!roll_back && is_held(store_) && (stop_copying(), !is_held(store_))) ||
            !pending_.empty()) {
            retried = false;
        } else if (!retried && (!list_empty(&store_.starved) || cow_store_wants_run(&store_))) {
            // The shell's timer, for those who found no memory.
            store_.retry = true;
            engine();
            retried = true;
        } else {
            break;
        }
    }
    if (options_.drop_when_full && writers()) {
        throw Broken("a write waits for ever");
    }
    if (!writers() && !cow_store_idle(&store_)) {
        throw Broken("the engine is not idle although nothing is to be done");
    }
}

std::size_t Machine::writes_in_flight() const {
    return static_cast<std::size_t>(std::count_if(pending_.begin(), pending_.end(),
                                                  [](const Io& io) { return !io.data.empty(); })) +
           (control_in_flight_ ? 1 : 0);
}

World Machine::crash_with(std::uint64_t present, OriginDisk::Loss loss) {
    World after = world_;
    const auto hit = [&](std::uint64_t block, const Bytes& data) {
        if (present & 1) {
            after.store.write(block, data.data(), data.size() / kBlock);
        }
        present >>= 1;
    };
    for (const Io& io : pending_) {
        if (!io.data.empty()) {
            hit(io.block, io.data);
        }
    }
    if (control_in_flight_) {
        hit(control_in_flight_->first, control_in_flight_->second);
    }
    for (auto& [id, disk] : after.origins) {
        disk.crash(loss, random_);
    }
    after.same_boot = false;
    after.cut = true;
    return after;
}

World Machine::crash_sectors(
    const std::function<bool(std::size_t write, std::size_t sector)>& present) {
    World after = crash(0);
    std::size_t write = 0;
    for (const Io& io : pending_) {
        if (!io.data.empty()) {
            after.store.write_sectors(io.block, io.data,
                                      [&](std::size_t sector) { return present(write, sector); });
            ++write;
        }
    }
    return after;
}

World Machine::crash_torn(const std::function<bool(std::size_t sector)>& present) {
    World after = crash(0);
    after.store.write_sectors(control_in_flight_->first, control_in_flight_->second, present);
    return after;
}

World Machine::crash(unsigned variant) {
    World after = world_;
    const auto hit = [&](std::uint64_t block, const Bytes& data) {
        const std::uint64_t fate = variant < 2 ? variant : random_.below(4);
        if (fate == 1) {
            after.store.write(block, data.data(), data.size() / kBlock);
        } else if (fate > 1) {
            after.store.tear(block, data, random_);
        }
    };
    for (const Io& io : pending_) {
        if (!io.data.empty()) {
            hit(io.block, io.data);
        }
    }
    if (control_in_flight_) {
        hit(control_in_flight_->first, control_in_flight_->second);
    }
    for (auto& [id, disk] : after.origins) {
        disk.crash(variant == 0   ? OriginDisk::Loss::everything
                   : variant == 1 ? OriginDisk::Loss::nothing
                                  : OriginDisk::Loss::some,
                   random_);
    }
    after.same_boot = false;
    after.cut = true;
    return after;
}

}  // namespace sim
