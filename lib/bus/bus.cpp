// SPDX-License-Identifier: GPL-2.0-or-later
// Thin calls of sd-bus with errors turned into exceptions.
#include "bus/bus.h"

#include <cerrno>
#include <cstring>

#include "base/error.h"
#include "base/names.h"

namespace cowsnap {

namespace {

void check(int result, std::string_view what) {
    if (result < 0)
        failErrno(-result, what);
}

struct BusError {
    sd_bus_error error{};
    BusError() = default;
    BusError(const BusError&) = delete;
    BusError& operator=(const BusError&) = delete;
    ~BusError() { sd_bus_error_free(&error); }
};

}  // namespace

Bus Bus::openSystem() {
    sd_bus* bus = nullptr;
    check(sd_bus_open_system(&bus), "cannot connect to the system bus");
    return Bus(bus);
}

Bus::~Bus() {
    sd_bus_flush_close_unref(bus_);
}

Message Bus::newMethodCall(const std::string& destination, const std::string& path,
                           const std::string& interface, const std::string& member) {
    sd_bus_message* message = nullptr;
    check(sd_bus_message_new_method_call(bus_, &message, destination.c_str(), path.c_str(),
                                         interface.c_str(), member.c_str()),
          "cannot make a method call");
    return Message::adopt(message);
}

Message Bus::newSignal(const std::string& path, const std::string& interface,
                       const std::string& member) {
    sd_bus_message* message = nullptr;
    check(
        sd_bus_message_new_signal(bus_, &message, path.c_str(), interface.c_str(), member.c_str()),
        "cannot make a signal");
    return Message::adopt(message);
}

Message Bus::newMethodReturn(const Message& call) {
    sd_bus_message* message = nullptr;
    check(sd_bus_message_new_method_return(call.get(), &message), "cannot make an answer");
    return Message::adopt(message);
}

Message Bus::call(const Message& call, std::uint64_t timeout_us) {
    BusError error;
    sd_bus_message* reply = nullptr;
    const int result = sd_bus_call(bus_, call.get(), timeout_us, &error.error, &reply);
    if (result < 0) {
        if (error.error.name != nullptr)
            throw CallError(error.error.name,
                            error.error.message != nullptr ? error.error.message : "");
        throw CallError(SD_BUS_ERROR_FAILED, std::strerror(-result));
    }
    return Message::adopt(reply);
}

Slot Bus::callAsync(const Message& call, std::chrono::microseconds time_limit,
                    sd_bus_message_handler_t on_answer, void* userdata) {
    sd_bus_slot* slot = nullptr;
    check(sd_bus_call_async(bus_, &slot, call.get(), on_answer, userdata,
                            static_cast<std::uint64_t>(time_limit.count())),
          "cannot send a call");
    return Slot(slot);
}

void Bus::processOrWait(std::chrono::microseconds time_limit) {
    const int done = sd_bus_process(bus_, nullptr);
    check(done, "the connection to the bus is lost");
    if (done > 0 || time_limit.count() <= 0)
        return;
    const int waited = sd_bus_wait(bus_, static_cast<std::uint64_t>(time_limit.count()));
    if (waited != -EINTR)
        check(waited, "cannot wait for the bus");
}

void Bus::send(const Message& message) {
    check(sd_bus_send(bus_, message.get(), nullptr), "cannot send a message");
}

void Bus::flush() {
    sd_bus_flush(bus_);
}

void Bus::replyError(const Message& call, const std::string& name, const std::string& text) {
    BusError error;
    sd_bus_error_set(&error.error, name.c_str(), legible(text).c_str());
    check(sd_bus_reply_method_error(call.get(), &error.error), "cannot send an error");
}

void Bus::requestName(const std::string& name) {
    const int result = sd_bus_request_name(bus_, name.c_str(), 0);
    if (result == -EEXIST)
        fail(ErrorKind::Exists, "the D-Bus name {} is taken: another daemon is running", name);
    check(result, fmt::format("cannot get the D-Bus name {} (is the bus policy installed?)", name));
}

Slot Bus::addObjectManager(const std::string& path) {
    sd_bus_slot* slot = nullptr;
    check(sd_bus_add_object_manager(bus_, &slot, path.c_str()), "cannot add an object manager");
    return Slot(slot);
}

Slot Bus::addObjectVTable(const std::string& path, const std::string& interface,
                          const sd_bus_vtable* vtable, void* userdata) {
    sd_bus_slot* slot = nullptr;
    check(sd_bus_add_object_vtable(bus_, &slot, path.c_str(), interface.c_str(), vtable, userdata),
          fmt::format("cannot add the object {}", path));
    return Slot(slot);
}

Slot Bus::addFallbackVTable(const std::string& prefix, const std::string& interface,
                            const sd_bus_vtable* vtable, sd_bus_object_find_t find,
                            void* userdata) {
    sd_bus_slot* slot = nullptr;
    check(sd_bus_add_fallback_vtable(bus_, &slot, prefix.c_str(), interface.c_str(), vtable, find,
                                     userdata),
          fmt::format("cannot add objects below {}", prefix));
    return Slot(slot);
}

Slot Bus::addMatchAsync(const std::string& rule, sd_bus_message_handler_t on_signal,
                        void* userdata) {
    // Without one, sd-bus closes the connection if the bus does not take the rule.
    const auto on_installed = [](sd_bus_message*, void*, sd_bus_error*) { return 0; };
    sd_bus_slot* slot = nullptr;
    check(sd_bus_add_match_async(bus_, &slot, rule.c_str(), on_signal, on_installed, userdata),
          "cannot wait for a signal");
    return Slot(slot);
}

void Bus::emitObjectAdded(const std::string& path) {
    check(sd_bus_emit_object_added(bus_, path.c_str()), fmt::format("cannot announce {}", path));
}

void Bus::emitObjectRemoved(const std::string& path) {
    check(sd_bus_emit_object_removed(bus_, path.c_str()),
          fmt::format("cannot announce the end of {}", path));
}

void Bus::emitPropertiesChanged(const std::string& path, const std::string& interface,
                                const std::vector<std::string>& names) {
    std::vector<std::string> copies = names;  // sd-bus wants char**, not const
    std::vector<char*> pointers;
    for (auto& name : copies)
        pointers.push_back(name.data());
    pointers.push_back(nullptr);
    check(
        sd_bus_emit_properties_changed_strv(bus_, path.c_str(), interface.c_str(), pointers.data()),
        fmt::format("cannot announce changes of {}", path));
}

std::optional<Sender> Bus::sender(const Message& message) {
    sd_bus_creds* credentials = nullptr;
    if (sd_bus_query_sender_creds(message.get(), SD_BUS_CREDS_EUID | SD_BUS_CREDS_PID,
                                  &credentials) < 0)
        return std::nullopt;
    Sender sender;
    const int result = sd_bus_creds_get_euid(credentials, &sender.user_id);
    if (sd_bus_creds_get_pid(credentials, &sender.process_id) < 0)
        sender.process_id = 0;
    sd_bus_creds_unref(credentials);
    if (result < 0)
        return std::nullopt;
    return sender;
}

}  // namespace cowsnap
