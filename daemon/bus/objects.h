// SPDX-License-Identifier: GPL-2.0-or-later
// The objects that are on the bus now: their properties, and the signals when they come, change
// and go. Runs on the loop's thread. Knows nothing of where they come from.
#ifndef COWSNAP_DAEMON_BUS_OBJECTS_H
#define COWSNAP_DAEMON_BUS_OBJECTS_H

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "bus/bus.h"
#include "bus/vtables.h"
#include "model/published.h"
#include "model/turns.h"

namespace cowsnap {

class Objects {
public:
    /// on_call gets all method calls, also those of objects that are not there (any more).
    Objects(Bus& bus, std::function<void(const Message&)> on_call);
    Objects(const Objects&) = delete;
    Objects& operator=(const Objects&) = delete;

    /// From now on signals are sent.
    void announce() { announced_ = true; }
    /// Adds an object, or takes over what of it is new.
    void put(const PublishedObject& published);
    /// Nothing happens if there is no such object.
    void remove(const std::string& path);
    /// Sends a signal of an object that is there, of its interface.
    void emit(const std::string& path, const std::string& member, const std::vector<Value>& values);
    /// Null if there is no such object.
    const PublishedObject* find(const std::string& path) const;
    void each(const std::function<void(const PublishedObject&)>& visit) const;
    /// The objects of these stores that are not among those published, which are all there are.
    std::vector<std::string> goneFrom(const StoreSet& stores,
                                      const std::vector<PublishedObject>& published) const;
    /// All stores that there are objects of.
    StoreSet stores() const;

private:
    struct Object {
        Objects* objects = nullptr;
        PublishedObject state;
        Slot slot;
    };

    static int onCall(sd_bus_message* message, void* userdata, sd_bus_error* error);
    /// Whether this object, which is none of those that are there, takes the call that is at hand.
    static int onFindGone(sd_bus* bus, const char* path, const char* interface, void* userdata,
                          void** found, sd_bus_error* error);
    static int onGet(sd_bus* bus, const char* path, const char* interface, const char* property,
                     sd_bus_message* reply, void* userdata, sd_bus_error* error);
    void update(Object& object, const PublishedObject& now);

    Bus& bus_;
    std::function<void(const Message&)> on_call_;
    std::map<std::string, VTable> vtables_;
    Slot object_manager_;
    Object gone_;                     ///< stands for all that are not there
    std::vector<Slot> gone_of_kind_;  ///< below the path of each kind
    std::map<std::string, std::unique_ptr<Object>> objects_;
    bool announced_ = false;
};

}  // namespace cowsnap

#endif
