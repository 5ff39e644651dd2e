// SPDX-License-Identifier: GPL-2.0-or-later
// What has to be known of btrfs, which has one file system on several devices. Reads
// its superblock; knows nothing of what is done with it.
#ifndef COWSNAP_BLOCK_BTRFS_H
#define COWSNAP_BLOCK_BTRFS_H

#include <cstdint>

#include "block/block_devices.h"

namespace cowsnap {

/// How many devices the btrfs on this one has; 0 if there is no btrfs on it.
std::uint64_t btrfsDevices(BlockDevices& devices, const BlockDevice& device);

}  // namespace cowsnap

#endif
