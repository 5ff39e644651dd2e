// SPDX-License-Identifier: GPL-2.0-or-later
// Two fields of the superblock of btrfs (struct btrfs_super_block in the kernel's
// include/uapi/linux/btrfs_tree.h).
#include "block/btrfs.h"

#include <endian.h>

#include <cstring>
#include <string_view>

namespace cowsnap {

namespace {

constexpr std::uint64_t kSuperOffsetBytes = 64 * 1024;
constexpr std::size_t kSuperBytes = 4096;
constexpr std::size_t kMagicOffset = 0x40;
constexpr std::string_view kMagic = "_BHRfS_M";
constexpr std::size_t kDevicesOffset = 0x88;

}  // namespace

std::uint64_t btrfsDevices(BlockDevices& devices, const BlockDevice& device) {
    if (device.identity.size_sectors * kSectorBytes < kSuperOffsetBytes + kSuperBytes)
        return 0;
    const auto super = devices.read(device.identity.path, kSuperOffsetBytes, kSuperBytes);
    if (std::memcmp(&super[kMagicOffset], kMagic.data(), kMagic.size()) != 0)
        return 0;
    std::uint64_t count = 0;
    std::memcpy(&count, &super[kDevicesOffset], sizeof(count));
    return le64toh(count);
}

}  // namespace cowsnap
