// SPDX-License-Identifier: GPL-2.0-or-later
#include "cli/file_systems.h"

#include <blkid/blkid.h>
#include <fcntl.h>
#include <mntent.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>

#include <fmt/format.h>

#include "base/file_descriptor.h"
#include "cli/exit.h"

namespace cowsnap::cli {

namespace {

struct FreeDeleter {
    void operator()(char* text) const { std::free(text); }
};

bool isExt(const std::string& file_system) {
    return file_system == "ext4" || file_system == "ext3";
}

/// What ext3 and ext4 say in their superblock while they are mounted and not frozen.
bool extNeedsRecovery(const std::string& device) {
    constexpr off_t superblock_at = 1024;
    constexpr std::size_t magic_at = 0x38;
    constexpr std::size_t incompatible_at = 0x60;
    constexpr unsigned magic = 0xef53;
    constexpr unsigned recover = 0x4;
    std::array<std::uint8_t, 128> superblock{};
    const FileDescriptor file(::open(device.c_str(), O_RDONLY | O_CLOEXEC));
    if (!file || ::pread(file.get(), superblock.data(), superblock.size(), superblock_at) !=
                     static_cast<ssize_t>(superblock.size()))
        throw Failure(ExitCode::Failed, "Failed",
                      fmt::format("cannot read {}: {}", device, std::strerror(errno)));
    if ((superblock.at(magic_at) | superblock.at(magic_at + 1) << 8U) != magic)
        throw Failure(ExitCode::Failed, "Failed",
                      fmt::format("{} has no superblock of ext3 or ext4", device));
    return (superblock.at(incompatible_at) & recover) != 0;
}

}  // namespace

std::string fileSystemOn(const std::string& device) {
    const std::unique_ptr<char, FreeDeleter> type(
        blkid_get_tag_value(nullptr, "TYPE", device.c_str()));
    if (!type)
        throw Failure(
            ExitCode::Failed, "Failed",
            fmt::format(
                "there is no file system that is known on {}: look at it with \"blkid -p {}\"",
                device, device));
    return type.get();
}

bool needsReplay(const std::string& file_system, const std::string& device, bool frozen) {
    if (isExt(file_system))
        return extNeedsRecovery(device);
    // The logs of these do not tell that as simply; a frozen one has all in place.
    return (file_system == "xfs" || file_system == "btrfs") && !frozen;
}

std::string mountOptions(const std::string& file_system, MountAs how) {
    std::string options = how == MountAs::Writable ? "rw" : "ro";
    if (file_system == "xfs")
        options += how == MountAs::ReadOnly ? ",nouuid,norecovery" : ",nouuid";
    if (file_system == "btrfs" && how == MountAs::ReadOnly)
        options += ",rescue=nologreplay";
    if (isExt(file_system) && how == MountAs::ReadOnly)
        options += ",noload";
    return options;
}

bool isMounted(const std::string& device) {
    struct stat wanted {};
    if (::stat(device.c_str(), &wanted) != 0)
        return false;
    const std::unique_ptr<FILE, int (*)(FILE*)> mounts(::setmntent("/proc/self/mounts", "r"),
                                                       ::endmntent);
    if (!mounts)
        throw Failure(ExitCode::Failed, "Failed", "cannot read /proc/self/mounts");
    while (const mntent* const mounted = ::getmntent(mounts.get())) {
        struct stat source {};
        if (::stat(mounted->mnt_fsname, &source) == 0 && S_ISBLK(source.st_mode) &&
            source.st_rdev == wanted.st_rdev)
            return true;
    }
    return false;
}

}  // namespace cowsnap::cli
