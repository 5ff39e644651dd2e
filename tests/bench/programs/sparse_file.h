// SPDX-License-Identifier: GPL-2.0-or-later
// A new file that is as large as a disk, with holes wherever nothing was written.
#ifndef COWSNAP_BENCH_SPARSE_FILE_H
#define COWSNAP_BENCH_SPARSE_FILE_H

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

#include "base/file_descriptor.h"

namespace bench {

inline constexpr std::size_t kBlockBytes = 4096;

using Block = std::array<std::byte, kBlockBytes>;

class SparseFile {
public:
    /// Throws cowsnap::Error, as all of this. The file must not be there yet.
    SparseFile(const std::string& path, std::uint64_t blocks);

    std::uint64_t blocks() const { return blocks_; }
    void read(std::uint64_t block, std::uint64_t count, void* to) const;
    void write(std::uint64_t block, std::uint64_t count, const void* from);

private:
    cowsnap::FileDescriptor file_;
    std::uint64_t blocks_;
};

}  // namespace bench

#endif
