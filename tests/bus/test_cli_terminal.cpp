// SPDX-License-Identifier: GPL-2.0-or-later
// snapd-cli on a terminal: bars, questions, colours.
#include <catch2/catch.hpp>

#include "bus_bed.h"
#include "cowsnap_dm.h"
#include "terminal.h"

using namespace cowsnap;
using namespace cowsnap::test;
using Catch::Contains;

namespace {

/// snapd-cli, with these arguments.
std::vector<std::string> cliWords(const std::vector<std::string>& arguments) {
    std::vector<std::string> words{COWSNAP_CLI};
    words.insert(words.end(), arguments.begin(), arguments.end());
    return words;
}

struct TerminalBed : BusBed {
    std::string origin = attach("/dev/one", createStore());

    /// The number of the job that copies back.
    std::string rollBack() {
        createSnapshots({{{origin}, "old"}});
        REQUIRE(runCli({"rollback", "old", "--yes"}).code == 0);
        return std::to_string(jobs().size());
    }
};

}  // namespace

TEST_CASE("a bar is on a terminal while a job runs, and is taken away at its end") {
    TerminalBed bed;
    SECTION("of the command itself") {
        bed.machine.hold(COWSNAP_MESSAGE_CREATE);
        OnTerminal cli(cliWords({"create", "one", "--name", "a"}));
        const bool shown = cli.waitFor("\r\033[Kcreate: running");
        bed.machine.letGo();
        CHECK(cli.end() == 0);
        INFO(cli.output());
        CHECK(shown);
        CHECK_THAT(cli.output(), Contains("\r\033[Kcreated a of one"));
    }
    SECTION("of a job that is waited for") {
        OnTerminal cli(cliWords({"job", "wait", bed.rollBack()}));
        const bool shown = cli.waitFor("\r\033[Kcopy-back [");
        bed.machine.endRollback(1);
        CHECK(cli.end() == 0);
        INFO(cli.output());
        CHECK(shown);
        CHECK_THAT(cli.output(), Contains("\r\033[Kjob"));
    }
}

TEST_CASE("cancelling the job of a rollback asks what cancelling the rollback asks") {
    TerminalBed bed;
    const std::string job = bed.rollBack();
    const CliResult unasked = runCli({"job", "cancel", job});
    CHECK(unasked.code != 0);
    CHECK_THAT(unasked.errors, Contains("Cancel the rollback of one? What was written since it "
                                        "began is lost.") &&
                                   Contains("--yes"));
    OnTerminal no(cliWords({"job", "cancel", job}));
    REQUIRE(no.waitFor("began is lost. [y/N] "));
    no.type("n\n");
    CHECK(no.end() != 0);
    CHECK(bed.machine.rollbackOf(1) == COWSNAP_ROLLBACK_RUNNING);
    CHECK(bed.jobProperties(bed.jobs().back()).at("State") == Value(std::string("running")));
    OnTerminal yes(cliWords({"job", "cancel", job}));
    REQUIRE(yes.waitFor("[y/N] "));
    yes.type("y\n");
    CHECK(yes.end() == 0);
    CHECK_THAT(yes.output(), Contains("cancelled the job " + job + " (copy-back)"));
    // One that is over is not asked about.
    const CliResult over = runCli({"job", "cancel", job});
    CHECK(over.code == 1);
    CHECK_THAT(over.errors, Contains("over already"));
}
