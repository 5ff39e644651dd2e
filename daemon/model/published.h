// SPDX-License-Identifier: GPL-2.0-or-later
// The objects that clients see, with their properties: made from the engine's
// state in a turn at it, compared and announced by the bus side.
#ifndef COWSNAP_MODEL_PUBLISHED_H
#define COWSNAP_MODEL_PUBLISHED_H

#include <optional>
#include <string>
#include <vector>

#include "base/uuid.h"
#include "bus/value.h"
#include "model/engine.h"

namespace cowsnap {

inline constexpr const char* kBusName = "org.cowsnap1";
inline constexpr const char* kRootPath = "/org/cowsnap1";
inline constexpr const char* kManagerInterface = "org.cowsnap1.Manager";
inline constexpr const char* kStoreInterface = "org.cowsnap1.Store";
inline constexpr const char* kOriginInterface = "org.cowsnap1.Origin";
inline constexpr const char* kSnapshotInterface = "org.cowsnap1.Snapshot";
inline constexpr const char* kJobInterface = "org.cowsnap1.Job";

struct PublishedObject {
    std::string path;
    std::string interface;
    Dictionary properties;
    std::optional<Uuid> store{};  ///< which it is, or is of
};

/// All objects of these stores.
std::vector<PublishedObject> publish(const Engine& engine, const StoreSet& stores);

ObjectPath storePath(const Uuid& uuid);
ObjectPath originPath(const Uuid& uuid);
ObjectPath snapshotPath(const Uuid& uuid);

/// COWSNAP_ROLLBACK_*, as the property Rollback: also of an origin that is not attached.
std::string rollbackStateOf(const StoreState& store, const OriginRecord& origin);

/// The uuid in the path of an object of this kind ("store", "origin", "snapshot").
/// InvalidArgument if path is something else.
Uuid uuidInPath(const ObjectPath& object, std::string_view kind);

}  // namespace cowsnap

#endif
