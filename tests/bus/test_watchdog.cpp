// SPDX-License-Identifier: GPL-2.0-or-later
// What systemd hears of a loop that turns, and of one that does not.
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <boost/asio/io_context.hpp>
#include <catch2/catch.hpp>

#include <array>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <string>

#include "base/file_descriptor.h"
#include "temporary_directory.h"
#include "watchdog.h"

using namespace cowsnap;
using namespace cowsnap::test;

namespace {

/// In the place of systemd.
class NotifySocket {
public:
    explicit NotifySocket(const std::string& path)
        : socket_(::socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)) {
        sockaddr_un address{};
        address.sun_family = AF_UNIX;
        REQUIRE(path.size() < sizeof(address.sun_path));
        std::memcpy(address.sun_path, path.c_str(), path.size());
        REQUIRE(::bind(socket_.get(), reinterpret_cast<const sockaddr*>(&address),
                       sizeof(address)) == 0);
        ::setenv("NOTIFY_SOCKET", path.c_str(), 1);
    }
    ~NotifySocket() {
        ::unsetenv("NOTIFY_SOCKET");
        ::unsetenv("WATCHDOG_USEC");
    }
    NotifySocket(const NotifySocket&) = delete;
    NotifySocket& operator=(const NotifySocket&) = delete;

    /// How many datagrams came that are this one.
    unsigned count(const std::string& text) {
        unsigned result = 0;
        std::array<char, 256> buffer{};
        for (;;) {
            const ssize_t length = ::read(socket_.get(), buffer.data(), buffer.size());
            if (length < 0)
                return result;
            result += std::string(buffer.data(), static_cast<std::size_t>(length)) == text ? 1 : 0;
        }
    }

private:
    FileDescriptor socket_;
};

constexpr const char* kAlive = "WATCHDOG=1";

}  // namespace

TEST_CASE("systemd's watchdog hears of the daemon while its loop turns", "[watchdog]") {
    const TemporaryDirectory directory;
    NotifySocket systemd((directory.path() / "notify").string());
    ::setenv("WATCHDOG_USEC", "200000", 1);
    boost::asio::io_context loop;
    Watchdog watchdog(loop);
    CHECK(systemd.count(kAlive) == 1);
    ::usleep(300000);
    CHECK(systemd.count(kAlive) == 0);  // nobody ran the loop
    loop.run_for(std::chrono::seconds(1));
    CHECK(systemd.count(kAlive) >= 5);
}

TEST_CASE("without systemd's watchdog there is nothing to tell", "[watchdog]") {
    const TemporaryDirectory directory;
    NotifySocket systemd((directory.path() / "notify").string());
    boost::asio::io_context loop;
    Watchdog watchdog(loop);
    loop.run_for(std::chrono::milliseconds(100));
    CHECK(systemd.count(kAlive) == 0);
}
