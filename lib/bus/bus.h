// SPDX-License-Identifier: GPL-2.0-or-later
// A connection to a D-Bus and registrations on it: RAII around sd_bus and
// sd_bus_slot, with the names of sd-bus. Knows nothing of cowsnap's interfaces.
#ifndef COWSNAP_BUS_BUS_H
#define COWSNAP_BUS_BUS_H

#include <sys/types.h>
#include <systemd/sd-bus.h>

#include <chrono>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "bus/message.h"

namespace cowsnap {

/// A registration; ends when destroyed.
class Slot {
public:
    Slot() = default;
    /// Takes over a reference.
    explicit Slot(sd_bus_slot* slot) : slot_(slot) {}
    Slot(Slot&& other) noexcept : slot_(std::exchange(other.slot_, nullptr)) {}
    Slot& operator=(Slot&& other) noexcept {
        std::swap(slot_, other.slot_);
        return *this;
    }
    Slot(const Slot&) = delete;
    Slot& operator=(const Slot&) = delete;
    ~Slot() { sd_bus_slot_unref(slot_); }

private:
    sd_bus_slot* slot_ = nullptr;
};

/// An error that a called method answered with.
class CallError : public std::runtime_error {
public:
    CallError(std::string name, const std::string& message)
        : std::runtime_error(message), name_(std::move(name)) {}
    const std::string& name() const { return name_; }

private:
    std::string name_;
};

/// Who sent a message.
struct Sender {
    uid_t user_id = 0;     ///< the effective one
    pid_t process_id = 0;  ///< 0 if it is not known
};

class Bus {
public:
    /// The system bus, or the one that DBUS_SYSTEM_BUS_ADDRESS names. Failed if there is none.
    static Bus openSystem();
    Bus(Bus&& other) noexcept : bus_(std::exchange(other.bus_, nullptr)) {}
    Bus& operator=(Bus&& other) noexcept {
        std::swap(bus_, other.bus_);
        return *this;
    }
    Bus(const Bus&) = delete;
    Bus& operator=(const Bus&) = delete;
    ~Bus();

    sd_bus* get() const { return bus_; }

    Message newMethodCall(const std::string& destination, const std::string& path,
                          const std::string& interface, const std::string& member);
    Message newSignal(const std::string& path, const std::string& interface,
                      const std::string& member);
    Message newMethodReturn(const Message& call);

    /// Calls and waits for the answer. CallError if it is an error.
    Message call(const Message& call, std::uint64_t timeout_us);
    /// Calls; on_answer gets the answer, or an error if none came in time, unless the slot is gone
    /// before.
    Slot callAsync(const Message& call, std::chrono::microseconds time_limit,
                   sd_bus_message_handler_t on_answer, void* userdata);
    /// Dispatches a message that has come; if there is none, waits so long for one.
    void processOrWait(std::chrono::microseconds time_limit);
    void send(const Message& message);
    /// Waits until all that was sent is with the bus, if it is there.
    void flush();
    void replyError(const Message& call, const std::string& name, const std::string& text);

    void requestName(const std::string& name);
    Slot addObjectManager(const std::string& path);
    Slot addObjectVTable(const std::string& path, const std::string& interface,
                         const sd_bus_vtable* vtable, void* userdata);
    /// For all objects below a path that find, see sd_bus_add_fallback_vtable(3), takes.
    Slot addFallbackVTable(const std::string& prefix, const std::string& interface,
                           const sd_bus_vtable* vtable, sd_bus_object_find_t find, void* userdata);
    /// Signals that match a rule of the bus; does not wait for the bus to know it. Nothing ever
    /// comes if it does not take the rule.
    Slot addMatchAsync(const std::string& rule, sd_bus_message_handler_t on_signal, void* userdata);
    void emitObjectAdded(const std::string& path);
    void emitObjectRemoved(const std::string& path);
    void emitPropertiesChanged(const std::string& path, const std::string& interface,
                               const std::vector<std::string>& names);
    /// Who sent a message; nothing if it cannot be found out.
    std::optional<Sender> sender(const Message& message);

private:
    explicit Bus(sd_bus* bus) : bus_(bus) {}

    sd_bus* bus_ = nullptr;
};

}  // namespace cowsnap

#endif
