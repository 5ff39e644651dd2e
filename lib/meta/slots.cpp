// SPDX-License-Identifier: GPL-2.0-or-later
// Checking, choosing and writing metadata slots.
#include "meta/slots.h"

#include <endian.h>

#include <algorithm>
#include <cstring>

#include "base/crc32c.h"
#include "base/error.h"
#include "cowsnap_disk.h"

namespace cowsnap {

namespace {

static_assert(sizeof(cowsnap_disk_slot) == COWSNAP_SLOT_HEADER_BYTES);

std::size_t roundedToBlocks(std::size_t bytes) {
    constexpr std::size_t block = COWSNAP_DISK_BLOCK_SIZE;
    return (bytes + block - 1) / block * block;
}

std::uint32_t headerCrc(cowsnap_disk_slot header) {
    header.crc = 0;
    return crc32c(std::as_bytes(std::span(&header, 1)));
}

}  // namespace

MetadataSlots::MetadataSlots(BlockDevices& devices, std::string path, const Uuid& store,
                             std::uint64_t slot_bytes)
    : devices_(devices), path_(std::move(path)), store_(store), slot_bytes_(slot_bytes) {
    if (slot_bytes_ < COWSNAP_DISK_BLOCK_SIZE || slot_bytes_ % COWSNAP_DISK_BLOCK_SIZE != 0)
        fail(ErrorKind::Failed,
             "the metadata slots of {} have a size of {} bytes, which is no multiple of {}", path_,
             slot_bytes_, COWSNAP_DISK_BLOCK_SIZE);
}

MetadataSlots::Slot MetadataSlots::readSlot(unsigned index) {
    Slot slot;
    const std::uint64_t offset_bytes = index * slot_bytes_;
    const auto damaged = [&](std::string why) {
        slot.state = State::Damaged;
        slot.damage = fmt::format("slot {}: {}", index, why);
        return slot;
    };
    std::vector<std::byte> first_block;
    try {
        first_block = devices_.get().read(path_, offset_bytes, COWSNAP_DISK_BLOCK_SIZE);
    } catch (const Error& error) {
        return damaged(error.what());
    }
    if (std::all_of(first_block.begin(), first_block.end(),
                    [](std::byte byte) { return byte == std::byte{0}; }))
        return slot;
    cowsnap_disk_slot header{};
    std::memcpy(&header, first_block.data(), sizeof(header));
    if (le64toh(header.magic) != COWSNAP_MAGIC_SLOT)
        return damaged("wrong magic number");
    if (le32toh(header.crc) != headerCrc(header))
        return damaged("wrong checksum of the header");
    if (std::memcmp(header.uuid, store_.bytes().data(), sizeof(header.uuid)) != 0)
        return damaged("it belongs to another store");
    const std::size_t length = le32toh(header.length);
    if (length > slot_bytes_ - sizeof(header))
        return damaged("longer than the slot");
    try {
        const auto data =
            devices_.get().read(path_, offset_bytes, roundedToBlocks(sizeof(header) + length));
        const auto body = std::span(data).subspan(sizeof(header), length);
        if (crc32c(body) != le32toh(header.body_crc))
            return damaged("wrong checksum of the contents");
        slot.body.assign(reinterpret_cast<const char*>(body.data()), body.size());
    } catch (const Error& error) {
        return damaged(error.what());
    }
    slot.state = State::Valid;
    slot.generation = le64toh(header.generation);
    slot.schema = le32toh(header.schema);
    return slot;
}

SlotContents MetadataSlots::read() {
    std::array<Slot, 2> slots{readSlot(0), readSlot(1)};
    const auto state_count = [&](State state) {
        return std::count_if(slots.begin(), slots.end(),
                             [&](const Slot& slot) { return slot.state == state; });
    };
    if (state_count(State::Damaged) == 2)
        fail(ErrorKind::MetadataCorrupt,
             "both metadata slots of the store {} are damaged ({}; {}); nothing was changed: "
             "restore them with "
             "cowsnap-store before the store is used",
             store_.dashed(), slots[0].damage, slots[1].damage);
    SlotContents contents;
    contents.one_damaged = state_count(State::Damaged) == 1;
    was_read_ = true;
    if (state_count(State::Valid) == 0) {
        // Both slots are filled when a store is made: with one blank, its making was interrupted.
        generation_ = 0;
        next_slot_ = slots[0].state == State::Blank ? 0 : 1;
        return contents;
    }
    const bool second =
        slots[1].state == State::Valid &&
        (slots[0].state != State::Valid || slots[1].generation > slots[0].generation);
    Slot& newest = slots[second ? 1 : 0];
    next_slot_ = second ? 0 : 1;
    generation_ = newest.generation;
    contents.fresh = false;
    contents.generation = newest.generation;
    contents.schema = newest.schema;
    contents.body = std::move(newest.body);
    return contents;
}

void MetadataSlots::write(std::uint32_t schema, const std::string& body) {
    if (!was_read_)
        fail(ErrorKind::MetadataCorrupt,
             "the metadata of the store {} could not be read, so it is not overwritten",
             store_.dashed());
    cowsnap_disk_slot header{};
    if (body.size() > slot_bytes_ - sizeof(header))
        fail(ErrorKind::NoSpace,
             "the metadata of the store {} needs {} bytes, a slot has room for {}: delete "
             "snapshots or shorten descriptions",
             store_.dashed(), body.size(), slot_bytes_ - sizeof(header));
    header.magic = htole64(COWSNAP_MAGIC_SLOT);
    header.body_crc = htole32(crc32c(std::as_bytes(std::span(body))));
    std::memcpy(header.uuid, store_.bytes().data(), sizeof(header.uuid));
    header.generation = htole64(generation_ + 1);
    header.length = htole32(static_cast<std::uint32_t>(body.size()));
    header.schema = htole32(schema);
    header.crc = htole32(headerCrc(header));
    std::vector<std::byte> data(roundedToBlocks(sizeof(header) + body.size()));
    std::memcpy(data.data(), &header, sizeof(header));
    std::memcpy(data.data() + sizeof(header), body.data(), body.size());
    devices_.get().write(path_, next_slot_ * slot_bytes_, data);
    ++generation_;
    next_slot_ = 1 - next_slot_;
}

}  // namespace cowsnap
