// SPDX-License-Identifier: GPL-2.0-or-later
// Objects as sd-bus has them: a vtable for each, called back with its Object.
#include "bus/objects.h"

#include <initializer_list>
#include <string_view>
#include <unordered_set>
#include <utility>

namespace cowsnap {

Objects::Objects(Bus& bus, std::function<void(const Message&)> on_call)
    : bus_(bus), on_call_(std::move(on_call)), object_manager_(bus_.addObjectManager(kRootPath)) {
    for (const char* const interface :
         {kManagerInterface, kStoreInterface, kOriginInterface, kSnapshotInterface, kJobInterface})
        vtables_.emplace(interface, VTable(interface, onCall, onGet));
    gone_.objects = this;
    for (const auto& [kind, interface] : std::initializer_list<std::pair<const char*, const char*>>{
             {"store", kStoreInterface},
             {"origin", kOriginInterface},
             {"snapshot", kSnapshotInterface},
             {"job", kJobInterface}})
        gone_of_kind_.push_back(bus_.addFallbackVTable(std::string(kRootPath) + "/" + kind,
                                                       interface, vtables_.at(interface).get(),
                                                       onFindGone, &gone_));
}

void Objects::put(const PublishedObject& published) {
    if (const auto found = objects_.find(published.path); found != objects_.end()) {
        update(*found->second, published);
        return;
    }
    auto object = std::make_unique<Object>();
    object->objects = this;
    object->state = published;
    object->slot = bus_.addObjectVTable(published.path, published.interface,
                                        vtables_.at(published.interface).get(), object.get());
    objects_.insert_or_assign(published.path, std::move(object));
    if (announced_)
        bus_.emitObjectAdded(published.path);
}

void Objects::update(Object& object, const PublishedObject& now) {
    if (object.state.properties == now.properties && object.state.store == now.store)
        return;
    std::vector<std::string> changed;
    for (const auto& [name, value] : now.properties) {
        const auto before = object.state.properties.find(name);
        if (before == object.state.properties.end() || before->second != value)
            changed.push_back(name);
    }
    object.state = now;
    if (!changed.empty() && announced_)
        bus_.emitPropertiesChanged(now.path, now.interface, changed);
}

void Objects::remove(const std::string& path) {
    const auto found = objects_.find(path);
    if (found == objects_.end())
        return;
    if (announced_)
        bus_.emitObjectRemoved(path);
    objects_.erase(found);
}

void Objects::emit(const std::string& path, const std::string& member,
                   const std::vector<Value>& values) {
    const auto found = objects_.find(path);
    if (found == objects_.end() || !announced_)
        return;
    Message signal = bus_.newSignal(path, found->second->state.interface, member);
    for (const auto& value : values)
        signal.append(value);
    bus_.send(signal);
}

const PublishedObject* Objects::find(const std::string& path) const {
    const auto found = objects_.find(path);
    return found == objects_.end() ? nullptr : &found->second->state;
}

void Objects::each(const std::function<void(const PublishedObject&)>& visit) const {
    for (const auto& [path, object] : objects_)
        visit(object->state);
}

std::vector<std::string> Objects::goneFrom(const StoreSet& stores,
                                           const std::vector<PublishedObject>& published) const {
    std::unordered_set<std::string_view> present;
    for (const auto& object : published)
        present.insert(object.path);
    std::vector<std::string> gone;
    for (const auto& [path, object] : objects_)
        if (object->state.store && stores.contains(*object->state.store) && !present.contains(path))
            gone.push_back(path);
    return gone;
}

StoreSet Objects::stores() const {
    StoreSet stores;
    for (const auto& [path, object] : objects_)
        if (object->state.store)
            stores.insert(*object->state.store);
    return stores;
}

int Objects::onCall(sd_bus_message* message, void* userdata, sd_bus_error* /*error*/) {
    static_cast<Object*>(userdata)->objects->on_call_(Message::share(message));
    return 1;
}

int Objects::onFindGone(sd_bus* bus, const char* path, const char* interface, void* userdata,
                        void** found, sd_bus_error* /*error*/) {
    sd_bus_message* const message = sd_bus_get_current_message(bus);
    // It is not shown, and has no properties: only calls are for it.
    const bool is_called = message != nullptr &&
                           sd_bus_message_is_method_call(message, interface, nullptr) > 0 &&
                           std::string_view(path) == sd_bus_message_get_path(message);
    if (!is_called || static_cast<Object*>(userdata)->objects->find(path) != nullptr)
        return 0;
    *found = userdata;
    return 1;
}

int Objects::onGet(sd_bus* /*bus*/, const char* /*path*/, const char* /*interface*/,
                   const char* property, sd_bus_message* reply, void* userdata,
                   sd_bus_error* error) {
    try {
        Message::share(reply).append(static_cast<Object*>(userdata)->state.properties.at(property));
        return 1;
    } catch (const std::exception& exception) {
        return sd_bus_error_set(error, SD_BUS_ERROR_FAILED, exception.what());
    }
}

}  // namespace cowsnap
