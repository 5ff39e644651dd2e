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
        client.setMode({!output.no_wait, progressShower(output.progress, output.json)});
        Session session{client, output};
        run(session);
        return end(ExitCode::Done);
    } catch (const JobBegun& begun) {
        printBegun(output, begun.job);
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
    app.add_flag("--no-wait", output.no_wait,
                 "Print the job that was begun instead of waiting for its end");
    app.add_option("--progress", output.progress,
                   "On stderr: json, a line for each step of a job; none; or auto, a bar on a "
                   "terminal")
        ->capture_default_str()
        ->check(CLI::IsMember({"auto", "json", "none"}));
    app.add_option("-o,--columns", output.columns, "Columns to print, separated by commas")
        ->delimiter(',');
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
        std::string message = error.what();
        if (app.get_subcommands().empty())
            for (int i = 1; i < argc; ++i)
                if (std::string_view(argv[i]).substr(0, 1) != "-") {
                    message = std::string("there is no command \"") + argv[i] + "\"";
                    break;
                }
        const bool json =
            std::any_of(argv, argv + argc, [](std::string_view word) { return word == "--json"; });
        printFailure(json, "Usage", message + " (snapd-cli --help tells more)");
        return end(ExitCode::Usage);
    }
    return runVerb(run, output);
}
