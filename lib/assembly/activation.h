// SPDX-License-Identifier: GPL-2.0-or-later
// Starting registered stores and attaching their origins at boot, without a daemon, and what the
// boot is to withhold after that (see boot_policy.h). What fails is logged.
#ifndef COWSNAP_ASSEMBLY_ACTIVATION_H
#define COWSNAP_ASSEMBLY_ACTIVATION_H

#include <string>
#include <string_view>
#include <vector>

#include "assembly/boot_policy.h"
#include "block/block_devices.h"
#include "dm/device_mapper.h"
#include "meta/losses.h"
#include "meta/registry.h"

namespace cowsnap {

/// What of the work was done.
struct Activation {
    unsigned done = 0;
    unsigned failed = 0;
    /// Those of them that lack a device, which may turn up later.
    unsigned missing_stores = 0;
    unsigned missing_origins = 0;
    std::vector<WithheldOrigin> withheld{};
};

Activation activateStores(DeviceMapper& mapper, BlockDevices& devices, const LossRecords& losses,
                          const std::vector<RegisteredStore>& stores);

/// Whether the file system that is to be mounted from root may stand on an origin whose device is
/// missing: not if root is there, and its file system is of a kind that is on one device only.
bool mayStandOnMissing(BlockDevices& devices, const std::string& root);

/// What is to be withheld of stores that were not started, for this reason. mapped: the mapped
/// devices that there are.
std::vector<WithheldOrigin> withheldOf(const std::vector<RegisteredStore>& stores,
                                       const std::vector<MappedDevice>& mapped,
                                       const std::string& reason);

/// Says what is withheld and how to go on, and has udev and others know; but withholds nothing in a
/// boot whose kernel's command line says so.
void withhold(const WithheldOrigins& file, const std::vector<WithheldOrigin>& withheld,
              std::string_view kernel_command_line);

}  // namespace cowsnap

#endif
