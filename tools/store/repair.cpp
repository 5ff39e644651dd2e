// SPDX-License-Identifier: GPL-2.0-or-later
// Repairing, from the outside in: control record, segment table, logs, data, metadata slots. Each
// round mends what stopped the one before it.
#include "store/repair.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <map>
#include <set>

#include "base/error.h"
#include "cowsnap_dm.h"
#include "meta/metadata.h"
#include "store/check_parts.h"
#include "store/control_remains.h"
#include "store/super_remains.h"

namespace cowsnap::store {

namespace {

class Repairer {
public:
    Repairer(ShadowBlocks& shadow, RepairPlan& plan, const CheckOptions& options,
             const std::optional<Metadata>& metadata)
        : shadow_(shadow), plan_(plan), options_(options), metadata_(metadata) {}

    void run();

private:
    /// Reads the superblock; without one nothing is known.
    void probe(Engine& engine) const;
    void mendSupers();
    bool mendControl();
    bool mendTables();
    void rewriteControl(Engine& control);
    void writeEmptyTable(const cow_super& super, const LostTable& table, u64 generation);
    bool mendLogs();
    void renewCheckpoints(Engine& engine);
    void mendSlots();
    Metadata newMetadata(const cow_store& control, const Uuid& uuid);
    /// Deletes without activation, which the reason for it prevents.
    void dropInControl(const std::vector<std::uint32_t>& ids, const std::string& reason);
    /// Refuses to drop what a rollback needs: the origin's own device is a mixture meanwhile.
    void mustNotNeed(cow_store& control, const std::vector<std::uint32_t>& ids) const;
    void note(const std::vector<std::uint32_t>& ids, const std::string& reason);
    void must(int error, std::string_view what) const;

    ShadowBlocks& shadow_;
    RepairPlan& plan_;
    CheckOptions options_;
    const std::optional<Metadata>& metadata_;
};

void Repairer::must(int error, std::string_view what) const {
    if (error)
        failErrno(error < 0 ? -error : error, what);
}

void Repairer::probe(Engine& engine) const {
    if (engine.probe() != 0)
        fail(ErrorKind::MetadataCorrupt, "{}: this cannot be repaired", engine.why());
}

void Repairer::mendSupers() {
    if (!supersGone(shadow_))
        return;
    const SuperRemains remains = findSuper(shadow_, options_.progress);
    if (!remains.super)
        fail(ErrorKind::MetadataCorrupt,
             "both superblocks of the store are gone, and what they said cannot be proven ({}); "
             "restore a dump, or wipe the device and start anew",
             remains.why);
    must(writeSupers(shadow_, *remains.super), "the superblocks cannot be written");
    plan_.steps.emplace_back(
        "write both superblocks anew, as all other structures of the store prove them; what "
        "overwrote them is overwritten");
}

void Repairer::note(const std::vector<std::uint32_t>& ids, const std::string& reason) {
    for (const auto id : ids) {
        const auto known = std::any_of(plan_.dropped.begin(), plan_.dropped.end(),
                                       [&](const auto& d) { return d.snapshot.id == id; });
        if (known)
            continue;
        Dropped dropped{{}, reason};
        dropped.snapshot.id = id;
        for (const auto& snapshot : plan_.before.snapshots)
            if (snapshot.id == id)
                dropped.snapshot = snapshot;
        plan_.dropped.push_back(std::move(dropped));
    }
}

void Repairer::mustNotNeed(cow_store& control, const std::vector<std::uint32_t>& ids) const {
    for (const auto id : ids) {
        const cow_snapshot* snapshot = cow_snapshot_find(&control, id);
        if (snapshot != nullptr && cow_rollback_needs(snapshot))
            fail(ErrorKind::Busy,
                 "snapshot {} would have to be dropped, and a rollback of origin {} needs it: "
                 "activate the store, and let the rollback end or cancel it, first",
                 id, snapshot->origin->id);
    }
}

void Repairer::dropInControl(const std::vector<std::uint32_t>& ids, const std::string& reason) {
    Engine control(shadow_);
    probe(control);
    must(control.loadControl(), "the control record cannot be read");
    mustNotNeed(control.get(), ids);
    must(control.drop(ids), "the control record cannot be written");
    note(ids, reason);
}

void Repairer::rewriteControl(Engine& control) {
    cow_store& store = control.get();
    std::vector<std::uint32_t> ids;
    for (const auto& snapshot : plan_.before.snapshots)
        ids.push_back(snapshot.id);
    const ControlRemains remains = remainsOf(shadow_, store.super);
    rebuildControl(store, remains);
    std::erase_if(ids, [&](auto id) { return cow_snapshot_find(&store, id) != nullptr; });
    must(cow_control_format(&store), "the control record cannot be written");
    plan_.steps.push_back(fmt::format("write a new control record with {} origins and {} snapshots",
                                      store.nr_origins, store.nr_snapshots));
    note(ids, "the control record does not prove that it exists");
    for (const auto& [id, target] : remains.rollbacks) {
        const cow_origin* origin = cow_origin_find(&store, id);
        if (origin == nullptr || origin->rollback.state != COW_ROLLBACK_RUNNING)
            plan_.steps.push_back(fmt::format(
                "give up a rollback of origin {} to snapshot {} if it had not ended: then the "
                "origin's own device begins with a marker, and has blocks of both states",
                id, target));
    }
}

bool Repairer::mendControl() {
    Engine control(shadow_);
    probe(control);
    if (control.loadControl() == 0)
        return false;
    rewriteControl(control);
    return true;
}

void Repairer::writeEmptyTable(const cow_super& super, const LostTable& table, u64 generation) {
    // Free; their generations are used up.
    std::vector<cow_owner> owners(table.count, cow_owner{0, 0, 0, generation});
    std::vector<std::byte> image(kBlockBytes);
    cow_table_encode(image.data(), super.uuid, 1, table.first_segment, owners.data(), table.count);
    must(shadow_.write(table.block, 1, image.data()), "the segment table cannot be written");
    must(shadow_.write(table.block + 1, 1, image.data()), "the segment table cannot be written");
    plan_.steps.push_back(fmt::format("free the segments {} to {}, whose owners are not known",
                                      table.first_segment, table.first_segment + table.count - 1));
}

bool Repairer::mendTables() {
    Engine control(shadow_);
    probe(control);
    must(control.loadControl(), "the control record cannot be read");
    const auto lost = lostTables(shadow_, control.get().super);
    for (const auto& table : lost) {
        const SegmentTraces traces = tracesIn(shadow_, control.get(), table);
        std::vector<std::uint32_t> still_there;
        {
            Engine now(shadow_);
            probe(now);
            must(now.loadControl(), "the control record cannot be read");
            for (const auto id : traces.snapshots)
                if (cow_snapshot_find(&now.get(), id) != nullptr)
                    still_there.push_back(id);
        }
        if (!still_there.empty())
            dropInControl(still_there,
                          fmt::format("it may have blocks in the segments {} to {}, whose owners "
                                      "are not known",
                                      table.first_segment, table.first_segment + table.count - 1));
        writeEmptyTable(control.get().super, table, traces.generation);
    }
    return !lost.empty();
}

std::string touchedText(const Report& report, std::uint32_t id) {
    for (const auto& finding : report.findings)
        if (finding.damage && std::find(finding.snapshots.begin(), finding.snapshots.end(), id) !=
                                  finding.snapshots.end())
            return fmt::format("{}: {}", finding.structure, finding.what);
    return "batches of its log are missing";
}

/// Both checkpoints and the journal anew, as the engine does it when the journal is full.
void Repairer::renewCheckpoints(Engine& engine) {
    cow_store& store = engine.get();
    const u32 most = store.super.journal_blocks;
    u32 written = 0;
    for (u32 i = 0; i < 2 * most && written < 2; ++i) {
        const u32 fill = store.journal_fill;
        cow_op op{};
        op.op = COWSNAP_OP_COUNTERS;
        op.epoch = store.next_epoch;
        op.set = store.next_set;
        op.activation = store.activation;
        must(cow_control_commit(&store, &op, 1), "the control record cannot be written");
        written += store.journal_fill < fill;
    }
    plan_.steps.emplace_back("write the control record again from what is valid in it");
}

/// False when the store does not activate; then the snapshots for which it does not are dropped.
bool Repairer::mendLogs() {
    const Report report = check(shadow_, options_);
    Engine engine(shadow_);
    probe(engine);
    if (engine.open() != 0) {
        const u64 number = cow_super_block_segment(&engine.get().super, engine.lastRead());
        if (number == COW_NONE_SEGMENT || number >= engine.get().nr_segments)
            fail(ErrorKind::MetadataCorrupt, "{}: this cannot be repaired", engine.why());
        const cow_owner owner = engine.get().segments[number].owner;
        const std::string reason = engine.why();
        const auto ids = snapshotsUsing(engine.get(), owner);
        if (ids.empty())
            fail(ErrorKind::MetadataCorrupt, "{}: this cannot be repaired", reason);
        // the engine wrote nothing yet
        dropInControl(ids, reason);
        return false;
    }
    std::set<std::uint32_t> ids;
    for (const auto& finding : report.findings)
        if (finding.damage)
            ids.insert(finding.snapshots.begin(), finding.snapshots.end());
    for (const cow_snapshot* snapshot : snapshotsOf(engine.get()))
        if (snapshot->damaged)
            ids.insert(snapshot->id);
    must(engine.run(), "the store cannot be written");
    const std::vector<std::uint32_t> list(ids.begin(), ids.end());
    mustNotNeed(engine.get(), list);
    if (!list.empty())
        must(engine.drop(list), "the control record cannot be written");
    for (const auto id : list)
        note({id}, touchedText(report, id));
    must(engine.run(), "the store cannot be written");
    cow_store_settle(&engine.get());
    must(engine.run(), "the store cannot be written");
    const auto is_control = [](const Finding& finding) {
        return finding.structure == "control record" && finding.snapshots.empty();
    };
    if (std::any_of(report.findings.begin(), report.findings.end(), is_control))
        renewCheckpoints(engine);
    return true;
}

void Repairer::mendSlots() {
    Engine control(shadow_);
    probe(control);
    must(control.loadControl(), "the control record cannot be read");
    const cow_super& super = control.get().super;
    const auto slots = readSlots(shadow_, super);
    Uuid::Bytes uuid{};
    std::memcpy(uuid.data(), super.uuid, uuid.size());
    const auto write = [&](std::uint64_t slot, const std::vector<std::byte>& image) {
        must(shadow_.write(super.slot_block + slot * super.slot_blocks, image.size() / kBlockBytes,
                           image.data()),
             "the metadata slots cannot be written");
    };
    const Slot* newest = newestSlot(slots);
    if (!slotsUnusable(slots) && (newest != nullptr || !metadata_)) {
        for (std::uint64_t i = 0; i < slots.size() && newest != nullptr; ++i) {
            if (slots[i].header.state == SlotState::Valid)
                continue;
            write(i, encodeSlot(Uuid(uuid), newest->header.generation + 1, newest->header.schema,
                                newest->body));
            plan_.steps.push_back(fmt::format("write metadata slot {} from the other one", i));
        }
        return;
    }
    const Metadata metadata = newMetadata(control.get(), Uuid(uuid));
    std::uint64_t generation = 0;
    for (const auto& slot : slots)
        generation = std::max(generation, slot.header.generation);
    for (std::uint64_t i = 0; i < slots.size(); ++i)
        write(i, encodeSlot(metadata.store, generation + 1 + i, metadataSchema(metadata),
                            formatMetadata(metadata)));
}

/// Of what is in the control record, whatever an old state said of others.
Metadata Repairer::newMetadata(const cow_store& control, const Uuid& uuid) {
    Metadata metadata;
    if (metadata_) {
        metadata = *metadata_;
        if (metadata.store != uuid)
            fail(ErrorKind::InvalidArgument,
                 "that metadata is of the store {}, and this is the store {}",
                 metadata.store.dashed(), uuid.dashed());
        std::erase_if(metadata.snapshots, [&](const auto& snapshot) {
            const cow_snapshot* found = nullptr;
            for (const cow_snapshot* there : snapshotsOf(control))
                if (there->id == snapshot.id)
                    found = there;
            const auto* const origin = metadata.origin(snapshot.origin);
            return found == nullptr || origin == nullptr || found->origin->id != origin->id;
        });
        plan_.steps.push_back(fmt::format(
            "write the metadata that was given: {} origins and {} of {} snapshots are "
            "known by their names",
            metadata.origins.size(), metadata.snapshots.size(), snapshotsOf(control).size()));
    } else {
        metadata.store = uuid;
        metadata.name = "store-" + metadata.store.brief();
        plan_.steps.emplace_back(
            "write new metadata: the names of store, origins and snapshots, and which devices the "
            "origins are, are lost, unless there is a backup (--metadata); the snapshots stay");
    }
    for (const cow_origin* origin : originsOf(control))
        metadata.next_origin_id = std::max(metadata.next_origin_id, origin->id + 1);
    for (const cow_snapshot* snapshot : snapshotsOf(control))
        metadata.next_snapshot_id = std::max(metadata.next_snapshot_id, snapshot->id + 1);
    return metadata;
}

void Repairer::run() {
    constexpr int rounds = 8;
    mendSupers();
    for (int round = 0; round < rounds; ++round) {
        if (mendControl() || mendTables() || !mendLogs())
            continue;
        mendSlots();
        plan_.after = check(shadow_, options_);
        if (plan_.after.passed())
            return;
    }
    fail(ErrorKind::MetadataCorrupt, "the store cannot be repaired: {}",
         plan_.after.findings.empty() ? plan_.after.refusal : plan_.after.findings.front().what);
}

}  // namespace

namespace {

/// No damage: a store that only dmsetup had is so. Whoever knows what they said may write them.
bool slotsAreBlank(ShadowBlocks& shadow) {
    Engine engine(shadow);
    if (engine.probe() != 0)
        return false;
    const auto slots = readSlots(shadow, engine.get().super);
    return std::all_of(slots.begin(), slots.end(),
                       [](const Slot& slot) { return slot.header.state == SlotState::Blank; });
}

}  // namespace

RepairPlan planRepair(ShadowBlocks& shadow, const CheckOptions& options,
                      const std::optional<Metadata>& metadata) {
    RepairPlan plan;
    plan.before = check(shadow, options);
    plan.after = plan.before;
    plan.fills_slots = metadata && slotsAreBlank(shadow);
    if (plan.before.findings.empty() && !plan.fills_slots)
        return plan;
    Repairer(shadow, plan, options, metadata).run();
    return plan;
}

}  // namespace cowsnap::store
