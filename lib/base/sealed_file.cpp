// SPDX-License-Identifier: GPL-2.0-or-later
// memfd_create() and its seals.
#include "base/sealed_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "base/error.h"

namespace cowsnap {

namespace {

constexpr int kAgainstChanges = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE;

/// That it is no program, which some machines demand (sysctl vm.memfd_noexec); new in 6.3.
constexpr unsigned kNoProgram = 0x8;

FileDescriptor openInMemory(const char* name) {
    constexpr unsigned flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
    FileDescriptor file(::memfd_create(name, flags | kNoProgram));
    if (!file && errno == EINVAL)
        return FileDescriptor(::memfd_create(name, flags));
    return file;
}

}  // namespace

FileDescriptor makeSealedFile(const char* name, std::string_view text) {
    FileDescriptor file = openInMemory(name);
    if (!file)
        failErrno(errno, "cannot make a file in memory");
    std::size_t done = 0;
    while (done < text.size()) {
        const ssize_t count =
            ::pwrite(file.get(), text.data() + done, text.size() - done, static_cast<off_t>(done));
        if (count < 0 && errno == EINTR)
            continue;
        if (count < 0)
            failErrno(errno, "cannot write a file in memory");
        done += static_cast<std::size_t>(count);
    }
    if (::fcntl(file.get(), F_ADD_SEALS, kAgainstChanges) != 0)
        failErrno(errno, "cannot seal a file in memory");
    return file;
}

std::string readSealedFile(const FileDescriptor& file) {
    const int seals = ::fcntl(file.get(), F_GET_SEALS);
    if (seals < 0 || (seals & kAgainstChanges) != kAgainstChanges)
        fail(ErrorKind::Failed, "the file is not sealed: it could change while it is read");
    struct stat status {};
    if (::fstat(file.get(), &status) != 0)
        failErrno(errno, "cannot look at a file in memory");
    std::string text(static_cast<std::size_t>(status.st_size), '\0');
    std::size_t done = 0;
    while (done < text.size()) {
        const ssize_t count =
            ::pread(file.get(), text.data() + done, text.size() - done, static_cast<off_t>(done));
        if (count < 0 && errno == EINTR)
            continue;
        if (count < 0)
            failErrno(errno, "cannot read a file in memory");
        if (count == 0)
            fail(ErrorKind::Failed, "a file in memory ends before its end");
        done += static_cast<std::size_t>(count);
    }
    return text;
}

}  // namespace cowsnap
