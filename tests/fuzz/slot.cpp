// SPDX-License-Identifier: GPL-2.0-or-later
// Metadata slots as bytes. Input: flags, the slot.
#include <cstring>

#include "base/crc32c.h"
#include "blocks.h"
#include "meta/slot_format.h"

using namespace cowsnap;
using namespace cowsnap::fuzz;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t bytes) {
    constexpr std::size_t slot_blocks = 2;
    Input input(data, bytes);
    const bool sealed = input.byte() & 1;
    auto slot = input.blocks(slot_blocks);
    if (sealed)
        seal(std::span(slot).first(COWSNAP_SLOT_HEADER_BYTES));
    Uuid::Bytes bytes_of_uuid{};
    std::memcpy(bytes_of_uuid.data(), kUuid.data(), bytes_of_uuid.size());
    const Uuid uuid(bytes_of_uuid);
    const auto all = std::as_bytes(std::span(slot));
    SlotHeader header = decodeSlotHeader(all.first(kBlockBytes), uuid, slot.size());
    require(header.state == SlotState::Damaged || header.damage.empty(), "damage has a reason");
    if (header.state != SlotState::Valid)
        return 0;
    require(slotBytesUsed(header.length_bytes) <= all.size(), "a valid slot fits into itself");
    const auto whole = all.first(slotBytesUsed(header.length_bytes));
    if (sealed)
        header.body_crc = crc32c(whole.subspan(COWSNAP_SLOT_HEADER_BYTES, header.length_bytes));
    const std::string body = decodeSlotBody(whole, header);
    if (header.state != SlotState::Valid)
        return 0;
    const auto again = encodeSlot(uuid, header.generation, header.schema, body);
    SlotHeader header_again =
        decodeSlotHeader(std::span(again).first(kBlockBytes), uuid, slot.size());
    require(header_again.state == SlotState::Valid && header_again.schema == header.schema &&
                header_again.generation == header.generation,
            "a slot written again says the same");
    require(decodeSlotBody(again, header_again) == body, "with the same contents");
    return 0;
}
