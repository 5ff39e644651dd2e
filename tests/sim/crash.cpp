// SPDX-License-Identifier: GPL-2.0-or-later
// Power cuts, see crash.hpp.
#include "crash.hpp"

#include "checks.hpp"
#include "random_run.hpp"

namespace sim {

namespace {
constexpr unsigned kDepth = 2;
}

void Crasher::attach(Machine& machine) {
    const auto every = [this](Machine& m) { point(m, 0, variants_); };
    machine.crash_point = every;
    machine.control_crash_point = every;
}

void Crasher::point(Machine& machine, unsigned depth, unsigned variants) {
    for (unsigned variant = 0; variant < variants; ++variant) {
        const unsigned which = depth ? static_cast<unsigned>(random_.below(4)) : variant;
        recover(machine.crash(which), depth, random_.one_in(continue_one_in));
    }
}

void Crasher::recover(World world, unsigned depth, bool thorough) {
    ++cuts_;
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
        if (!thorough) {
            return;
        }
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
}

}  // namespace sim
