// SPDX-License-Identifier: GPL-2.0-or-later
// What cowsnap asks of the machine about block devices, as an interface that
// tests can stand in for. Knows nothing of device-mapper tables or stores.
#ifndef COWSNAP_BLOCK_BLOCK_DEVICES_H
#define COWSNAP_BLOCK_BLOCK_DEVICES_H

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "dm/device_mapper.h"

namespace cowsnap {

inline constexpr std::uint64_t kSectorBytes = 512;

/// How a device is found again after a reboot.
struct DeviceIdentity {
    std::string path;        ///< where it was last, such as /dev/sdb1
    std::string id_link;     ///< its link in /dev/disk/by-id, empty if it has none
    std::string serial;      ///< of its disk, or its device-mapper UUID; empty if it has none
    unsigned partition = 0;  ///< number of the partition, 0 for a whole device
    std::uint64_t size_sectors = 0;
    bool elsewhere = false;  ///< path is that of another machine, and says nothing of this one
    bool operator==(const DeviceIdentity&) const = default;
};

struct BlockDevice {
    DeviceIdentity identity;
    DeviceNumber number;
    bool read_only = false;
};

/// Who uses a device.
struct DeviceUser {
    enum class Kind {
        FileSystem,  ///< one that is mounted from this device, and that freezing the device freezes
        Swap,        ///< it is active swap
        Partitions,  ///< nobody but the users of its partitions
        Multipath,   ///< a multipath device, whose requests come by nobody in front of it
        Other,       ///< a device on top of it, or someone who opened it exclusively or for writing
    };
    Kind kind = Kind::Other;
    std::string text;  ///< behind "is": "mounted on /home", "in use by dm-3"
};

/// The block devices of a machine. Calls may block and throw Error.
class BlockDevices {
public:
    BlockDevices() = default;
    BlockDevices(const BlockDevices&) = delete;
    BlockDevices& operator=(const BlockDevices&) = delete;
    virtual ~BlockDevices() = default;

    /// The device that path leads to. InvalidArgument if path is not absolute or no
    /// block device, NotFound if there is nothing.
    virtual BlockDevice describe(const std::string& path) = 0;
    /// The paths of all devices of this machine that are likely to be there after the next boot,
    /// sorted: no memory disks, loop devices, or devices with removable media.
    virtual std::vector<std::string> lasting() = 0;
    /// The path of the device with this number; NotFound if there is none.
    virtual std::string pathOf(DeviceNumber number) = 0;
    /// The sectors of the device with this number; NotFound if there is none.
    virtual std::uint64_t sizeOf(DeviceNumber number) = 0;
    /// Devices with this serial and partition number.
    virtual std::vector<std::string> withSerial(const std::string& serial, unsigned partition) = 0;
    /// The devices right below one: what a mapped device or array is made of, the
    /// disk of a partition, what a loop device or its file is on.
    virtual std::vector<DeviceNumber> below(DeviceNumber number) = 0;
    /// The devices right above one that have claimed it: mapped devices, arrays.
    virtual std::vector<DeviceNumber> above(DeviceNumber number) = 0;
    /// The first sector of a partition on its disk; nothing for any other device.
    virtual std::optional<std::uint64_t> startOf(DeviceNumber number) = 0;
    /// The partitions of a disk; none for any other device.
    virtual std::vector<DeviceNumber> partitions(DeviceNumber number) = 0;
    /// Who uses a device; nothing if nobody does, which is found out by opening it
    /// exclusively, and by asking who has it, or the disk that it is a partition of, open for
    /// writing. An interposed origin does not count.
    virtual std::optional<DeviceUser> user(const std::string& path) = 0;
    /// Calls work while nobody else can use the device or mount from it; then nothing is cached
    /// any more of what was there before. Busy, and work is not called, if it is in use.
    virtual void exclusively(const std::string& path, const std::function<void()>& work) = 0;
    /// Has udev look at a device again, as far as that can be done.
    virtual void announce(DeviceNumber number) = 0;
    /// What stands on a device ("ext4", "LVM2_member"); empty if nothing known does.
    virtual std::string contents(const std::string& path) = 0;
    /// Reads past all caches. offset and length are multiples of 4096.
    virtual std::vector<std::byte> read(const std::string& path, std::uint64_t offset_bytes,
                                        std::size_t length_bytes) = 0;
    /// Writes past all caches, durably. As read().
    virtual void write(const std::string& path, std::uint64_t offset_bytes,
                       std::span<const std::byte> data) = 0;
};

/// Which sizes a device may have that is to be found again.
enum class FoundSize {
    Same,
    SameOrGrown,  ///< larger, too, if more than its path says that it is the one
};

/// The device with this identity, wherever it is now: its link in by-id, its last
/// path, or any device with its serial. NotFound says what was looked at and why it was
/// not taken.
BlockDevice findDevice(BlockDevices& devices, const DeviceIdentity& identity,
                       FoundSize size = FoundSize::Same);

/// Whether identity may be that of device, its size aside.
bool sameDevice(const DeviceIdentity& identity, const DeviceIdentity& device);

/// All devices that upper stands on, itself aside.
std::set<DeviceNumber> allBelow(BlockDevices& devices, DeviceNumber upper);

/// Whether upper stands on lower, or both are the same. By way of the device not_through only
/// does not count.
bool standsOn(BlockDevices& devices, DeviceNumber upper, DeviceNumber lower,
              std::optional<DeviceNumber> not_through = std::nullopt);

/// Whether one of the two stands on the other, or both are the same.
bool related(BlockDevices& devices, DeviceNumber one, DeviceNumber other);

}  // namespace cowsnap

#endif
