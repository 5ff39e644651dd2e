// SPDX-License-Identifier: GPL-2.0-or-later
// How the command-line programs end.
#ifndef COWSNAP_BASE_EXIT_CODE_H
#define COWSNAP_BASE_EXIT_CODE_H

#include "base/error.h"

namespace cowsnap {

/// The exit codes of snapd-cli, cowsnap-store and cowsnap-activate; scripts rely on them.
enum class ExitCode : int {
    Done = 0,
    Failed = 1,
    Usage = 2,  // wrong words, or an argument that is refused
    NotFound = 3,
    NotAllowed = 4,  // no right to do it, or not confirmed
    Busy = 5,        // in use, or held
    NoDaemon = 6,
    Partly = 7,
    Damaged = 8,  // what a disk holds is damaged
};

/// The exit code of a program that ends because of such an error.
ExitCode exitCodeOf(ErrorKind kind);

}  // namespace cowsnap

#endif
