// SPDX-License-Identifier: GPL-2.0-or-later
// snapd-cli: the command line of cowsnap. Reads the words, runs the verb, turns
// failures into messages and exit codes.
#include <algorithm>
#include <iostream>
#include <optional>
#include <string_view>

#include <fmt/format.h>

#include "base/error.h"
#include "cli/exit.h"
#include "cli/progress.h"
#include "cli/verbs.h"

namespace {

using namespace cowsnap::cli;
using cowsnap::ExitCode;

int end(ExitCode code) {
    return static_cast<int>(code);
}

void printBegun(const OutputOptions& output, const std::optional<Object>& job) {
    if (!job) {
        printDone(output,
                  "begun, and over already; what came of it is not kept (finished_jobs in "
                  "cowsnapd.conf says how many are)",
                  {{"job", nullptr}, {"operation", nullptr}});
        return;
    }
    const auto number = job->number("Number");
    printDone(output,
              fmt::format("begun as job {0}: \"snapd-cli job wait {0}\" waits for it", number),
              {{"job", number}, {"operation", job->text("Operation")}});
}

int runVerb(const Run& run, const OutputOptions& output) {
    try {
        Client client;
        client.setMode({!output.no_wait, output.dry_run,
                        progressShower(output.progress, output.json, output.bytes)});
        Session session{client, output};
        run(session);
        return end(session.end);
    } catch (const JobBegun& begun) {
        printBegun(output, begun.job);
        return end(ExitCode::Done);
    } catch (const JobChecked& checked) {
        printDone(
            output,
            checked.first_step
                ? fmt::format("nothing was changed: its first step ({}) can be done, what "
                              "comes after it was not checked",
                              checked.method)
                : std::string("nothing was changed: it can be done"),
            {{"dry_run", true}, {"checked", checked.method}, {"first_step", checked.first_step}});
        return end(ExitCode::Done);
    } catch (const Failure& failure) {
        printFailure(output.json, failure.name(), failure.what());
        return end(failure.code());
    } catch (const cowsnap::Error& error) {
        const Failure failure = failureOf(error.busName(), error.what());
        printFailure(output.json, failure.name(), failure.what());
        return end(failure.code());
    } catch (const std::exception& error) {
        printFailure(output.json, "Failed", error.what());
        return end(ExitCode::Failed);
    }
}

/// What is wrong if a word stands where a command is expected, such as "lst" in "store lst".
std::optional<std::string> unknownCommand(const CLI::App& app) {
    const CLI::App* command = &app;
    std::string path;
    while (!command->get_subcommands().empty()) {
        command = command->get_subcommands().front();
        path += command->get_name() + " ";
    }
    if (command->get_require_subcommand_min() == 0)
        return std::nullopt;
    const auto words = app.remaining(true);
    const auto wrong = std::find_if(words.begin(), words.end(),
                                    [](const std::string& word) { return !word.starts_with('-'); });
    if (wrong == words.end())
        return std::nullopt;
    std::vector<std::string> known;
    for (const auto* const one : command->get_subcommands(nullptr))
        known.push_back(one->get_name());
    return fmt::format("there is no command \"{}{}\"; there are: {}", path, *wrong,
                       fmt::join(known, ", "));
}

}  // namespace

int main(int argc, char** argv) {
    CLI::App app("snapd-cli: snapshots of live block devices");
    app.set_version_flag("--version", COWSNAP_VERSION);
    app.require_subcommand(1);
    app.fallthrough();
    OutputOptions output;
    app.add_flag("--json", output.json, "Print JSON, errors too");
    app.add_flag("--bytes", output.bytes, "Print sizes in bytes");
    app.add_flag("--no-headings", output.no_headings, "Print tables without headings");
    app.add_flag("--yes", output.yes, "Do not ask before something is destroyed");
    app.add_flag("--dry-run", output.dry_run,
                 "Have the daemon check whether it can be done, and change nothing");
    app.add_flag("--no-wait", output.no_wait,
                 "Print the job that was begun instead of waiting for its end");
    app.add_option("--progress", output.progress,
                   "On stderr: json, a line for each step of a job; none; or auto, a bar on a "
                   "terminal")
        ->capture_default_str()
        ->check(CLI::IsMember({"auto", "json", "none"}));
    app.add_option("-o,--columns", output.columns, "Columns to print, separated by commas")
        ->delimiter(',')
        ->allow_extra_args(false);
    Run run;
    addActivate(app, run);
    addCreate(app, run);
    addDelete(app, run);
    addHold(app, run);
    addImport(app, run);
    addJob(app, run);
    addList(app, run);
    addMetrics(app, run);
    addModify(app, run);
    addMount(app, run);
    addOrigin(app, run);
    addPrune(app, run);
    addRename(app, run);
    addRollback(app, run);
    addSet(app, run);
    addShow(app, run);
    addStore(app, run);
    addWatch(app, run);
    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
        if (error.get_exit_code() == 0)
            return app.exit(error);
        const std::string message = unknownCommand(app).value_or(error.what());
        const bool json =
            std::any_of(argv, argv + argc, [](std::string_view word) { return word == "--json"; });
        printFailure(json, "Usage", message + " (snapd-cli --help tells more)");
        return end(ExitCode::Usage);
    }
    return runVerb(run, output);
}
