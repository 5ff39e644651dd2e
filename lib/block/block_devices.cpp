// SPDX-License-Identifier: GPL-2.0-or-later
// Finding a device again, and the order in which devices stand on each other.
#include "block/block_devices.h"

#include <set>

#include "base/error.h"
#include "base/size_text.h"

namespace cowsnap {

namespace {

/// Why a device is not the one with identity; empty if it is.
std::string mismatch(const BlockDevice& device, const DeviceIdentity& identity, FoundSize size) {
    if (!identity.serial.empty() && device.identity.serial != identity.serial)
        return fmt::format("has another serial number ({} instead of {})",
                           device.identity.serial.empty() ? "none" : device.identity.serial,
                           identity.serial);
    if (device.identity.partition != identity.partition)
        return "is another partition";
    if (device.identity.size_sectors < identity.size_sectors)
        return fmt::format("is smaller than before: {} sectors instead of {}",
                           device.identity.size_sectors, identity.size_sectors);
    const bool known_by_mark =
        !identity.serial.empty() ||
        (!identity.id_link.empty() && device.identity.id_link == identity.id_link);
    const bool may_be_larger = size == FoundSize::SameOrGrown && known_by_mark;
    if (device.identity.size_sectors > identity.size_sectors && !may_be_larger)
        return fmt::format("is larger than before: {} sectors instead of {}",
                           device.identity.size_sectors, identity.size_sectors);
    return {};
}

}  // namespace

BlockDevice findDevice(BlockDevices& devices, const DeviceIdentity& identity, FoundSize size) {
    const bool only_by_link = identity.elsewhere && identity.serial.empty();
    if (only_by_link && identity.id_link.empty())
        fail(ErrorKind::NotFound,
             "its device was {} ({}) on the machine where it was attached and has no serial number "
             "to know it by",
             identity.path, sizeText(identity.size_sectors * kSectorBytes));
    std::string reasons;
    const auto try_path = [&](const std::string& path) -> std::optional<BlockDevice> {
        try {
            BlockDevice device = devices.describe(path);
            const std::string why_not = mismatch(device, identity, size);
            if (why_not.empty())
                return device;
            reasons += fmt::format("; {} {}", path, why_not);
        } catch (const Error& error) {
            reasons += fmt::format("; {}", error.what());
        }
        return std::nullopt;
    };
    if (!identity.id_link.empty())
        if (auto device = try_path(identity.id_link))
            return *device;
    if (only_by_link)
        fail(ErrorKind::NotFound, "its device was {}, which is not here{}", identity.id_link,
             reasons);
    if (auto device = try_path(identity.path))
        return *device;
    if (!identity.serial.empty())
        for (const auto& path : devices.withSerial(identity.serial, identity.partition))
            if (path != identity.path)
                if (auto device = try_path(path))
                    return *device;
    fail(ErrorKind::NotFound, "cannot find the device that was {}{}", identity.path, reasons);
}

bool sameDevice(const DeviceIdentity& identity, const DeviceIdentity& device) {
    if (identity.partition != device.partition)
        return false;
    if (!identity.serial.empty() || !device.serial.empty())
        return identity.serial == device.serial;
    if (!identity.id_link.empty() && identity.id_link == device.id_link)
        return true;
    return !identity.elsewhere && !device.elsewhere && identity.path == device.path;
}

namespace {

/// All devices that upper stands on by another way than this one, itself and that aside.
std::set<DeviceNumber> belowBut(BlockDevices& devices, DeviceNumber upper,
                                std::optional<DeviceNumber> not_through) {
    std::set<DeviceNumber> found;
    std::vector<DeviceNumber> open{upper};
    while (!open.empty()) {
        const DeviceNumber current = open.back();
        open.pop_back();
        for (const DeviceNumber next : devices.below(current))
            if (next != upper && next != not_through && found.insert(next).second)
                open.push_back(next);
    }
    return found;
}

}  // namespace

std::set<DeviceNumber> allBelow(BlockDevices& devices, DeviceNumber upper) {
    return belowBut(devices, upper, std::nullopt);
}

bool standsOn(BlockDevices& devices, DeviceNumber upper, DeviceNumber lower,
              std::optional<DeviceNumber> not_through) {
    return upper == lower || belowBut(devices, upper, not_through).contains(lower);
}

bool related(BlockDevices& devices, DeviceNumber one, DeviceNumber other) {
    return standsOn(devices, one, other) || standsOn(devices, other, one);
}

}  // namespace cowsnap
