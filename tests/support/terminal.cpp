// SPDX-License-Identifier: GPL-2.0-or-later
#include "terminal.h"

#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>
#include <utmp.h>

#include <array>
#include <chrono>
#include <cstdlib>
#include <stdexcept>

namespace cowsnap::test {

namespace {

constexpr std::chrono::seconds kPatience{20};

/// In a child: becomes the program on the terminal, or ends.
[[noreturn]] void become(const std::vector<std::string>& words,
                         const std::map<std::string, std::string>& environment, int terminal) {
    for (const auto& [name, value] : environment)
        ::setenv(name.c_str(), value.c_str(), 1);
    std::vector<std::string> copies = words;
    std::vector<char*> arguments;
    for (auto& word : copies)
        arguments.push_back(word.data());
    arguments.push_back(nullptr);
    if (::login_tty(terminal) == 0)
        ::execvp(arguments.front(), arguments.data());
    ::_exit(127);
}

}  // namespace

OnTerminal::OnTerminal(const std::vector<std::string>& words,
                       const std::map<std::string, std::string>& environment) {
    int ours = -1;
    int theirs = -1;
    if (::openpty(&ours, &theirs, nullptr, nullptr, nullptr) != 0)
        throw std::runtime_error("openpty");
    terminal_ = FileDescriptor(ours);
    const FileDescriptor other_end(theirs);
    process_ = ::fork();
    if (process_ == 0) {
        ::close(ours);
        become(words, environment, theirs);
    }
}

OnTerminal::~OnTerminal() {
    if (process_ == 0)
        return;
    ::kill(process_, SIGKILL);
    ::waitpid(process_, nullptr, 0);
}

bool OnTerminal::read() {
    pollfd ready{terminal_.get(), POLLIN, 0};
    constexpr int wait_ms = 100;
    if (::poll(&ready, 1, wait_ms) <= 0)
        return true;
    std::array<char, 4096> buffer{};
    const ssize_t length = ::read(terminal_.get(), buffer.data(), buffer.size());
    if (length <= 0)  // EIO: nobody has the other end any more
        return false;
    output_.append(buffer.data(), static_cast<std::size_t>(length));
    return true;
}

bool OnTerminal::waitFor(const std::string& text) {
    const auto deadline = std::chrono::steady_clock::now() + kPatience;
    while (output_.find(text) == std::string::npos)
        if (!read() || std::chrono::steady_clock::now() > deadline)
            return false;
    return true;
}

void OnTerminal::type(const std::string& text) {
    if (::write(terminal_.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size()))
        throw std::runtime_error("cannot type");
}

int OnTerminal::end() {
    const auto deadline = std::chrono::steady_clock::now() + kPatience;
    while (read())
        if (std::chrono::steady_clock::now() > deadline)
            return -1;
    int status = 0;
    ::waitpid(process_, &status, 0);
    process_ = 0;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

}  // namespace cowsnap::test
