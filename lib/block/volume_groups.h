// SPDX-License-Identifier: GPL-2.0-or-later
// What cowsnap asks of LVM, as an interface that tests can stand in for: volume groups and the
// logical volumes in them. Knows nothing of stores.
#ifndef COWSNAP_BLOCK_VOLUME_GROUPS_H
#define COWSNAP_BLOCK_VOLUME_GROUPS_H

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "block/block_devices.h"

namespace cowsnap {

struct VolumeGroup {
    std::string uuid;  ///< 32 characters, without hyphens
    std::string name;  ///< may be another one tomorrow
    std::uint64_t extent_bytes = 0;
    std::uint64_t free_bytes = 0;
};

struct LogicalVolume {
    std::string name;
    std::string path;
    std::set<std::string> tags;
};

/// The volume groups of a machine. Calls may take long and throw Error.
class VolumeGroups {
public:
    VolumeGroups() = default;
    VolumeGroups(const VolumeGroups&) = delete;
    VolumeGroups& operator=(const VolumeGroups&) = delete;
    virtual ~VolumeGroups() = default;

    /// All that volumes can be made in.
    virtual std::vector<VolumeGroup> groups() = 0;
    /// The paths of its physical volumes.
    virtual std::vector<std::string> devicesOf(const VolumeGroup& group) = 0;
    /// Nothing if there is none with this UUID.
    virtual std::optional<VolumeGroup> findGroup(const std::string& uuid) = 0;
    virtual std::vector<LogicalVolume> volumesOf(const VolumeGroup& group) = 0;
    /// Makes a volume of so many extents, with a tag; what known signatures were there are wiped.
    /// Returns its path.
    virtual std::string createVolume(const VolumeGroup& group, const std::string& name,
                                     std::uint64_t extents, const std::string& tag) = 0;
};

/// The UUID of the volume group that a device is a logical volume of; empty if it is none, or
/// one that LVM keeps for itself.
std::string volumeGroupUuid(const DeviceIdentity& device);

}  // namespace cowsnap

#endif
