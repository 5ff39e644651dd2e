// SPDX-License-Identifier: GPL-2.0-or-later
// The promises, checked on a machine that runs: contents of snapshots, and what becomes of the
// store's space.
#ifndef COWSNAP_TESTS_SIM_CHECKS_HPP
#define COWSNAP_TESTS_SIM_CHECKS_HPP

#include "machine.hpp"

namespace sim {

// After an activation: what was not acknowledged is wholly there or wholly not; the model becomes
// what is.
void resolve(Machine& machine);
// Every block of every snapshot is what it was.
void check_contents(Machine& machine, bool learn = false);
// Every segment is free or has an owner, live counts are what the indexes say. "idle": nothing is
// in flight, so nothing that could be free is not.
void check_space(Machine& machine, bool idle);
// All snapshots go; then the whole store is free.
void check_empties(Machine& machine);

}  // namespace sim

#endif
