// SPDX-License-Identifier: GPL-2.0-or-later
// Power cuts, see crash.hpp.
#include "crash.hpp"

#include <algorithm>
#include <utility>

#include "checks.hpp"
#include "random_run.hpp"
#include "trace.hpp"

namespace sim {

namespace {
constexpr unsigned kDepth = 2;

// What happens on a copy has all the memory it wants.
class EnoughMemory {
public:
    EnoughMemory() : before_(std::exchange(cow_alloc_allowed, nullptr)) {}
    ~EnoughMemory() { cow_alloc_allowed = before_; }
    EnoughMemory(const EnoughMemory&) = delete;
    EnoughMemory& operator=(const EnoughMemory&) = delete;

private:
    bool (*before_)(size_t);
};

// What happens on a copy is not part of the run.
class Silence {
public:
    Silence() : before_(std::exchange(tracing, false)) {}
    ~Silence() { tracing = before_; }
    Silence(const Silence&) = delete;
    Silence& operator=(const Silence&) = delete;

private:
    bool before_;
};

}  // namespace

void Crasher::attach(Machine& machine) {
    const auto every = [this](Machine& m) {
        if (random_.one_in(cut_one_in)) {
            point(m, 0, variants_);
        }
    };
    machine.crash_point = every;
    machine.control_crash_point = every;
}

void Crasher::point(Machine& machine, unsigned depth, unsigned variants) {
    const EnoughMemory enough;
    if (subsets_of) {
        try_subsets(machine, depth);
    }
    for (unsigned variant = 0; variant < variants; ++variant) {
        const unsigned which =
            depth || variants_ == 1 ? static_cast<unsigned>(random_.below(4)) : variant;
        recover(machine.crash(which), depth, random_.one_in(continue_one_in));
    }
}

void Crasher::try_subsets(Machine& machine, unsigned depth) {
    const std::size_t writes = machine.writes_in_flight();
    const std::size_t bits = std::min<std::size_t>(writes, subsets_of);
    for (std::uint64_t subset = 0; subset < std::uint64_t{1} << bits; ++subset) {
        const std::uint64_t present = writes > bits ? random_.next() : subset;
        const auto loss = static_cast<OriginDisk::Loss>(random_.below(3));
        recover(machine.crash_with(present, loss), depth, random_.one_in(continue_one_in));
    }
}

void Crasher::recover(World world, unsigned depth, bool thorough) {
    ++cuts_;
    const Silence silence;
    {
        Machine machine(world, random_.next());
        if (depth < kDepth) {
            machine.control_crash_point = [this, depth](Machine& m) {
                if (random_.one_in(nest_one_in)) {
                    point(m, depth + 1, 1);
                }
            };
        }
        if (machine.open()) {
            throw Broken("after a power cut the store is refused: " + machine.why());
        }
        machine.control_crash_point = nullptr;
        resolve(machine);
        check_contents(machine, true);
        check_space(machine, false);
        ++recoveries_;
        if (!thorough) {
            return;
        }
        machine.begin_scheduled();
        machine.drain();
        check_contents(machine);
        check_space(machine, true);
    }
    go_on(world, depth);
}

void Crasher::go_on(World& world, unsigned depth) {
    {
        Machine machine(world, random_.next());
        if (machine.open()) {
            throw Broken("the store is refused the second time: " + machine.why());
        }
        ++recoveries_;
        if (depth < kDepth) {
            machine.crash_point = [this, depth](Machine& m) {
                if (random_.one_in(8)) {
                    point(m, depth + 1, 1);
                }
            };
        }
        RandomRun run(machine, random_.next());
        run.creates = depth == 0;
        run.steps(40);
        machine.drain();
        check_contents(machine);
        check_space(machine, true);
    }
    Machine machine(world, random_.next());
    if (machine.open()) {
        throw Broken("the store is refused the third time: " + machine.why());
    }
    machine.drain();
    check_contents(machine);
    check_empties(machine);
    ++recoveries_;
}

}  // namespace sim
