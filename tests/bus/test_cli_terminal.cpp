// SPDX-License-Identifier: GPL-2.0-or-later
// snapd-cli on a terminal: bars, questions, colours.
#include <signal.h>
#include <unistd.h>

#include <catch2/catch.hpp>

#include <cstdlib>
#include <filesystem>
#include <fstream>

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

TEST_CASE("a rollback that cannot begin now is scheduled if that is agreed to, and would help") {
    TerminalBed bed;
    SECTION("its origin is in use") {
        bed.createSnapshots({{{bed.origin}, "old"}});
        bed.machine.setUser("/dev/mapper/cowsnap-one", "mounted on /one");
        OnTerminal cli(cliWords({"rollback", "old"}));
        REQUIRE(cli.waitFor("becomes a snapshot. [y/N] "));
        cli.type("y\n");
        REQUIRE(cli.waitFor("Schedule it? [y/N] "));
        CHECK(bed.machine.rollbackOf(1) == COWSNAP_ROLLBACK_NONE);
        cli.type("y\n");
        CHECK(cli.end() == 0);
        CHECK_THAT(cli.output(), Contains("mounted on /one") && Contains("scheduled: one"));
        CHECK(bed.machine.rollbackOf(1) == COWSNAP_ROLLBACK_SCHEDULED);
    }
    SECTION("there is one already") {
        bed.rollBack();
        OnTerminal cli(cliWords({"rollback", "old"}));
        REQUIRE(cli.waitFor("becomes a snapshot. [y/N] "));
        cli.type("y\n");
        CHECK(cli.end() == 5);
        CHECK_THAT(cli.output(), Contains("has a rollback already") && !Contains("Schedule it?"));
    }
}

TEST_CASE("who may be asked for a password on a terminal has an agent of polkit meanwhile") {
    if (::geteuid() != 0) {
        WARN("not root: cannot become someone else");
        return;
    }
    TerminalBed bed;
    const TemporaryDirectory directory;
    const auto file = [&](const std::string& name) { return (directory.path() / name).string(); };
    std::filesystem::permissions(directory.path(), std::filesystem::perms::all);
    std::filesystem::copy_file(COWSNAP_CLI, file("snapd-cli"));
    std::ofstream(file("pkttyagent")) << "#!/bin/sh\n"
                                         "echo \"$1 $3\" >\"$AGENT\"\n"
                                         "echo $$ >\"$AGENT.pid\"\n"
                                         "eval \"exec $2>&-\"\n"
                                         "exec sleep 60\n";
    std::filesystem::permissions(file("pkttyagent"), std::filesystem::perms::all);
    const std::map<std::string, std::string> environment{
        {"PATH", directory.path().string() + ":" + std::getenv("PATH")}, {"AGENT", file("agent")}};
    const auto run = [&](uid_t user_id, const std::vector<std::string>& words) {
        std::vector<std::string> all{"setpriv", "--reuid=" + std::to_string(user_id),
                                     "--regid=" + std::to_string(user_id), "--clear-groups",
                                     file("snapd-cli")};
        all.insert(all.end(), words.begin(), words.end());
        OnTerminal cli(all, environment);
        const int code = cli.end();
        INFO(cli.output());
        return code;
    };
    constexpr uid_t nobody = 65534;
    CHECK(run(nobody, {"list"}) == 0);
    CHECK(run(0, {"create", "one", "--name", "a"}) == 0);
    CHECK_FALSE(std::filesystem::exists(file("agent")));
    CHECK(run(nobody, {"create", "one", "--name", "b"}) == 4);
    std::ifstream agent(file("agent"));
    std::string options;
    std::getline(agent, options);
    CHECK(options == "--notify-fd --fallback");
    pid_t process = 0;
    std::ifstream(file("agent.pid")) >> process;
    REQUIRE(process > 0);
    CHECK(::kill(process, 0) != 0);
    // nobody can type there
    std::filesystem::remove(file("agent"));
    CHECK(runProgram({"env", "PATH=" + environment.at("PATH"), "AGENT=" + environment.at("AGENT"),
                      file("snapd-cli"), "create", "one", "--name", "b"},
                     nobody)
              .code == 4);
    CHECK_FALSE(std::filesystem::exists(file("agent")));
}

TEST_CASE("states and errors have colors on a terminal, and only there") {
    TerminalBed bed;
    bed.createSnapshots({{{bed.origin}, "old"}});
    bed.machine.writtenUnseen(1);
    bed.createSnapshots({{{bed.origin}, "new"}});
    const std::vector<std::string> list{"list", "-o", "state,name"};
    const auto shown = [](const std::vector<std::string>& words,
                          const std::map<std::string, std::string>& environment) {
        OnTerminal cli(cliWords(words), environment);
        cli.end();
        return cli.output();
    };
    const std::map<std::string, std::string> terminal{{"TERM", "xterm"}, {"NO_COLOR", ""}};
    // The columns stand as they do without colors.
    CHECK(shown(list, terminal) ==
          "STATE   NAME\r\n\033[31mstale\033[0m   old\r\n\033[32mactive\033[0m  new\r\n");
    CHECK_THAT(shown({"show", "main"}, terminal), Contains("\033[32mactive\033[0m\r\n"));
    CHECK_THAT(shown({"show", "one"}, terminal),
               Contains("\033[32mattached\033[0m") && !Contains("mnone"));
    CHECK_THAT(shown({"show", "none"}, terminal),
               Catch::StartsWith("\033[1;31msnapd-cli:\033[0m "));
    CHECK_THAT(shown({"activate", "old"}, terminal),
               Catch::StartsWith("\033[1;33msnapd-cli:\033[0m the snapshot old is stale"));
    CHECK(runCli({"rollback", "new", "--yes"}).code == 0);
    CHECK_THAT(shown({"job", "list", "-o", "state"}, terminal),
               Contains("\033[32mdone\033[0m\r\n") && Contains("\033[33mrunning\033[0m\r\n"));
    for (const auto& environment : std::vector<std::map<std::string, std::string>>{
             {{"TERM", "xterm"}, {"NO_COLOR", "1"}}, {{"TERM", "dumb"}, {"NO_COLOR", ""}}}) {
        CHECK_THAT(shown(list, environment), Contains("stale") && !Contains("\033"));
        CHECK_THAT(shown({"show", "none"}, environment), Catch::StartsWith("snapd-cli: "));
    }
    CHECK_THAT(shown({"list", "--json"}, terminal), Contains("stale") && !Contains("\033"));
    CHECK_THAT(runCli(list).output, Contains("stale") && !Contains("\033"));
    CHECK_THAT(runCli({"show", "none"}).errors, Catch::StartsWith("snapd-cli: "));
}

TEST_CASE("what is not confirmed is not done, and ends with the code for that") {
    TerminalBed bed;
    bed.createSnapshots({{{bed.origin}, "old"}});
    constexpr int not_confirmed = 4;
    for (const char* const answer : {"n\n", "\n", "yesterday\n", "\004"}) {
        OnTerminal cli(cliWords({"delete", "old"}));
        REQUIRE(cli.waitFor("[y/N] "));
        cli.type(answer);
        CHECK(cli.end() == not_confirmed);
        CHECK_THAT(cli.output(), Contains("nothing was changed"));
    }
    CHECK(runCli({"delete", "old"}).code == not_confirmed);
    const CliResult as_json = runCli({"delete", "old", "--json"});
    CHECK(as_json.code == not_confirmed);
    CHECK_THAT(as_json.output, Contains("\"NotConfirmed\""));
    CHECK(bed.machine.snapshotIds().size() == 1);
    OnTerminal cli(cliWords({"delete", "old"}));
    REQUIRE(cli.waitFor("[y/N] "));
    cli.type("yes\n");
    CHECK(cli.end() == 0);
    CHECK(bed.machine.snapshotIds().empty());
}

TEST_CASE("bash completes what is typed at its prompt") {
    TerminalBed bed;
    bed.createSnapshots({{{bed.origin}, "two words"}});
    const std::string directory =
        std::string(COWSNAP_CLI).substr(0, std::string(COWSNAP_CLI).rfind('/'));
    bed.directory.write("rc", "PS1='$ '\nbind 'set enable-bracketed-paste off'\nPATH=" + directory +
                                  ":$PATH\n. " COWSNAP_COMPLETION "\n");
    OnTerminal bash({"bash", "--rcfile", (bed.directory.path() / "rc").string(), "-i"},
                    {{"TERM", "dumb"}});
    REQUIRE(bash.waitFor("$ "));
    for (const auto& [typed, completed] : std::vector<std::pair<std::string, std::string>>{
             {"snapd-cli show t\t", "show two\\ words "},
             {"snapd-cli create --store=m\t", "--store=main "},
             {"snapd-cli prune --keep hourly=2,d\t3", "--keep hourly=2,daily=3"},
             {"snapd-cli list -o name,consis\t", "-o name,consistency "}}) {
        INFO(typed);
        bash.type(typed);
        CHECK(bash.waitFor(completed));
        INFO(bash.output());
        bash.type("\025");  // the line is taken back
    }
    bash.type("exit\n");
    CHECK(bash.end() == 0);
}
