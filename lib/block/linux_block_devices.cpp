// SPDX-License-Identifier: GPL-2.0-or-later
// Looking at block devices with stat, sysfs, O_EXCL and O_DIRECT.
#include "block/linux_block_devices.h"

#include <blkid/blkid.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/loop.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>
#include <set>
#include <sstream>

#include "base/error.h"
#include "base/file_descriptor.h"
#include "base/names.h"
#include "block/open_files.h"

namespace cowsnap {

namespace {

namespace fs = std::filesystem;

constexpr std::size_t kDirectAlignment = 4096;

/// The first line of a file of sysfs without surrounding blanks; empty if there is none.
std::string readLine(const fs::path& path) {
    std::ifstream file(path);
    std::string line;
    std::getline(file, line);
    const auto first = line.find_first_not_of(" \t");
    if (first == std::string::npos)
        return {};
    return line.substr(first, line.find_last_not_of(" \t") - first + 1);
}

fs::path sysfsOf(DeviceNumber number) {
    return fs::path("/sys/dev/block") / number.text();
}

unsigned partitionOf(DeviceNumber number) {
    const std::string text = readLine(sysfsOf(number) / "partition");
    return text.empty() ? 0 : static_cast<unsigned>(std::strtoul(text.c_str(), nullptr, 10));
}

/// The directory of the whole device: that of the disk for a partition.
fs::path wholeDeviceOf(DeviceNumber number) {
    std::error_code code;
    const fs::path directory = fs::canonical(sysfsOf(number), code);
    if (code)
        return sysfsOf(number);
    return fs::exists(directory / "partition", code) ? directory.parent_path() : directory;
}

std::string serialOf(DeviceNumber number) {
    const fs::path directory = wholeDeviceOf(number);
    for (const char* const file : {"dm/uuid", "wwid", "device/wwid", "serial", "device/serial"}) {
        const std::string serial = readLine(directory / file);
        // As it is written down: it is to be the same when it is read again.
        if (!serial.empty())
            return legible(serial);
    }
    return {};
}

std::optional<DeviceNumber> blockNumber(const std::string& path) {
    struct stat status {};
    if (::stat(path.c_str(), &status) != 0 || !S_ISBLK(status.st_mode))
        return std::nullopt;
    return DeviceNumber{major(status.st_rdev), minor(status.st_rdev)};
}

/// The link in by-id that leads to a device; of several the first in alphabetical order.
std::string idLinkOf(DeviceNumber number) {
    std::string result;
    std::error_code code;
    for (const auto& entry : fs::directory_iterator("/dev/disk/by-id", code)) {
        const std::string path = entry.path().string();
        if (blockNumber(path) == number && (result.empty() || path < result))
            result = path;
    }
    return result;
}

/// A line of mountinfo.
struct Mount {
    std::string id;
    std::string
        device;  ///< number; of a btrfs or a file system without device one that is nobody's
    std::string mount_point;
    std::string type;
    std::string source;
};

template <typename Matches>
std::optional<Mount> findMount(Matches matches) {
    std::ifstream file("/proc/self/mountinfo");
    for (std::string line; std::getline(file, line);) {
        std::istringstream words(line);
        Mount mount;
        std::string word;
        words >> mount.id >> word >> mount.device >> word >> mount.mount_point;
        while (words >> word && word != "-") {
        }
        words >> mount.type >> mount.source;
        if (matches(mount))
            return mount;
    }
    return std::nullopt;
}

bool isSwap(DeviceNumber number) {
    std::ifstream file("/proc/swaps");
    for (std::string line; std::getline(file, line);)
        if (blockNumber(line.substr(0, line.find_first_of(" \t"))) == number)
            return true;
    return false;
}

std::string holdersOf(DeviceNumber number) {
    std::string result;
    std::error_code code;
    for (const auto& entry : fs::directory_iterator(sysfsOf(number) / "holders", code)) {
        const std::string mapped_name = readLine(entry.path() / "dm/name");
        if (!result.empty())
            result += ", ";
        result += mapped_name.empty() ? entry.path().filename().string() : mapped_name;
    }
    return result;
}

/// The multipath device that a device, or the disk of a partition, is a path of; empty if it is
/// none. multipathd and DM's own tools begin its UUID so.
std::string multipathOf(DeviceNumber number) {
    std::error_code code;
    for (const auto& entry : fs::directory_iterator(wholeDeviceOf(number) / "holders", code))
        if (readLine(entry.path() / "dm/uuid").starts_with("mpath-"))
            return readLine(entry.path() / "dm/name");
    return {};
}

/// A device and, of a partition, its disk.
std::set<DeviceNumber> withDisk(DeviceNumber number) {
    std::set<DeviceNumber> devices{number};
    if (const auto disk = DeviceNumber::parse(readLine(wholeDeviceOf(number) / "dev")))
        devices.insert(*disk);
    return devices;
}

/// The block device of the file system that has a file, for one whose files have the number of no
/// device, as those of btrfs.
std::optional<DeviceNumber> mountedBelow(const std::string& file) {
    struct statx status {};
    if (::statx(AT_FDCWD, file.c_str(), 0, STATX_MNT_ID, &status) != 0 ||
        (status.stx_mask & STATX_MNT_ID) == 0)
        return std::nullopt;
    const auto mount = findMount(
        [&](const Mount& candidate) { return candidate.id == std::to_string(status.stx_mnt_id); });
    return mount ? blockNumber(mount->source) : std::nullopt;
}

/// What a loop device shows: a block device, or the one that holds its file. Nothing if it shows
/// nothing, or is no loop device.
std::optional<DeviceNumber> belowLoop(const std::string& path) {
    const FileDescriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    loop_info64 info{};
    if (!file || ::ioctl(file.get(), LOOP_GET_STATUS64, &info) != 0)
        return std::nullopt;
    const dev_t device = info.lo_rdevice != 0 ? info.lo_rdevice : info.lo_device;
    if (major(device) == 0)
        if (const auto number = blockNumber(path))
            return mountedBelow(readLine(sysfsOf(*number) / "loop/backing_file"));
    return DeviceNumber{major(device), minor(device)};
}

/// Who can be seen to use a device, without opening it.
std::optional<DeviceUser> visibleUser(DeviceNumber number) {
    const auto mount =
        findMount([&](const Mount& candidate) { return candidate.device == number.text(); });
    if (mount)
        // What a file system in a program of its own has not written yet, freezing does not write.
        return DeviceUser{
            mount->type == "fuseblk" ? DeviceUser::Kind::Other : DeviceUser::Kind::FileSystem,
            fmt::format("mounted on {}", mount->mount_point)};
    if (isSwap(number))
        return DeviceUser{DeviceUser::Kind::Swap, "active swap"};
    if (const std::string multipath = multipathOf(number); !multipath.empty())
        return DeviceUser{DeviceUser::Kind::Multipath,
                          fmt::format("a path of the multipath device {}", multipath)};
    const std::string holders = holdersOf(number);
    if (!holders.empty())
        return DeviceUser{DeviceUser::Kind::Other, fmt::format("in use by {}", holders)};
    return std::nullopt;
}

/// Whether it is likely to be there after the next boot.
bool isLasting(DeviceNumber number) {
    const fs::path directory = wholeDeviceOf(number);
    if (readLine(directory / "removable") == "1")
        return false;
    std::error_code code;
    const std::string name = fs::canonical(directory, code).filename().string();
    for (const std::string_view passing : {"ram", "zram", "loop", "nbd", "sr", "fd"})
        if (name.starts_with(passing) &&
            name.find_first_not_of("0123456789", passing.size()) == std::string::npos)
            return false;
    return !code;
}

struct FreeDeleter {
    void operator()(std::byte* memory) const { std::free(memory); }
};
using AlignedBuffer = std::unique_ptr<std::byte, FreeDeleter>;

AlignedBuffer allocateAligned(std::size_t length_bytes) {
    AlignedBuffer buffer(
        static_cast<std::byte*>(std::aligned_alloc(kDirectAlignment, length_bytes)));
    if (!buffer)
        throw std::bad_alloc();
    return buffer;
}

/// A medium may not be found before the device is opened.
std::uint64_t sizeOfMedium(const std::string& path) {
    const FileDescriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!file)
        failErrno(errno, fmt::format("cannot open {}", path));
    std::uint64_t size_bytes = 0;
    if (::ioctl(file.get(), BLKGETSIZE64, &size_bytes) != 0)
        failErrno(errno, fmt::format("cannot ask for the size of {}", path));
    return size_bytes / kSectorBytes;
}

struct ProbeDeleter {
    void operator()(blkid_probe probe) const { blkid_free_probe(probe); }
};

}  // namespace

BlockDevice LinuxBlockDevices::describe(const std::string& path) {
    if (!path.starts_with('/'))
        fail(ErrorKind::InvalidArgument, "{} is not an absolute path of a device", path);
    struct stat status {};
    if (::stat(path.c_str(), &status) != 0)
        failErrno(errno, fmt::format("cannot look at {}", path));
    if (!S_ISBLK(status.st_mode))
        fail(ErrorKind::InvalidArgument, "{} is not a block device", path);
    BlockDevice device;
    device.number = {major(status.st_rdev), minor(status.st_rdev)};
    // A disk that recovers from errors has whoever opens it wait.
    device.identity.size_sectors = sizeOf(device.number);
    if (device.identity.size_sectors == 0)
        device.identity.size_sectors = sizeOfMedium(path);
    device.read_only = readLine(sysfsOf(device.number) / "ro") == "1";
    device.identity.path = pathOf(device.number);
    device.identity.id_link = idLinkOf(device.number);
    device.identity.serial = serialOf(device.number);
    device.identity.partition = partitionOf(device.number);
    return device;
}

std::vector<std::string> LinuxBlockDevices::lasting() {
    std::vector<std::string> result;
    std::error_code code;
    for (const auto& entry : fs::directory_iterator("/sys/dev/block", code)) {
        const auto number = DeviceNumber::parse(entry.path().filename().string());
        if (!number || !isLasting(*number))
            continue;
        try {
            result.push_back(pathOf(*number));
        } catch (const Error&) {
            continue;  // it went meanwhile
        }
    }
    std::sort(result.begin(), result.end());
    return result;
}

std::string LinuxBlockDevices::pathOf(DeviceNumber number) {
    const std::string mapped_name = readLine(sysfsOf(number) / "dm/name");
    if (!mapped_name.empty()) {
        const std::string path = std::string(kMapperDirectory) + mapped_name;
        if (blockNumber(path) == number)
            return path;
    }
    std::ifstream file(sysfsOf(number) / "uevent");
    constexpr std::string_view key = "DEVNAME=";
    for (std::string line; std::getline(file, line);)
        if (line.starts_with(key))
            return "/dev/" + line.substr(key.size());
    fail(ErrorKind::NotFound, "there is no block device {}", number.text());
}

std::uint64_t LinuxBlockDevices::sizeOf(DeviceNumber number) {
    const std::string sectors = readLine(sysfsOf(number) / "size");
    if (sectors.empty())
        fail(ErrorKind::NotFound, "there is no block device {}", number.text());
    return std::strtoull(sectors.c_str(), nullptr, 10);
}

std::vector<std::string> LinuxBlockDevices::withSerial(const std::string& serial,
                                                       unsigned partition) {
    std::vector<std::string> result;
    std::error_code code;
    for (const auto& entry : fs::directory_iterator("/sys/dev/block", code)) {
        const auto number = DeviceNumber::parse(entry.path().filename().string());
        if (number && partitionOf(*number) == partition && serialOf(*number) == serial)
            result.push_back(pathOf(*number));
    }
    return result;
}

std::vector<DeviceNumber> LinuxBlockDevices::below(DeviceNumber number) {
    std::vector<DeviceNumber> result;
    std::error_code code;
    const fs::path directory = fs::canonical(sysfsOf(number), code);
    if (code)
        return result;
    const auto add = [&](const fs::path& device) {
        if (const auto lower = DeviceNumber::parse(readLine(device / "dev")))
            result.push_back(*lower);
    };
    if (fs::exists(directory / "partition", code))
        add(directory.parent_path());
    for (const auto& entry : fs::directory_iterator(directory / "slaves", code))
        add(entry.path());
    if (fs::exists(directory / "loop", code))
        if (const auto lower = belowLoop(pathOf(number)))
            result.push_back(*lower);
    return result;
}

std::vector<DeviceNumber> LinuxBlockDevices::above(DeviceNumber number) {
    std::vector<DeviceNumber> result;
    std::error_code code;
    for (const auto& entry : fs::directory_iterator(sysfsOf(number) / "holders", code))
        if (const auto upper = DeviceNumber::parse(readLine(entry.path() / "dev")))
            result.push_back(*upper);
    return result;
}

std::optional<std::uint64_t> LinuxBlockDevices::startOf(DeviceNumber number) {
    std::error_code code;
    if (!fs::exists(sysfsOf(number) / "partition", code))
        return std::nullopt;
    const std::string text = readLine(sysfsOf(number) / "start");
    std::uint64_t start = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), start);
    if (error != std::errc() || end != text.data() + text.size())
        return std::nullopt;
    return start;
}

std::vector<DeviceNumber> LinuxBlockDevices::partitions(DeviceNumber number) {
    std::vector<DeviceNumber> result;
    std::error_code code;
    const fs::path directory = fs::canonical(sysfsOf(number), code);
    if (code)
        return result;
    for (const auto& entry : fs::directory_iterator(directory, code))
        if (fs::exists(entry.path() / "partition", code))
            if (const auto partition = DeviceNumber::parse(readLine(entry.path() / "dev")))
                result.push_back(*partition);
    return result;
}

namespace {

/// Who has claimed a device, or one of its partitions.
std::optional<DeviceUser> claimantOf(LinuxBlockDevices& devices, const std::string& path) {
    if (const auto number = blockNumber(path)) {
        if (auto visible = visibleUser(*number))
            return visible;
        for (const DeviceNumber partition : devices.partitions(*number)) {
            const std::string partition_path = devices.pathOf(partition);
            if (const auto of_partition = claimantOf(devices, partition_path))
                return DeviceUser{DeviceUser::Kind::Partitions,
                                  fmt::format("in use by its partition {}, which is {}",
                                              partition_path, of_partition->text)};
        }
    }
    const FileDescriptor file(::open(path.c_str(), O_RDONLY | O_EXCL | O_CLOEXEC));
    if (file)
        return std::nullopt;
    if (errno != EBUSY)
        failErrno(errno, fmt::format("cannot open {}", path));
    return DeviceUser{DeviceUser::Kind::Other,
                      "in use by someone who opened it exclusively, such as a btrfs file system"};
}

}  // namespace

std::optional<DeviceUser> LinuxBlockDevices::user(const std::string& path) {
    if (auto claimant = claimantOf(*this, path))
        return claimant;
    const auto number = blockNumber(path);
    if (!number)
        return std::nullopt;
    // /proc is looked through once for all.
    std::set<DeviceNumber> written = withDisk(*number);
    for (const DeviceNumber partition : partitions(*number))
        written.insert(partition);
    if (const auto writer = writerOf(written))
        return DeviceUser{DeviceUser::Kind::Other, fmt::format("open for writing by {}", *writer)};
    return std::nullopt;
}

void LinuxBlockDevices::exclusively(const std::string& path, const std::function<void()>& work) {
    const FileDescriptor file(::open(path.c_str(), O_RDONLY | O_EXCL | O_CLOEXEC));
    if (!file && errno == EBUSY)
        fail(ErrorKind::Busy, "{} is in use", path);
    if (!file)
        failErrno(errno, fmt::format("cannot open {}", path));
    work();
    // what others read meanwhile, without having it to themselves, may be of before
    if (::ioctl(file.get(), BLKFLSBUF, 0) != 0)
        failErrno(errno, fmt::format("cannot drop what is cached of {}", path));
}

void LinuxBlockDevices::announce(DeviceNumber number) {
    // LVM looks at disks and partitions only when they are new, and device-mapper's rules take that
    // for none of their events.
    std::error_code code;
    const bool mapped = fs::exists(sysfsOf(number) / "dm", code);
    std::ofstream event(sysfsOf(number) / "uevent");
    if (event << (mapped ? "change" : "add") << std::flush)
        return;
    // Where sysfs is read-only, as for the daemon: what was open for writing is looked at by udev.
    try {
        const FileDescriptor file(::open(pathOf(number).c_str(), O_WRONLY | O_CLOEXEC));
    } catch (const Error&) {
        // it is gone
    }
}

std::string LinuxBlockDevices::contents(const std::string& path) {
    const std::unique_ptr<std::remove_pointer_t<blkid_probe>, ProbeDeleter> probe(
        blkid_new_probe_from_filename(path.c_str()));
    if (!probe)
        failErrno(errno, fmt::format("cannot look for contents on {}", path));
    blkid_probe_enable_superblocks(probe.get(), 1);
    blkid_probe_enable_partitions(probe.get(), 1);
    if (blkid_do_safeprobe(probe.get()) == 1)
        return {};
    const char* value = nullptr;
    if (blkid_probe_lookup_value(probe.get(), "TYPE", &value, nullptr) == 0)
        return value;
    if (blkid_probe_lookup_value(probe.get(), "PTTYPE", &value, nullptr) == 0)
        return fmt::format("{} partition table", value);
    return "several known contents";
}

std::vector<std::byte> LinuxBlockDevices::read(const std::string& path, std::uint64_t offset_bytes,
                                               std::size_t length_bytes) {
    const FileDescriptor file(::open(path.c_str(), O_RDONLY | O_DIRECT | O_CLOEXEC));
    if (!file)
        failErrno(errno, fmt::format("cannot open {}", path));
    const AlignedBuffer buffer = allocateAligned(length_bytes);
    std::size_t done = 0;
    while (done < length_bytes) {
        const ssize_t count = ::pread(file.get(), buffer.get() + done, length_bytes - done,
                                      static_cast<off_t>(offset_bytes + done));
        if (count < 0 && errno == EINTR)
            continue;
        if (count < 0)
            failErrno(errno, fmt::format("cannot read {} bytes at {} of {}", length_bytes,
                                         offset_bytes, path));
        if (count == 0)
            fail(ErrorKind::Failed, "{} ends before byte {}", path, offset_bytes + length_bytes);
        done += static_cast<std::size_t>(count);
    }
    return {buffer.get(), buffer.get() + length_bytes};
}

void LinuxBlockDevices::write(const std::string& path, std::uint64_t offset_bytes,
                              std::span<const std::byte> data) {
    const FileDescriptor file(::open(path.c_str(), O_WRONLY | O_DIRECT | O_CLOEXEC));
    if (!file)
        failErrno(errno, fmt::format("cannot open {} for writing", path));
    const AlignedBuffer buffer = allocateAligned(data.size());
    std::memcpy(buffer.get(), data.data(), data.size());
    std::size_t done = 0;
    while (done < data.size()) {
        const ssize_t count = ::pwrite(file.get(), buffer.get() + done, data.size() - done,
                                       static_cast<off_t>(offset_bytes + done));
        if (count < 0 && errno == EINTR)
            continue;
        if (count < 0)
            failErrno(errno, fmt::format("cannot write {} bytes at {} of {}", data.size(),
                                         offset_bytes, path));
        done += static_cast<std::size_t>(count);
    }
    if (::fdatasync(file.get()) != 0)
        failErrno(errno, fmt::format("cannot make a write to {} durable", path));
}

}  // namespace cowsnap
