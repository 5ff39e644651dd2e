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

/// Remembers where the kernel's log ends when it is made.
class KernelLog {
public:
    KernelLog();

    /// The causes that device-mapper logged since then, joined with "; ". Empty if nothing was,
    /// or if the log cannot be read.
    std::string deviceMapperLines();

private:
    FileDescriptor log_;
};

}  // namespace cowsnap

#endif
