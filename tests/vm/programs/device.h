// SPDX-License-Identifier: GPL-2.0-or-later
// Block devices past the page cache: one, or several in a row seen as one.
#ifndef COWSNAP_VM_DEVICE_H
#define COWSNAP_VM_DEVICE_H

#include <sys/types.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/file_descriptor.h"
#include "stamps.h"

namespace vmtest {

/// A sequence of whole devices. All methods throw std::system_error when the kernel refuses.
class Devices {
public:
    enum class Mode { Read, Write };
    Devices(const std::vector<std::string>& paths, Mode mode);

    std::uint64_t sectors() const { return sectors_; }
    /// @count made smaller so that no device's end is crossed.
    std::uint32_t withinOne(std::uint64_t first, std::uint32_t count) const;
    /// The following ones: sectors of one device only.
    void write(std::uint64_t first, std::uint32_t count, Stamp stamp);
    /// write() asks not to be put to sleep, and does it once more when it would have to be.
    void tryWithoutWaiting() { try_without_waiting_ = true; }
    /// How often it was not.
    std::uint64_t withoutWaiting() const { return without_waiting_; }
    void zero(std::uint64_t first, std::uint32_t count);
    void discard(std::uint64_t first, std::uint32_t count);
    Image read(std::uint64_t first, std::uint32_t count) const;
    /// All sectors.
    Image readAll() const;
    /// What was written survives a power cut.
    void flush();

private:
    struct Part {
        std::string path;
        cowsnap::FileDescriptor file;
        std::uint64_t start = 0;
        std::uint64_t sectors = 0;
    };
    const Part& part(std::uint64_t sector) const;

    bool writtenWithoutWaiting(const Part& on, std::span<std::byte> bytes, off_t offset);

    std::vector<Part> parts_;
    bool try_without_waiting_ = false;
    std::atomic<std::uint64_t> without_waiting_ = 0;
    std::uint64_t sectors_ = 0;
};

}  // namespace vmtest

#endif
