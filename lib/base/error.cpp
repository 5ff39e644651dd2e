// SPDX-License-Identifier: GPL-2.0-or-later
// The names of the kinds of errors. Knows no caller.
#include "base/error.h"

#include <array>
#include <cerrno>
#include <cstring>

namespace cowsnap {

namespace {

constexpr std::array<std::pair<ErrorKind, std::string_view>, 14> kNames{{
    {ErrorKind::InvalidArgument, "InvalidArgument"},
    {ErrorKind::NotFound, "NotFound"},
    {ErrorKind::Exists, "Exists"},
    {ErrorKind::Busy, "Busy"},
    {ErrorKind::Held, "Held"},
    {ErrorKind::NoSpace, "NoSpace"},
    {ErrorKind::Overflowed, "Overflowed"},
    {ErrorKind::NotSupported, "NotSupported"},
    {ErrorKind::NotAuthorized, "NotAuthorized"},
    {ErrorKind::Cancelled, "Cancelled"},
    {ErrorKind::MetadataCorrupt, "MetadataCorrupt"},
    {ErrorKind::Stale, "Stale"},
    {ErrorKind::Failed, "Failed"},
    {ErrorKind::PartlyDone, "PartlyDone"},
}};

}  // namespace

std::string_view errorKindName(ErrorKind kind) {
    for (const auto& [candidate, name] : kNames)
        if (candidate == kind)
            return name;
    return "Failed";
}

std::optional<ErrorKind> errorKindFromBusName(std::string_view bus_name) {
    if (!bus_name.starts_with(kErrorPrefix))
        return std::nullopt;
    bus_name.remove_prefix(kErrorPrefix.size());
    for (const auto& [kind, name] : kNames)
        if (name == bus_name)
            return kind;
    return std::nullopt;
}

ErrorKind errorKindFromErrno(int error_number) {
    switch (error_number) {
        case ENOENT:
        case ENXIO:
        case ENODEV:
            return ErrorKind::NotFound;
        case EEXIST:
            return ErrorKind::Exists;
        case EBUSY:
            return ErrorKind::Busy;
        case ENOSPC:
            return ErrorKind::NoSpace;
        case EINVAL:
        case ERANGE:
            return ErrorKind::InvalidArgument;
        case EPERM:
        case EACCES:
            return ErrorKind::NotAuthorized;
        case EOPNOTSUPP:
        case ENOSYS:
            return ErrorKind::NotSupported;
        default:
            return ErrorKind::Failed;
    }
}

void failErrno(int error_number, std::string_view what) {
    fail(errorKindFromErrno(error_number), "{}: {}", what, std::strerror(error_number));
}

}  // namespace cowsnap
