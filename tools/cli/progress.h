// SPDX-License-Identifier: GPL-2.0-or-later
// How far a job has come: a bar for people, or lines of JSON for programs, both on stderr, so that
// the result on stdout stays as it is. Knows nothing of calls.
#ifndef COWSNAP_CLI_PROGRESS_H
#define COWSNAP_CLI_PROGRESS_H

#include <functional>
#include <string>

#include "cli/client.h"

namespace cowsnap::cli {

/// Told of a job again and again until it is over. how: "json", "none", or "auto": a bar if stderr
/// is a terminal. Null if nothing is to be shown.
std::function<void(const Object& job)> progressShower(const std::string& how, bool json);

}  // namespace cowsnap::cli

#endif
