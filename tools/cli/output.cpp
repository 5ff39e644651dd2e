// SPDX-License-Identifier: GPL-2.0-or-later
// Tables and JSON.
#include "cli/output.h"

#include <unistd.h>

#include <algorithm>
#include <ctime>
#include <iostream>
#include <limits>

#include <fmt/chrono.h>
#include <fmt/format.h>

#include "base/names.h"
#include "base/size_text.h"
#include "cli/color.h"
#include "cli/exit.h"
#include "cowsnap_dm.h"

namespace cowsnap::cli {

namespace {

using nlohmann::json;

Column text(std::string name, std::string property, bool by_default = true) {
    return {
        std::move(name), ColumnKind::Text, by_default,
        [property](const Objects&, const Object& object) { return json(object.text(property)); }};
}

Column state(std::string name, std::string property, bool by_default = true) {
    Column column = text(std::move(name), std::move(property), by_default);
    column.kind = ColumnKind::State;
    return column;
}

Column number(std::string name, std::string property, ColumnKind kind, bool by_default = true) {
    return {std::move(name), kind, by_default, [property](const Objects&, const Object& object) {
                return json(object.number(property));
            }};
}

Column bytes(const std::string& name, const std::string& property, bool by_default = true) {
    Column column = number(name, property, ColumnKind::Bytes, by_default);
    column.key = name + "_bytes";
    return column;
}

Column withKey(std::string key, Column column) {
    column.key = std::move(key);
    return column;
}

Column flag(std::string name, std::string property, bool by_default = false) {
    return {
        std::move(name), ColumnKind::Flag, by_default,
        [property](const Objects&, const Object& object) { return json(object.flag(property)); }};
}

Column nameOf(std::string name, std::string property, bool by_default = true) {
    return {std::move(name), ColumnKind::Text, by_default,
            [property](const Objects& all, const Object& object) {
                const std::string path = object.text(property);
                return json(path == "/" ? std::string() : all.nameOf(path));  // that is none
            }};
}

Column paths(std::string name, std::string property) {
    return {
        std::move(name), ColumnKind::Text, false,
        [property](const Objects&, const Object& object) { return json(object.paths(property)); }};
}

Column texts(std::string name, std::string property, bool by_default = false) {
    return {
        std::move(name), ColumnKind::Text, by_default,
        [property](const Objects&, const Object& object) { return json(object.texts(property)); }};
}

std::string cellText(const OutputOptions& options, ColumnKind kind, const json& value) {
    switch (kind) {
        case ColumnKind::Bytes:
            return options.bytes ? value.dump() : sizeText(value.get<std::uint64_t>());
        case ColumnKind::Time:
            return value.get<std::uint64_t>() == 0
                       ? "-"
                       : fmt::format(
                             "{:%Y-%m-%d %H:%M:%S}",
                             fmt::localtime(static_cast<std::time_t>(value.get<std::uint64_t>())));
        case ColumnKind::Flag:
            return value.get<bool>() ? "yes" : "no";
        case ColumnKind::Number:
            return value.is_null() ? "-" : value.dump();
        case ColumnKind::Share:
            return value.is_null() ? "-" : fmt::format("{:.0f} %", value.get<double>() * 100);
        case ColumnKind::State:
        case ColumnKind::Text:
            break;
    }
    if (value.is_array()) {
        std::string joined;
        for (const auto& element : value)
            joined += (joined.empty() ? "" : ",") + element.get<std::string>();
        return joined.empty() ? "-" : printable(joined);
    }
    const auto content = value.get<std::string>();
    return content.empty() ? "-" : printable(content);
}

/// The text of a cell, with the color of what it says.
std::string painted(ColumnKind kind, const std::string& text) {
    static const bool takes_color = takesColor(STDOUT_FILENO);
    const bool is_state = kind == ColumnKind::State && text != "-" && text != COWSNAP_ROLLBACK_NONE;
    return is_state && takes_color ? coloredState(text) : text;
}

std::string heading(const std::string& name) {
    std::string result = name;
    std::transform(result.begin(), result.end(), result.begin(), [](char character) {
        return character >= 'a' && character <= 'z' ? static_cast<char>(character - 'a' + 'A')
                                                    : character;
    });
    return result;
}

bool alignedRight(ColumnKind kind) {
    return kind == ColumnKind::Number || kind == ColumnKind::Bytes || kind == ColumnKind::Share;
}

/// The columns to show: those of -o, or those by default; in JSON without -o all.
std::vector<Column> chosen(const OutputOptions& options, const std::vector<Column>& columns,
                           bool all) {
    std::vector<Column> result;
    if (options.columns.empty()) {
        for (const auto& column : columns)
            if (all || column.by_default)
                result.push_back(column);
        return result;
    }
    for (const auto& wanted : options.columns) {
        const auto found = std::find_if(columns.begin(), columns.end(), [&](const Column& column) {
            return column.name == wanted;
        });
        if (found == columns.end()) {
            std::string known;
            for (const auto& column : columns)
                known += (known.empty() ? "" : ", ") + column.name;
            throw Failure(ExitCode::Usage, "Usage",
                          fmt::format("there is no column \"{}\"; there are: {}", wanted, known));
        }
        result.push_back(*found);
    }
    return result;
}

json toJson(const std::vector<Column>& columns, const Objects& all, const Object& object) {
    json result = json::object();
    for (const auto& column : columns)
        result[column.key] = column.value(all, object);
    return result;
}

void printJson(const json& document) {
    std::cout << document.dump(2, ' ', false, json::error_handler_t::replace) << '\n';
}

/// What begins a message on stderr.
std::string inColorOf(std::string (*paint)(const std::string&)) {
    constexpr const char* name = "snapd-cli:";
    return (takesColor(STDERR_FILENO) ? paint(name) : std::string(name)) + " ";
}

/// Columns on a terminal, not bytes: UTF-8 continuation bytes take no room.
std::size_t width(const std::string& text) {
    return static_cast<std::size_t>(std::count_if(text.begin(), text.end(), [](char character) {
        return (static_cast<unsigned char>(character) & 0xc0) != 0x80;
    }));
}

}  // namespace

const std::vector<Column>& storeColumns() {
    static const std::vector<Column> columns{
        text("name", "Name"),
        state("state", "State"),
        bytes("size", "SizeBytes"),
        bytes("used", "UsedBytes"),
        bytes("free", "FreeBytes"),
        number("expected_full", "ExpectedFull", ColumnKind::Time, false),
        number("origins", "OriginCount", ColumnKind::Number),
        number("snapshots", "SnapshotCount", ColumnKind::Number),
        texts("devices", "Devices", true),
        text("uuid", "Uuid", false),
        text("device", "Device", false),
        bytes("segment", "SegmentBytes", false),
        bytes("low_water", "LowWaterBytes", false),
        bytes("damaged", "DamagedBytes", false),
        flag("metadata_damaged", "MetadataDamaged"),
        flag("autoextend", "Autoextend"),
        text("autoextend_group", "AutoextendGroup", false),
        bytes("autoextend_max", "AutoextendMaxBytes", false),
        text("autoextend_problem", "AutoextendProblem", false),
        texts("spares", "Spares"),
        text("problem", "Problem", false),
    };
    return columns;
}

const std::vector<Column>& originColumns() {
    static const std::vector<Column> columns{
        text("name", "Name"),
        state("state", "State"),
        text("method", "Method"),
        text("device", "Device"),
        text("backing_device", "BackingDevice"),
        bytes("size", "SizeBytes"),
        number("snapshots", "SnapshotCount", ColumnKind::Number),
        text("boot_policy", "BootPolicy"),
        nameOf("store", "Store"),
        text("uuid", "Uuid", false),
        number("id", "Id", ColumnKind::Number, false),
        bytes("preserved", "PreservedBytes", false),
        bytes("read", "ReadBytes", false),
        number("waiting_bios", "WaitingBios", ColumnKind::Number, false),
        state("rollback", "Rollback", false),
        nameOf("rollback_target", "RollbackTarget", false),
        nameOf("rollback_undo", "RollbackUndo", false),
        bytes("rollback_done", "RollbackDoneBytes", false),
        nameOf("rolled_back_to", "RolledBackTo", false),
        nameOf("rolled_back_undo", "RolledBackUndo", false),
        text("problem", "Problem", false),
    };
    return columns;
}

const std::vector<Column>& snapshotColumns() {
    static const std::vector<Column> columns{
        text("name", "Name"),
        nameOf("origin", "Origin"),
        number("created", "Created", ColumnKind::Time),
        state("state", "State"),
        bytes("used", "UsedBytes"),
        bytes("size", "SizeBytes"),
        text("device", "Device"),
        nameOf("store", "Store", false),
        text("uuid", "Uuid", false),
        number("id", "Id", ColumnKind::Number, false),
        number("set", "Set", ColumnKind::Number, false),
        flag("writable", "Writable"),
        flag("open", "Open"),
        flag("device_read_only", "DeviceReadOnly"),
        bytes("overlay", "OverlayBytes", false),
        text("consistency", "Consistency", false),
        text("description", "Description", false),
        texts("tags", "Tags"),
        texts("holds", "Holds"),
        number("expires", "Expires", ColumnKind::Time, false),
        text("problem", "Problem", false),
    };
    return columns;
}

const std::vector<Column>& pruneColumns() {
    static const std::vector<Column> columns{
        text("action", "Action"),    text("name", "Name"),
        nameOf("origin", "Origin"),  number("created", "Created", ColumnKind::Time),
        bytes("used", "UsedBytes"),  text("reason", "Reason"),
        text("uuid", "Uuid", false),
    };
    return columns;
}

const std::vector<Column>& jobColumns() {
    static const std::vector<Column> columns{
        number("job", "Number", ColumnKind::Number),
        text("operation", "Operation"),
        text("subject", "Subject"),
        state("state", "State"),
        {"progress", ColumnKind::Share, true,
         [](const Objects&, const Object& object) {
             const double share = object.real("Progress");
             return share < 0 ? json(nullptr) : json(share);
         }},
        number("began", "Began", ColumnKind::Time),
        number("ended", "Ended", ColumnKind::Time),
        number("expected_end", "ExpectedEndTime", ColumnKind::Time, false),
        number("requested", "Requested", ColumnKind::Time, false),
        bytes("done", "Bytes", false),
        withKey("bytes_per_second", bytes("rate", "Rate", false)),
        flag("can_cancel", "CanCancel"),
        paths("objects", "Objects"),
        paths("results", "Results"),
        {"user", ColumnKind::Number, false,
         [](const Objects&, const Object& object) {
             // (uid_t)-1 is no user: it is not known who asked for it
             const auto user = object.number("UserId");
             return user == std::numeric_limits<std::uint32_t>::max() ? json() : json(user);
         }},
        number("process", "ProcessId", ColumnKind::Number, false),
        text("sender", "Sender", false),
        text("request_id", "RequestId", false),
        text("error", "ErrorName", false),
        text("message", "ErrorMessage", false),
    };
    return columns;
}

std::string columnsHelp(const std::vector<ColumnsOf>& tables) {
    std::string help = "Columns:";
    for (const auto& [of, columns] : tables) {
        std::string names;
        for (const auto& column : columns)
            names += (names.empty() ? "" : ", ") + column.name;
        help += "\n  " + (of.empty() ? of : of + ": ") + names;
    }
    return help;
}

const std::vector<Column>& findingColumns() {
    static const std::vector<Column> columns{
        text("store", "Store"),          text("name", "Name"),
        flag("damage", "Damage", true),  text("finding", "Text"),
        text("object", "Object", false),
    };
    return columns;
}

std::string printable(std::string text) {
    const auto at = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
    constexpr unsigned char last_control = 0x1f;
    constexpr unsigned char del = 0x7f;
    // U+0080 to U+009F in UTF-8
    constexpr unsigned char lead_of_c1 = 0xc2;
    constexpr unsigned char last_c1 = 0x9f;
    for (std::size_t i = 0; i < text.size(); ++i) {
        const bool c1 = at(i) == lead_of_c1 && i + 1 < text.size() && at(i + 1) <= last_c1;
        if (at(i) > last_control && at(i) != del && !c1)
            continue;
        text.replace(i, c1 ? 2 : 1, "?");
    }
    return text;
}

void checkColumns(const OutputOptions& options, const std::vector<Column>& columns) {
    chosen(options, columns, options.json);
}

void printObjects(const OutputOptions& options, const std::string& key,
                  const std::vector<Column>& columns, const Objects& all,
                  const std::vector<Object>& shown, const nlohmann::json& error) {
    const auto selected = chosen(options, columns, options.json);
    if (options.json) {
        json list = json::array();
        for (const auto& object : shown)
            list.push_back(toJson(selected, all, object));
        json document = {{"schema", kJsonSchema}, {key, list}};
        if (!error.is_null())
            document["error"] = error;
        printJson(document);
        return;
    }
    std::vector<std::vector<std::string>> lines;
    if (!options.no_headings) {
        lines.emplace_back();
        for (const auto& column : selected)
            lines.back().push_back(heading(column.name));
    }
    for (const auto& object : shown) {
        lines.emplace_back();
        for (const auto& column : selected)
            lines.back().push_back(cellText(options, column.kind, column.value(all, object)));
    }
    std::vector<std::size_t> widths(selected.size());
    for (const auto& line : lines)
        for (std::size_t i = 0; i < line.size(); ++i)
            widths[i] = std::max(widths[i], width(line[i]));
    for (const auto& line : lines) {
        const bool is_heading = !options.no_headings && &line == &lines.front();
        std::string text;
        for (std::size_t i = 0; i < line.size(); ++i) {
            const std::string padding(widths[i] - width(line[i]), ' ');
            const std::string cell = is_heading ? line[i] : painted(selected[i].kind, line[i]);
            if (i > 0)
                text += "  ";
            text += alignedRight(selected[i].kind) ? padding + cell : cell + padding;
        }
        text.erase(text.find_last_not_of(' ') + 1);
        std::cout << text << '\n';
    }
}

void printObject(const OutputOptions& options, const std::string& key,
                 const std::vector<Column>& columns, const Objects& all, const Object& shown) {
    const auto selected = chosen(options, columns, true);
    if (options.json) {
        printJson({{"schema", kJsonSchema}, {key, toJson(selected, all, shown)}});
        return;
    }
    std::size_t widest = 0;
    for (const auto& column : selected)
        widest = std::max(widest, column.name.size());
    for (const auto& column : selected) {
        const std::string content =
            painted(column.kind, cellText(options, column.kind, column.value(all, shown)));
        if (options.no_headings)
            std::cout << content << '\n';
        else
            std::cout << fmt::format("{:<{}}  {}\n", column.name, widest, content);
    }
}

void printDone(const OutputOptions& options, const std::string& text, json fields) {
    if (!options.json) {
        std::cout << text << '\n';
        return;
    }
    fields["schema"] = kJsonSchema;
    printJson(fields);
}

nlohmann::json errorJson(const std::string& name, const std::string& message) {
    return {{"name", name}, {"message", message}};
}

void printFailure(bool as_json, const std::string& name, const std::string& message) {
    if (as_json)
        printJson({{"schema", kJsonSchema}, {"error", errorJson(name, message)}});
    else
        std::cerr << inColorOf(coloredError) << message << '\n';
}

void printWarning(const std::string& message) {
    std::cerr << inColorOf(coloredWarning) << message << '\n';
}

void warnIfUnusable(const Object& store) {
    if (const std::string problem = store.text("Problem"); !problem.empty())
        printWarning(
            fmt::format("the store {} cannot be used, and what is said of it is what was "
                        "known before: {}",
                        store.text("Name"), problem));
}

void warnIfDamaged(const Object& store) {
    if (store.flag("MetadataDamaged"))
        printWarning(
            fmt::format("one of the two copies of the metadata of the store {} was damaged when "
                        "it was opened: "
                        "the other one is used (\"snapd-cli store check {}\" tells more)",
                        store.text("Name"), shellWord(store.text("Name"))));
}

void warnIfStale(const Object& snapshot) {
    if (snapshot.text("State") == COWSNAP_STATE_STALE)
        printWarning(fmt::format(
            "the snapshot {} is stale: its origin was written while nothing was in front of it, or "
            "its device became smaller. It is not what the origin was at its creation",
            snapshot.text("Name")));
}

void confirm(const OutputOptions& options, const std::string& question) {
    if (options.yes || options.dry_run)
        return;
    if (::isatty(STDIN_FILENO) == 0 || options.json)
        throw Failure(ExitCode::NotAllowed, "NotConfirmed",
                      question + " There is no terminal to ask on: add --yes.");
    std::cerr << question << " [y/N] " << std::flush;
    std::string answer;
    std::getline(std::cin, answer);
    if (answer != "y" && answer != "Y" && answer != "yes")
        throw Failure(ExitCode::NotAllowed, "NotConfirmed", "nothing was changed");
}

}  // namespace cowsnap::cli
