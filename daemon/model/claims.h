// SPDX-License-Identifier: GPL-2.0-or-later
// Devices that are just being made a part of a store, or an origin. Two stores may be worked at at
// the same time: without claims both could find the same device free. Knows nothing of stores.
#ifndef COWSNAP_MODEL_CLAIMS_H
#define COWSNAP_MODEL_CLAIMS_H

#include <list>
#include <utility>
#include <vector>

#include "base/error.h"
#include "block/block_devices.h"

namespace cowsnap {

/// Used by who is in the engine only; a Claim is let go there too.
class Claims {
public:
    class Claim {
    public:
        Claim(Claims& claims, std::list<DeviceNumber> numbers)
            : claims_(claims), numbers_(std::move(numbers)) {
            claims_.claimed_.push_back(&numbers_);
        }
        ~Claim() { claims_.claimed_.remove(&numbers_); }
        Claim(const Claim&) = delete;
        Claim& operator=(const Claim&) = delete;

    private:
        Claims& claims_;
        std::list<DeviceNumber> numbers_;
    };

    /// Busy if somebody has claimed one of the devices, or one that stands on it or below it.
    [[nodiscard]] Claim claim(BlockDevices& devices, const std::vector<BlockDevice>& wanted) {
        std::list<DeviceNumber> numbers;
        for (const auto& device : wanted) {
            for (const auto* const others : claimed_)
                for (const DeviceNumber other : *others)
                    if (related(devices, other, device.number))
                        fail(ErrorKind::Busy,
                             "{} is just being made an origin, or a part of a store, by another "
                             "job: try again when that is done",
                             device.identity.path);
            numbers.push_back(device.number);
        }
        return Claim(*this, std::move(numbers));
    }

private:
    std::list<const std::list<DeviceNumber>*> claimed_;
};

}  // namespace cowsnap

#endif
