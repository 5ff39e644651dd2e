// SPDX-License-Identifier: GPL-2.0-or-later
// A metadata slot as bytes: header (proto/cowsnap_disk.h) and JSON behind it. Pure
// functions; knows neither where slots are nor what the JSON says.
#ifndef COWSNAP_META_SLOT_FORMAT_H
#define COWSNAP_META_SLOT_FORMAT_H

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/uuid.h"

namespace cowsnap {

enum class SlotState { Blank, Damaged, Valid };

struct SlotHeader {
    SlotState state = SlotState::Blank;
    std::string damage;  ///< what is wrong if state is Damaged
    std::uint64_t generation = 0;
    std::uint32_t schema = 0;
    std::uint32_t length_bytes = 0;  ///< of the JSON
    std::uint32_t body_crc = 0;
};

/// Bytes of header and JSON, in whole blocks.
std::size_t slotBytesUsed(std::size_t length_bytes);

/// Looks at the first block of a slot of slot_bytes bytes. Valid says nothing of the JSON yet.
SlotHeader decodeSlotHeader(std::span<const std::byte> first_block, const Uuid& store,
                            std::uint64_t slot_bytes);

/// The JSON, from the first slotBytesUsed(header.length_bytes) bytes of the slot. A checksum that
/// is wrong makes the header Damaged.
std::string decodeSlotBody(std::span<const std::byte> slot, SlotHeader& header);

/// Header, JSON, and zeros up to a whole block.
std::vector<std::byte> encodeSlot(const Uuid& store, std::uint64_t generation, std::uint32_t schema,
                                  std::string_view body);

}  // namespace cowsnap

#endif
