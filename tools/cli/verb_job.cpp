// SPDX-License-Identifier: GPL-2.0-or-later
// job list, show, wait, cancel.
#include <memory>
#include <string_view>

#include <fmt/format.h>

#include "cli/exit.h"
#include "cli/verbs.h"

namespace cowsnap::cli {

namespace {

void list(Session& session) {
    const Objects objects = session.client.objects();
    printObjects(session.output, "jobs", jobColumns(), objects, objects.jobs);
}

void show(Session& session, const std::string& wanted) {
    printObject(session.output, "job", jobColumns(), {}, session.client.job(wanted));
}

/// Ends as the command that began the job would have.
void wait(Session& session, const std::string& wanted) {
    const Object job = session.client.waitForJob(wanted);
    if (const std::string error = job.text("ErrorName"); !error.empty())
        throw failureOf(error, job.text("ErrorMessage"));
    printObject(session.output, "job", jobColumns(), {}, job);
}

/// As far as the daemon tells; it is refused with the same words.
void checkCancel(const Object& job) {
    if (isOver(job))
        throw Failure(
            ExitCode::Failed, "Failed",
            fmt::format("the job {} is over already: {}", job.number("Number"), job.text("State")));
    if (!job.flag("CanCancel"))
        throw Failure(
            ExitCode::Busy, "Busy",
            fmt::format("the job {} ({}) cannot be cancelled any more: it will be finished",
                        job.number("Number"), job.text("Operation")));
}

void cancel(Session& session, const std::string& wanted) {
    const Object job = session.client.job(wanted);
    if (session.output.dry_run) {
        checkCancel(job);
        throw JobChecked{"Cancel"};
    }
    // Cancelling what a rollback copies cancels the rollback.
    if (job.text("Operation") == "copy-back" && !isOver(job))
        confirmCancelRollback(session, job.text("Subject"));
    session.client.call(job.path, kJobInterface, "Cancel", nullptr);
    const auto number = job.number("Number");
    printDone(session.output,
              fmt::format("cancelled the job {} ({})", number, job.text("Operation")),
              {{"cancelled", {number}}});
}

}  // namespace

void addJob(CLI::App& app, Run& run) {
    auto wanted = std::make_shared<std::string>();
    CLI::App* const job =
        app.add_subcommand("job", "What is being done, and was done not long ago");
    job->require_subcommand(1);
    CLI::App* const all = job->add_subcommand("list", "List jobs");
    all->footer(columnsHelp({{"", jobColumns()}}));
    all->callback([&run] { run = list; });
    const auto add = [&](const char* name, const char* help, auto verb) {
        CLI::App* const one = job->add_subcommand(name, help);
        one->add_option("job", *wanted, "Its number")->required();
        if (std::string_view(name) != "cancel")
            one->footer(columnsHelp({{"", jobColumns()}}));
        one->callback([&run, wanted, verb] {
            run = [wanted, verb](Session& session) { verb(session, *wanted); };
        });
    };
    add("show", "Show all that is known of a job", show);
    add("wait", "Wait until a job is over; end as it did", wait);
    add("cancel", "Cancel a job that has not begun, or that is about several stores, or a rollback",
        cancel);
}

}  // namespace cowsnap::cli
