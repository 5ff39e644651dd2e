// SPDX-License-Identifier: GPL-2.0-or-later
#include "base/program.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <memory>

#include "base/error.h"
#include "base/file_descriptor.h"

namespace cowsnap {

namespace {

using Clock = std::chrono::steady_clock;

struct Pipe {
    FileDescriptor read_end;
    FileDescriptor write_end;
};

Pipe makePipe() {
    std::array<int, 2> ends{};
    if (::pipe2(ends.data(), O_CLOEXEC) != 0)
        fail(ErrorKind::Failed, "cannot make a pipe: {}", std::strerror(errno));
    return {FileDescriptor(ends[0]), FileDescriptor(ends[1])};
}

class SpawnSettings {
public:
    SpawnSettings() {
        posix_spawn_file_actions_init(&actions_);
        posix_spawnattr_init(&attributes_);
        // The daemon's own handling of signals is none of the program's business.
        sigset_t none;
        sigemptyset(&none);
        sigset_t all;
        sigfillset(&all);
        posix_spawnattr_setsigmask(&attributes_, &none);
        posix_spawnattr_setsigdefault(&attributes_, &all);
        posix_spawnattr_setflags(&attributes_, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    }
    ~SpawnSettings() {
        posix_spawn_file_actions_destroy(&actions_);
        posix_spawnattr_destroy(&attributes_);
    }
    SpawnSettings(const SpawnSettings&) = delete;
    SpawnSettings& operator=(const SpawnSettings&) = delete;

    posix_spawn_file_actions_t* actions() { return &actions_; }
    const posix_spawnattr_t* attributes() const { return &attributes_; }

private:
    posix_spawn_file_actions_t actions_{};
    posix_spawnattr_t attributes_{};
};

std::vector<char*> pointersTo(std::vector<std::string>& words) {
    std::vector<char*> pointers;
    for (auto& word : words)
        pointers.push_back(word.data());
    pointers.push_back(nullptr);
    return pointers;
}

/// Reads what is there; false at the end.
bool take(int descriptor, std::string& to) {
    std::array<char, 4096> buffer{};
    const ssize_t length = ::read(descriptor, buffer.data(), buffer.size());
    if (length > 0)
        to.append(buffer.data(), static_cast<std::size_t>(length));
    return length > 0 || (length < 0 && errno == EINTR);
}

/// Until both ends are closed; false if that takes too long.
bool takeAll(const Pipe& output, const Pipe& errors, Clock::time_point deadline,
             ProgramResult& result) {
    std::array<pollfd, 2> waited{
        {{output.read_end.get(), POLLIN, 0}, {errors.read_end.get(), POLLIN, 0}}};
    while (waited[0].fd >= 0 || waited[1].fd >= 0) {
        const auto left =
            std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now());
        if (left.count() <= 0)
            return false;
        if (::poll(waited.data(), waited.size(), static_cast<int>(left.count())) < 0 &&
            errno != EINTR)
            return false;
        for (auto& one : waited)
            if (one.fd >= 0 && one.revents != 0 &&
                !take(one.fd, one.fd == output.read_end.get() ? result.output : result.errors))
                one.fd = -1;
    }
    return true;
}

}  // namespace

ProgramResult runProgram(const std::vector<std::string>& words, std::chrono::seconds limit) {
    const auto deadline = Clock::now() + limit;
    Pipe output = makePipe();
    Pipe errors = makePipe();
    SpawnSettings settings;
    posix_spawn_file_actions_addopen(settings.actions(), STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(settings.actions(), output.write_end.get(), STDOUT_FILENO);
    posix_spawn_file_actions_adddup2(settings.actions(), errors.write_end.get(), STDERR_FILENO);
    std::vector<std::string> arguments = words;
    std::vector<std::string> environment{"LC_ALL=C", "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
                                         "LVM_SUPPRESS_FD_WARNINGS=1"};
    pid_t process = 0;
    const int code =
        ::posix_spawn(&process, words.front().c_str(), settings.actions(), settings.attributes(),
                      pointersTo(arguments).data(), pointersTo(environment).data());
    if (code != 0)
        fail(code == ENOENT ? ErrorKind::NotFound : ErrorKind::Failed, "cannot run {}: {}",
             words.front(), std::strerror(code));
    output.write_end = FileDescriptor();
    errors.write_end = FileDescriptor();
    ProgramResult result;
    const bool ended = takeAll(output, errors, deadline, result);
    if (!ended)
        ::kill(process, SIGKILL);
    int status = 0;
    while (::waitpid(process, &status, 0) < 0 && errno == EINTR) {
    }
    if (!ended)
        fail(ErrorKind::Failed, "{} took longer than {} s and was ended", words.front(),
             limit.count());
    constexpr int by_signal = 128;
    result.status = WIFEXITED(status) ? WEXITSTATUS(status) : by_signal + WTERMSIG(status);
    return result;
}

}  // namespace cowsnap
