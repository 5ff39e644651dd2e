// SPDX-License-Identifier: GPL-2.0-or-later
// A log of what several disks were told to write, as write_log.py makes it: in one order, with the
// instant at which each write had ended. Knows nothing of what the disks hold.
#ifndef COWSNAP_VM_WRITE_LOG_H
#define COWSNAP_VM_WRITE_LOG_H

#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <vector>

namespace vmtest {

/// An instant: the number of an entry of the log.
using Instant = std::size_t;
inline constexpr Instant kNever = std::numeric_limits<Instant>::max();

struct LoggedWrite {
    unsigned disk = 0;
    std::uint64_t first = 0;  ///< sector of the disk
    std::span<const std::uint8_t> data;
    Instant sent = 0;
    Instant ended = kNever;
    Instant durable = kNever;  ///< end of the first flush that was sent after `ended`
};

/// What happened at an instant: a write was sent, or a flush has ended.
struct LogStep {
    Instant instant = 0;
    bool flush_ended = false;
    std::vector<std::size_t> writes;  ///< the one sent; or those durable from here on, as sent
};

class WriteLog {
public:
    /// Throws std::runtime_error when the file is no such log.
    explicit WriteLog(const std::string& path);

    /// For each disk its size.
    const std::vector<std::uint64_t>& diskSectors() const { return disk_sectors_; }
    const std::vector<LoggedWrite>& writes() const { return writes_; }
    const std::vector<LogStep>& steps() const { return steps_; }

private:
    struct Flush {
        unsigned disk = 0;
        Instant sent = 0;
    };
    struct Entry;
    void take(const Entry& entry);
    void takeMark(const std::string& text, Instant instant);
    void end(Instant which, Instant instant);
    unsigned diskOf(std::uint64_t sector) const;

    std::vector<std::uint8_t> bytes_;
    std::vector<std::uint64_t> disk_first_;
    std::vector<std::uint64_t> disk_sectors_;
    std::vector<LoggedWrite> writes_;
    std::vector<Flush> flushes_;
    std::vector<LogStep> steps_;
    std::vector<std::size_t> not_durable_;  ///< writes, as sent
};

}  // namespace vmtest

#endif
