// SPDX-License-Identifier: GPL-2.0-or-later
// A program on a terminal: what it prints there, and what is typed.
#ifndef COWSNAP_TESTS_TERMINAL_H
#define COWSNAP_TESTS_TERMINAL_H

#include <sys/types.h>

#include <map>
#include <string>
#include <vector>

#include "base/file_descriptor.h"

namespace cowsnap::test {

/// A program whose standard input, output and errors are one terminal.
class OnTerminal {
public:
    /// With these variables besides those that there are.
    explicit OnTerminal(const std::vector<std::string>& words,
                        const std::map<std::string, std::string>& environment = {});
    /// Kills it if it still runs.
    ~OnTerminal();
    OnTerminal(const OnTerminal&) = delete;
    OnTerminal& operator=(const OnTerminal&) = delete;

    /// Waits until it has printed this; false if it takes too long.
    bool waitFor(const std::string& text);
    void type(const std::string& text);
    /// Waits for its end; its exit code, or -1.
    int end();
    /// All that it has printed, with the control sequences.
    const std::string& output() const { return output_; }

private:
    /// False if nothing more comes.
    bool read();

    FileDescriptor terminal_;
    pid_t process_ = 0;
    std::string output_;
};

}  // namespace cowsnap::test

#endif
