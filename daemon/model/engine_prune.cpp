// SPDX-License-Identifier: GPL-2.0-or-later
// Pruning: retention evaluated on the snapshots of a store, and what goes deleted.
#include <spdlog/spdlog.h>

#include <algorithm>
#include <ctime>
#include <set>

#include "cowsnap_dm.h"
#include "model/engine.h"

namespace cowsnap {

namespace {

RetentionCandidate candidateFrom(const SnapshotRecord& record, const SnapshotState& state) {
    RetentionCandidate candidate;
    candidate.snapshot = record.uuid;
    candidate.origin = record.origin;
    candidate.id = record.id;
    candidate.created = record.created;
    candidate.set = record.set;
    candidate.expires = record.expires;
    candidate.held = !record.holds.empty();
    candidate.open = state.mapped && state.mapped->open_count > 0;
    candidate.sound = state.line.state == COWSNAP_STATE_ACTIVE;
    candidate.lost = state.line.state == COWSNAP_STATE_LOST;
    return candidate;
}

bool hasTags(const SnapshotRecord& record, const std::set<std::string>& tags) {
    return std::includes(record.tags.begin(), record.tags.end(), tags.begin(), tags.end());
}

}  // namespace

std::vector<PruneResult> Engine::prune(const std::vector<Uuid>& origins,
                                       const PruneOptions& options) {
    for (const auto& origin : origins)
        storeOfOrigin(origin);
    const std::set<Uuid> chosen(origins.begin(), origins.end());
    const auto is_chosen = [&](const Uuid& origin) {
        return chosen.empty() || chosen.contains(origin);
    };
    // Before the first one is pruned: others may appear meanwhile.
    std::vector<Uuid> of_stores;
    for (const auto& [uuid, store] : stores_) {
        if (store.starting) {
            const LogFields about(logFieldsOf(store));
            spdlog::warn("the store {} is not pruned, it cannot be used yet: {}", store.name,
                         store.problem);
            continue;
        }
        if (std::any_of(store.metadata.origins.begin(), store.metadata.origins.end(),
                        [&](const auto& origin) { return is_chosen(origin.uuid); })) {
            turns_.require(uuid);
            of_stores.push_back(uuid);
        }
    }
    std::vector<PruneResult> results;
    std::uint64_t done = 0;
    for (const Uuid& uuid : of_stores) {
        turns_.step({done++, of_stores.size()});
        StoreState& store = stores_.at(uuid);
        if (!store.problem.empty()) {
            // Of one that was named storeOfOrigin() has said so.
            const LogFields about(logFieldsOf(store));
            spdlog::warn("the store {} is not pruned, it cannot be used: {}", store.name,
                         store.problem);
            continue;
        }
        load(store);
        std::vector<RetentionCandidate> candidates;
        for (const auto& record : store.metadata.snapshots)
            if (is_chosen(record.origin) && hasTags(record, options.tags))
                candidates.push_back(candidateFrom(record, store.snapshots.at(record.id)));
        const auto verdicts = evaluateRetention(options.rules, candidates, options.now);
        pruneStore(store, verdicts, options.dry_run, results);
    }
    return results;
}

void Engine::pruneStore(StoreState& store, const std::vector<RetentionVerdict>& verdicts,
                        bool dry_run, std::vector<PruneResult>& results) {
    using Action = PruneResult::Action;
    const std::size_t first = results.size();
    std::vector<Uuid> going;
    for (const auto& verdict : verdicts) {
        results.push_back({verdict.snapshot, store.metadata.snapshot(verdict.snapshot)->name,
                           verdict.goes ? Action::Delete : Action::Keep, verdict.reason});
        if (verdict.goes)
            going.push_back(verdict.snapshot);
    }
    if (dry_run || going.empty())
        return;
    const LogFields about(logFieldsOf(store));
    try {
        deleteInStore(store, going);
        spdlog::info("pruned {} snapshots of the store {}", going.size(), store.name);
    } catch (const Error& error) {
        // The other stores are pruned all the same.
        spdlog::error("the store {} is not pruned: {}", store.name, error.what());
        for (std::size_t i = first; i < results.size(); ++i)
            if (results[i].action == Action::Delete) {
                results[i].action = Action::Failed;
                results[i].reason = error.what();
            }
    }
}

}  // namespace cowsnap
