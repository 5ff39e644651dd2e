// SPDX-License-Identifier: GPL-2.0-or-later
// prune: snapshots that have expired or that no rule keeps. The daemon decides; this asks and
// shows.
#include <algorithm>
#include <charconv>
#include <iterator>
#include <memory>

#include <fmt/format.h>

#include "cli/exit.h"
#include "cli/verbs.h"

namespace cowsnap::cli {

namespace {

struct Arguments {
    std::vector<std::string> origins;
    std::vector<std::string> rules;
    std::vector<std::string> tags;
};

constexpr std::string_view kRules[] = {"last", "hourly", "daily", "weekly", "monthly", "yearly"};

void addRule(const std::string& text, Dictionary& options) {
    const auto equals = text.find('=');
    const std::string name = text.substr(0, equals);
    if (std::find(std::begin(kRules), std::end(kRules), name) == std::end(kRules))
        throw Failure(
            ExitCode::Usage, "Usage",
            fmt::format("there is no rule \"{}\"; there are: {}", name, fmt::join(kRules, ", ")));
    std::uint64_t count = 0;
    const char* const begin =
        text.data() + (equals == std::string::npos ? text.size() : equals + 1);
    const char* const end = text.data() + text.size();
    const auto [stopped, code] = std::from_chars(begin, end, count);
    if (code != std::errc() || stopped != end)
        throw Failure(ExitCode::Usage, "Usage",
                      fmt::format("\"{}\" does not say how many to keep: write {}=7", text, name));
    if (!options.emplace(name, count).second)
        throw Failure(ExitCode::Usage, "Usage",
                      fmt::format("the rule \"{}\" is given twice", name));
}

/// The snapshots that the daemon looked at, each with its action and reason, oldest first.
std::vector<Object> prune(Session& session, const Objects& objects,
                          const std::vector<ObjectPath>& origins, const Dictionary& options) {
    const auto append = [&](Message& message) { message.append(Value(origins)); };
    // What only looks is no job.
    Message reply =
        options.contains("dry_run")
            ? session.client.call(kRootPath, kManagerInterface, "Prune", append, options)
            : session.client.callJob(kRootPath, kManagerInterface, "Prune", append, options);
    std::vector<Object> results;
    for (auto& said : reply.readDictionaries()) {
        Object result;
        result.properties = std::move(said);
        result.path = result.text("Snapshot");
        // What of it was known before it went.
        if (const Object* const snapshot = objects.at(result.path))
            for (const auto& [name, value] : snapshot->properties)
                result.properties.emplace(name, value);
        results.push_back(std::move(result));
    }
    std::stable_sort(results.begin(), results.end(), [](const Object& one, const Object& other) {
        return std::pair(one.number("Created"), one.number("Id")) <
               std::pair(other.number("Created"), other.number("Id"));
    });
    return results;
}

std::vector<Object> withAction(const std::vector<Object>& results, const std::string& action) {
    std::vector<Object> chosen;
    std::copy_if(results.begin(), results.end(), std::back_inserter(chosen),
                 [&](const Object& result) { return result.text("Action") == action; });
    return chosen;
}

std::string namesOf(const std::vector<Object>& results) {
    std::string names;
    for (const auto& result : results)
        names += (names.empty() ? "" : ", ") + result.text("Name");
    return names;
}

/// What to end with if not all was done.
std::optional<Failure> failureIn(const std::vector<Object>& results) {
    const auto failed = withAction(results, "failed");
    if (failed.empty())
        return std::nullopt;
    const auto deleted = withAction(results, "delete");
    std::string message =
        fmt::format("not deleted: {} ({})", namesOf(failed), failed.front().text("Reason"));
    if (!deleted.empty())
        message += fmt::format("; deleted: {}", namesOf(deleted));
    // The other stores were pruned, whether or not there was something to delete in them.
    const bool all_of_store = std::any_of(failed.begin(), failed.end(),
                                          [](const Object& result) { return result.path == "/"; });
    const bool partly = !deleted.empty() || all_of_store;
    return Failure(partly ? ExitCode::Partly : ExitCode::Failed, partly ? "PartlyDone" : "Failed",
                   message);
}

void run(Session& session, const Arguments& arguments) {
    checkColumns(session.output, pruneColumns());
    Dictionary options;
    for (const auto& rule : arguments.rules)
        addRule(rule, options);
    if (!arguments.tags.empty())
        options["tags"] = arguments.tags;
    const Objects objects = session.client.objects();
    std::vector<ObjectPath> origins;
    for (const auto& wanted : arguments.origins)
        origins.push_back({objects.origin(wanted).path});
    Dictionary only_say = options;
    only_say["dry_run"] = true;
    std::vector<Object> results =
        prune(session, objects, origins,
              session.output.dry_run || !session.output.yes ? only_say : options);
    const auto going = withAction(results, "delete");
    if (!session.output.dry_run && !session.output.yes && !going.empty()) {
        confirm(session.output, fmt::format("Delete {}?", namesOf(going)));
        // What was agreed to and nothing else, should another hour have begun.
        std::vector<ObjectPath> paths;
        for (const auto& snapshot : going)
            paths.push_back({snapshot.path});
        session.client.callJob(kRootPath, kManagerInterface, "DeleteSnapshots",
                               [&](Message& message) { message.append(Value(paths)); });
    }
    const auto failure = failureIn(results);
    if (session.output.json) {
        printObjects(session.output, "pruned", pruneColumns(), objects, results,
                     failure ? errorJson(failure->name(), failure->what()) : nlohmann::json());
        session.end = failure ? failure->code() : ExitCode::Done;
        return;
    }
    if (session.output.dry_run)
        printObjects(session.output, "pruned", pruneColumns(), objects, results);
    if (failure)
        throw *failure;
    if (!session.output.dry_run)
        printDone(session.output,
                  going.empty() ? "nothing to delete" : fmt::format("deleted {}", namesOf(going)),
                  {});
}

}  // namespace

void addPrune(CLI::App& app, Run& run_verb) {
    auto arguments = std::make_shared<Arguments>();
    CLI::App* const verb =
        app.add_subcommand("prune",
                           "Delete snapshots that have expired or that no rule keeps; --dry-run "
                           "shows what would go and why");
    verb->add_option("origin", arguments->origins, "Only those of these origins (default: all)");
    verb->add_option("--keep", arguments->rules,
                     "Rules, separated by commas: last=N keeps the N newest; hourly=N, daily=N, "
                     "weekly=N, monthly=N, yearly=N the newest of each of N hours, days, ... in "
                     "which there are snapshots. Without rules only what has expired goes")
        ->delimiter(',')
        ->allow_extra_args(false)
        ->check(notEmpty());
    verb->add_option("--tag", arguments->tags,
                     "Look only at snapshots with this tag; given again: with all of them")
        ->allow_extra_args(false)
        ->check(notEmpty());
    verb->footer(columnsHelp({{"", pruneColumns()}}));
    verb->callback([&run_verb, arguments] {
        run_verb = [arguments](Session& session) { run(session, *arguments); };
    });
}

}  // namespace cowsnap::cli
