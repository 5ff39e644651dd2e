// SPDX-License-Identifier: GPL-2.0-or-later
// The format of dm-snapshot's persistent exception store: a header chunk; then areas, each a chunk
// of exceptions and the chunks that they stand for behind it. A new chunk of 0 ends the list.
#include <endian.h>

#include <cstring>

#include "base/error.h"
#include "exceptions.h"

namespace bench {

namespace {

constexpr std::uint32_t kMagic = 0x70416e53;
constexpr std::uint32_t kValid = 1;
constexpr std::uint32_t kVersion = 1;
constexpr std::uint32_t kChunkSectors = kBlockBytes / 512;

struct Exception {
    std::uint64_t old_chunk;
    std::uint64_t new_chunk;
};

constexpr std::uint64_t kExceptionsPerArea = kBlockBytes / sizeof(Exception);
/// The chunk of exceptions, and theirs.
constexpr std::uint64_t kAreaChunks = 1 + kExceptionsPerArea;

void writeHeader(SparseFile& file) {
    const std::array<std::uint32_t, 4> header{htole32(kMagic), htole32(kValid), htole32(kVersion),
                                              htole32(kChunkSectors)};
    Block block{};
    std::memcpy(block.data(), header.data(), sizeof(header));
    file.write(0, 1, block.data());
}

}  // namespace

void writeDmSnapshot(SparseFile& file, const Exceptions& exceptions) {
    const std::uint64_t count = exceptions.blocks.size();
    // one more area, which says that the list ends
    const std::uint64_t areas = count / kExceptionsPerArea + 1;
    if (1 + areas * kAreaChunks > file.blocks())
        cowsnap::fail(cowsnap::ErrorKind::NoSpace, "{} exceptions do not fit into {} chunks", count,
                      file.blocks());
    writeHeader(file);
    for (std::uint64_t area = 0; area < areas; ++area) {
        const std::uint64_t start = 1 + area * kAreaChunks;
        std::array<Exception, kExceptionsPerArea> list{};
        for (std::uint64_t i = 0; i < list.size() && area * list.size() + i < count; ++i) {
            const std::uint64_t block = exceptions.blocks[area * list.size() + i];
            list[i] = {htole64(block), htole64(start + 1 + i)};
            if (stamped(block))
                file.write(start + 1 + i, 1, contentsOf(block).data());
        }
        file.write(start, 1, list.data());
    }
}

}  // namespace bench
