// SPDX-License-Identifier: GPL-2.0-or-later
#include "sparse_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

#include "base/error.h"

namespace bench {

namespace {

/// All or nothing of one pread() or pwrite() of a regular file.
void mustBeWhole(ssize_t done, std::uint64_t bytes, const char* what) {
    if (done < 0)
        cowsnap::failErrno(errno, what);
    if (static_cast<std::uint64_t>(done) != bytes)
        cowsnap::fail(cowsnap::ErrorKind::NoSpace, "{}: only {} of {} bytes", what, done, bytes);
}

}  // namespace

SparseFile::SparseFile(const std::string& path, std::uint64_t blocks)
    : file_(::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644)), blocks_(blocks) {
    if (!file_)
        cowsnap::failErrno(errno, "making " + path);
    if (::ftruncate(file_.get(), static_cast<off_t>(blocks * kBlockBytes)))
        cowsnap::failErrno(errno, "making " + path + " as large as a disk");
}

void SparseFile::read(std::uint64_t block, std::uint64_t count, void* to) const {
    const std::uint64_t bytes = count * kBlockBytes;
    mustBeWhole(::pread(file_.get(), to, bytes, static_cast<off_t>(block * kBlockBytes)), bytes,
                "reading the file");
}

void SparseFile::write(std::uint64_t block, std::uint64_t count, const void* from) {
    const std::uint64_t bytes = count * kBlockBytes;
    mustBeWhole(::pwrite(file_.get(), from, bytes, static_cast<off_t>(block * kBlockBytes)), bytes,
                "writing the file");
}

}  // namespace bench
