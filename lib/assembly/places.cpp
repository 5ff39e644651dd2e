// SPDX-License-Identifier: GPL-2.0-or-later
#include "assembly/places.h"

#include <cowsnap_dm.h>

#include <algorithm>
#include <optional>
#include <set>
#include <sstream>
#include <string>

#include "dm/lines.h"

namespace cowsnap {

namespace {

// More than any sensible machine stacks; what is not a tree ends here.
constexpr unsigned kMostLevels = 16;

/// A device that stands on another one, and where its sectors are there.
class Upper {
public:
    Upper(BlockDevices& devices, DeviceMapper& mapper, DeviceNumber number)
        : start_(devices.startOf(number)) {
        if (!start_)
            table_ = mapper.tableOf(number);
    }

    /// Where its sector is on lower, if it is there as it is or encrypted.
    std::optional<Place> on(DeviceNumber lower, std::uint64_t sector) const {
        if (start_)
            return Place{*start_ + sector};
        for (const auto& target : table_)
            if (sector >= target.start_sector &&
                sector - target.start_sector < target.length_sectors)
                return mapped(target, lower, sector - target.start_sector);
        return std::nullopt;
    }

private:
    static std::optional<Place> mapped(const MappedTarget& target, DeviceNumber lower,
                                       std::uint64_t offset) {
        std::istringstream words(target.arguments);
        std::string skipped;
        std::string device;
        std::uint64_t start = 0;
        if (target.type == COWSNAP_TARGET_ORIGIN)
            device = parseOriginTable(target.arguments).device;
        else if (target.type == "linear")
            words >> device >> start;
        else if (target.type == "crypt")  // <cipher> <key> <iv offset> <device> <start>
            words >> skipped >> skipped >> skipped >> device >> start;
        if (!words || DeviceNumber::parse(device) != lower)
            return std::nullopt;
        return Place{start + offset, target.type == "crypt"};
    }

    std::optional<std::uint64_t> start_;  // of a partition
    std::vector<MappedTarget> table_;     // of a mapped device, else empty
};

void collect(BlockDevices& devices, DeviceMapper& mapper, DeviceNumber device, unsigned levels,
             std::set<Place>& places) {
    std::vector<DeviceNumber> uppers = devices.above(device);
    const auto partitions = devices.partitions(device);
    uppers.insert(uppers.end(), partitions.begin(), partitions.end());
    for (const DeviceNumber number : uppers) {
        const Upper upper(devices, mapper, number);
        std::set<Place> in_upper{Place{}};
        if (levels > 0)
            collect(devices, mapper, number, levels - 1, in_upper);
        for (const Place& place : in_upper)
            if (auto here = upper.on(device, place.sector)) {
                here->encrypted |= place.encrypted;
                places.insert(*here);
            }
    }
}

}  // namespace

std::vector<Place> placesIn(BlockDevices& devices, DeviceMapper& mapper, DeviceNumber device) {
    std::set<Place> places;
    collect(devices, mapper, device, kMostLevels, places);
    std::erase_if(places, [](const Place& place) { return place.sector == 0; });
    return {places.begin(), places.end()};
}

}  // namespace cowsnap
