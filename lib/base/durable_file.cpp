// SPDX-License-Identifier: GPL-2.0-or-later
// Written to a temporary file, synced, renamed, directory synced.
#include "base/durable_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <fstream>
#include <sstream>

#include "base/error.h"
#include "base/file_descriptor.h"

namespace cowsnap {

namespace {

void writeAll(int descriptor, std::string_view text, const std::string& path) {
    while (!text.empty()) {
        const ssize_t count = ::write(descriptor, text.data(), text.size());
        if (count < 0 && errno == EINTR)
            continue;
        if (count < 0)
            failErrno(errno, fmt::format("cannot write {}", path));
        text.remove_prefix(static_cast<std::size_t>(count));
    }
}

void syncDirectory(const std::filesystem::path& directory) {
    const FileDescriptor descriptor(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!descriptor || ::fsync(descriptor.get()) != 0)
        failErrno(errno, fmt::format("cannot sync the directory {}", directory.string()));
}

}  // namespace

void writeDurably(const std::filesystem::path& path, std::string_view text) {
    std::error_code code;
    std::filesystem::create_directories(path.parent_path(), code);
    if (code)
        failErrno(code.value(),
                  fmt::format("cannot make the directory {}", path.parent_path().string()));
    const std::string temporary = path.string() + ".new";
    {
        const FileDescriptor descriptor(
            ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, S_IRUSR | S_IWUSR));
        if (!descriptor)
            failErrno(errno, fmt::format("cannot write {}", temporary));
        writeAll(descriptor.get(), text, temporary);
        if (::fsync(descriptor.get()) != 0)
            failErrno(errno, fmt::format("cannot sync {}", temporary));
    }
    if (::rename(temporary.c_str(), path.c_str()) != 0)
        failErrno(errno, fmt::format("cannot rename {}", temporary));
    syncDirectory(path.parent_path());
}

void removeDurably(const std::filesystem::path& path) {
    if (::unlink(path.c_str()) == 0)
        syncDirectory(path.parent_path());
    else if (errno != ENOENT)
        failErrno(errno, fmt::format("cannot remove {}", path.string()));
}

std::optional<std::string> readIfThere(const std::filesystem::path& path) {
    std::ifstream file(path);
    std::ostringstream text;
    if (file && (text << file.rdbuf() || file.peek() == std::ifstream::traits_type::eof()))
        return text.str();
    std::error_code code;
    if (!std::filesystem::exists(path, code) && !code)
        return std::nullopt;
    fail(ErrorKind::Failed, "cannot read {}", path.string());
}

}  // namespace cowsnap
