// SPDX-License-Identifier: GPL-2.0-or-later
// origin attach, detach, list, set-boot-policy.
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
    std::string boot_policy;
};

constexpr const char* kFailClosed = "fail-closed";
constexpr const char* kPolicyHelp =
    "What the boot does if it cannot attach the origin: fail-open (goes on; the snapshots become "
    "stale) or fail-closed (does not mount the device)";

/// Whoever changes what the boot has to know is told where else it is known.
void sayInitramfs(Session& session, bool changed) {
    if (changed && !session.output.json)
        noteInitramfs(session);
}

void attach(Session& session, const Arguments& arguments) {
    checkColumns(session.output, originColumns());
    const Object store = session.client.objects().store(arguments.store);
    Dictionary options{{"method", arguments.method}};
    if (!arguments.name.empty())
        options["name"] = arguments.name;
    if (!arguments.known_as.empty())
        options["known_as"] = arguments.known_as;
    if (!arguments.boot_policy.empty())
        options["boot_policy"] = arguments.boot_policy;
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
    sayInitramfs(session, arguments.boot_policy == kFailClosed);
}

void setBootPolicy(Session& session, const Arguments& arguments) {
    const Objects objects = session.client.objects();
    const Object& origin = objects.origin(arguments.origin);
    const std::string name = origin.text("Name");
    session.client.callJob(origin.path, kOriginInterface, "SetBootPolicy",
                           [&](Message& message) { message.append(Value(arguments.boot_policy)); });
    printDone(session.output, fmt::format("{} is {}", name, arguments.boot_policy),
              {{"origin", name}, {"boot_policy", arguments.boot_policy}});
    sayInitramfs(session, true);
}

void detach(Session& session, const Arguments& arguments) {
    const Objects objects = session.client.objects();
    const Object& origin = objects.origin(arguments.origin);
    const std::string name = origin.text("Name");
    const bool closed = origin.text("BootPolicy") == kFailClosed;
    confirm(session.output, fmt::format("Detach the origin {}?", name));
    session.client.callJob(origin.path, kOriginInterface, "Detach", nullptr);
    printDone(session.output, fmt::format("detached {}", name), {{"detached", {name}}});
    sayInitramfs(session, closed);
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
    on->add_option("--boot-policy", arguments->boot_policy, kPolicyHelp)
        ->check(CLI::IsMember({"fail-open", kFailClosed}));
    on->callback([&run, arguments] {
        run = [arguments](Session& session) { attach(session, *arguments); };
    });
    CLI::App* const off =
        origin->add_subcommand("detach", "Take an origin without snapshots away from its device");
    off->add_option("origin", arguments->origin, "Name, device or UUID")->required();
    off->callback([&run, arguments] {
        run = [arguments](Session& session) { detach(session, *arguments); };
    });
    CLI::App* const policy = origin->add_subcommand(
        "set-boot-policy", "Say what the boot does with an origin that it cannot attach");
    policy->add_option("origin", arguments->origin, "Name, device or UUID")->required();
    policy->add_option("policy", arguments->boot_policy, kPolicyHelp)
        ->required()
        ->check(CLI::IsMember({"fail-open", kFailClosed}));
    policy->callback([&run, arguments] {
        run = [arguments](Session& session) { setBootPolicy(session, *arguments); };
    });
    CLI::App* const all = origin->add_subcommand("list", "List origins");
    all->footer(columnsHelp({{"", originColumns()}}));
    all->callback([&run] { run = list; });
}

}  // namespace cowsnap::cli
