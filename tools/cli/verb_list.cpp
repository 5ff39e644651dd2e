// SPDX-License-Identifier: GPL-2.0-or-later
// list: the snapshots, oldest first.
#include <algorithm>
#include <memory>
#include <utility>

#include "cli/verbs.h"

namespace cowsnap::cli {

namespace {

struct Arguments {
    std::string origin;
    std::string store;
};

void list(Session& session, const Arguments& arguments) {
    session.client.refresh();
    Objects objects = session.client.listing();
    const std::string origin =
        arguments.origin.empty() ? "" : objects.origin(arguments.origin).path;
    const std::string store = arguments.store.empty() ? "" : objects.store(arguments.store).path;
    std::vector<Object> shown = std::exchange(objects.snapshots, {});
    const auto is_other = [&](const Object& snapshot) {
        return (!origin.empty() && snapshot.text("Origin") != origin) ||
               (!store.empty() && snapshot.text("Store") != store);
    };
    shown.erase(std::remove_if(shown.begin(), shown.end(), is_other), shown.end());
    printObjects(session.output, "snapshots", snapshotColumns(), objects, shown);
    for (const auto& object : objects.stores)
        if (store.empty() || object.path == store)
            warnIfUnusable(object);
}

}  // namespace

void addList(CLI::App& app, Run& run) {
    auto arguments = std::make_shared<Arguments>();
    CLI::App* const verb = app.add_subcommand("list", "List snapshots");
    verb->add_option("origin", arguments->origin, "Only those of this origin");
    verb->add_option("--store", arguments->store, "Only those in this store");
    verb->footer(columnsHelp({{"", snapshotColumns()}}));
    verb->callback(
        [&run, arguments] { run = [arguments](Session& session) { list(session, *arguments); }; });
}

}  // namespace cowsnap::cli
