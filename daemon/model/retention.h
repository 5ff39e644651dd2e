// SPDX-License-Identifier: GPL-2.0-or-later
// Which snapshots may go: rules such as "one a day for a week", and times of expiry. Pure; knows
// no store.
#ifndef COWSNAP_MODEL_RETENTION_H
#define COWSNAP_MODEL_RETENTION_H

#include <cstdint>
#include <string>
#include <vector>

#include "base/uuid.h"

namespace cowsnap {

/// How many are kept by each rule; 0: the rule is not given.
struct RetentionRules {
    std::uint64_t last = 0;
    std::uint64_t hourly = 0;
    std::uint64_t daily = 0;
    std::uint64_t weekly = 0;
    std::uint64_t monthly = 0;
    std::uint64_t yearly = 0;
    bool operator==(const RetentionRules&) const = default;
};

/// A snapshot, as far as retention looks at it.
struct RetentionCandidate {
    Uuid snapshot;
    Uuid origin;
    std::uint32_t id = 0;
    std::uint64_t created = 0;  ///< seconds since 1970
    std::uint64_t set = 0;      ///< equal for the members of a set of one store
    std::uint64_t expires = 0;  ///< seconds since 1970; 0: never
    bool held = false;
    bool open = false;
    bool replaced = false;     ///< someone gave its mapped device another table
    bool in_rollback = false;  ///< a rollback needs it
    bool sound = true;         ///< neither stale nor damaged
    bool lost = false;         ///< nothing can be read from it
};

struct RetentionVerdict {
    Uuid snapshot;
    bool goes = false;
    std::string reason;
};

/// Says of each candidate, in their order, whether it goes:
///
/// - A snapshot with a time of expiry goes when that has come, and not before; the rules do not see
///   it.
/// - Of the others, each rule keeps so many hours, days, weeks (from Monday), months or years, in
///   the time zone of this process: of each the newest snapshot. They are counted back from the
///   newest, for each origin by itself; those without a snapshot do not count. "last" keeps so many
///   of the newest. What no rule keeps goes. Without any rule nothing goes but what has expired.
/// - Where a rule can choose, it keeps a sound snapshot rather than one that is stale or damaged. A
///   lost one is of no use to any rule.
/// - What a rule keeps of a set keeps the other members that no rule keeps: a part of a set is not
///   what it was made for.
/// - Whatever is held, open or needed by a rollback stays.
///
/// The candidates are all of one store, so that their sets are comparable.
std::vector<RetentionVerdict> evaluateRetention(const RetentionRules& rules,
                                                const std::vector<RetentionCandidate>& candidates,
                                                std::uint64_t now);

}  // namespace cowsnap

#endif
