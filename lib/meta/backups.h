// SPDX-License-Identifier: GPL-2.0-or-later
// Copies of the last states of the metadata of a store, in the state directory: for the case that
// both slots of the store are damaged. Knows nothing of device-mapper, nor what the metadata says.
#ifndef COWSNAP_META_BACKUPS_H
#define COWSNAP_META_BACKUPS_H

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "base/uuid.h"

namespace cowsnap {

/// How many states of a store's metadata are kept unless something else is said.
inline constexpr std::size_t kMetadataBackupsKept = 20;

class MetadataBackups {
public:
    /// directory is that of the registry; the copies are in <directory>/backups/<uuid>/.
    explicit MetadataBackups(const std::filesystem::path& directory)
        : directory_(directory / "backups") {}

    /// Writes a copy of the metadata with this generation, durably, and removes all but the last
    /// kept. Nothing is written if kept is 0. Throws Error (Failed).
    void put(const Uuid& store, std::uint64_t generation, const std::string& body,
             std::size_t kept) const;
    /// The copies of a store, the newest first.
    std::vector<std::filesystem::path> list(const Uuid& store) const;

private:
    std::filesystem::path directory_;
};

}  // namespace cowsnap

#endif
