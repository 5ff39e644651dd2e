// SPDX-License-Identifier: GPL-2.0-or-later
// LVM's device-mapper UUIDs: "LVM-", that of the volume group, that of the volume; a suffix where
// the device is LVM's own.
#include "block/volume_groups.h"

#include <string_view>

namespace cowsnap {

std::string volumeGroupUuid(const DeviceIdentity& device) {
    constexpr std::string_view prefix = "LVM-";
    constexpr std::size_t uuid_length = 32;
    if (!device.serial.starts_with(prefix) || device.partition != 0 ||
        device.serial.size() != prefix.size() + 2 * uuid_length)
        return {};
    return device.serial.substr(prefix.size(), uuid_length);
}

}  // namespace cowsnap
