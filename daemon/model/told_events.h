// SPDX-License-Identifier: GPL-2.0-or-later
// Which of the kernel's events of a store were told by a daemon: kept where it does not outlive the
// kernel, whose numbers begin anew. Knows nothing of what the events are.
#ifndef COWSNAP_MODEL_TOLD_EVENTS_H
#define COWSNAP_MODEL_TOLD_EVENTS_H

#include <cstdint>
#include <filesystem>

#include "base/uuid.h"

namespace cowsnap {

/// What cannot be read or written is logged: then events are told twice.
class ToldEvents {
public:
    /// A directory in memory, such as one in /run: writing to it must wait for no device.
    explicit ToldEvents(std::filesystem::path directory) : directory_(std::move(directory)) {}

    /// The number of the last one; 0 if none was.
    std::uint64_t last(const Uuid& store) const;
    void put(const Uuid& store, std::uint64_t last) const;
    /// The store's numbers begin anew.
    void forget(const Uuid& store) const;

private:
    std::filesystem::path fileOf(const Uuid& store) const;

    std::filesystem::path directory_;
};

}  // namespace cowsnap

#endif
