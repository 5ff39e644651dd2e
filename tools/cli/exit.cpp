// SPDX-License-Identifier: GPL-2.0-or-later
// D-Bus errors to exit codes.
#include "cli/exit.h"

#include <unistd.h>

#include "base/error.h"

namespace cowsnap::cli {

namespace {

/// sd_booted(3)
bool systemdRuns() {
    return ::access("/run/systemd/system", F_OK) == 0;
}

}  // namespace

std::string startAdvice() {
    if (systemdRuns())
        return "start it, as root: \"systemctl start cowsnapd\"; if it does not start, "
               "\"journalctl -u cowsnapd\" tells why";
    return "start it, as root: \"cowsnapd &\"";
}

Failure failureOf(const std::string& bus_error_name, const std::string& message) {
    if (const auto kind = errorKindFromBusName(bus_error_name))
        return Failure(exitCodeOf(*kind), std::string(errorKindName(*kind)), message);
    if (bus_error_name == "org.freedesktop.DBus.Error.ServiceUnknown" ||
        bus_error_name == "org.freedesktop.DBus.Error.NameHasNoOwner" ||
        bus_error_name == "org.freedesktop.DBus.Error.Disconnected" ||
        bus_error_name.starts_with("org.freedesktop.DBus.Error.Spawn"))
        return Failure(ExitCode::NoDaemon, "NoDaemon", "cowsnapd does not run: " + startAdvice());
    if (bus_error_name == "org.freedesktop.DBus.Error.NoReply" ||
        bus_error_name == "org.freedesktop.DBus.Error.Timeout")
        return Failure(ExitCode::NoDaemon, "NoDaemon",
                       "cowsnapd did not answer, or ended before it did: whether it runs "
                       "\"snapd-cli job list\" tells, and what it does");
    if (bus_error_name == "org.freedesktop.DBus.Error.UnknownObject")
        return Failure(ExitCode::NotFound, "NotFound", "it is gone already: " + message);
    if (bus_error_name == "org.freedesktop.DBus.Error.AccessDenied")
        return Failure(ExitCode::NotAllowed, "NotAuthorized", message + ": try again with sudo");
    return Failure(ExitCode::Failed, "Failed", message.empty() ? bus_error_name : message);
}

}  // namespace cowsnap::cli
