// SPDX-License-Identifier: GPL-2.0-or-later
// Text in a file in memory that nobody can change any more: how much of it there is to hand over
// does not matter. Knows nothing of what is in it.
#ifndef COWSNAP_BASE_SEALED_FILE_H
#define COWSNAP_BASE_SEALED_FILE_H

#include <string>
#include <string_view>

#include "base/file_descriptor.h"

namespace cowsnap {

/// A file that holds text, sealed against all changes; its position is at the beginning. name is
/// what /proc shows of it.
FileDescriptor makeSealedFile(const char* name, std::string_view text);

/// All that a file holds, wherever its position is. Failed if it is not sealed: it could become
/// shorter, or other, while it is read.
std::string readSealedFile(const FileDescriptor& file);

}  // namespace cowsnap

#endif
