// SPDX-License-Identifier: GPL-2.0-or-later
// delete: one or several snapshots.
#include <memory>

#include <fmt/format.h>

#include "cli/verbs.h"

namespace cowsnap::cli {

namespace {

void deleteSnapshots(Session& session, const std::vector<std::string>& wanted) {
    const Objects objects = session.client.objects();
    std::vector<ObjectPath> paths;
    std::vector<std::string> names;
    std::string listed;
    for (const auto& name : wanted) {
        const Object& snapshot = objects.snapshot(name);
        paths.push_back({snapshot.path});
        names.push_back(snapshot.text("Name"));
        listed += (listed.empty() ? "" : ", ") + names.back();
    }
    confirm(session.output, fmt::format("Delete {}?", listed));
    session.client.callJob(kRootPath, kManagerInterface, "DeleteSnapshots",
                           [&](Message& message) { message.append(Value(paths)); });
    printDone(session.output, fmt::format("deleted {}", listed), {{"deleted", names}});
}

}  // namespace

void addDelete(CLI::App& app, Run& run) {
    auto names = std::make_shared<std::vector<std::string>>();
    CLI::App* const verb = app.add_subcommand("delete", "Delete snapshots");
    verb->add_option("snapshot", *names, "Names, STORE/NAMEs or UUIDs")->required();
    verb->callback(
        [&run, names] { run = [names](Session& session) { deleteSnapshots(session, *names); }; });
}

}  // namespace cowsnap::cli
