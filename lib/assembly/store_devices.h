// SPDX-License-Identifier: GPL-2.0-or-later
// Whether devices are those of a store, in their order: activating a store writes to it, so this is
// found out before.
#ifndef COWSNAP_ASSEMBLY_STORE_DEVICES_H
#define COWSNAP_ASSEMBLY_STORE_DEVICES_H

#include <string>
#include <vector>

#include "assembly/store_header.h"
#include "block/block_devices.h"

namespace cowsnap {

/// How much of a device a store can use.
std::uint64_t usableSectors(const DeviceIdentity& device);

/// The devices of a store as its metadata has them, which is on the first of them, at path; empty
/// if it has none that can be read.
std::vector<DeviceIdentity> recordedDevices(BlockDevices& devices, const StoreHeader& header,
                                            const std::string& path);

/// InvalidArgument if two of the devices share something.
void checkApart(BlockDevices& devices, const std::vector<BlockDevice>& given);

/// InvalidArgument if the store with this header, which starts on the first of the devices, does
/// not stand on them in this order. That one is missing at the end is left to its activation.
void checkStoreDevices(BlockDevices& devices, const StoreHeader& header,
                       const std::vector<BlockDevice>& given);

}  // namespace cowsnap

#endif
