// SPDX-License-Identifier: GPL-2.0-or-later
// Pruning: retention evaluated on the snapshots of a store, and what goes deleted.
#include <spdlog/spdlog.h>

#include <algorithm>
#include <ctime>
#include <set>
#include <span>

#include "cowsnap_dm.h"
#include "model/done_so_far.h"
#include "model/engine.h"
#include "model/snapshot_checks.h"

namespace cowsnap {

namespace {

RetentionCandidate candidateFrom(const StoreState& store, const SnapshotRecord& record) {
    const SnapshotState& state = store.snapshots.at(record.id);
    RetentionCandidate candidate;
    candidate.snapshot = record.uuid;
    candidate.origin = record.origin;
    candidate.id = record.id;
    candidate.created = record.created;
    candidate.set = record.set;
    candidate.expires = record.expires;
    candidate.held = !record.holds.empty();
    candidate.open = state.mapped && state.mapped->open_count > 0;
    candidate.replaced = isReplaced(state);
    candidate.in_rollback = rollbackNeeds(store, record);
    candidate.sound = state.line.state == COWSNAP_STATE_ACTIVE;
    candidate.lost = state.line.state == COWSNAP_STATE_LOST;
    return candidate;
}

bool hasTags(const SnapshotRecord& record, const std::set<std::string>& tags) {
    return std::includes(record.tags.begin(), record.tags.end(), tags.begin(), tags.end());
}

PruneResult notPruned(const StoreState& store, const std::string& problem) {
    const LogFields about(logFieldsOf(store));
    spdlog::warn("the store {} is not pruned, it cannot be used: {}", store.name, problem);
    return {std::nullopt, store.name, PruneResult::Action::Failed,
            fmt::format("the store cannot be used: {}", problem)};
}

void addDeleted(const StoreState& store, std::span<const PruneResult> results, DoneSoFar& done) {
    std::vector<PruneResult> deleted;
    for (const auto& result : results)
        if (result.action == PruneResult::Action::Delete)
            deleted.push_back(result);
    if (!deleted.empty())
        done.add(fmt::format("deleted of the store {}: {}", store.name, namesOf(deleted)));
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
    std::vector<PruneResult> results;
    for (const auto& [uuid, store] : stores_) {
        // Nobody waits for one that may never be started.
        if (store.starting) {
            if (chosen.empty())
                results.push_back(notPruned(store, store.problem));
            continue;
        }
        // What one has that cannot be used is not always known.
        if ((chosen.empty() && !store.problem.empty()) ||
            std::any_of(store.metadata.origins.begin(), store.metadata.origins.end(),
                        [&](const auto& origin) { return is_chosen(origin.uuid); })) {
            turns_.require(uuid);
            of_stores.push_back(uuid);
        }
    }
    DoneSoFar done;
    std::uint64_t number = 0;
    for (const Uuid& uuid : of_stores) {
        try {
            turns_.step({number++, of_stores.size()});
        } catch (const Error& error) {
            done.rethrow(error);
        }
        StoreState& store = stores_.at(uuid);
        if (!store.problem.empty()) {
            // Of one that was named storeOfOrigin() has said so.
            results.push_back(notPruned(store, store.problem));
            continue;
        }
        try {
            load(store);
        } catch (const Error& error) {
            if (!chosen.empty())
                done.rethrow(error);
            results.push_back(notPruned(store, error.what()));
            continue;
        }
        std::vector<RetentionCandidate> candidates;
        for (const auto& record : store.metadata.snapshots)
            if (is_chosen(record.origin) && hasTags(record, options.tags))
                candidates.push_back(candidateFrom(store, record));
        const auto verdicts = evaluateRetention(options.rules, candidates, options.now);
        const std::size_t first = results.size();
        pruneStore(store, verdicts, options.dry_run, results);
        addDeleted(store, std::span(results).subspan(first), done);
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
            if (results[i].action == Action::Delete &&
                store.metadata.snapshot(*results[i].snapshot) != nullptr) {
                results[i].action = Action::Failed;
                results[i].reason = error.what();
            }
    }
}

}  // namespace cowsnap
