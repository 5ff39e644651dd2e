// SPDX-License-Identifier: GPL-2.0-or-later
// How far a job has come: a bar for people, or lines of JSON for programs, both on stderr, so that
// the result on stdout stays as it is. Knows nothing of calls.
#ifndef COWSNAP_CLI_PROGRESS_H
#define COWSNAP_CLI_PROGRESS_H

#include <functional>
#include <string>

#include <nlohmann/json_fwd.hpp>

#include "cli/client.h"

namespace cowsnap::cli {

/// "job", "operation", "state", "progress" (a share of 1), "done_bytes", "bytes_per_second" and
/// "expected_end" (seconds since 1970) of a job; null where it is not known.
nlohmann::ordered_json progressOf(const Object& job);
/// The same of a job that runs, for people, as "43 %, 12.0 MiB a second, 5 s left"; empty if
/// nothing is known. bytes: as numbers of bytes.
std::string progressText(const Object& job, bool bytes);

/// Told of a job again and again until it is over. how: "json", "none", or "auto": a bar if stderr
/// is a terminal. Null if nothing is to be shown.
std::function<void(const Object& job)> progressShower(const std::string& how, bool json,
                                                      bool bytes);

}  // namespace cowsnap::cli

#endif
