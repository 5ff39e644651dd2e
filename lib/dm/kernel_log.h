// SPDX-License-Identifier: GPL-2.0-or-later
// The lines that the kernel logs while something is being tried: device-mapper
// gives the cause of an error only there. Knows nothing of what is tried.
#ifndef COWSNAP_DM_KERNEL_LOG_H
#define COWSNAP_DM_KERNEL_LOG_H

#include <string>
#include <string_view>

#include "base/file_descriptor.h"

namespace cowsnap {

/// What a line of device-mapper's ("table: 253:3: cow-origin: <cause> (-EINVAL)") says to
/// people: the cause; nothing if all it says is that there was an error.
std::string_view causeIn(std::string_view line);
/// The error number that such a line ends with; 0 if it ends with none.
int errorNumberIn(std::string_view line);

/// Why the kernel refused something.
struct LoggedCause {
    std::string text;      ///< the causes, joined with "; "
    int error_number = 0;  ///< the last that was logged
};

/// Remembers where the kernel's log ends when it is made.
class KernelLog {
public:
    KernelLog();

    /// What device-mapper logged since then. Empty if nothing was, or if the log cannot be read.
    LoggedCause deviceMapperCause();

private:
    FileDescriptor log_;
};

}  // namespace cowsnap

#endif
