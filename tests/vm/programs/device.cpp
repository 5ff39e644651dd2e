// SPDX-License-Identifier: GPL-2.0-or-later
#include "device.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <memory>
#include <new>
#include <system_error>
#include <utility>

namespace vmtest {

namespace {

constexpr std::align_val_t kAlignment{4096};
constexpr std::uint32_t kReadSectors = 2048;

struct AlignedDelete {
    void operator()(std::byte* bytes) const { ::operator delete[](bytes, kAlignment); }
};

/// Memory for O_DIRECT.
class Buffer {
public:
    explicit Buffer(std::uint32_t sectors)
        : bytes_(new (kAlignment) std::byte[sectors * kSectorBytes]), sectors_(sectors) {}
    std::byte* data() { return bytes_.get(); }
    std::size_t size() const { return sectors_ * kSectorBytes; }
    std::span<std::byte> sector(std::uint32_t index) {
        return {bytes_.get() + index * kSectorBytes, kSectorBytes};
    }

private:
    std::unique_ptr<std::byte[], AlignedDelete> bytes_;
    std::uint32_t sectors_;
};

[[noreturn]] void failed(const std::string& what) {
    throw std::system_error(errno, std::generic_category(), what);
}

void checkWhole(ssize_t result, std::size_t size, const std::string& what) {
    if (result < 0)
        failed(what);
    if (static_cast<std::size_t>(result) != size) {
        errno = EIO;
        failed(what + " in part");
    }
}

}  // namespace

Devices::Devices(const std::vector<std::string>& paths, Mode mode) {
    for (const std::string& path : paths) {
        const int flags = (mode == Mode::Write ? O_RDWR : O_RDONLY) | O_DIRECT | O_CLOEXEC;
        Part part;
        part.path = path;
        part.file = cowsnap::FileDescriptor(::open(path.c_str(), flags));
        if (!part.file)
            failed("open " + path);
        std::uint64_t bytes = 0;
        if (::ioctl(part.file.get(), BLKGETSIZE64, &bytes) != 0)
            failed("size of " + path);
        part.start = sectors_;
        part.sectors = bytes / kSectorBytes;
        sectors_ += part.sectors;
        parts_.push_back(std::move(part));
    }
}

const Devices::Part& Devices::part(std::uint64_t sector) const {
    return *std::find_if(parts_.begin(), parts_.end(),
                         [sector](const Part& part) { return sector < part.start + part.sectors; });
}

std::uint32_t Devices::withinOne(std::uint64_t first, std::uint32_t count) const {
    const Part& on = part(first);
    return static_cast<std::uint32_t>(
        std::min<std::uint64_t>(count, on.start + on.sectors - first));
}

void Devices::write(std::uint64_t first, std::uint32_t count, Stamp stamp) {
    const Part& on = part(first);
    Buffer buffer(count);
    for (std::uint32_t i = 0; i < count; ++i)
        putSector(buffer.sector(i), first + i, stamp);
    const auto offset = static_cast<off_t>((first - on.start) * kSectorBytes);
    if (try_without_waiting_ && writtenWithoutWaiting(on, {buffer.data(), buffer.size()}, offset))
        return;
    checkWhole(::pwrite(on.file.get(), buffer.data(), buffer.size(), offset), buffer.size(),
               "write to " + on.path);
}

bool Devices::writtenWithoutWaiting(const Part& on, std::span<std::byte> bytes, off_t offset) {
    const iovec vector{bytes.data(), bytes.size()};
    const ssize_t result = ::pwritev2(on.file.get(), &vector, 1, offset, RWF_NOWAIT);
    if (result < 0 && errno != EAGAIN)
        failed("write without waiting to " + on.path);
    const bool whole = std::cmp_equal(result, bytes.size());
    without_waiting_ += whole ? 1 : 0;
    return whole;
}

void Devices::zero(std::uint64_t first, std::uint32_t count) {
    const Part& on = part(first);
    std::array<std::uint64_t, 2> range{(first - on.start) * kSectorBytes, count * kSectorBytes};
    if (::ioctl(on.file.get(), BLKZEROOUT, range.data()) != 0)
        failed("write zeros to " + on.path);
}

void Devices::discard(std::uint64_t first, std::uint32_t count) {
    const Part& on = part(first);
    std::array<std::uint64_t, 2> range{(first - on.start) * kSectorBytes, count * kSectorBytes};
    if (::ioctl(on.file.get(), BLKDISCARD, range.data()) != 0)
        failed("discard on " + on.path);
}

Image Devices::read(std::uint64_t first, std::uint32_t count) const {
    const Part& on = part(first);
    Buffer buffer(count);
    const auto offset = static_cast<off_t>((first - on.start) * kSectorBytes);
    checkWhole(::pread(on.file.get(), buffer.data(), buffer.size(), offset), buffer.size(),
               "read of " + on.path);
    Image image(count);
    for (std::uint32_t i = 0; i < count; ++i)
        image[i] = getSector(buffer.sector(i), first + i);
    return image;
}

Image Devices::readAll() const {
    Image image;
    image.reserve(sectors_);
    while (image.size() < sectors_) {
        const Image some = read(image.size(), withinOne(image.size(), kReadSectors));
        image.insert(image.end(), some.begin(), some.end());
    }
    return image;
}

void Devices::flush() {
    for (const Part& part : parts_)
        if (::fsync(part.file.get()) != 0)
            failed("flush of " + part.path);
}

}  // namespace vmtest
