// SPDX-License-Identifier: GPL-2.0-or-later
// Which stores this machine has and on which devices: a file that is written by
// the daemon and read at boot, before there is a bus. A cache: the stores
// themselves say the same. Knows nothing of device-mapper.
#ifndef COWSNAP_META_REGISTRY_H
#define COWSNAP_META_REGISTRY_H

#include <filesystem>
#include <vector>

#include "base/uuid.h"
#include "block/block_devices.h"

namespace cowsnap {

inline constexpr std::string_view kDefaultStateDirectory = "/var/lib/cowsnap";

struct RegisteredStore {
    Uuid uuid;
    std::string name;  ///< to speak of it while its devices are missing
    std::vector<DeviceIdentity> devices;
};

class StoreRegistry {
public:
    /// directory holds stores.json; it is made when first written.
    explicit StoreRegistry(std::filesystem::path directory) : directory_(std::move(directory)) {}

    const std::filesystem::path& directory() const { return directory_; }
    /// All stores; empty if there is no file. Failed if the file is not understood.
    std::vector<RegisteredStore> read() const;
    /// Adds a store or replaces its devices, durably.
    void put(const RegisteredStore& store) const;
    /// Takes a store out, durably.
    void remove(const Uuid& uuid) const;

private:
    void write(const std::vector<RegisteredStore>& stores) const;

    std::filesystem::path directory_;
};

}  // namespace cowsnap

#endif
