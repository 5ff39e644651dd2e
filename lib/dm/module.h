// SPDX-License-Identifier: GPL-2.0-or-later
// Loading the kernel module and checking that its version is one we can talk to.
#ifndef COWSNAP_DM_MODULE_H
#define COWSNAP_DM_MODULE_H

#include <memory>

#include "dm/device_mapper.h"

namespace cowsnap {

/// The kernel's device-mapper, after loading the module if it is not. That it cannot
/// be loaded is logged only: requireModule() tells when it is needed.
std::unique_ptr<DeviceMapper> openDeviceMapper();

/// Throws NotSupported unless the kernel has the targets in a version that speaks
/// the same grammar; says what to do.
void requireModule(DeviceMapper& mapper);

/// Whether the module takes the message "watch".
bool canWatch(DeviceMapper& mapper);

/// Throws NotSupported unless the module can interpose, too. Whether the kernel can is
/// only known when it is tried.
void requireInterposing(DeviceMapper& mapper);

/// Throws NotSupported unless the module can roll back, too.
void requireRollback(DeviceMapper& mapper);

}  // namespace cowsnap

#endif
