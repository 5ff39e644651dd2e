// SPDX-License-Identifier: GPL-2.0-or-later
// cowsnap-store: looks at stores that are not in use, and repairs them; without a bus. Reads the
// words, runs the verb, turns failures into messages and exit codes.
#include <algorithm>
#include <exception>
#include <iostream>
#include <string_view>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "store/report_text.h"
#include "store/verbs.h"

namespace {

using namespace cowsnap;
using namespace cowsnap::store;

int end(const CommonOptions& options, ExitCode code, std::string_view name,
        const std::string& message) {
    if (options.json)
        std::cout << nlohmann::ordered_json{{"version", kReportVersion},
                                            {"error", {{"name", name}, {"message", message}}}}
                         .dump(2, ' ', false, nlohmann::json::error_handler_t::replace)
                  << '\n';
    else
        std::cerr << "cowsnap-store: " << message << '\n';
    return static_cast<int>(code);
}

}  // namespace

int main(int argc, char** argv) {
    CLI::App app(
        "cowsnap-store: check, dump, restore and repair stores that are not in use.\n"
        "Exit codes: 0 right, 1 failed, 2 usage, 3 no store there, 4 not allowed, 5 in use, 8 "
        "damaged");
    app.set_version_flag("--version", COWSNAP_VERSION);
    app.require_subcommand(1);
    app.fallthrough();
    CommonOptions options;
    app.add_flag("--json", options.json, "Print JSON, errors too");
    app.add_flag("--yes", options.yes, "Do not ask before something is overwritten or dropped");
    Run run;
    addCheck(app, run);
    addDump(app, run);
    addRestore(app, run);
    addRepair(app, run);
    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
        if (error.get_exit_code() == 0)
            return app.exit(error);
        options.json =
            std::any_of(argv, argv + argc, [](std::string_view word) { return word == "--json"; });
        return end(options, ExitCode::Usage, "Usage",
                   std::string(error.what()) + " (cowsnap-store --help tells more)");
    }
    try {
        const ExitCode code = run(options);
        if (!std::cout.flush())
            fail(ErrorKind::Failed, "what was found cannot be printed: is its file system full?");
        return static_cast<int>(code);
    } catch (const Error& error) {
        return end(options, exitCodeOf(error.kind()), errorKindName(error.kind()), error.what());
    } catch (const std::exception& error) {
        return end(options, ExitCode::Failed, "Failed", error.what());
    }
}
