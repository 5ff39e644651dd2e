// SPDX-License-Identifier: GPL-2.0-or-later
// The two metadata slots that a cow-store shows as its contents: which one is
// valid, and writing the other. Knows the header of proto/cowsnap_disk.h, not
// what the JSON says.
#ifndef COWSNAP_META_SLOTS_H
#define COWSNAP_META_SLOTS_H

#include <array>
#include <cstdint>
#include <functional>
#include <string>
#include <utility>

#include "base/uuid.h"
#include "block/block_devices.h"
#include "meta/slot_format.h"

namespace cowsnap {

/// What was found in the slots.
struct SlotContents {
    bool fresh = true;             ///< nothing has ever been stored here
    bool one_damaged = false;      ///< the other slot had to do
    std::uint64_t generation = 0;  ///< of body; 0 if fresh
    std::uint32_t schema = 0;
    std::string body;  ///< JSON
};

/// The slots of one store.
class MetadataSlots {
public:
    /// path is the cow-store's device, slot_bytes the size of a slot (a multiple of 4096). For a
    /// store that does not run path is the device it starts on, and offset_bytes where the first
    /// slot is.
    MetadataSlots(BlockDevices& devices, std::string path, const Uuid& store,
                  std::uint64_t slot_bytes, std::uint64_t offset_bytes = 0);

    /// The device has another path now.
    void moveTo(std::string path) { path_ = std::move(path); }

    /// Finds the valid slot. MetadataCorrupt if there was something and none is valid.
    SlotContents read();

    /// Reads both slots again and says what is damaged of them; empty if nothing is.
    std::string damage();

    /// Writes body over the older slot, durably, with the next generation. read() must
    /// have succeeded before. NoSpace if body is too long for a slot.
    void write(std::uint32_t schema, const std::string& body);
    /// NoSpace if a body of so many bytes is too large to be written.
    void checkFits(std::size_t body_bytes) const;
    /// Of what was read or written last.
    std::uint64_t generation() const { return generation_; }

private:
    struct Slot {
        SlotHeader header;
        std::string body;
    };

    Slot readSlot(unsigned index);

    std::reference_wrapper<BlockDevices> devices_;
    std::string path_;
    Uuid store_;
    std::uint64_t slot_bytes_;
    std::uint64_t offset_bytes_;
    std::uint64_t generation_ = 0;
    unsigned next_slot_ = 0;
    bool was_read_ = false;
};

}  // namespace cowsnap

#endif
