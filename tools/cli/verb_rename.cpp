// SPDX-License-Identifier: GPL-2.0-or-later
// rename: another name for a snapshot.
#include <memory>

#include <fmt/format.h>

#include "cli/verbs.h"

namespace cowsnap::cli {

namespace {

void rename(Session& session, const std::string& wanted, const std::string& name) {
    const Objects objects = session.client.objects();
    const Object& snapshot = objects.snapshot(wanted);
    session.client.callJob(snapshot.path, kSnapshotInterface, "Rename",
                           [&](Message& message) { message.append(Value(name)); });
    const std::string before = snapshot.text("Name");
    printDone(session.output, fmt::format("renamed {} to {}", before, name),
              {{"snapshot", name}, {"renamed", before}});
}

}  // namespace

void addRename(CLI::App& app, Run& run) {
    auto wanted = std::make_shared<std::string>();
    auto name = std::make_shared<std::string>();
    CLI::App* const verb = app.add_subcommand("rename", "Give a snapshot another name");
    verb->add_option("snapshot", *wanted, "Name, STORE/NAME or UUID")->required();
    verb->add_option("new-name", *name, "The name it is to have")->required();
    verb->callback([&run, wanted, name] {
        run = [wanted, name](Session& session) { rename(session, *wanted, *name); };
    });
}

}  // namespace cowsnap::cli
