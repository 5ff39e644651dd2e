// SPDX-License-Identifier: GPL-2.0-or-later
// show: all that is known of one snapshot, origin or store.
#include <memory>

#include "cli/exit.h"
#include "cli/verbs.h"

namespace cowsnap::cli {

namespace {

bool has(const std::vector<Object>& objects, const std::string& wanted) {
    for (const auto& object : objects)
        if (object.text("Name") == wanted || object.text("Uuid") == wanted)
            return true;
    return false;
}

void showStore(Session& session, const Objects& objects, const Object& store) {
    warnIfDamaged(store);
    printObject(session.output, "store", storeColumns(), objects, store);
}

void show(Session& session, const std::string& wanted) {
    session.client.refresh();
    const Objects objects = session.client.objects();
    const bool is_path = wanted.starts_with('/');
    if (!is_path && (has(objects.snapshots, wanted) || wanted.find('/') != std::string::npos))
        printObject(session.output, "snapshot", snapshotColumns(), objects,
                    objects.snapshot(wanted));
    else if (is_path || has(objects.origins, wanted))
        printObject(session.output, "origin", originColumns(), objects, objects.origin(wanted));
    else if (has(objects.stores, wanted))
        showStore(session, objects, objects.store(wanted));
    else
        throw Failure(ExitCode::NotFound, "NotFound",
                      "there is no snapshot, origin or store \"" + wanted + "\"");
}

}  // namespace

void addShow(CLI::App& app, Run& run) {
    auto wanted = std::make_shared<std::string>();
    CLI::App* const verb = app.add_subcommand("show", "Show a snapshot, origin or store");
    verb->add_option("name", *wanted,
                     "A snapshot's, origin's or store's name or UUID, or an origin's device")
        ->required();
    verb->footer(columnsHelp(
        {{"snapshot", snapshotColumns()}, {"origin", originColumns()}, {"store", storeColumns()}}));
    verb->callback(
        [&run, wanted] { run = [wanted](Session& session) { show(session, *wanted); }; });
}

}  // namespace cowsnap::cli
