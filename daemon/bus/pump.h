// SPDX-License-Identifier: GPL-2.0-or-later
// Runs sd-bus on an Asio loop: waits for what sd-bus wants to wait for and calls
// it. Knows no interface.
#ifndef COWSNAP_DAEMON_BUS_PUMP_H
#define COWSNAP_DAEMON_BUS_PUMP_H

#include <utility>

#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/steady_timer.hpp>

#include <functional>

#include "bus/bus.h"

namespace cowsnap {

class BusPump {
public:
    /// on_lost is called when the connection breaks.
    BusPump(boost::asio::io_context& loop, Bus& bus, std::function<void(int error_number)> on_lost);
    ~BusPump();
    BusPump(const BusPump&) = delete;
    BusPump& operator=(const BusPump&) = delete;

    /// At most so many messages are handled before others on the loop have their turn.
    static constexpr unsigned kMessagesAtOnce = 64;

    /// Handles what has come in, sends what waits, and waits again. To be called after
    /// anything was sent outside of a handler; not from within a handler.
    void process();

private:
    void waitAgain();
    void waitFor(boost::asio::posix::stream_descriptor::wait_type what, bool& waiting);

    Bus& bus_;
    std::function<void(int)> on_lost_;
    boost::asio::posix::stream_descriptor descriptor_;
    boost::asio::steady_timer timer_;
    bool waiting_to_read_ = false;
    bool waiting_to_write_ = false;
    bool goes_on_ = false;  ///< process() is posted
};

}  // namespace cowsnap

#endif
