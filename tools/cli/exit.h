// SPDX-License-Identifier: GPL-2.0-or-later
// How snapd-cli ends: the error that carries an exit code.
#ifndef COWSNAP_CLI_EXIT_H
#define COWSNAP_CLI_EXIT_H

#include <stdexcept>
#include <string>
#include <utility>

#include "base/exit_code.h"

namespace cowsnap::cli {

/// Ends the program with a message. name is that of a D-Bus error of cowsnap's, without
/// its prefix, such as "NotFound"; or "Usage", "NoDaemon", "NotConfirmed".
class Failure : public std::runtime_error {
public:
    Failure(ExitCode code, std::string name, const std::string& message)
        : std::runtime_error(message), code_(code), name_(std::move(name)) {}

    ExitCode code() const { return code_; }
    const std::string& name() const { return name_; }
    /// Whether the call was repeated for a daemon that was restarted, so that what failed may be
    /// what was done before.
    bool repeated() const { return repeated_; }

    void setRepeated() { repeated_ = true; }

private:
    ExitCode code_;
    std::string name_;
    bool repeated_ = false;
};

/// What whoever finds no daemon is told to do.
std::string startAdvice();

/// The Failure that stands for a D-Bus error.
Failure failureOf(const std::string& bus_error_name, const std::string& message);

}  // namespace cowsnap::cli

#endif
