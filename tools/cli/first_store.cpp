// SPDX-License-Identifier: GPL-2.0-or-later
// The first store of a machine, for who wants a snapshot and has none: the daemon says what it
// could be made of. Where there is one choice it is made after asking, else each is a command.
#include <fmt/format.h>

#include "base/size_text.h"
#include "cli/verbs.h"

namespace cowsnap::cli {

namespace {

constexpr const char* kName = "main";

bool isGroup(const Object& candidate) {
    return candidate.text("Kind") == "volume-group";
}

std::string commandFor(const Object& candidate) {
    if (isGroup(candidate))
        return fmt::format("snapd-cli store create --volume-group {} --volume-size {} --name {}",
                           candidate.text("Name"), candidate.number("SizeBytes"), kName);
    return fmt::format("snapd-cli store create {} --name {}", candidate.text("Name"), kName);
}

std::string placeOf(const Object& candidate) {
    const std::string size = sizeText(candidate.number("SizeBytes"));
    if (isGroup(candidate))
        return fmt::format("a new volume of {} in the volume group {}, which has {} free", size,
                           candidate.text("Name"), sizeText(candidate.number("FreeBytes")));
    return fmt::format("{}, which is blank and has {}", candidate.text("Name"), size);
}

std::vector<Object> candidatesFor(Session& session, const std::string& device) {
    Message reply = session.client.call(kRootPath, kManagerInterface, "ListStoreCandidates",
                                        [&](Message& message) { message.append(Value(device)); });
    std::vector<Object> candidates;
    for (auto& properties : reply.readDictionaries())
        candidates.push_back({{}, std::move(properties)});
    return candidates;
}

std::string createOn(Session& session, const Object& candidate) {
    Dictionary options;
    std::vector<std::string> devices;
    if (isGroup(candidate)) {
        options["volume_group"] = candidate.text("Name");
        options["volume_bytes"] = candidate.number("SizeBytes");
    } else {
        devices.push_back(candidate.text("Name"));
    }
    return session.client
        .callStep(
            kRootPath, kManagerInterface, "CreateStore",
            [&](Message& message) {
                message.append(Value(devices));
                message.append(Value(std::string(kName)));
            },
            options)
        .readObjectPath()
        .path;
}

}  // namespace

std::string makeFirstStore(Session& session, const std::string& device) {
    const auto candidates = candidatesFor(session, device);
    if (candidates.empty())
        throw Failure(
            ExitCode::NotFound, "NotFound",
            fmt::format("there is no store, and nothing that one for {} could be made of: no blank "
                        "device that is free, and no volume group with free space. When there is a "
                        "device: \"snapd-cli store create DEVICE --name {}\"",
                        device, kName));
    if (candidates.size() > 1) {
        std::string choices;
        for (const auto& candidate : candidates)
            choices +=
                fmt::format("\n  {}\n      on {}", commandFor(candidate), placeOf(candidate));
        throw Failure(
            ExitCode::NotFound, "NotFound",
            "there is no store yet. It could be made with one of these commands:" + choices);
    }
    const Object& only = candidates.front();
    confirm(session.output,
            fmt::format("There is no store yet. Make the store {} on {}?", kName, placeOf(only)));
    const std::string path = createOn(session, only);
    if (!session.output.json)
        printDone(session.output, fmt::format("created the store {} on {}", kName, placeOf(only)),
                  {});
    noteNewStore(session, path);
    return path;
}

}  // namespace cowsnap::cli
