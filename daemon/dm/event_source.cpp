// SPDX-License-Identifier: GPL-2.0-or-later
// Polling of a duplicate of the control device's descriptor: the same open file.
#include "dm/event_source.h"

#include <fcntl.h>

#include <cerrno>

#include "base/error.h"

namespace cowsnap {

namespace {

int duplicated(int descriptor) {
    const int copy = ::fcntl(descriptor, F_DUPFD_CLOEXEC, 0);
    if (copy < 0)
        failErrno(errno, "cannot wait for events of device-mapper");
    return copy;
}

}  // namespace

EventSource::EventSource(boost::asio::io_context& loop, DeviceMapper& mapper)
    : descriptor_(loop, duplicated(mapper.eventDescriptor())) {}

void EventSource::wait(std::function<void()> on_event) {
    descriptor_.async_wait(
        boost::asio::posix::stream_descriptor::wait_read,
        [on_event = std::move(on_event)](const boost::system::error_code& error) {
            if (!error)
                on_event();
        });
}

}  // namespace cowsnap
