// SPDX-License-Identifier: GPL-2.0-or-later
// hold, release: snapshots that nobody is to delete.
#include <memory>

#include <fmt/format.h>

#include "cli/verbs.h"

namespace cowsnap::cli {

namespace {

struct Arguments {
    std::string hold;
    std::vector<std::string> snapshots;
};

/// One call for all, so that of a set all members are held, or none.
void change(Session& session, const Arguments& arguments, const char* method,
            const std::string& done) {
    const Objects objects = session.client.objects();
    std::vector<ObjectPath> paths;
    std::vector<std::string> names;
    for (const auto& wanted : arguments.snapshots) {
        const Object& snapshot = objects.snapshot(wanted);
        paths.push_back({snapshot.path});
        names.push_back(snapshot.text("Name"));
    }
    session.client.callJob(kRootPath, kManagerInterface, method, [&](Message& message) {
        message.append(Value(paths));
        message.append(Value(arguments.hold));
    });
    printDone(session.output,
              fmt::format("{} {} ({})", done, fmt::join(names, ", "), arguments.hold),
              {{done, names}, {"hold", arguments.hold}});
}

void add(CLI::App& app, Run& run, const char* name, const char* help, const char* method,
         const char* done) {
    auto arguments = std::make_shared<Arguments>();
    CLI::App* const verb = app.add_subcommand(name, help);
    verb->add_option("hold", arguments->hold, "Name of the hold, such as that of who needs it")
        ->required();
    verb->add_option("snapshot", arguments->snapshots, "Names, STORE/NAMEs or UUIDs")->required();
    verb->callback([&run, arguments, method, done] {
        run = [arguments, method, done](Session& session) {
            change(session, *arguments, method, done);
        };
    });
}

}  // namespace

void addHold(CLI::App& app, Run& run) {
    add(app, run, "hold", "Keep snapshots from being deleted", "HoldSnapshots", "held");
    add(app, run, "release", "Take a hold from snapshots", "ReleaseSnapshots", "released");
}

}  // namespace cowsnap::cli
