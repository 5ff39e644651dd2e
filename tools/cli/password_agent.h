// SPDX-License-Identifier: GPL-2.0-or-later
// The program that asks on this terminal for the password that polkit wants, where the session has
// none of its own. Knows nothing of what is asked for.
#ifndef COWSNAP_CLI_PASSWORD_AGENT_H
#define COWSNAP_CLI_PASSWORD_AGENT_H

#include <sys/types.h>

namespace cowsnap::cli {

class PasswordAgent {
public:
    PasswordAgent() = default;
    /// It ends, too.
    ~PasswordAgent();
    PasswordAgent(const PasswordAgent&) = delete;
    PasswordAgent& operator=(const PasswordAgent&) = delete;

    /// Starts it, the first time, and waits until polkit knows it. Nothing happens for root, of
    /// whom nothing is asked; where nobody could type; and if there is no such program.
    void start();

private:
    bool was_started_ = false;
    pid_t process_ = 0;
};

}  // namespace cowsnap::cli

#endif
