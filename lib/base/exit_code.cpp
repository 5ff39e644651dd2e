// SPDX-License-Identifier: GPL-2.0-or-later
// Errors to exit codes.
#include "base/exit_code.h"

namespace cowsnap {

ExitCode exitCodeOf(ErrorKind kind) {
    switch (kind) {
        case ErrorKind::InvalidArgument:
            return ExitCode::Usage;
        case ErrorKind::NotFound:
            return ExitCode::NotFound;
        case ErrorKind::NotAuthorized:
            return ExitCode::NotAllowed;
        case ErrorKind::Busy:
        case ErrorKind::Held:
            return ExitCode::Busy;
        case ErrorKind::PartlyDone:
            return ExitCode::Partly;
        case ErrorKind::MetadataCorrupt:
            return ExitCode::Damaged;
        case ErrorKind::Exists:
        case ErrorKind::NoSpace:
        case ErrorKind::Overflowed:
        case ErrorKind::NotSupported:
        case ErrorKind::Cancelled:
        case ErrorKind::Stale:
        case ErrorKind::Failed:
            break;
    }
    return ExitCode::Failed;
}

}  // namespace cowsnap
