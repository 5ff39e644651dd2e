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

/// A named array of objects, as text from the first one on: a tree of all of them would be many
/// times as large, and most of the time that a list takes.
class List {
public:
    explicit List(const std::string& name) : text_("\"" + name + "\":[") {}

    void add(const PublishedObject& object) {
        if (text_.back() != '[')
            text_ += ',';
        text_ += toJson(object).dump(-1, ' ', false, json::error_handler_t::replace);
    }

    std::string text() const { return text_ + "]"; }

private:
    std::string text_;
};

}  // namespace

std::string snapshotListing(const Objects& objects) {
    List stores("stores");
    List origins("origins");
    List snapshots("snapshots");
    objects.each([&](const PublishedObject& object) {
        if (object.interface == kStoreInterface)
            stores.add(object);
        else if (object.interface == kOriginInterface)
            origins.add(object);
        else if (object.interface == kSnapshotInterface)
            snapshots.add(object);
    });
    std::string text = "{\"schema\":" + std::to_string(kListingSchema);
    for (const List* list : {&stores, &origins, &snapshots})
        text += "," + list->text();
    return text + "}";
}

}  // namespace cowsnap
