// SPDX-License-Identifier: GPL-2.0-or-later
// Packing and unpacking of metadata slots.
#include "meta/slot_format.h"

#include <endian.h>

#include <algorithm>
#include <cstring>

#include "base/crc32c.h"
#include "cowsnap_disk.h"

namespace cowsnap {

namespace {

static_assert(sizeof(cowsnap_disk_slot) == COWSNAP_SLOT_HEADER_BYTES);

std::uint32_t headerCrc(cowsnap_disk_slot header) {
    header.crc = 0;
    return crc32c(std::as_bytes(std::span(&header, 1)));
}

SlotHeader damaged(std::string_view why) {
    SlotHeader header;
    header.state = SlotState::Damaged;
    header.damage = why;
    return header;
}

}  // namespace

std::size_t slotBytesUsed(std::size_t length_bytes) {
    constexpr std::size_t block = COWSNAP_DISK_BLOCK_SIZE;
    return (sizeof(cowsnap_disk_slot) + length_bytes + block - 1) / block * block;
}

SlotHeader decodeSlotHeader(std::span<const std::byte> first_block, const Uuid& store,
                            std::uint64_t slot_bytes) {
    cowsnap_disk_slot disk{};
    if (first_block.size() < sizeof(disk) || slot_bytes < sizeof(disk))
        return damaged("shorter than its header");
    if (std::all_of(first_block.begin(), first_block.end(),
                    [](std::byte byte) { return byte == std::byte{0}; }))
        return {};
    std::memcpy(&disk, first_block.data(), sizeof(disk));
    if (le64toh(disk.magic) != COWSNAP_MAGIC_SLOT)
        return damaged("wrong magic number");
    if (le32toh(disk.crc) != headerCrc(disk))
        return damaged("wrong checksum of the header");
    if (std::memcmp(disk.uuid, store.bytes().data(), sizeof(disk.uuid)) != 0)
        return damaged("it belongs to another store");
    if (le32toh(disk.length) > slot_bytes - sizeof(disk))
        return damaged("longer than the slot");
    SlotHeader header;
    header.state = SlotState::Valid;
    header.generation = le64toh(disk.generation);
    header.schema = le32toh(disk.schema);
    header.length_bytes = le32toh(disk.length);
    header.body_crc = le32toh(disk.body_crc);
    return header;
}

std::string decodeSlotBody(std::span<const std::byte> slot, SlotHeader& header) {
    if (slot.size() < slotBytesUsed(header.length_bytes)) {
        header = damaged("shorter than its contents");
        return {};
    }
    const auto body = slot.subspan(sizeof(cowsnap_disk_slot), header.length_bytes);
    if (crc32c(body) != header.body_crc) {
        header = damaged("wrong checksum of the contents");
        return {};
    }
    return {reinterpret_cast<const char*>(body.data()), body.size()};
}

std::vector<std::byte> encodeSlot(const Uuid& store, std::uint64_t generation, std::uint32_t schema,
                                  std::string_view body) {
    cowsnap_disk_slot disk{};
    disk.magic = htole64(COWSNAP_MAGIC_SLOT);
    disk.body_crc = htole32(crc32c(std::as_bytes(std::span(body))));
    std::memcpy(disk.uuid, store.bytes().data(), sizeof(disk.uuid));
    disk.generation = htole64(generation);
    disk.length = htole32(static_cast<std::uint32_t>(body.size()));
    disk.schema = htole32(schema);
    disk.crc = htole32(headerCrc(disk));
    std::vector<std::byte> data(slotBytesUsed(body.size()));
    std::memcpy(data.data(), &disk, sizeof(disk));
    std::memcpy(data.data() + sizeof(disk), body.data(), body.size());
    return data;
}

}  // namespace cowsnap
