// SPDX-License-Identifier: GPL-2.0-or-later
// Reading and writing whole blocks with O_DIRECT where there is a device.
#include "store/blocks.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "base/error.h"
#include "block/linux_block_devices.h"

namespace cowsnap::store {

namespace {

constexpr std::uint64_t kChunkBlocks = 256;

struct FreeDeleter {
    void operator()(std::byte* memory) const { std::free(memory); }
};
using AlignedBuffer = std::unique_ptr<std::byte, FreeDeleter>;

/// Direct I/O needs memory that is aligned; of any size up to a chunk.
std::byte* bounceBuffer() {
    static const AlignedBuffer buffer(
        static_cast<std::byte*>(std::aligned_alloc(kBlockBytes, kChunkBlocks * kBlockBytes)));
    if (!buffer)
        throw std::bad_alloc();
    return buffer.get();
}

int readAll(int file, std::uint64_t offset_bytes, std::size_t length_bytes, std::byte* to) {
    for (std::size_t done = 0; done < length_bytes;) {
        const ssize_t count =
            ::pread(file, to + done, length_bytes - done, static_cast<off_t>(offset_bytes + done));
        if (count < 0 && errno == EINTR)
            continue;
        if (count <= 0)
            return count < 0 ? -errno : -EIO;
        done += static_cast<std::size_t>(count);
    }
    return 0;
}

int writeAll(int file, std::uint64_t offset_bytes, std::size_t length_bytes,
             const std::byte* from) {
    for (std::size_t done = 0; done < length_bytes;) {
        const ssize_t count = ::pwrite(file, from + done, length_bytes - done,
                                       static_cast<off_t>(offset_bytes + done));
        if (count < 0 && errno == EINTR)
            continue;
        if (count <= 0)
            return count < 0 ? -errno : -EIO;
        done += static_cast<std::size_t>(count);
    }
    return 0;
}

/// The loop device whose contents this file is.
std::string loopDeviceOf(const struct stat& file) {
    namespace fs = std::filesystem;
    std::error_code code;
    for (const auto& entry : fs::directory_iterator("/sys/block", code)) {
        std::ifstream backing(entry.path() / "loop/backing_file");
        std::string path;
        struct stat status {};
        if (std::getline(backing, path) && ::stat(path.c_str(), &status) == 0 &&
            status.st_dev == file.st_dev && status.st_ino == file.st_ino)
            return "/dev/" + entry.path().filename().string();
    }
    return {};
}

}  // namespace

DeviceBlocks::DeviceBlocks(const std::vector<std::string>& paths, Access access) {
    for (const auto& path : paths) {
        struct stat status {};
        if (::stat(path.c_str(), &status) != 0)
            failErrno(errno, fmt::format("cannot look at {}", path));
        Device device;
        device.path = path;
        device.is_block_device = S_ISBLK(status.st_mode);
        if (!device.is_block_device && !S_ISREG(status.st_mode))
            fail(ErrorKind::InvalidArgument, "{} is neither a block device nor an image file",
                 path);
        int flags = O_CLOEXEC | (access == Access::ReadOnly ? O_RDONLY : O_RDWR);
        if (device.is_block_device)
            flags |= O_DIRECT | (access == Access::ReadOnly ? 0 : O_EXCL);
        device.file = FileDescriptor(::open(path.c_str(), flags));
        if (!device.file)
            failErrno(errno, fmt::format("cannot open {}{}", path,
                                         access == Access::ReadOnly ? "" : " for writing"));
        std::uint64_t size_bytes = static_cast<std::uint64_t>(status.st_size);
        if (device.is_block_device && ::ioctl(device.file.get(), BLKGETSIZE64, &size_bytes) != 0)
            failErrno(errno, fmt::format("cannot ask for the size of {}", path));
        device.number = device.is_block_device ? status.st_rdev : status.st_dev;
        device.inode = device.is_block_device ? 0 : status.st_ino;
        for (const auto& other : devices_)
            if (other.number == device.number && other.inode == device.inode)
                fail(ErrorKind::InvalidArgument, "{} and {} are the same", other.path, path);
        device.first_block = size_;
        device.blocks = size_bytes / kBlockBytes;
        size_ += device.blocks;
        devices_.push_back(std::move(device));
    }
}

int DeviceBlocks::eachDevice(std::uint64_t block, std::uint64_t count, const Step& step) {
    if (block > size_ || count > size_ - block)
        return -EIO;
    std::uint64_t done = 0;
    for (const auto& device : devices_) {
        const std::uint64_t end = device.first_block + device.blocks;
        while (done < count && block + done >= device.first_block && block + done < end) {
            const std::uint64_t n = std::min({count - done, end - block - done, kChunkBlocks});
            if (const int error = step(device, block + done - device.first_block, n, done))
                return error;
            done += n;
        }
    }
    return 0;
}

int DeviceBlocks::read(std::uint64_t block, std::uint64_t count, void* to) {
    return eachDevice(
        block, count,
        [to](const Device& device, std::uint64_t at, std::uint64_t n, std::uint64_t done) {
            const std::size_t bytes = n * kBlockBytes;
            const int error = readAll(device.file.get(), at * kBlockBytes, bytes, bounceBuffer());
            if (!error)
                std::memcpy(static_cast<std::byte*>(to) + done * kBlockBytes, bounceBuffer(),
                            bytes);
            return error;
        });
}

int DeviceBlocks::write(std::uint64_t block, std::uint64_t count, const void* from) {
    return eachDevice(
        block, count,
        [from](const Device& device, std::uint64_t at, std::uint64_t n, std::uint64_t done) {
            const std::size_t bytes = n * kBlockBytes;
            std::memcpy(bounceBuffer(), static_cast<const std::byte*>(from) + done * kBlockBytes,
                        bytes);
            if (const int error =
                    writeAll(device.file.get(), at * kBlockBytes, bytes, bounceBuffer()))
                return error;
            return ::fdatasync(device.file.get()) == 0 ? 0 : -errno;
        });
}

Place DeviceBlocks::place(std::uint64_t block) const {
    for (const auto& device : devices_)
        if (block < device.first_block + device.blocks)
            return {device.path, block - device.first_block};
    return {devices_.back().path, block - devices_.back().first_block};
}

std::string DeviceBlocks::behind(std::uint64_t blocks) const {
    const auto device = std::find_if(devices_.begin(), devices_.end(), [blocks](const Device& one) {
        return one.first_block >= blocks;
    });
    return device == devices_.end() ? std::string() : device->path;
}

void DeviceBlocks::zero(std::uint64_t block, std::uint64_t count) {
    const std::vector<std::byte> zeros(kChunkBlocks * kBlockBytes);
    for (const auto& device : devices_) {
        const std::uint64_t end = device.first_block + device.blocks;
        if (block + count <= device.first_block || block >= end)
            continue;
        const std::uint64_t first = std::max(block, device.first_block) - device.first_block;
        const std::uint64_t last = std::min(block + count, end) - device.first_block;
        std::array<std::uint64_t, 2> range{first * kBlockBytes, (last - first) * kBlockBytes};
        const bool done =
            device.is_block_device
                ? ::ioctl(device.file.get(), BLKZEROOUT, range.data()) == 0
                : ::fallocate(device.file.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                              static_cast<off_t>(range[0]), static_cast<off_t>(range[1])) == 0;
        for (std::uint64_t at = first; !done && at < last; at += kChunkBlocks) {
            const std::uint64_t n = std::min(kChunkBlocks, last - at);
            if (const int error = write(device.first_block + at, n, zeros.data()))
                failErrno(-error, fmt::format("cannot write to {}", device.path));
        }
        if (::fdatasync(device.file.get()) != 0)
            failErrno(errno, fmt::format("cannot make a write to {} durable", device.path));
    }
}

int ShadowBlocks::read(std::uint64_t block, std::uint64_t count, void* to) {
    // A bad block below does not matter where it was overwritten.
    const auto covered = [&] {
        for (std::uint64_t i = 0; i < count; ++i)
            if (!changed_.contains(block + i))
                return false;
        return true;
    };
    if (const int error = below_.get().read(block, count, to); error && !covered())
        return error;
    for (std::uint64_t i = 0; !changed_.empty() && i < count; ++i)
        if (const auto found = changed_.find(block + i); found != changed_.end())
            std::memcpy(static_cast<std::byte*>(to) + i * kBlockBytes, found->second->data(),
                        kBlockBytes);
    return 0;
}

int ShadowBlocks::write(std::uint64_t block, std::uint64_t count, const void* from) {
    if (block > size() || count > size() - block)
        return -EIO;
    const auto* bytes = static_cast<const std::byte*>(from);
    log_.push_back({block, {bytes, bytes + count * kBlockBytes}});
    for (std::uint64_t i = 0; i < count; ++i) {
        auto& copy = changed_[block + i];
        if (!copy)
            copy = std::make_unique<Block>();
        std::memcpy(copy->data(), bytes + i * kBlockBytes, kBlockBytes);
    }
    return 0;
}

int ShadowBlocks::apply() {
    for (const auto& write : log_)
        if (const int error =
                below_.get().write(write.block, write.data.size() / kBlockBytes, write.data.data()))
            return error;
    return 0;
}

std::string userOf(const std::string& path) {
    struct stat status {};
    if (::stat(path.c_str(), &status) != 0)
        failErrno(errno, fmt::format("cannot look at {}", path));
    if (S_ISBLK(status.st_mode)) {
        const auto user = LinuxBlockDevices().user(path);
        return user ? user->text : std::string();
    }
    const std::string loop = loopDeviceOf(status);
    return loop.empty() ? loop : "in use by " + loop;
}

}  // namespace cowsnap::store
