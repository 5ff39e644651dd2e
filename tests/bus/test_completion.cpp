// SPDX-License-Identifier: GPL-2.0-or-later
// What bash and zsh offer where in the words of snapd-cli.
#include <catch2/catch.hpp>

#include <filesystem>

#include "bus_bed.h"
#include "cowsnap_dm.h"

using namespace cowsnap;
using namespace cowsnap::test;
using Catch::Contains;

namespace {

/// What bash offers for the last of these words, which stand as it splits them (with "=" for
/// itself): a line each, behind an empty one.
std::string completed(const std::string& words) {
    const std::string script =
        "PATH=$(dirname \"$1\"):$PATH\n. \"$2\"\n"
        "eval \"COMP_WORDS=(snapd-cli $3)\"\nCOMP_CWORD=$((${#COMP_WORDS[@]} - 1))\n"
        "_snapd_cli\nprintf '%s\\n' \"${COMPREPLY[@]}\"\n";
    const CliResult result =
        runProgram({"bash", "-c", script, "bash", COWSNAP_CLI, COWSNAP_COMPLETION, words});
    CHECK(result.errors.empty());
    return "\n" + result.output;
}

/// What zsh makes of the line at its tabulator key.
std::string completedByZsh(const std::string& line) {
    const CliResult result =
        runProgram({"zsh", "-f", COWSNAP_ZSH_COMPLETES, COWSNAP_PACKAGING,
                    std::filesystem::path(COWSNAP_CLI).parent_path().string(), line});
    CHECK(result.errors.empty());
    return result.output;
}

void must(const std::vector<std::string>& words) {
    const CliResult result = runCli(words);
    INFO(result.errors);
    REQUIRE(result.code == 0);
}

const std::string kNothing = "\n\n";

/// A store, and an origin with snapshots.
struct CompletionBed : BusBed {
    CompletionBed() {
        must({"store", "create", "/dev/store", "--spare", "/dev/spare"});
        must({"create", "/dev/one", "--name", "before", "--tag", "nightly", "--hold", "keep"});
        must({"create", "one", "--name", "two words", "--tag", "x", "--hold", "audit"});
    }
};

}  // namespace

TEST_CASE("bash completes verbs and options") {
    CompletionBed bed;
    const std::string verbs = completed("''");
    for (const char* verb : {"\nactivate\n", "\nrollback\n", "\norigin\n", "\njob\n", "\nstore\n"})
        CHECK_THAT(verbs, Contains(verb));
    CHECK(completed("rol") == "\nrollback\n");
    CHECK(completed("origin ''") == "\nattach\ndetach\nset-boot-policy\nlist\n");
    CHECK(completed("--progress json jo") == "\njob\n");
    CHECK(completed("rollback --und") == "\n--undo-name\n");
    // Those of the second verb, and those of all.
    CHECK(completed("store create --sp") == "\n--spare\n");
    CHECK(completed("store --json create --full") == "\n--full-wait-ms\n");
    CHECK(completed("store close --sp") == kNothing);
    CHECK(completed("store create --js") == "\n--json\n");
    CHECK(completed("list --no-h") == "\n--no-headings\n");
}

TEST_CASE("bash completes what an option may be given") {
    CompletionBed bed;
    for (const char* const verb : {"create", "list", "set create", "origin attach /dev/two"})
        CHECK(completed(std::string(verb) + " --store ''") == "\nmain\n");
    CHECK(completed("create --store = m") == "\nmain\n");
    CHECK(completed("create --store =") == "\nmain\n");
    CHECK_THAT(completed("show -o ''"), Contains("\nconsistency\n") &&
                                            Contains("\nbacking_device\n") &&
                                            Contains("\nlow_water\n") && !Contains("before"));
    CHECK(completed("list -o name,cons") == "\nname,consistency\n");
    CHECK(completed("job list --columns = req") == "\nrequest_id\nrequested\n");
    CHECK_THAT(completed("prune -o act"), Contains("\naction\n"));
    CHECK(completed("list --progress ''") == "\nauto\njson\nnone\n");
    CHECK(completed("origin attach /dev/two --method ''") == "\nauto\nstack\ninterpose\n");
    CHECK(completed("origin attach --method = st") == "\nstack\n");
    CHECK(completed("prune --keep ho") == "\nhourly=\n");
    CHECK(completed("prune --keep hourly = 24,da") == "\n24,daily=\n");
    CHECK(completed("prune --keep hourly = 2") == kNothing);
    CHECK(completed("prune --tag ''") == "\nnightly\nx\n");
    CHECK(completed("modify before --untag n") == "\nnightly\n");
    CHECK(completed("create one --hold ''") == "\naudit\nkeep\n");
    CHECK(completed("store modify main --remove-spare ''") == "\n/dev/spare\n");
    CHECK(completed("create one --name ''") == kNothing);
    CHECK(completed("origin attach /dev/two --as ''") == kNothing);
    bed.machine.remove("cowsnap-one", Visibility::Visible);
    CHECK(completed("origin attach /dev/two --as ''") == "\none\n");
}

TEST_CASE("bash completes names, each where it is meant") {
    CompletionBed bed;
    CHECK(completed("origin detach ''") == "\none\n");
    CHECK(completed("origin set-boot-policy ''") == "\none\n");
    CHECK(completed("origin set-boot-policy one fail-c") == "\nfail-closed\n");
    CHECK(completed("delete be") == "\nbefore\n");
    CHECK(completed("delete before t") == "\ntwo\\ words\n");
    CHECK(completed("delete 'two\\ w'") == "\ntwo\\ words\n");
    CHECK(completed("delete --yes be") == "\nbefore\n");
    CHECK(completed("delete x") == kNothing);
    CHECK(completed("store close ''") == "\nmain\n");
    CHECK(completed("store extend main ''") == kNothing);
    CHECK_THAT(completed("show ''"),
               Contains("\nbefore\n") && Contains("\none\n") && Contains("\nmain\n"));
    CHECK(completed("show before ''") == kNothing);
    for (const char* const verb : {"hold", "release"}) {
        CHECK(completed(std::string(verb) + " ''") == "\naudit\nkeep\n");
        CHECK(completed(std::string(verb) + " keep ''") == "\nbefore\ntwo\\ words\n");
    }
    CHECK(completed("rename b") == "\nbefore\n");
    CHECK(completed("rename before ''") == kNothing);
    CHECK(completed("set create o") == "\none\n");
    CHECK(completed("set create one = ''") == kNothing);
}

TEST_CASE("bash completes numbers of jobs, without blanks") {
    CompletionBed bed;
    CHECK(completed("job show ''") == "\n1\n2\n3\n4\n");
    CHECK(completed("job list ''") == kNothing);
    // Nobody waits for what is over.
    CHECK(completed("job wait ''") == kNothing);
    must({"rollback", "before", "--yes"});
    const std::string copying = std::to_string(bed.jobs().size());
    CHECK(completed("job wait ''") == "\n" + copying + "\n");
    CHECK(completed("job cancel ''") == "\n" + copying + "\n");
    for (int i = 0; i < 6; ++i)
        must({"modify", "before", "--description", std::to_string(i)});
    CHECK_THAT(completed("job show ''"), Contains("\n1\n") && Contains("\n10\n"));
}

TEST_CASE("zsh completes verbs, options and names") {
    CompletionBed bed;
    CHECK(completedByZsh("snapd-cli rol") == "snapd-cli rollback \n");
    CHECK(completedByZsh("snapd-cli origin de") == "snapd-cli origin detach \n");
    CHECK(completedByZsh("snapd-cli origin detach o") == "snapd-cli origin detach one \n");
    CHECK(completedByZsh("snapd-cli delete t") == "snapd-cli delete two\\ words \n");
    CHECK(completedByZsh("snapd-cli rollback --und") == "snapd-cli rollback --undo-name \n");
    // files are offered where there is nothing else: no file begins like these
    CHECK(completedByZsh("snapd-cli rename before tq") == "snapd-cli rename before tq\n");
    CHECK(completedByZsh("snapd-cli delete x") == "snapd-cli delete x\n");
}
