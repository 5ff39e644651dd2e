// SPDX-License-Identifier: GPL-2.0-or-later
// Objects to JSON.
#include "bus/listing.h"

#include <nlohmann/json.hpp>

#include "model/published.h"

namespace cowsnap {

namespace {

using nlohmann::json;

json toJson(const ObjectPath& object) {
    return object.path;
}

json toJson(const std::vector<ObjectPath>& objects) {
    json list = json::array();
    for (const auto& object : objects)
        list.push_back(object.path);
    return list;
}

template <typename Plain>
json toJson(const Plain& value) {
    return value;
}

json toJson(const PublishedObject& object) {
    json document{{"Path", object.path}};
    for (const auto& [name, value] : object.properties)
        document[name] = std::visit([](const auto& plain) { return toJson(plain); }, value);
    return document;
}

}  // namespace

std::string snapshotListing(const Objects& objects) {
    json document{{"schema", kListingSchema},
                  {"stores", json::array()},
                  {"origins", json::array()},
                  {"snapshots", json::array()}};
    objects.each([&](const PublishedObject& object) {
        if (object.interface == kStoreInterface)
            document["stores"].push_back(toJson(object));
        else if (object.interface == kOriginInterface)
            document["origins"].push_back(toJson(object));
        else if (object.interface == kSnapshotInterface)
            document["snapshots"].push_back(toJson(object));
    });
    return document.dump(-1, ' ', false, json::error_handler_t::replace);
}

}  // namespace cowsnap
