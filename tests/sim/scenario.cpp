// SPDX-License-Identifier: GPL-2.0-or-later
// Random runs, see scenario.hpp.
#include "scenario.hpp"

#include <algorithm>
#include <numeric>

#include "checks.hpp"
#include "trace.hpp"
#include "worlds.hpp"

namespace sim {

namespace {

World random_world(std::uint64_t seed) {
    Random random(seed);
    Shape shape;
    shape.segment_blocks = 16u << random.below(3);
    shape.segments = 12 + random.below(20);
    shape.origins = static_cast<std::uint32_t>(1 + random.below(3));
    shape.origin_blocks = 20 + random.below(80);
    return make_world(shape);
}

}  // namespace

Scenario* Scenario::allocating_ = nullptr;

Counts& Counts::operator+=(const Counts& other) {
    steps += other.steps;
    cuts += other.cuts;
    faults += other.faults;
    recoveries += other.recoveries;
    damages += other.damages;
    refused += other.refused;
    return *this;
}

Scenario::Scenario(std::uint64_t seed, Cuts cuts)
    : seed_(seed),
      random_(seed_of(seed, ~0ull)),
      world_(random_world(random_.next())),
      crasher_(random_.next(), cuts == Cuts::every_io ? 2 : 1) {
    world_.fronts = random_.one_in(2);
    crasher_.continue_one_in = cuts == Cuts::every_io ? 40 : 10;
    crasher_.cut_one_in =
        cuts == Cuts::every_io ? 1 : 15 + static_cast<unsigned>(random_.below(30));
    for (const Fault fault : {Fault::store_write, Fault::store_read, Fault::origin_read,
                              Fault::origin_write, Fault::memory}) {
        if (random_.one_in(3)) {
            faults_.push_back(fault);
        }
    }
    start();
}

Scenario::~Scenario() {
    disarm();
}

// Activates the store. It may be refused while something fails, never after.
void Scenario::start() {
    Options options;
    options.max_extents = static_cast<std::uint32_t>(random_.one_in(3) ? 3 : 64);
    options.busy_control = random_.one_in(2);
    const std::uint64_t seed = random_.next();
    const bool failing = store_failing_ || reads_fail_one_in_ || memory_fails_one_in_;
    for (const bool last : {false, true}) {
        if (last) {
            disarm();
        } else if (!failing) {
            continue;
        }
        machine_.emplace(world_, seed, options);
        machine_->read_fails = [this](IoKind kind) {
            return (kind == IoKind::origin_read ? origin_fails_one_in_ : reads_fail_one_in_) &&
                   random_.one_in(kind == IoKind::origin_read ? *origin_fails_one_in_
                                                              : *reads_fail_one_in_);
        };
        machine_->origin_write_fails = [this] {
            return origin_fails_one_in_ && random_.one_in(*origin_fails_one_in_);
        };
        machine_->fails = [this](IoKind) {
            if (store_writes_left_ && !--store_writes_left_) {
                store_failing_ = true;
            }
            return store_fails_for_good_ ? store_failing_ : std::exchange(store_failing_, false);
        };
        const int r = machine_->open();
        trace("activation{}: {} {}", last ? "" : " with faults", r, r ? machine_->why() : "");
        if (!r && !last) {
            // What failed may have hidden something: EIO is right, wrong data are not.
            const bool damaged = std::exchange(world_.damaged, true);
            if (!world_.loss_known_elsewhere) {
                resolve(*machine_);
                check_contents(*machine_);
            }
            world_.damaged = damaged;
        }
        if (r && last) {
            throw Broken("the store is refused: " + machine_->why());
        }
    }
    ++counts_.recoveries;
    resolve(*machine_);
    check_contents(*machine_, true);
    check_space(*machine_, false);
    machine_->begin_scheduled();
    run_.emplace(*machine_, seed_);
    crasher_.attach(*machine_);
}

// Then it has a marker, and nobody uses it.
bool Scenario::rolls_back(std::uint32_t origin) const {
    const auto found = world_.rollbacks.find(origin);
    return (found != world_.rollbacks.end() && !found->second.scheduled) ||
           (world_.changing && world_.changing->origin == origin);
}

// What may happen before a machine is in front of the origins again. The kernel's count tells in
// the same boot; over boots only how the origin looks does, which a file system changes.
void Scenario::write_unseen_by_machines() {
    const bool same_boot = left_ && random_.one_in(2);
    const bool writes = random_.one_in(3);
    const bool other_boot = !same_boot && writes && random_.one_in(2);
    world_.same_boot = same_boot || (writes && !other_boot);
    if (!same_boot) {
        boot(world_);
    }
    for (auto& [id, disk] : world_.origins) {
        if (!writes || random_.one_in(2) || rolls_back(id)) {
            continue;
        }
        if (other_boot) {
            const OriginDevice& device = world_.devices[id];
            const bool elsewhere = !device.vague && !device.watched.empty() && random_.one_in(2);
            write_unseen(world_, id, elsewhere ? *device.watched.begin() : 0);
        }
        write_unseen(world_, id, random_.below(disk.size()));
    }
}

// The store comes back as it is, or after a power cut; in the first case all is let go first.
void Scenario::restart() {
    run_.reset();
    machine_->crash_point = nullptr;
    machine_->control_crash_point = nullptr;
    left_ = false;
    switch (random_.below(4)) {
        case 0:
            disarm();
            machine_->close();
            machine_.reset();
            left_ = true;
            trace("closed");
            break;
        case 1: {
            disarm();
            machine_->drain();
            check_contents(*machine_);
            check_space(*machine_, true);
            machine_.reset();
            trace("gone without being closed");
            break;
        }
        default: {
            World after = machine_->crash(static_cast<unsigned>(random_.below(4)));
            machine_.reset();
            world_ = std::move(after);
            ++counts_.cuts;
            trace("power cut");
        }
    }
    if (world_.fronts) {
        write_unseen_by_machines();
    }
    if (!faults_.empty() && random_.one_in(3)) {
        arm(faults_[random_.below(faults_.size())]);
    }
    start();
}

void Scenario::arm(Fault fault) {
    ++counts_.faults;
    trace("from now on fails: {}", static_cast<int>(fault));
    switch (fault) {
        case Fault::store_write:
            store_writes_left_ = 1 + random_.below(20);
            store_fails_for_good_ = random_.one_in(2);
            break;
        case Fault::store_read:
            reads_fail_one_in_ = 1 + random_.below(60);
            break;
        case Fault::origin_read:
        case Fault::origin_write:
            origin_fails_one_in_ = 1 + random_.below(4);
            break;
        case Fault::memory:
            memory_fails_one_in_ = 1 + random_.below(20);
            allocating_ = this;
            cow_alloc_allowed = [](size_t) { return allocating_->allocation_allowed(); };
    }
}

void Scenario::disarm() {
    store_writes_left_ = 0;
    store_failing_ = false;
    reads_fail_one_in_.reset();
    origin_fails_one_in_.reset();
    memory_fails_one_in_.reset();
    cow_alloc_allowed = nullptr;
}

bool Scenario::allocation_allowed() {
    return !random_.one_in(*memory_fails_one_in_);
}

void Scenario::step(std::uint64_t number) {
    ++counts_.steps;
    trace("step {}", number);
    random_ = Random(seed_of(~seed_, number));
    crasher_.reseed(random_.next());
    if (random_.one_in(80)) {
        restart();
        return;
    }
    if (!faults_.empty() && random_.one_in(40)) {
        arm(faults_[random_.below(faults_.size())]);
    }
    run_->step(number);
    // A store that began to fail goes on with that; the rest was for this step.
    reads_fail_one_in_.reset();
    origin_fails_one_in_.reset();
    memory_fails_one_in_.reset();
    cow_alloc_allowed = nullptr;
}

void Scenario::finish() {
    disarm();
    run_.reset();
    machine_->crash_point = nullptr;
    machine_->control_crash_point = nullptr;
    machine_->drain();
    check_contents(*machine_);
    check_space(*machine_, true);
    machine_.reset();
    start();
    machine_->crash_point = nullptr;
    machine_->control_crash_point = nullptr;
    check_empties(*machine_);
}

Counts Scenario::counts() const {
    Counts counts = counts_;
    counts.cuts += crasher_.cuts();
    counts.recoveries += crasher_.recoveries();
    return counts;
}

Counts run_steps(std::uint64_t seed, const std::vector<std::uint64_t>& steps, Cuts cuts,
                 std::uint64_t* begun) {
    Scenario scenario(seed, cuts);
    for (const std::uint64_t number : steps) {
        if (begun) {
            ++*begun;
        }
        scenario.step(number);
    }
    scenario.finish();
    return scenario.counts();
}

std::vector<std::uint64_t> all_steps(std::uint64_t count) {
    std::vector<std::uint64_t> steps(count);
    std::iota(steps.begin(), steps.end(), 0);
    return steps;
}

}  // namespace sim
