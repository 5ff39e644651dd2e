// SPDX-License-Identifier: GPL-2.0-or-later
// Which stores missed writes to their origins and could not be told so themselves: written
// while the store fails, read when it is activated again. One file for each such store, outside
// of all stores. Knows nothing of device-mapper.
#ifndef COWSNAP_META_LOSSES_H
#define COWSNAP_META_LOSSES_H

#include <cstdint>
#include <filesystem>
#include <optional>

#include "base/uuid.h"

namespace cowsnap {

class LossRecords {
public:
    /// directory holds a file lost-<uuid>.json for each store with a loss.
    explicit LossRecords(std::filesystem::path directory) : directory_(std::move(directory)) {}

    /// All snapshots with a set of at most last_set are lost. Durable when this returns.
    void put(const Uuid& store, std::uint64_t last_set) const;
    /// The last set that is lost, if there is a record. Failed if it is not understood: the store
    /// must not be activated then.
    std::optional<std::uint64_t> find(const Uuid& store) const;
    /// The store itself knows now.
    void remove(const Uuid& store) const;

private:
    std::filesystem::path fileOf(const Uuid& store) const;

    std::filesystem::path directory_;
};

}  // namespace cowsnap

#endif
