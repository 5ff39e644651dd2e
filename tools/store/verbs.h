// SPDX-License-Identifier: GPL-2.0-or-later
// The verbs of cowsnap-store. Each adds its subcommand, which sets run.
#ifndef COWSNAP_STORE_VERBS_H
#define COWSNAP_STORE_VERBS_H

#include <CLI/CLI.hpp>

#include <functional>
#include <string>
#include <vector>

#include "base/exit_code.h"

namespace cowsnap::store {

struct CommonOptions {
    bool json = false;
    bool yes = false;
};

using Run = std::function<ExitCode(const CommonOptions& options)>;

void addCheck(CLI::App& app, Run& run);
void addDump(CLI::App& app, Run& run);
void addRestore(CLI::App& app, Run& run);
void addRepair(CLI::App& app, Run& run);

/// The devices or image files that a verb works on.
void addDevices(CLI::App& command, std::vector<std::string>& paths);
/// Throws Busy, saying who uses one of them.
void refuseUsed(const std::vector<std::string>& paths);
/// True if --yes was given or the answer is yes; throws NotAuthorized without a terminal.
bool confirmed(const CommonOptions& options, const std::string& question);

}  // namespace cowsnap::store

#endif
