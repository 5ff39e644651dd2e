// SPDX-License-Identifier: GPL-2.0-or-later
// The interfaces org.cowsnap1.*, as sd-bus wants them. proto/org.cowsnap1.xml is
// the contract; a test compares the two.
#ifndef COWSNAP_DAEMON_BUS_VTABLES_H
#define COWSNAP_DAEMON_BUS_VTABLES_H

#include <systemd/sd-bus.h>

#include <string>
#include <vector>

namespace cowsnap {

/// A vtable that lives as long as the object.
class VTable {
public:
    /// on_call answers all methods, on_get all properties.
    VTable(const std::string& interface, sd_bus_message_handler_t on_call,
           sd_bus_property_get_t on_get);
    const sd_bus_vtable* get() const { return entries_.data(); }

private:
    std::vector<sd_bus_vtable> entries_;
};

}  // namespace cowsnap

#endif
