// SPDX-License-Identifier: GPL-2.0-or-later
// The volume groups of this machine, through LVM's own program.
#ifndef COWSNAP_BLOCK_LVM_VOLUME_GROUPS_H
#define COWSNAP_BLOCK_LVM_VOLUME_GROUPS_H

#include "block/volume_groups.h"

namespace cowsnap {

class LvmVolumeGroups final : public VolumeGroups {
public:
    std::vector<VolumeGroup> groups() override;
    std::vector<std::string> devicesOf(const VolumeGroup& group) override;
    std::optional<VolumeGroup> findGroup(const std::string& uuid) override;
    std::vector<LogicalVolume> volumesOf(const VolumeGroup& group) override;
    std::string createVolume(const VolumeGroup& group, const std::string& name,
                             std::uint64_t extents, const std::string& tag) override;
};

/// Reads the answers of "lvm vgs" and "lvm lvs" as JSON. Failed if they are something else.
std::vector<VolumeGroup> parseGroups(const std::string& report);
std::vector<LogicalVolume> parseVolumes(const std::string& report);
std::vector<std::string> parsePhysicalVolumes(const std::string& report);

}  // namespace cowsnap

#endif
