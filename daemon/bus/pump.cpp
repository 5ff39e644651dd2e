// SPDX-License-Identifier: GPL-2.0-or-later
// sd_bus_get_fd, sd_bus_get_events and sd_bus_get_timeout, on Asio.
#include "bus/pump.h"

#include <poll.h>

#include <boost/asio/post.hpp>

#include <cerrno>
#include <chrono>
#include <cstdint>
#include <limits>

namespace cowsnap {

namespace asio = boost::asio;

BusPump::BusPump(asio::io_context& loop, Bus& bus, std::function<void(int)> on_lost)
    : bus_(bus),
      on_lost_(std::move(on_lost)),
      descriptor_(loop, sd_bus_get_fd(bus.get())),
      timer_(loop) {}

BusPump::~BusPump() {
    descriptor_.release();
}  // sd-bus closes it

void BusPump::process() {
    for (unsigned handled = 0; handled < kMessagesAtOnce; ++handled) {
        const int result = sd_bus_process(bus_.get(), nullptr);
        if (result < 0) {
            on_lost_(-result);
            return;
        }
        if (result == 0) {
            waitAgain();
            return;
        }
    }
    if (std::exchange(goes_on_, true))
        return;
    asio::post(descriptor_.get_executor(), [this] {
        goes_on_ = false;
        process();
    });
}

void BusPump::waitFor(asio::posix::stream_descriptor::wait_type what, bool& waiting) {
    if (waiting)
        return;
    waiting = true;
    descriptor_.async_wait(what, [this, &waiting](const boost::system::error_code& error) {
        if (error == asio::error::operation_aborted)
            return;
        waiting = false;
        process();
    });
}

void BusPump::waitAgain() {
    const int events = sd_bus_get_events(bus_.get());
    if (events < 0) {
        on_lost_(-events);
        return;
    }
    if (events & POLLIN)
        waitFor(asio::posix::stream_descriptor::wait_read, waiting_to_read_);
    if (events & POLLOUT)
        waitFor(asio::posix::stream_descriptor::wait_write, waiting_to_write_);
    std::uint64_t deadline_us = 0;
    if (sd_bus_get_timeout(bus_.get(), &deadline_us) < 0 ||
        deadline_us == std::numeric_limits<std::uint64_t>::max())
        return;
    // Both count CLOCK_MONOTONIC.
    timer_.expires_at(
        std::chrono::steady_clock::time_point(std::chrono::microseconds(deadline_us)));
    timer_.async_wait([this](const boost::system::error_code& error) {
        if (!error)
            process();
    });
}

}  // namespace cowsnap
