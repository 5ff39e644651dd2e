// SPDX-License-Identifier: GPL-2.0-or-later
// Whether a caller may do something: root may, of others polkit is asked. Asking never blocks the
// loop. The only place that knows polkit; knows no method and no object of ours.
#ifndef COWSNAP_DAEMON_BUS_AUTHORITY_H
#define COWSNAP_DAEMON_BUS_AUTHORITY_H

#include <systemd/sd-bus.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/error.h"
#include "bus/bus.h"

namespace cowsnap {

/// What it goes by.
struct AuthoritySettings {
    /// Who may do everything, and of whom polkit is not asked.
    std::function<bool(const Sender&)> is_root = [](const Sender& sender) {
        return sender.user_id == 0;
    };
    /// How long polkit may take when it asks nobody.
    std::chrono::milliseconds time_limit = std::chrono::seconds(30);
    /// The same when it may ask the user, who has to find a password.
    std::chrono::milliseconds interactive_time_limit = std::chrono::minutes(5);
    /// How many checks of one user, and of all together, may be under way. The bus lets a
    /// connection wait for 128 answers at a time.
    std::size_t checks_of_user = 80;
    std::size_t checks = 112;
};

class Authority {
public:
    /// What becomes of a check; nothing: the caller may.
    using Then = std::function<void(const std::optional<Error>&)>;

    Authority(Bus& bus, AuthoritySettings settings);
    Authority(const Authority&) = delete;
    Authority& operator=(const Authority&) = delete;

    /// Calls then once, at once or later from the bus' handlers; but never if the caller leaves
    /// the bus before. The error is NotAuthorized, and says which action is lacking; Busy if too
    /// much is being checked.
    void check(const Message& call, const Sender& sender, std::string_view action, Then then);

private:
    struct Check {
        Authority* authority = nullptr;
        std::uint64_t id = 0;
        uid_t user_id = 0;
        std::string action;
        std::string what;  ///< the method, in words
        Then then;
        Slot answer;
        Slot caller;  ///< waits for that they leave
    };

    static int onAnswer(sd_bus_message* message, void* userdata, sd_bus_error* error);
    static int onCallerGone(sd_bus_message* message, void* userdata, sd_bus_error* error);
    void ask(Check& check, const Message& call);
    void cancel(std::uint64_t id);
    void makeRoom(const Sender& sender) const;

    Bus& bus_;
    AuthoritySettings settings_;
    std::map<std::uint64_t, std::unique_ptr<Check>> checks_;
    std::uint64_t last_id_ = 0;
};

}  // namespace cowsnap

#endif
