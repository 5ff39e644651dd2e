// SPDX-License-Identifier: GPL-2.0-or-later
// Writes copies of metadata on a thread of its own: the file system of the state directory can be
// frozen, by an administrator or for a snapshot of it, and nobody may wait for it then. Knows
// nothing of what the metadata says.
#ifndef COWSNAP_MODEL_BACKUP_WRITER_H
#define COWSNAP_MODEL_BACKUP_WRITER_H

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>

#include "base/uuid.h"
#include "meta/backups.h"

namespace cowsnap {

class BackupWriter {
public:
    explicit BackupWriter(const MetadataBackups& backups);
    /// Waits a little for what is not written yet. Where that is stuck it is left to itself.
    ~BackupWriter();
    BackupWriter(const BackupWriter&) = delete;
    BackupWriter& operator=(const BackupWriter&) = delete;

    /// Has a copy written as MetadataBackups::put() does; returns at once. Of one store no more
    /// than kept wait: older ones are not written then. What fails is logged.
    void put(const Uuid& store, std::uint64_t generation, const std::string& body,
             std::size_t kept);
    /// Waits until all is written, or has failed. False if that takes longer than this.
    bool wait(std::chrono::milliseconds longest);

private:
    struct Shared;
    std::shared_ptr<Shared> shared_;  ///< the thread has it too: it may live longer than this
};

}  // namespace cowsnap

#endif
