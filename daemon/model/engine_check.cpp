// SPDX-License-Identifier: GPL-2.0-or-later
// What is wrong with a store that runs, as far as the kernel knows without reading all of it.
#include "base/size_text.h"
#include "cowsnap_dm.h"
#include "model/engine.h"

namespace cowsnap {

namespace {

using About = StoreFinding::About;

std::vector<StoreFinding> findingsOfOrigins(const StoreState& store) {
    std::vector<StoreFinding> findings;
    for (const auto& origin : store.metadata.origins) {
        const auto found = store.origins.find(origin.id);
        const auto add = [&](const std::string& text) {
            findings.push_back({About::Origin, origin.uuid, origin.name, false, text});
        };
        if (found == store.origins.end() || !found->second.mapped)
            add(fmt::format(
                "it is not attached{}{}",
                found == store.origins.end() || found->second.problem.empty() ? "" : ": ",
                found == store.origins.end() ? "" : found->second.problem));
        else if (!found->second.problem.empty())
            add(found->second.problem);
        if (found != store.origins.end() && found->second.mapped &&
            found->second.status.rollback == COWSNAP_ROLLBACK_WAITING)
            add("its rollback waits: a block cannot be read or written, or the store is full or "
                "fails");
    }
    return findings;
}

std::vector<StoreFinding> findingsOfSnapshots(const StoreState& store) {
    std::vector<StoreFinding> findings;
    for (const auto& snapshot : store.metadata.snapshots) {
        const auto found = store.snapshots.find(snapshot.id);
        if (found == store.snapshots.end())
            continue;
        const std::string& state = found->second.line.state;
        const auto add = [&](bool damage, const std::string& text) {
            findings.push_back({About::Snapshot, snapshot.uuid, snapshot.name, damage, text});
        };
        if (state == COWSNAP_STATE_DAMAGED)
            add(true, "some of its blocks are damaged: they read as errors, the others are exact");
        else if (state == COWSNAP_STATE_LOST)
            add(true,
                "it is lost: it missed writes of its origin and reads as errors; it can only "
                "be deleted");
        else if (state == COWSNAP_STATE_STALE)
            add(false,
                "it is stale: its origin was written while nothing was in front of it, or its "
                "device became smaller, so it is not what the origin was at its creation");
        if (!found->second.problem.empty())
            add(false, found->second.problem);
    }
    return findings;
}

}  // namespace

void Engine::checkItself(StoreState& store, std::vector<StoreFinding>& findings) {
    const auto add = [&](bool damage, const std::string& text) {
        findings.push_back({About::Store, store.uuid, store.name, damage, text});
    };
    if (!store.problem.empty())
        add(store.problem_kind == ErrorKind::MetadataCorrupt,
            fmt::format("it cannot be used: {}", store.problem));
    if (!store.mapped || !store.slots)
        return;
    if (const std::string damage = store.slots->damage(); !damage.empty())
        add(true, fmt::format("its metadata is damaged ({}); what is damaged of two copies is "
                              "written anew with the next changes",
                              damage));
    if (store.status.state == COWSNAP_STORE_FAILED)
        add(true, "a device of it fails: its snapshots are lost");
    if (store.status.state == COWSNAP_STORE_FULL)
        add(false, "it is full: extend it, or delete snapshots");
    if (store.status.damaged_blocks > 0)
        add(true, fmt::format("{} of it are damaged",
                              sizeText(store.status.damaged_blocks * COWSNAP_BLOCK_BYTES)));
    if (!store.autoextend_problem.empty())
        add(false, store.autoextend_problem);
}

std::vector<StoreFinding> Engine::checkStore(const Uuid& uuid) {
    const auto found = stores_.find(uuid);
    if (found == stores_.end())
        fail(ErrorKind::NotFound, "there is no store {}", uuid.dashed());
    requireTurn(found->second);
    refresh(uuid);
    std::vector<StoreFinding> findings;
    checkItself(found->second, findings);
    if (!found->second.problem.empty())
        return findings;  // what is known of the others is old
    for (const auto& more : {findingsOfOrigins(found->second), findingsOfSnapshots(found->second)})
        findings.insert(findings.end(), more.begin(), more.end());
    return findings;
}

}  // namespace cowsnap
