// SPDX-License-Identifier: GPL-2.0-or-later
// The file system on a snapshot's device, and what it needs to be mounted: it is a second copy, and
// its journal may hold what is not in place yet. Knows nothing of calls.
#ifndef COWSNAP_CLI_FILE_SYSTEMS_H
#define COWSNAP_CLI_FILE_SYSTEMS_H

#include <string>

namespace cowsnap::cli {

/// Its name, such as "ext4". Failure if there is none that is known.
std::string fileSystemOn(const std::string& device);

/// Whether its journal holds changes that a mount would bring in. frozen: it was frozen when the
/// snapshot was made.
bool needsReplay(const std::string& file_system, const std::string& device, bool frozen);

enum class MountAs {
    Writable,
    ReadOnly,            ///< with its journal as it is
    ReadOnlyAfterReplay  ///< the device must be writable
};
/// For mount -o.
std::string mountOptions(const std::string& file_system, MountAs how);

/// Whether anything has the device mounted, as far as this program can see.
bool isMounted(const std::string& device);

}  // namespace cowsnap::cli

#endif
