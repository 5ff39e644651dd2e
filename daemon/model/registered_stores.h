// SPDX-License-Identifier: GPL-2.0-or-later
// The list of stores as the engine keeps it: who writes it lets others into the engine meanwhile,
// and writers wait for each other. The file system that it is on can be frozen, or be that of an
// origin whose writes wait for room in a store.
#ifndef COWSNAP_MODEL_REGISTERED_STORES_H
#define COWSNAP_MODEL_REGISTERED_STORES_H

#include <chrono>
#include <filesystem>
#include <future>
#include <mutex>
#include <utility>
#include <vector>

#include "meta/registry.h"
#include "model/turns.h"

namespace cowsnap {

class RegisteredStores {
public:
    RegisteredStores(StoreRegistry registry, Turns& turns)
        : registry_(std::move(registry)), turns_(turns) {}

    const std::filesystem::path& directory() const { return registry_.directory(); }
    /// See StoreRegistry. These do not step out.
    std::vector<RegisteredStore> read() const { return registry_.read(); }
    std::vector<std::vector<DeviceIdentity>> unfinished() const { return registry_.unfinished(); }
    /// As of StoreRegistry. They step out.
    void put(const RegisteredStore& store);
    void remove(const Uuid& uuid);
    void putUnfinished(const std::vector<DeviceIdentity>& devices);
    void dropUnfinished(const std::vector<DeviceIdentity>& devices);

    /// Begins a put(), on a thread of its own. Does not step out. Whoever destroys the future waits
    /// for it, and must not outlive this object.
    [[nodiscard]] std::future<void> begin(const RegisteredStore& store);
    /// Whether it has ended, well or not, within that time. Steps out.
    bool ends(const std::future<void>& begun, std::chrono::milliseconds within);
    /// Waits until it has ended; throws what it has thrown. Steps out.
    void finish(std::future<void> begun);

private:
    void write(const RegisteredStore& store);

    StoreRegistry registry_;
    Turns& turns_;
    std::mutex writing_;  ///< who holds it is not in the engine
};

}  // namespace cowsnap

#endif
