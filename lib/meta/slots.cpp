// SPDX-License-Identifier: GPL-2.0-or-later
// Checking, choosing and writing metadata slots.
#include "meta/slots.h"

#include <algorithm>

#include "base/error.h"
#include "cowsnap_disk.h"

namespace cowsnap {

MetadataSlots::MetadataSlots(BlockDevices& devices, std::string path, const Uuid& store,
                             std::uint64_t slot_bytes, std::uint64_t offset_bytes)
    : devices_(devices),
      path_(std::move(path)),
      store_(store),
      slot_bytes_(slot_bytes),
      offset_bytes_(offset_bytes) {
    if (slot_bytes_ < COWSNAP_DISK_BLOCK_SIZE || slot_bytes_ % COWSNAP_DISK_BLOCK_SIZE != 0)
        fail(ErrorKind::Failed,
             "the metadata slots of {} have a size of {} bytes, which is no multiple of {}", path_,
             slot_bytes_, COWSNAP_DISK_BLOCK_SIZE);
}

MetadataSlots::Slot MetadataSlots::readSlot(unsigned index) {
    const std::uint64_t offset_bytes = offset_bytes_ + index * slot_bytes_;
    Slot slot;
    try {
        slot.header = decodeSlotHeader(
            devices_.get().read(path_, offset_bytes, COWSNAP_DISK_BLOCK_SIZE), store_, slot_bytes_);
        if (slot.header.state == SlotState::Valid)
            slot.body = decodeSlotBody(
                devices_.get().read(path_, offset_bytes, slotBytesUsed(slot.header.length_bytes)),
                slot.header);
    } catch (const Error& error) {
        slot.header.state = SlotState::Damaged;
        slot.header.damage = error.what();
    }
    return slot;
}

SlotContents MetadataSlots::read() {
    std::array<Slot, 2> slots{readSlot(0), readSlot(1)};
    const auto state_count = [&](SlotState state) {
        return std::count_if(slots.begin(), slots.end(),
                             [&](const Slot& slot) { return slot.header.state == state; });
    };
    if (state_count(SlotState::Damaged) == 2)
        fail(ErrorKind::MetadataCorrupt,
             "both metadata slots of the store {0} are damaged (slot 0: {1}; slot 1: {2}); nothing "
             "was changed: mend it with cowsnap-store repair, whose option --metadata takes one of "
             "the files in /var/lib/cowsnap/backups/{0}",
             store_.dashed(), slots[0].header.damage, slots[1].header.damage);
    SlotContents contents;
    // Both are filled when a store is made: one that is blank was zeroed, or the making
    // interrupted.
    contents.one_damaged =
        state_count(SlotState::Valid) == 1 || state_count(SlotState::Damaged) == 1;
    was_read_ = true;
    if (state_count(SlotState::Valid) == 0) {
        generation_ = 0;
        next_slot_ = slots[0].header.state == SlotState::Blank ? 0 : 1;
        return contents;
    }
    const bool second = slots[1].header.state == SlotState::Valid &&
                        (slots[0].header.state != SlotState::Valid ||
                         slots[1].header.generation > slots[0].header.generation);
    Slot& newest = slots[second ? 1 : 0];
    next_slot_ = second ? 0 : 1;
    generation_ = newest.header.generation;
    contents.fresh = false;
    contents.generation = newest.header.generation;
    contents.schema = newest.header.schema;
    contents.body = std::move(newest.body);
    return contents;
}

std::string MetadataSlots::damage() {
    std::string text;
    for (const unsigned index : {0U, 1U})
        if (const Slot slot = readSlot(index); slot.header.state != SlotState::Valid)
            text += fmt::format(
                "{}slot {}: {}", text.empty() ? "" : "; ", index,
                slot.header.state == SlotState::Blank ? "it is blank" : slot.header.damage);
    return text;
}

void MetadataSlots::checkFits(std::size_t body_bytes) const {
    const std::uint64_t room_bytes = slot_bytes_ - COWSNAP_SLOT_HEADER_BYTES;
    if (body_bytes > room_bytes)
        fail(ErrorKind::NoSpace,
             "the metadata of the store {} needs {} bytes, a slot has room for {}: delete "
             "snapshots or shorten descriptions",
             store_.dashed(), body_bytes, room_bytes);
}

void MetadataSlots::write(std::uint32_t schema, const std::string& body) {
    if (!was_read_)
        fail(ErrorKind::MetadataCorrupt,
             "the metadata of the store {} could not be read, so it is not overwritten",
             store_.dashed());
    checkFits(body.size());
    const auto data = encodeSlot(store_, generation_ + 1, schema, body);
    devices_.get().write(path_, offset_bytes_ + next_slot_ * slot_bytes_, data);
    ++generation_;
    next_slot_ = 1 - next_slot_;
}

}  // namespace cowsnap
