// SPDX-License-Identifier: GPL-2.0-or-later
// One at a time: a lock on a directory, which goes with the process that holds it.
#ifndef COWSNAP_BASE_DIRECTORY_LOCK_H
#define COWSNAP_BASE_DIRECTORY_LOCK_H

#include <filesystem>

#include "base/file_descriptor.h"

namespace cowsnap {

/// Holds the lock as long as the result lives; an empty one if another process has it. The
/// directory is made if it is not there. Throws Error if it cannot be made or locked.
FileDescriptor lockDirectory(const std::filesystem::path& directory);

}  // namespace cowsnap

#endif
