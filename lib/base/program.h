// SPDX-License-Identifier: GPL-2.0-or-later
// Running another program: by its path, with words as they are, never through a shell.
#ifndef COWSNAP_BASE_PROGRAM_H
#define COWSNAP_BASE_PROGRAM_H

#include <chrono>
#include <string>
#include <vector>

namespace cowsnap {

struct ProgramResult {
    int status = 0;  ///< the exit code; 128 and the signal's number if one ended it
    std::string output;
    std::string errors;
};

/// Runs the program whose absolute path is the first word, with no input and a small fixed
/// environment, and waits until it ends; it is killed after limit. Throws Error: NotFound if there
/// is no such program, Failed if it cannot be run or took too long.
ProgramResult runProgram(const std::vector<std::string>& words, std::chrono::seconds limit);

}  // namespace cowsnap

#endif
