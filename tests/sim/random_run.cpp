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
    machine_.create(members);
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

void RandomRun::step() {
    switch (random_.below(24)) {
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
        case 8:
        case 9:
        case 10:
        case 11:
        case 12:
            if (machine_.writers() < 12) {
                write();
            }
            break;
        default:
            machine_.step();
    }
}

void RandomRun::steps(std::uint64_t count) {
    for (std::uint64_t i = 0; i < count; ++i) {
        step();
    }
}

}  // namespace sim
