// SPDX-License-Identifier: GPL-2.0-or-later
// Reading /dev/kmsg: one record a read(), "<prefix>;<text>\n<dictionary>".
#include "dm/kernel_log.h"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <string>
#include <string_view>

namespace cowsnap {

std::string_view causeIn(std::string_view line) {
    constexpr std::string_view table_prefix = "table: ";
    if (line == "ioctl: error adding target to table")
        return {};
    if (!line.starts_with(table_prefix))
        return line;
    std::string_view cause = line;
    for (int word = 0; word < 3; ++word) {  // "table", the number of the device, the target
        const auto end = cause.find(": ");
        if (end == std::string_view::npos)
            return line;
        cause.remove_prefix(end + 2);
    }
    const auto code = cause.rfind(" (-");
    return cause.ends_with(')') && code != std::string_view::npos ? cause.substr(0, code) : cause;
}

int errorNumberIn(std::string_view line) {
    constexpr std::string_view start = " (-";
    const auto found = line.rfind(start);
    if (!line.ends_with(')') || found == std::string_view::npos)
        return 0;
    std::string_view word = line.substr(found + start.size());
    word.remove_suffix(1);
    constexpr int last = 133;
    for (int number = 1; number <= last; ++number) {
        const char* const name = ::strerrorname_np(number);
        if ((name != nullptr && word == name) || word == std::to_string(number))
            return number;
    }
    return 0;
}

KernelLog::KernelLog() : log_(::open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC)) {
    if (log_ && ::lseek(log_.get(), 0, SEEK_END) < 0)
        log_ = FileDescriptor();
}

LoggedCause KernelLog::deviceMapperCause() {
    constexpr std::string_view prefix = "device-mapper: ";
    LoggedCause logged;
    std::array<char, 8192> record{};
    while (log_) {
        const ssize_t length = ::read(log_.get(), record.data(), record.size());
        if (length < 0 && errno == EPIPE)
            continue;  // records were overwritten: go on with the oldest
        if (length <= 0)
            break;
        std::string_view text(record.data(), static_cast<std::size_t>(length));
        const auto semicolon = text.find(';');
        if (semicolon == std::string_view::npos)
            continue;
        text.remove_prefix(semicolon + 1);
        text = text.substr(0, text.find('\n'));
        if (!text.starts_with(prefix))
            continue;
        text.remove_prefix(prefix.size());
        if (const int error_number = errorNumberIn(text))
            logged.error_number = error_number;
        const std::string_view cause = causeIn(text);
        if (cause.empty())
            continue;
        if (!logged.text.empty())
            logged.text += "; ";
        logged.text += cause;
    }
    return logged;
}

}  // namespace cowsnap
