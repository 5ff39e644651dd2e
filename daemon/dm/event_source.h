// SPDX-License-Identifier: GPL-2.0-or-later
// Tells when a mapped device raised an event, by polling device-mapper's control
// device: one descriptor for all devices, no thread. Knows nothing of events'
// contents.
#ifndef COWSNAP_DAEMON_DM_EVENT_SOURCE_H
#define COWSNAP_DAEMON_DM_EVENT_SOURCE_H

#include <utility>

#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>

#include <functional>

#include "dm/device_mapper.h"

namespace cowsnap {

class EventSource {
public:
    /// Uses only eventDescriptor() of mapper; whoever handles an event arms it again
    /// (armEvents) before looking at the devices, then calls wait().
    EventSource(boost::asio::io_context& loop, DeviceMapper& mapper);

    /// Calls on_event once, at the next event since armEvents().
    void wait(std::function<void()> on_event);

private:
    boost::asio::posix::stream_descriptor descriptor_;
};

}  // namespace cowsnap

#endif
