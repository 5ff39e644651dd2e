// SPDX-License-Identifier: GPL-2.0-or-later
// Colors of states and errors, on a terminal only. Knows nothing of objects.
#ifndef COWSNAP_CLI_COLOR_H
#define COWSNAP_CLI_COLOR_H

#include <string>

namespace cowsnap::cli {

/// Whether what is printed to a descriptor may have colors: it is a terminal that can show them,
/// and the environment has no NO_COLOR.
bool takesColor(int descriptor);

/// A state of whatever kind of object, in the color that tells if all is well.
std::string coloredState(const std::string& state);
/// What begins an error, or a warning.
std::string coloredError(const std::string& text);
std::string coloredWarning(const std::string& text);

}  // namespace cowsnap::cli

#endif
