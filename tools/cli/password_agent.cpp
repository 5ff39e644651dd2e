// SPDX-License-Identifier: GPL-2.0-or-later
// pkttyagent(1).
#include "cli/password_agent.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <string>

#include "base/file_descriptor.h"

namespace cowsnap::cli {

namespace {

constexpr const char* kProgram = "pkttyagent";

/// It knows polkit within this, or there is something wrong with polkit.
constexpr int kPatienceMs = 5000;

/// In a child: becomes the agent of its parent. It closes the descriptor once it is ready. An agent
/// that the session has goes first.
[[noreturn]] void becomeAgent(int notified) {
    ::prctl(PR_SET_PDEATHSIG, SIGTERM);
    const std::string number = std::to_string(notified);
    if (::fcntl(notified, F_SETFD, 0) == 0)
        ::execlp(kProgram, kProgram, "--notify-fd", number.c_str(), "--fallback", nullptr);
    ::_exit(127);
}

/// Until nobody has the other end of a pipe any more.
void waitForClose(int read_end) {
    pollfd waited{read_end, POLLIN, 0};
    while (::poll(&waited, 1, kPatienceMs) < 0 && errno == EINTR) {
    }
}

}  // namespace

PasswordAgent::~PasswordAgent() {
    if (process_ <= 0)
        return;
    ::kill(process_, SIGTERM);
    ::kill(process_, SIGCONT);
    while (::waitpid(process_, nullptr, 0) < 0 && errno == EINTR) {
    }
}

void PasswordAgent::start() {
    if (was_started_)
        return;
    was_started_ = true;
    // It is input that is needed: the answer may go to a file all the same.
    if (::geteuid() == 0 || ::isatty(STDIN_FILENO) == 0)
        return;
    std::array<int, 2> ends{};
    if (::pipe2(ends.data(), O_CLOEXEC) != 0)
        return;
    const FileDescriptor read_end(ends[0]);
    FileDescriptor write_end(ends[1]);
    process_ = ::fork();
    if (process_ == 0)
        becomeAgent(write_end.get());
    write_end = FileDescriptor();
    waitForClose(read_end.get());
}

}  // namespace cowsnap::cli
