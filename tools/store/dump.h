// SPDX-License-Identifier: GPL-2.0-or-later
// A store as JSON, and back. The JSON says what the structures say, so that it can be read and
// compared; restoring it gives the same bytes in every structure that was valid.
//
// {"format": "cowsnap-store-dump", "version": 1, "data": true,
//  "supers":      [{"copy", "uuid", "generation", ...}],
//  "checkpoints": [{"slot", "transaction", "ops"}],
//  "journal":     [{"position", "transaction", "index", "count", "ops"}],
//  "tables":      [{"first_segment", "copy", "generation", "owners": [[kind, origin, epoch,
//                   generation]]}],
//  "slots":       [{"slot", "generation", "schema", "body"}],
//  "segments":    [{"segment", "batches", "summary", "data": [{"position", "base64"}]}],
//  "unreadable":  [block]}
//
// One segment a line; only segments that a snapshot needs. Left out: what is not valid, what is
// left from before, and what nobody needs any more.
#ifndef COWSNAP_STORE_DUMP_H
#define COWSNAP_STORE_DUMP_H

#include <cstdint>
#include <functional>
#include <istream>
#include <memory>
#include <ostream>

#include "store/blocks.h"
#include "store/check.h"

namespace cowsnap::store {

struct DumpOptions {
    bool data = true;
    Progress progress;  ///< in segments
};

/// Throws Error as check() does, and Failed if a structure has something that the JSON could not
/// say.
void dump(Blocks& blocks, std::ostream& out, const DumpOptions& options = {});

struct RestoreResult {
    std::uint64_t segments = 0;
    bool with_data = true;
    std::uint64_t lost_snapshots = 0;  ///< recorded as lost, because the dump has no data
};

/// Where a dump is restored to.
class RestoreTarget {
public:
    RestoreTarget() = default;
    RestoreTarget(const RestoreTarget&) = delete;
    RestoreTarget& operator=(const RestoreTarget&) = delete;
    virtual ~RestoreTarget() = default;

    /// Called once everything in front of the segments was found right: blocks for a store of so
    /// many. Throws Error to refuse.
    virtual Blocks& open(std::uint64_t store_blocks) = 0;
    /// Makes blocks zero, durably.
    virtual void zero(std::uint64_t block, std::uint64_t count) = 0;
};

/// Throws Error: InvalidArgument, naming the place, if the dump is not understood; before anything
/// is written unless it is wrong in a segment. A target whose writing did not end is no store.
RestoreResult restore(std::istream& in, RestoreTarget& target);

}  // namespace cowsnap::store

#endif
