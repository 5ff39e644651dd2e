// SPDX-License-Identifier: GPL-2.0-or-later
// Reading the two superblocks.
#include "assembly/store_header.h"

#include <endian.h>

#include <algorithm>
#include <cstring>

#include "base/crc32c.h"
#include "base/error.h"
#include "cowsnap_disk.h"
#include "cowsnap_dm.h"

namespace cowsnap {

namespace {

static_assert(sizeof(cowsnap_disk_super) == COWSNAP_DISK_BLOCK_SIZE);

}  // namespace

std::optional<StoreHeader> readStoreHeader(BlockDevices& devices, const std::string& path) {
    bool any_magic = false;
    for (const std::uint64_t block : {0, COWSNAP_SUPER_COPY_BLOCK}) {
        const auto data =
            devices.read(path, block * COWSNAP_DISK_BLOCK_SIZE, COWSNAP_DISK_BLOCK_SIZE);
        cowsnap_disk_super super{};
        std::memcpy(&super, data.data(), sizeof(super));
        if (le64toh(super.magic) != COWSNAP_MAGIC_SUPER)
            continue;
        any_magic = true;
        const std::uint32_t crc = le32toh(super.crc);
        super.crc = 0;
        if (crc32c(std::as_bytes(std::span(&super, 1))) != crc)
            continue;
        Uuid::Bytes bytes{};
        std::memcpy(bytes.data(), super.uuid, bytes.size());
        return StoreHeader{Uuid(bytes), le64toh(super.store_blocks) * COWSNAP_BLOCK_SECTORS,
                           std::uint64_t{le32toh(super.segment_blocks)} * COWSNAP_BLOCK_SECTORS,
                           le64toh(super.slot_block) * COWSNAP_DISK_BLOCK_SIZE,
                           std::uint64_t{le32toh(super.slot_blocks)} * COWSNAP_DISK_BLOCK_SIZE};
    }
    if (any_magic)
        fail(
            ErrorKind::MetadataCorrupt,
            "{0} holds a store whose superblocks are damaged; nothing was changed: look at it with "
            "\"cowsnap-store check {0}\"",
            path);
    return std::nullopt;
}

bool isBlank(BlockDevices& devices, const std::string& path) {
    const auto data = devices.read(path, 0, COWSNAP_STORE_BLANK_SECTORS * kSectorBytes);
    return std::all_of(data.begin(), data.end(),
                       [](std::byte byte) { return byte == std::byte{0}; });
}

}  // namespace cowsnap
