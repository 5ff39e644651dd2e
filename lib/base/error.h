// SPDX-License-Identifier: GPL-2.0-or-later
// What can go wrong, as one type: a kind, which is also the name of a D-Bus
// error, and a message that says what to do. Knows nothing of where errors come
// from or how they travel.
#ifndef COWSNAP_BASE_ERROR_H
#define COWSNAP_BASE_ERROR_H

#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

#include <fmt/format.h>

namespace cowsnap {

/// The kinds of errors; each is the D-Bus error org.cowsnap1.Error.<kind>.
enum class ErrorKind {
    InvalidArgument,
    NotFound,
    Exists,
    Busy,
    Held,
    NoSpace,
    Overflowed,
    NotSupported,
    NotAuthorized,
    Cancelled,
    MetadataCorrupt,
    Stale,
    Failed,
    PartlyDone,
};

inline constexpr std::string_view kErrorPrefix = "org.cowsnap1.Error.";

/// The name of a kind, such as "NotFound".
std::string_view errorKindName(ErrorKind kind);

/// The kind that "org.cowsnap1.Error.NotFound" names; nothing if it is another name.
std::optional<ErrorKind> errorKindFromBusName(std::string_view bus_name);

/// An error with a message for people. what() is the message alone.
class Error : public std::runtime_error {
public:
    Error(ErrorKind kind, const std::string& message) : std::runtime_error(message), kind_(kind) {}

    ErrorKind kind() const { return kind_; }
    std::string busName() const {
        return std::string(kErrorPrefix) + std::string(errorKindName(kind_));
    }

private:
    ErrorKind kind_;
};

/// Throws an Error whose message is formatted with fmt.
template <typename... Arguments>
[[noreturn]] void fail(ErrorKind kind, fmt::format_string<Arguments...> format,
                       Arguments&&... arguments) {
    throw Error(kind, fmt::format(format, std::forward<Arguments>(arguments)...));
}

/// Throws an Error for a failed system call: the kind follows from error_number,
/// its text is appended to what.
[[noreturn]] void failErrno(int error_number, std::string_view what);

/// The kind that stands for an errno.
ErrorKind errorKindFromErrno(int error_number);

}  // namespace cowsnap

#endif
