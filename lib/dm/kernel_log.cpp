// SPDX-License-Identifier: GPL-2.0-or-later
// Reading /dev/kmsg: one record a read(), "<prefix>;<text>\n<dictionary>".
#include "dm/kernel_log.h"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
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

KernelLog::KernelLog() : log_(::open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC)) {
    if (log_ && ::lseek(log_.get(), 0, SEEK_END) < 0)
        log_ = FileDescriptor();
}

std::string KernelLog::deviceMapperLines() {
    constexpr std::string_view prefix = "device-mapper: ";
    std::string lines;
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
        const std::string_view cause = causeIn(text.substr(prefix.size()));
        if (cause.empty())
            continue;
        if (!lines.empty())
            lines += "; ";
        lines += cause;
    }
    return lines;
}

}  // namespace cowsnap
