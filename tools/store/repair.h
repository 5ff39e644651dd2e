// SPDX-License-Identifier: GPL-2.0-or-later
// Making a damaged store right again: everything that can be proven exact stays, every snapshot
// that cannot is dropped. All of it happens on a shadow first, so that what it will cost is known,
// and that it helps, before a byte is written.
#ifndef COWSNAP_STORE_REPAIR_H
#define COWSNAP_STORE_REPAIR_H

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "meta/metadata.h"
#include "store/blocks.h"
#include "store/check.h"

namespace cowsnap::store {

struct Dropped {
    SnapshotFact snapshot;
    std::string reason;
};

struct RepairPlan {
    Report before;
    std::vector<std::string> steps;  ///< what is done, in words
    std::vector<Dropped> dropped;
    Report after;              ///< of the shadow, once all is done
    bool fills_slots = false;  ///< both metadata slots were blank, and are written

    /// There is something to repair, and repairing it makes a difference.
    bool needed() const {
        return !before.passed() || fills_slots || after.findings.size() < before.findings.size();
    }
};

/// Repairs the shadow. Throws Error: MetadataCorrupt if what is left proves nothing, and as
/// check() does. options.data: snapshots that would return damaged data are dropped too.
/// metadata: what the slots said once, for the case that both are damaged, or blank;
/// InvalidArgument if it is of another store.
RepairPlan planRepair(ShadowBlocks& shadow, const CheckOptions& options = {},
                      const std::optional<Metadata>& metadata = {});

}  // namespace cowsnap::store

#endif
