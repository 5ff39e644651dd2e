// SPDX-License-Identifier: GPL-2.0-or-later
// A store that was used, made by the engine on the simulator's disks; the same every time.
#ifndef COWSNAP_TESTS_FUZZ_WORLD_H
#define COWSNAP_TESTS_FUZZ_WORLD_H

#include "blocks.h"

namespace cowsnap::fuzz {

/// settled: it was let go of in order; otherwise its segments are open, and what they have is
/// proven.
MemoryBlocks usedStore(std::uint64_t seed, bool settled, std::uint64_t steps);

}  // namespace cowsnap::fuzz

#endif
