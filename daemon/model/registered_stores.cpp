// SPDX-License-Identifier: GPL-2.0-or-later
#include "model/registered_stores.h"

namespace cowsnap {

void RegisteredStores::write(const RegisteredStore& store) {
    const std::lock_guard lock(writing_);
    registry_.put(store);
}

void RegisteredStores::put(const RegisteredStore& store) {
    const StepOut out(turns_);
    write(store);
}

void RegisteredStores::remove(const Uuid& uuid) {
    const StepOut out(turns_);
    const std::lock_guard lock(writing_);
    registry_.remove(uuid);
}

void RegisteredStores::putUnfinished(const std::vector<DeviceIdentity>& devices) {
    const StepOut out(turns_);
    const std::lock_guard lock(writing_);
    registry_.putUnfinished(devices);
}

void RegisteredStores::dropUnfinished(const std::vector<DeviceIdentity>& devices) {
    const StepOut out(turns_);
    const std::lock_guard lock(writing_);
    registry_.dropUnfinished(devices);
}

std::future<void> RegisteredStores::begin(const RegisteredStore& store) {
    return std::async(std::launch::async, [this, store] { write(store); });
}

bool RegisteredStores::ends(const std::future<void>& begun, std::chrono::milliseconds within) {
    const StepOut out(turns_);
    return begun.wait_for(within) == std::future_status::ready;
}

void RegisteredStores::finish(std::future<void> begun) {
    const StepOut out(turns_);
    begun.get();
}

}  // namespace cowsnap
