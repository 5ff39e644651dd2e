// SPDX-License-Identifier: GPL-2.0-or-later
// Which processes have block devices open for writing, as far as /proc tells. Knows nothing of who
// else uses a device.
#ifndef COWSNAP_BLOCK_OPEN_FILES_H
#define COWSNAP_BLOCK_OPEN_FILES_H

#include <optional>
#include <set>
#include <string>

#include "dm/device_mapper.h"

namespace cowsnap {

/// One process but this one that has one of these devices open for writing, as "fio (process 7)";
/// nothing if there is none, or if it cannot be seen: that of another user needs
/// CAP_DAC_READ_SEARCH and CAP_SYS_PTRACE. Devices are looked for in /dev only.
std::optional<std::string> writerOf(const std::set<DeviceNumber>& devices);

}  // namespace cowsnap

#endif
