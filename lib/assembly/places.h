// SPDX-License-Identifier: GPL-2.0-or-later
// Where in a device something begins that is written as a device of its own. A boot without cowsnap
// changes the superblocks there, not at the beginning of the device.
#ifndef COWSNAP_ASSEMBLY_PLACES_H
#define COWSNAP_ASSEMBLY_PLACES_H

#include <cstdint>
#include <vector>

#include "block/block_devices.h"
#include "dm/device_mapper.h"

namespace cowsnap {

/// The first sector of a partition, of a logical volume, of what is in a LUKS container.
struct Place {
    std::uint64_t sector = 0;  ///< of the device, never 0
    bool encrypted = false;    ///< what stands there cannot be told for what it is
    auto operator<=>(const Place&) const = default;
};

/// All such places of the device that are in use now, sorted. Throws Error.
std::vector<Place> placesIn(BlockDevices& devices, DeviceMapper& mapper, DeviceNumber device);

}  // namespace cowsnap

#endif
