// SPDX-License-Identifier: GPL-2.0-or-later
// origin attach, detach, list.
#include <memory>

#include <fmt/format.h>

#include "cli/verbs.h"

namespace cowsnap::cli {

namespace {

struct Arguments {
    std::string origin;
    std::string store;
    std::string name;
    std::string method = "auto";
    std::string known_as;
};

void attach(Session& session, const Arguments& arguments) {
    const Object store = session.client.objects().store(arguments.store);
    Dictionary options{{"method", arguments.method}};
    if (!arguments.name.empty())
        options["name"] = arguments.name;
    if (!arguments.known_as.empty())
        options["known_as"] = arguments.known_as;
    Message reply = session.client.callJob(
        kRootPath, kManagerInterface, "Attach",
        [&](Message& message) {
            message.append(Value(absolutePath(arguments.origin)));
            message.append(Value(ObjectPath{store.path}));
        },
        options);
    const std::string path = reply.readObjectPath().path;
    const Objects objects = session.client.objects();
    const Object* const origin = objects.at(path);
    if (origin == nullptr)
        return;
    if (session.output.json)
        printObjects(session.output, "origins", originColumns(), objects, {*origin});
    else
        printDone(session.output, attachedText(*origin), {});
}

void detach(Session& session, const Arguments& arguments) {
    const Objects objects = session.client.objects();
    const Object& origin = objects.origin(arguments.origin);
    const std::string name = origin.text("Name");
    confirm(session.output, fmt::format("Detach the origin {}?", name));
    session.client.callJob(origin.path, kOriginInterface, "Detach", nullptr);
    printDone(session.output, fmt::format("detached {}", name), {{"detached", {name}}});
}

void list(Session& session) {
    session.client.refresh();
    const Objects objects = session.client.objects();
    printObjects(session.output, "origins", originColumns(), objects, objects.origins);
}

}  // namespace

void addOrigin(CLI::App& app, Run& run) {
    auto arguments = std::make_shared<Arguments>();
    CLI::App* const origin = app.add_subcommand("origin", "The devices that are snapshotted");
    origin->require_subcommand(1);
    CLI::App* const on = origin->add_subcommand("attach", "Make a device an origin, in use or not");
    on->add_option("device", arguments->origin, "The device")->required();
    on->add_option("--store", arguments->store,
                   "Where its old blocks go (default: the only store)");
    on->add_option("--name", arguments->name, "Name of the origin (default: that of the device)")
        ->check(notEmpty());
    on->add_option("--as", arguments->known_as,
                   "Name of an origin that is missing: this is its device, although it has another "
                   "serial number, or none")
        ->check(notEmpty());
    on->add_option("--method", arguments->method,
                   "stack (over a device that is not in use), interpose (it goes on as it is), or "
                   "auto: as it is in use or not")
        ->capture_default_str()
        ->check(CLI::IsMember({"auto", "stack", "interpose"}));
    on->callback([&run, arguments] {
        run = [arguments](Session& session) { attach(session, *arguments); };
    });
    CLI::App* const off =
        origin->add_subcommand("detach", "Take an origin without snapshots away from its device");
    off->add_option("origin", arguments->origin, "Name, device or UUID")->required();
    off->callback([&run, arguments] {
        run = [arguments](Session& session) { detach(session, *arguments); };
    });
    CLI::App* const all = origin->add_subcommand("list", "List origins");
    all->callback([&run] { run = list; });
}

}  // namespace cowsnap::cli
