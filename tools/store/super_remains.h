// SPDX-License-Identifier: GPL-2.0-or-later
// A store without superblocks: something was written over its first blocks. All other structures
// carry the store's UUID, and each can stand in one place only, so that together they prove where
// everything is, as the superblock would say it.
#ifndef COWSNAP_STORE_SUPER_REMAINS_H
#define COWSNAP_STORE_SUPER_REMAINS_H

#include <optional>
#include <string>

#include "base/uuid.h"
#include "store/blocks.h"
#include "store/check.h"
#include "store/core.h"

namespace cowsnap::store {

struct SuperRemains {
    /// Whose control record was found; none: nothing is left of a store, or there was none.
    std::optional<Uuid> store;
    /// The only one that all structures agree with.
    std::optional<cow_super> super;
    std::string why;  ///< there is none
};

/// Whether both superblocks are gone, and not merely of another version or of a larger device.
bool supersGone(Blocks& blocks);

/// Reads the first blocks, and all of them if there are structures of a store.
SuperRemains findSuper(Blocks& blocks, const Progress& progress);

/// Writes both copies. 0 or a negative errno.
int writeSupers(Blocks& blocks, const cow_super& super);

}  // namespace cowsnap::store

#endif
