// SPDX-License-Identifier: GPL-2.0-or-later
// Which stores this machine has and on which devices: a file that is written by
// the daemon and read at boot, before there is a bus; and which of their origins must
// be attached then. A cache: the stores themselves say the same, once they can be read.
// Knows nothing of device-mapper.
#ifndef COWSNAP_META_REGISTRY_H
#define COWSNAP_META_REGISTRY_H

#include <filesystem>
#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "base/uuid.h"
#include "block/block_devices.h"

namespace cowsnap {

inline constexpr std::string_view kDefaultStateDirectory = "/var/lib/cowsnap";

/// An origin whose device the boot does not mount from unless it is attached.
struct ClosedOrigin {
    Uuid uuid;
    std::string name;
    std::string mapped_name;  ///< of its cow-origin
    DeviceIdentity device;
    bool operator==(const ClosedOrigin&) const = default;
};
nlohmann::json toJson(const ClosedOrigin& origin);
/// Throws nlohmann::json::exception if something is missing or of another type.
ClosedOrigin closedOriginFromJson(const nlohmann::json& json);

struct RegisteredStore {
    Uuid uuid;
    std::string name;  ///< to speak of it while its devices are missing
    std::vector<DeviceIdentity> devices;
    std::vector<ClosedOrigin> closed{};  ///< as its metadata said last
};

class StoreRegistry {
public:
    /// directory holds stores.json; it is made when first written.
    explicit StoreRegistry(std::filesystem::path directory) : directory_(std::move(directory)) {}

    const std::filesystem::path& directory() const { return directory_; }
    /// Whether there is a file.
    bool isThere() const;
    /// All stores; empty if there is no file. Failed if the file is not understood.
    std::vector<RegisteredStore> read() const;
    /// Adds a store, or replaces what is known of it, durably. What was unfinished on its devices
    /// is finished.
    void put(const RegisteredStore& store) const;
    /// Takes a store out, durably.
    void remove(const Uuid& uuid) const;

    /// Blank devices on which a store is about to be made that has no UUID yet, durably.
    void putUnfinished(const std::vector<DeviceIdentity>& devices) const;
    /// What putUnfinished() was told and was neither finished nor dropped. Failed as read() is.
    std::vector<std::vector<DeviceIdentity>> unfinished() const;
    void dropUnfinished(const std::vector<DeviceIdentity>& devices) const;

private:
    struct Contents {
        std::vector<RegisteredStore> stores;
        std::vector<std::vector<DeviceIdentity>> unfinished;
    };

    Contents contents() const;
    void write(const Contents& contents) const;

    std::filesystem::path directory_;
};

}  // namespace cowsnap

#endif
