// SPDX-License-Identifier: GPL-2.0-or-later
// metrics: the state in numbers, for Prometheus.
#include "cli/verbs.h"

namespace cowsnap::cli {

namespace {

void metrics(Session& session) {
    session.client.refresh();
    std::string text =
        session.client.call(kRootPath, kManagerInterface, "GetMetrics", nullptr).readString();
    if (!session.output.json && text.ends_with('\n'))
        text.pop_back();
    printDone(session.output, text, {{"metrics", text}});
}

}  // namespace

void addMetrics(CLI::App& app, Run& run) {
    CLI::App* const verb = app.add_subcommand(
        "metrics", "Print the state of stores and origins as Prometheus reads it");
    verb->callback([&run] { run = metrics; });
}

}  // namespace cowsnap::cli
