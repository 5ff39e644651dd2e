// SPDX-License-Identifier: GPL-2.0-or-later
// What cowsnap asks of device-mapper, as an interface that tests can stand in
// for, and the UUIDs of the devices that it makes. Knows nothing of stores.
#ifndef COWSNAP_DM_DEVICE_MAPPER_H
#define COWSNAP_DM_DEVICE_MAPPER_H

#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/uuid.h"

namespace cowsnap {

/// Where device nodes of device-mapper stand.
inline constexpr std::string_view kMapperDirectory = "/dev/mapper/";

struct DeviceNumber {
    unsigned major = 0;
    unsigned minor = 0;
    auto operator<=>(const DeviceNumber&) const = default;
    /// "<major>:<minor>"
    std::string text() const;
    /// Reads text(); nothing if it is something else.
    static std::optional<DeviceNumber> parse(std::string_view text);
};

/// A mapped device.
struct MappedDevice {
    std::string name;
    std::string uuid;
    DeviceNumber number;
    std::uint32_t open_count = 0;
    std::uint32_t event_number = 0;
    bool live_table = true;       ///< false: it is just being made, or that was interrupted
    bool inactive_table = false;  ///< one is loaded that the next resume makes live
    bool suspended = false;       ///< what is read and written waits until it is resumed
    std::string path() const { return std::string(kMapperDirectory) + name; }
};

/// One line of a table, or of a status.
struct MappedTarget {
    std::uint64_t start_sector = 0;
    std::uint64_t length_sectors = 0;
    std::string type;
    std::string arguments;
    bool operator==(const MappedTarget&) const = default;
};

/// Whether udev treats a device as any other, or makes no links to it and nobody
/// looks for file systems or physical volumes on it.
enum class Visibility { Visible, Hidden };

struct TargetVersion {
    unsigned major = 0;
    unsigned minor = 0;
    unsigned patch = 0;
};

/// Device-mapper. All calls may block, and may be made on several threads at a time. They throw
/// Error; its kind follows from the errno of the ioctl.
class DeviceMapper {
public:
    DeviceMapper() = default;
    DeviceMapper(const DeviceMapper&) = delete;
    DeviceMapper& operator=(const DeviceMapper&) = delete;
    virtual ~DeviceMapper() = default;

    /// All devices whose UUID starts with COWSNAP_DM_UUID_PREFIX.
    virtual std::vector<MappedDevice> devices() = 0;
    /// Whether any device has this name.
    virtual bool nameTaken(const std::string& name) = 0;
    /// Makes a device with a table and resumes it; leaves nothing behind on error.
    virtual void create(const std::string& name, const std::string& uuid,
                        const std::vector<MappedTarget>& table, Visibility visibility,
                        bool read_only);
    /// Replaces the table of a live device: load, suspend, resume. On error it has the table that
    /// it had, and is not suspended; if that cannot be done, the error says so.
    virtual void reload(const std::string& name, const std::vector<MappedTarget>& table,
                        Visibility visibility);
    /// Makes a device without a table.
    virtual void make(const std::string& name, const std::string& uuid) = 0;
    /// Gives a device an inactive table.
    virtual void load(const std::string& name, const std::vector<MappedTarget>& table,
                      bool read_only) = 0;
    /// Takes the inactive table away, if there is one.
    virtual void clear(const std::string& name) = 0;
    virtual void suspend(const std::string& name) = 0;
    /// Makes an inactive table the live one. Does nothing if there is none and the device is not
    /// suspended.
    virtual void resume(const std::string& name, Visibility visibility) = 0;
    /// Removes a device; Busy if it is open.
    virtual void remove(const std::string& name, Visibility visibility) = 0;
    virtual std::vector<MappedTarget> table(const std::string& name) = 0;
    /// The same of any mapped device; empty if the device is none.
    virtual std::vector<MappedTarget> tableOf(DeviceNumber number) = 0;
    virtual std::vector<MappedTarget> status(const std::string& name) = 0;
    /// Sends a message to the target at sector 0 and returns its answer.
    virtual std::string message(const std::string& name, const std::string& text) = 0;
    /// The version of a target; nothing if the kernel does not have it.
    virtual std::optional<TargetVersion> targetVersion(const std::string& type) = 0;

    /// A descriptor that gets readable when the event counter of any device rises
    /// after the last armEvents(). Owned by this object. May be called from another
    /// thread than the rest.
    virtual int eventDescriptor() = 0;
    virtual void armEvents() = 0;
};

/// What a device that cowsnap made is for.
struct DeviceRole {
    Uuid uuid;         ///< of the store, origin or snapshot
    std::string role;  ///< COWSNAP_DM_ROLE_*, or one of those below
};

/// Devices that only exist while a new store is being formatted. Their UUID is of no store.
inline constexpr std::string_view kRoleFormatStore = "format";
inline constexpr std::string_view kRoleFormatData = "formatdata";

std::string deviceMapperUuid(const Uuid& uuid, std::string_view role);
std::optional<DeviceRole> parseDeviceMapperUuid(std::string_view text);

}  // namespace cowsnap

#endif
