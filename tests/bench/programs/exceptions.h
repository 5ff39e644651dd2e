// SPDX-License-Identifier: GPL-2.0-or-later
// What is preserved, whoever preserves it, and the files that are made of it.
#ifndef COWSNAP_BENCH_EXCEPTIONS_H
#define COWSNAP_BENCH_EXCEPTIONS_H

#include <cstdint>
#include <vector>

#include "sparse_file.h"

namespace bench {

/// One of so many blocks has contents, the others are zeros and need no room in a sparse file.
inline constexpr std::uint64_t kStampedEvery = 1024;

inline bool stamped(std::uint64_t block) {
    return block % kStampedEvery == 0;
}

/// What a block of the origin had when it was preserved: its number plus one, over and over,
/// little-endian; or zeros.
Block contentsOf(std::uint64_t block);

struct Exceptions {
    std::uint64_t origin_blocks = 0;
    std::vector<std::uint64_t>
        blocks;  ///< of the origin, in the order in which they were preserved
};

/// A store with "snapshots" snapshots, 1 and so on, of its origin 1, all made at once after another
/// but for this: the exceptions belong to the first one.
void writeCowStore(SparseFile& file, const Exceptions& exceptions, std::uint32_t snapshots);

/// The area of a persistent dm-snapshot with chunks of a block.
void writeDmSnapshot(SparseFile& file, const Exceptions& exceptions);

}  // namespace bench

#endif
