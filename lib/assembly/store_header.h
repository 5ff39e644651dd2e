// SPDX-License-Identifier: GPL-2.0-or-later
// Recognizing a store on a device by its superblock. Reads only what is needed to
// say which store it is; the kernel checks the rest.
#ifndef COWSNAP_ASSEMBLY_STORE_HEADER_H
#define COWSNAP_ASSEMBLY_STORE_HEADER_H

#include <optional>
#include <string>

#include "base/uuid.h"
#include "block/block_devices.h"

namespace cowsnap {

struct StoreHeader {
    Uuid uuid;
    std::uint64_t store_sectors = 0;
    std::uint64_t segment_sectors = 0;
    std::uint64_t slots_offset_bytes = 0;  ///< where the first metadata slot starts
    std::uint64_t slot_bytes = 0;
};

/// The store that starts on the device; nothing if there is none.
/// MetadataCorrupt if there is one and both its superblocks are damaged.
std::optional<StoreHeader> readStoreHeader(BlockDevices& devices, const std::string& path);

/// Whether all sectors that must be zero for formatting are.
bool isBlank(BlockDevices& devices, const std::string& path);

}  // namespace cowsnap

#endif
