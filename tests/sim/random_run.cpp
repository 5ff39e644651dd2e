// SPDX-License-Identifier: GPL-2.0-or-later
// Users who do anything at any time, see random_run.hpp.
#include "random_run.hpp"

#include <algorithm>

namespace sim {

std::uint32_t RandomRun::any_origin() {
    const auto& origins = machine_.world().origins;
    return std::next(origins.begin(), static_cast<std::ptrdiff_t>(random_.below(origins.size())))
        ->first;
}

std::uint32_t RandomRun::any_snapshot() {
    const auto& snapshots = machine_.world().snapshots;
    return std::next(snapshots.begin(),
                     static_cast<std::ptrdiff_t>(random_.below(snapshots.size())))
        ->first;
}

void RandomRun::write() {
    const std::uint32_t origin = any_origin();
    const std::uint64_t blocks = machine_.world().origins.at(origin).size();
    const std::uint64_t block = random_.below(blocks);
    const std::uint64_t most = random_.one_in(8) ? 80 : 4;
    machine_.write(origin, block, 1 + random_.below(std::min(most, blocks - block)));
}

void RandomRun::create() {
    const auto& world = machine_.world();
    if (world.snapshots.size() >= max_snapshots) {
        remove();
        return;
    }
    std::uint32_t id = 1;
    Machine::Members members;
    const bool all = random_.one_in(2);
    const std::uint32_t one = any_origin();
    for (const auto& [origin, disk] : world.origins) {
        while (world.snapshots.contains(id)) {
            ++id;
        }
        if (all || origin == one) {
            members.emplace_back(id++, origin);
        }
    }
    between_drained_and_committed();
    machine_.create(members);
    machine_.before_commit = nullptr;
}

// The engine does not stop for a create.
void RandomRun::between_drained_and_committed() {
    if (random_.one_in(3)) {
        machine_.before_commit = [this] { machine_.mark(); };
    }
}

void RandomRun::remove() {
    if (!machine_.world().snapshots.empty()) {
        machine_.remove({any_snapshot()}, random_.one_in(4));
    }
}

void RandomRun::use_snapshot() {
    if (machine_.world().snapshots.empty()) {
        return;
    }
    const std::uint32_t id = any_snapshot();
    const std::uint64_t blocks = machine_.world().snapshots.at(id).contents->size();
    const std::uint64_t block = random_.below(blocks);
    const std::uint64_t in_window = COW_WINDOW_BLOCKS - block % COW_WINDOW_BLOCKS;
    const std::uint64_t length = 1 + random_.below(std::min(in_window, blocks - block));
    if (random_.one_in(3)) {
        machine_.overlay_write(id, block, length);
    } else {
        machine_.read(id, block, length);
    }
}

void RandomRun::extend() {
    const std::uint64_t blocks = machine_.world().store.size();
    if (blocks < 3000) {
        machine_.extend(blocks + 20 + random_.below(300));
    }
}

void RandomRun::use_rollback() {
    const auto& world = machine_.world();
    const std::uint32_t origin = any_origin();
    const auto found = world.rollbacks.find(origin);
    if (found != world.rollbacks.end()) {
        if (random_.one_in(12) && creates) {
            machine_.cancel(origin);
        } else if (random_.one_in(4)) {
            machine_.read_origin(origin, random_.below(world.origins.at(origin).size()));
        } else {
            machine_.copy();
        }
        return;
    }
    if (!creates || world.damaged || world.snapshots.empty() || !random_.one_in(3)) {
        return;
    }
    const std::uint32_t target = any_snapshot();
    const SnapshotModel& model = world.snapshots.at(target);
    std::uint32_t undo = 1;
    while (world.snapshots.contains(undo)) {
        ++undo;
    }
    if (model.stale || world.snapshots.size() > max_snapshots) {
        return;
    }
    if (random_.one_in(4)) {
        machine_.schedule(model.origin, target, undo);
    } else {
        between_drained_and_committed();
        machine_.roll_back(model.origin, target, undo);
        machine_.before_commit = nullptr;
    }
}

// In an order that changes every now and then: some I/Os take very long.
void RandomRun::end_io(std::uint64_t number) {
    Random era(seed_of(seed_, ~(number / 48)));
    const std::uint64_t order = era.below(8);
    const auto slow = static_cast<IoKind>(era.below(7));
    machine_.step([&](std::list<Io>& ios) {
        if (order == 0) {
            return ios.begin();
        }
        if (order == 1) {
            return std::prev(ios.end());
        }
        const auto any = [&] {
            return std::next(ios.begin(), static_cast<std::ptrdiff_t>(random_.below(ios.size())));
        };
        auto io = any();
        for (int tries = 0; order > 4 && io->kind == slow && tries < 8; ++tries) {
            io = any();
        }
        return io;
    });
}

void RandomRun::act() {
    switch (random_.below(15)) {
        case 0:
            if (creates) {
                create();
            }
            break;
        case 1:
            if (creates && random_.one_in(2)) {
                remove();
            } else if (random_.one_in(6)) {
                extend();
            } else if (random_.one_in(24)) {
                machine_.spoil(any_origin());
            }
            break;
        case 2:
            machine_.mark();
            break;
        case 3:
            machine_.sweep_step(4);
            break;
        case 4:
            machine_.flush(any_origin());
            break;
        case 5:
        case 6:
        case 7:
            use_snapshot();
            break;
        case 12:
        case 13:
        case 14:
            use_rollback();
            break;
        default:
            if (machine_.writers() < 12) {
                write();
            }
    }
}

void RandomRun::step(std::uint64_t number) {
    random_ = Random(seed_of(seed_, number));
    machine_.reseed(random_.next());
    if (random_.below(24) < 11) {
        end_io(number);
    } else {
        act();
    }
}

void RandomRun::steps(std::uint64_t count) {
    for (std::uint64_t i = 0; i < count; ++i) {
        step(i);
    }
}

}  // namespace sim
