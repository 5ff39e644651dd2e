// SPDX-License-Identifier: GPL-2.0-or-later
// import: a store that comes from another machine.
#include <memory>

#include <fmt/format.h>

#include "base/names.h"
#include "cli/verbs.h"

namespace cowsnap::cli {

namespace {

struct Arguments {
    std::vector<std::string> devices;
    std::string name;
};

void import(Session& session, const Arguments& arguments) {
    Dictionary options{{"import", true}};
    if (!arguments.name.empty())
        options["name"] = arguments.name;
    std::vector<std::string> paths;
    for (const auto& device : arguments.devices)
        paths.push_back(absolutePath(device));
    const std::string path =
        session.client
            .callJob(
                kRootPath, kManagerInterface, "OpenStore",
                [&](Message& message) { message.append(Value(paths)); }, options)
            .readObjectPath()
            .path;
    printOpened(session, path, "imported");
}

}  // namespace

void printOpened(Session& session, const std::string& path, const std::string& verb) {
    const Objects objects = session.client.objects();
    const Object* const store = objects.at(path);
    if (store == nullptr)
        return;
    const std::string name = store->text("Name");
    nlohmann::json attached = nlohmann::json::array();
    nlohmann::json missing = nlohmann::json::array();
    std::string text = fmt::format("{} the store {} with {} snapshots", verb, name,
                                   store->number("SnapshotCount"));
    for (const auto& origin : objects.origins) {
        if (origin.text("Store") != path)
            continue;
        const std::string origin_name = origin.text("Name");
        if (origin.text("State") == "attached") {
            attached.push_back(origin_name);
            text += "\n" + attachedText(origin);
            continue;
        }
        session.end = ExitCode::Partly;
        missing.push_back({{"origin", origin_name}, {"problem", origin.text("Problem")}});
        text += fmt::format(
            "\nthe origin {} is missing: {}. If you know its device: \"snapd-cli origin attach "
            "DEVICE --store {} --as {}\"",
            origin_name, origin.text("Problem"), shellWord(name), shellWord(origin_name));
    }
    warnIfDamaged(*store);
    printDone(session.output, text,
              {{verb, name},
               {"attached", attached},
               {"missing", missing},
               {"metadata_damaged", store->flag("MetadataDamaged")}});
    // It is in the list of stores from now on.
    noteInitramfsIfThere(session);
}

void addImport(CLI::App& app, Run& run) {
    auto arguments = std::make_shared<Arguments>();
    CLI::App* const verb =
        app.add_subcommand("import", "Take over a store that comes from another machine");
    verb->add_option("device", arguments->devices, "The store's devices, in their order")
        ->required();
    verb->add_option("--name", arguments->name,
                     "What it is called from now on (default: as before)")
        ->check(notEmpty());
    verb->callback([&run, arguments] {
        run = [arguments](Session& session) { import(session, *arguments); };
    });
}

}  // namespace cowsnap::cli
