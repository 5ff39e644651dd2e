// SPDX-License-Identifier: GPL-2.0-or-later
// What is left of a control record that the engine refuses, and what that proves. A transaction is
// missing; all behind the last gap are known. A snapshot that was made behind it and not deleted
// there exists for sure. One made before may have been deleted in the gap, its segments used for
// others: nothing is known of it.
#ifndef COWSNAP_STORE_CONTROL_REMAINS_H
#define COWSNAP_STORE_CONTROL_REMAINS_H

#include <cstdint>
#include <map>
#include <vector>

#include "store/blocks.h"
#include "store/core.h"

namespace cowsnap::store {

struct ControlRemains {
    std::vector<cow_op> behind_gap;  ///< in their order
    /// Snapshots (and their origins) that were made and are not known to have been deleted.
    std::map<std::uint32_t, std::uint32_t> mentioned;
    /// Origins that were being rolled back, as far as is known, and the snapshots they went to.
    std::map<std::uint32_t, std::uint32_t> rollbacks;
    // Above all that was ever used.
    u64 transaction = 0;
    u64 epoch = 0;
    u64 set = 0;
    u64 activation = 0;
};

ControlRemains remainsOf(Blocks& blocks, const cow_super& super);

/// Makes the state that is proven of the one that the engine got as far as.
void rebuildControl(cow_store& store, const ControlRemains& remains);

}  // namespace cowsnap::store

#endif
