// SPDX-License-Identifier: GPL-2.0-or-later
// Comparing devices with what superblock and metadata of a store say.
#include "assembly/store_devices.h"

#include <algorithm>

#include "base/error.h"
#include "base/size_text.h"
#include "cowsnap_dm.h"
#include "meta/metadata.h"
#include "meta/slots.h"

namespace cowsnap {

namespace {

/// A device behind the end of the store is none of it: activating the store with it would extend
/// the store over whatever is there.
void checkNoneBehindTheEnd(const StoreHeader& header, const std::vector<BlockDevice>& devices) {
    std::uint64_t start_sector = 0;
    for (const auto& device : devices) {
        if (start_sector > 0 && start_sector >= header.store_sectors)
            fail(ErrorKind::InvalidArgument,
                 "{} is no device of the store {}, which has {} and ends before it",
                 device.identity.path, header.uuid.dashed(),
                 sizeText(header.store_sectors * kSectorBytes));
        start_sector += usableSectors(device.identity);
    }
}

/// Where the metadata tells that the devices were in another order, or others.
void checkOrder(BlockDevices& devices, const StoreHeader& header,
                const std::vector<BlockDevice>& given) {
    const auto recorded = recordedDevices(devices, header, given.front().identity.path);
    for (std::size_t i = 0; i < std::min(recorded.size(), given.size()); ++i) {
        const DeviceIdentity& now = given[i].identity;
        const bool is_last = i + 1 == recorded.size();
        bool is_another = false;
        for (std::size_t j = 0; j < recorded.size(); ++j)
            is_another |= !now.serial.empty() && recorded[i].serial != now.serial &&
                          recorded[j].serial == now.serial &&
                          recorded[j].partition == now.partition;
        if (is_another || (!is_last && usableSectors(recorded[i]) != usableSectors(now)))
            fail(ErrorKind::InvalidArgument,
                 "{} is not device {} of the store {}, which was {} ({}): name its devices in "
                 "their order",
                 now.path, i + 1, header.uuid.dashed(), recorded[i].path,
                 sizeText(recorded[i].size_sectors * kSectorBytes));
    }
}

}  // namespace

std::uint64_t usableSectors(const DeviceIdentity& device) {
    return device.size_sectors / COWSNAP_BLOCK_SECTORS * COWSNAP_BLOCK_SECTORS;
}

std::vector<DeviceIdentity> recordedDevices(BlockDevices& devices, const StoreHeader& header,
                                            const std::string& path) {
    try {
        MetadataSlots slots(devices, path, header.uuid, header.slot_bytes,
                            header.slots_offset_bytes);
        const SlotContents contents = slots.read();
        if (!contents.fresh)
            return parseMetadata(contents.schema, contents.body).devices;
    } catch (const Error&) {
        // activating the store will say what is wrong
    }
    return {};
}

void checkApart(BlockDevices& devices, const std::vector<BlockDevice>& given) {
    for (std::size_t i = 0; i < given.size(); ++i)
        for (std::size_t j = 0; j < i; ++j)
            if (related(devices, given[i].number, given[j].number))
                fail(ErrorKind::InvalidArgument,
                     "{} and {} are the same device, or one stands on the other",
                     given[i].identity.path, given[j].identity.path);
}

void checkStoreDevices(BlockDevices& devices, const StoreHeader& header,
                       const std::vector<BlockDevice>& given) {
    checkApart(devices, given);
    checkNoneBehindTheEnd(header, given);
    checkOrder(devices, header, given);
}

}  // namespace cowsnap
