// SPDX-License-Identifier: GPL-2.0-or-later
// What a program knows of origins and snapshots, kept in a file that survives power cuts. Knows no
// device.
#ifndef COWSNAP_VM_JOURNAL_H
#define COWSNAP_VM_JOURNAL_H

#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "base/file_descriptor.h"
#include "stamps.h"

namespace vmtest {

/// A write to a snapshot whose end is not known.
struct PendingWrite {
    std::uint64_t snapshot = 0;
    std::uint64_t first = 0;
    std::uint64_t count = 0;
    Stamp stamp = 0;
};

/// What is known for certain, and what was going on when nothing more was noted.
struct Knowledge {
    std::map<std::uint64_t, Image> snapshots;  ///< contents of those that are there
    std::optional<std::uint64_t> creating;     ///< perhaps there
    std::optional<std::uint64_t> deleting;     ///< perhaps gone; not in snapshots
    std::optional<PendingWrite> writing;
    Image origin;               ///< a state that was flushed
    bool origin_exact = false;  ///< nothing was written after it
    std::uint64_t last_id = 0;
};

/// Each note is durable when the method returns. An empty path: nothing is kept.
class Journal {
public:
    explicit Journal(const std::string& path);

    /// What the notes of earlier runs say.
    Knowledge replay() const;
    /// Forgets all notes but this.
    void restart(const Knowledge& knowledge);

    void creating(std::uint64_t id);
    void created(std::uint64_t id, const Image& image);
    void deleting(std::uint64_t id);
    void deleted(std::uint64_t id);
    void writing(const PendingWrite& write);
    void written(const PendingWrite& write);
    void originFlushed(const Image& image);
    void originExact(const Image& image);

private:
    enum class Kind : std::uint64_t;
    void open(const std::string& path, int flags);
    void note(Kind kind, std::uint64_t id, const Image& image);

    std::string path_;
    cowsnap::FileDescriptor file_;
};

}  // namespace vmtest

#endif
