// SPDX-License-Identifier: GPL-2.0-or-later
// The course of a check, superblocks and metadata slots.
#include "store/check.h"

#include <algorithm>
#include <cstring>

#include "base/error.h"
#include "cowsnap_dm.h"
#include "meta/metadata.h"
#include "store/check_parts.h"
#include "store/control_remains.h"
#include "store/super_remains.h"

namespace cowsnap::store {

bool Report::passed() const {
    return activates && damages() == 0;
}

std::uint64_t Report::damages() const {
    return static_cast<std::uint64_t>(
        std::count_if(findings.begin(), findings.end(), [](const auto& f) { return f.damage; }));
}

void Checker::add(bool damage, std::string structure, std::uint64_t block, std::string what,
                  std::vector<std::uint32_t> snapshots) {
    report.findings.push_back(
        {damage, std::move(structure), block, std::move(what), std::move(snapshots)});
}

ReadBlock readBlocks(Blocks& blocks, std::uint64_t block, std::uint64_t count) {
    ReadBlock result{std::vector<std::byte>(count * kBlockBytes), 0};
    result.error = blocks.read(block, count, result.bytes.data());
    if (result.error)
        std::fill(result.bytes.begin(), result.bytes.end(), std::byte{0});
    return result;
}

std::string faultText(int error, cow_check check) {
    if (error)
        return fmt::format("it cannot be read: {}", std::strerror(-error));
    return cow_check_name(check);
}

void checkSupers(Checker& checker, bool chosen) {
    cow_super supers[2]{};
    cow_check checks[2]{};
    int errors[2]{};
    const std::uint64_t places[2] = {0, COWSNAP_SUPER_COPY_BLOCK};
    for (unsigned i = 0; i < 2; ++i) {
        const ReadBlock read = readBlocks(checker.blocks, places[i]);
        errors[i] = read.error;
        checks[i] = cow_super_decode(read.bytes.data(), checker.blocks.size(), &supers[i]);
    }
    for (unsigned i = 0; i < 2; ++i) {
        if (errors[i] || checks[i] != COW_VALID)
            checker.add(!chosen, "superblock", places[i],
                        fmt::format("copy {}: {}", i, faultText(errors[i], checks[i])));
        else if (supers[i].generation < checker.super.generation)
            checker.add(false, "superblock", places[i],
                        fmt::format("copy {} is of generation {}, the other one of {}", i,
                                    supers[i].generation, checker.super.generation));
    }
}

std::vector<Slot> readSlots(Blocks& blocks, const cow_super& super) {
    Uuid::Bytes bytes{};
    std::memcpy(bytes.data(), super.uuid, bytes.size());
    const Uuid uuid(bytes);
    std::vector<Slot> slots(2);
    for (std::uint64_t i = 0; i < 2; ++i) {
        const std::uint64_t block = super.slot_block + i * super.slot_blocks;
        Slot& slot = slots[i];
        const ReadBlock first = readBlocks(blocks, block);
        if (!first.error)
            slot.header = decodeSlotHeader(first.bytes, uuid, super.slot_blocks * kBlockBytes);
        int error = first.error;
        if (!error && slot.header.state == SlotState::Valid) {
            const ReadBlock whole =
                readBlocks(blocks, block, slotBytesUsed(slot.header.length_bytes) / kBlockBytes);
            error = whole.error;
            slot.body = decodeSlotBody(whole.bytes, slot.header);
        }
        if (error) {
            slot.header.state = SlotState::Damaged;
            slot.header.damage = faultText(error, COW_VALID);
        }
    }
    return slots;
}

const Slot* newestSlot(const std::vector<Slot>& slots) {
    const Slot* newest = nullptr;
    for (const auto& slot : slots)
        if (slot.header.state == SlotState::Valid &&
            (newest == nullptr || slot.header.generation > newest->header.generation))
            newest = &slot;
    return newest;
}

bool slotsUnusable(const std::vector<Slot>& slots) {
    if (const Slot* newest = newestSlot(slots)) {
        try {
            parseMetadata(newest->header.schema, newest->body);
            return false;
        } catch (const Error&) {
            return true;
        }
    }
    // Both blank: nobody but dmsetup may have had the store.
    return std::any_of(slots.begin(), slots.end(),
                       [](const Slot& slot) { return slot.header.state == SlotState::Damaged; });
}

void checkSlots(Checker& checker, const std::vector<Slot>& slots) {
    const bool unusable = slotsUnusable(slots);
    for (std::size_t i = 0; i < slots.size(); ++i) {
        const std::uint64_t block = checker.super.slot_block + i * checker.super.slot_blocks;
        const Slot& slot = slots[i];
        if (slot.header.state == SlotState::Damaged) {
            checker.add(unusable, "metadata slot", block,
                        fmt::format("slot {}: {}", i, slot.header.damage));
        } else if (slot.header.state == SlotState::Blank &&
                   (unusable || newestSlot(slots) != nullptr)) {
            checker.add(unusable, "metadata slot", block, fmt::format("slot {}: it is blank", i));
        } else if (unusable && &slot == newestSlot(slots)) {
            try {
                parseMetadata(slot.header.schema, slot.body);
            } catch (const Error& error) {
                checker.add(true, "metadata slot", block,
                            fmt::format("slot {}: {}", i, error.what()));
            }
        }
    }
}

namespace {

/// mentioned: snapshots that the engine did not get to, and their origins.
void describe(Report& report, const cow_store& store, const std::vector<Slot>& slots,
              std::map<std::uint32_t, std::uint32_t> mentioned) {
    std::map<std::uint32_t, std::string> names;
    if (const Slot* newest = newestSlot(slots)) {
        try {
            for (const auto& snapshot :
                 parseMetadata(newest->header.schema, newest->body).snapshots)
                names[snapshot.id] = snapshot.name;
        } catch (const Error&) {
            names.clear();  // checkSlots() tells
        }
    }
    report.origins = store.nr_origins;
    for (const cow_snapshot* snapshot : snapshotsOf(store)) {
        report.snapshots.push_back({snapshot->id, snapshot->origin->id, names[snapshot->id],
                                    snapshot->lost, snapshot->stale});
        mentioned.erase(snapshot->id);
    }
    for (const auto& [id, origin] : mentioned)
        report.snapshots.push_back({id, origin, names[id], false, false});
    for (const cow_origin* origin : originsOf(store))
        if (const cow_rollback& rollback = origin->rollback; rollback.state != COW_ROLLBACK_NONE)
            report.rollbacks.push_back({origin->id, rollback.target->id,
                                        rollback.state == COW_ROLLBACK_SCHEDULED, rollback.mark,
                                        origin->blocks});
}

/// Finds out what the engine was refused for; at least one damage.
void findRefusal(Checker& checker, Engine& engine, const cow_store& control) {
    checkTables(checker, control);
    if (checker.report.damages() != 0)
        return;
    const std::uint64_t segment = cow_super_block_segment(&checker.super, engine.lastRead());
    if (segment == COW_NONE_SEGMENT)
        checker.add(true, "control record", engine.lastRead(), engine.why());
    else
        checker.add(true, "log", engine.lastRead(), engine.why(),
                    snapshotsUsing(control, engine.get().segments[segment].owner));
}

/// All but the superblocks, of which the engine has taken one.
void examine(Checker& checker, Engine& engine) {
    Report& report = checker.report;
    Blocks& blocks = checker.blocks;
    Uuid::Bytes uuid{};
    std::memcpy(uuid.data(), checker.super.uuid, uuid.size());
    report.uuid = Uuid(uuid);
    report.store_blocks = checker.super.store_blocks;
    report.segment_blocks = checker.super.segment_blocks;
    report.segments = cow_super_segments(&checker.super);
    const auto slots = readSlots(blocks, checker.super);
    checkSlots(checker, slots);

    ShadowBlocks control_shadow(blocks);
    Engine control(control_shadow);
    control.probe();
    if (control.loadControl() != 0) {
        report.refusal = control.why();
        const ControlRemains remains = remainsOf(blocks, checker.super);
        describe(report, control.get(), slots, remains.mentioned);
        rebuildControl(control.get(), remains);
        checkControl(checker, &control.get());
        return;
    }
    describe(report, control.get(), slots, {});
    checkControl(checker, nullptr);
    const int result = engine.open();
    report.activates = result == 0;
    if (result != 0) {
        report.refusal = engine.why();
        findRefusal(checker, engine, control.get());
        return;
    }
    checkTables(checker, control.get());
    checkLogs(checker, engine);
    engine.run();
    report.free_segments = engine.get().nr_free;
    if (checker.options.data)
        checkData(checker, engine);
}

/// A store without superblocks cannot be activated; what it would be with them is told all the
/// same.
Report checkWithoutSupers(Blocks& blocks, const CheckOptions& options, const std::string& refusal) {
    const SuperRemains remains = findSuper(blocks, options.progress);
    if (!remains.store)
        fail(ErrorKind::NotFound, "there is no store: {}",
             remains.why.empty() ? refusal : remains.why);
    Report report;
    ShadowBlocks rebuilt(blocks);
    Checker checker{rebuilt, report, options, {}};
    checkSupers(checker, false);
    const auto supers = static_cast<std::ptrdiff_t>(report.findings.size());
    report.uuid = *remains.store;
    if (remains.super) {
        writeSupers(rebuilt, *remains.super);
        checker.super = *remains.super;
        ShadowBlocks shadow(checker.blocks);
        Engine engine(shadow);
        engine.probe();
        examine(checker, engine);
    }
    std::vector<std::uint32_t> all;
    for (const auto& snapshot : report.snapshots)
        all.push_back(snapshot.id);
    std::for_each(report.findings.begin(), report.findings.begin() + supers,
                  [&](Finding& finding) { finding.snapshots = all; });
    report.activates = false;
    report.free_segments = 0;
    report.refusal = fmt::format(
        "both superblocks of the store {} are gone; {}", remains.store->dashed(),
        remains.super ? "all else that is there proves what they said: they can be written anew"
                      : remains.why);
    return report;
}

}  // namespace

Report check(Blocks& blocks, const CheckOptions& options) {
    ShadowBlocks shadow(blocks);
    Engine engine(shadow);
    const int probed = engine.probe();
    if (probed == -ENOSPC)
        fail(ErrorKind::NotFound, "there is no store: {}", engine.why());
    if (probed == -EPROTONOSUPPORT)
        fail(ErrorKind::NotSupported, "{}", engine.why());
    if (probed == -EIO || probed == -ENOMEM)
        failErrno(-probed, "the first blocks cannot be read");
    if (probed != 0 && supersGone(blocks))
        return checkWithoutSupers(blocks, options,
                                  probed == 1 ? "nothing but zeros where one begins"
                                              : std::string("something else is on the device"));
    Report report;
    Checker checker{blocks, report, options, engine.get().super};
    checkSupers(checker, probed == 0);
    if (probed != 0)
        report.refusal = engine.why();
    else
        examine(checker, engine);
    return report;
}

}  // namespace cowsnap::store
