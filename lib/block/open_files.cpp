// SPDX-License-Identifier: GPL-2.0-or-later
// /proc/PID/fd and /proc/PID/fdinfo, see proc(5).
#include "block/open_files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include <fmt/format.h>

namespace cowsnap {

namespace {

namespace fs = std::filesystem;

bool isNumber(const std::string& text) {
    return !text.empty() &&
           std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
}

/// Whether this entry of /proc/PID/fd is one of the devices.
bool leadsTo(const fs::path& entry, const std::set<DeviceNumber>& devices) {
    std::error_code code;
    // Only there: to look at other files may take long, as where a server does not answer.
    if (!fs::read_symlink(entry, code).string().starts_with("/dev/") || code)
        return false;
    struct stat status {};
    return ::stat(entry.c_str(), &status) == 0 && S_ISBLK(status.st_mode) &&
           devices.contains(DeviceNumber{major(status.st_rdev), minor(status.st_rdev)});
}

/// How a file is open, in the line "flags:" of its entry in /proc/PID/fdinfo, in octal.
bool isForWriting(const fs::path& information) {
    std::ifstream file(information);
    constexpr int octal = 8;
    for (std::string key, value; file >> key >> value;)
        if (key == "flags:")
            return (std::strtol(value.c_str(), nullptr, octal) & O_ACCMODE) != O_RDONLY;
    return false;
}

std::string nameOf(const fs::path& process) {
    std::ifstream file(process / "comm");
    std::string name;
    std::getline(file, name);
    return name.empty() ? "someone" : name;
}

}  // namespace

std::optional<std::string> writerOf(const std::set<DeviceNumber>& devices) {
    std::error_code code;
    const std::string self = std::to_string(::getpid());
    for (fs::directory_iterator process("/proc", code), end; !code && process != end;
         process.increment(code)) {
        const std::string id = process->path().filename().string();
        if (!isNumber(id) || id == self)
            continue;
        std::error_code of_process;  // it may have ended
        for (fs::directory_iterator entry(process->path() / "fd", of_process), last;
             !of_process && entry != last; entry.increment(of_process))
            if (leadsTo(entry->path(), devices) &&
                isForWriting(process->path() / "fdinfo" / entry->path().filename()))
                return fmt::format("{} (process {})", nameOf(process->path()), id);
    }
    return std::nullopt;
}

}  // namespace cowsnap
