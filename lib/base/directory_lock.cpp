// SPDX-License-Identifier: GPL-2.0-or-later
// flock(2) on the directory itself: no file is left behind.
#include "base/directory_lock.h"

#include <fcntl.h>
#include <sys/file.h>

#include <cerrno>

#include "base/error.h"

namespace cowsnap {

FileDescriptor lockDirectory(const std::filesystem::path& directory) {
    std::error_code code;
    std::filesystem::create_directories(directory, code);
    if (code)
        failErrno(code.value(), fmt::format("cannot make the directory {}", directory.string()));
    FileDescriptor descriptor(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!descriptor)
        failErrno(errno, fmt::format("cannot open the directory {}", directory.string()));
    if (::flock(descriptor.get(), LOCK_EX | LOCK_NB) == 0)
        return descriptor;
    if (errno == EWOULDBLOCK)
        return FileDescriptor();
    failErrno(errno, fmt::format("cannot lock the directory {}", directory.string()));
}

}  // namespace cowsnap
