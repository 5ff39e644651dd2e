// SPDX-License-Identifier: GPL-2.0-or-later
// store check: what is wrong with open stores, as far as the daemon knows; of closed ones the
// command that finds out.
#include <filesystem>
#include <memory>

#include <fmt/format.h>

#include "base/names.h"
#include "cli/exit.h"
#include "cli/verbs.h"

namespace cowsnap::cli {

namespace {

/// The open store that stands on a device; null if there is none.
const Object* storeOn(const Objects& objects, const std::string& device) {
    std::error_code code;
    const auto real = [&](const std::string& path) {
        const auto resolved = std::filesystem::canonical(path, code);
        return code ? path : resolved.string();
    };
    for (const auto& store : objects.stores)
        for (const auto& member : store.texts("Devices"))
            if (real(member) == real(device))
                return &store;
    return nullptr;
}

const Object& openStore(const Objects& objects, const std::string& wanted) {
    const bool is_path = wanted.find('/') != std::string::npos;
    if (is_path) {
        if (const Object* const store = storeOn(objects, absolutePath(wanted)))
            return *store;
        throw Failure(ExitCode::NotFound, "NotFound",
                      fmt::format("no open store is on {}. A closed one is checked with all of its "
                                  "devices: \"cowsnap-store check {}\"",
                                  wanted, shellWord(wanted)));
    }
    for (const auto& store : objects.stores)
        if (store.text("Name") == wanted)
            return objects.store(wanted);
    for (const auto& store : objects.stores)
        if (store.text("Uuid") == wanted)
            return store;
    throw Failure(ExitCode::NotFound, "NotFound",
                  fmt::format("there is no open store \"{}\" (\"snapd-cli store list\" shows those "
                              "that are open). A closed one is checked with all of its devices: "
                              "\"cowsnap-store check DEVICE...\"",
                              wanted));
}

std::vector<std::string> shellWords(std::vector<std::string> words) {
    for (auto& word : words)
        word = shellWord(word);
    return words;
}

std::vector<Object> findingsOf(Session& session, const Object& store) {
    Message reply = session.client.call(store.path, kStoreInterface, "Check", nullptr);
    std::vector<Object> findings;
    for (auto& properties : reply.readDictionaries()) {
        properties["Store"] = store.text("Name");
        findings.push_back({{}, std::move(properties)});
    }
    return findings;
}

/// As the daemon knows it once it has looked again, which it does when it checks a store.
void endIfUnusable(Session& session, const std::vector<Object>& stores) {
    const Objects objects = session.client.objects();
    for (const auto& store : stores)
        if (const Object* const now = objects.at(store.path);
            now != nullptr && !now->text("Problem").empty() && session.end == ExitCode::Done)
            session.end = ExitCode::Failed;
}

void check(Session& session, const std::string& wanted) {
    const Objects objects = session.client.objects();
    const std::vector<Object> stores =
        wanted.empty() ? objects.stores : std::vector<Object>{openStore(objects, wanted)};
    std::vector<Object> findings;
    std::string text;
    for (const auto& store : stores) {
        const auto more = findingsOf(session, store);
        findings.insert(findings.end(), more.begin(), more.end());
        for (const auto& finding : more)
            if (finding.flag("Damage"))
                session.end = ExitCode::Damaged;
        text += fmt::format(
            "{}{}: {}. When it is closed all of it is checked with "
            "\"cowsnap-store check {}\"",
            text.empty() ? "" : "\n", store.text("Name"),
            more.empty() ? "no damage is known" : "see above",
            fmt::join(shellWords(store.texts("Devices")), " "));
    }
    endIfUnusable(session, stores);
    if (session.output.json || !findings.empty())
        printObjects(session.output, "findings", findingColumns(), objects, findings);
    if (!session.output.json)
        printDone(session.output, text.empty() ? "there is no open store" : text, {});
}

}  // namespace

void addStoreCheck(CLI::App& store, Run& run) {
    auto wanted = std::make_shared<std::string>();
    CLI::App* const verb = store.add_subcommand(
        "check", "Say what is damaged in a store that is open, as far as the kernel knows");
    verb->add_option("store", *wanted, "Name, UUID, or one of its devices (default: all stores)");
    verb->footer(columnsHelp({{"", findingColumns()}}));
    verb->callback(
        [&run, wanted] { run = [wanted](Session& session) { check(session, *wanted); }; });
}

}  // namespace cowsnap::cli
