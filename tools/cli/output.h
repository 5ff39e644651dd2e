// SPDX-License-Identifier: GPL-2.0-or-later
// How snapd-cli shows objects: columns chosen by name, as a table or as JSON.
// Knows nothing of verbs.
#ifndef COWSNAP_CLI_OUTPUT_H
#define COWSNAP_CLI_OUTPUT_H

#include <functional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "cli/client.h"

namespace cowsnap::cli {

/// Version of all JSON that snapd-cli prints.
inline constexpr int kJsonSchema = 1;

/// The options that all verbs have.
struct OutputOptions {
    bool json = false;
    bool bytes = false;
    bool no_headings = false;
    bool yes = false;
    bool no_wait = false;
    bool dry_run = false;
    std::string progress = "auto";
    std::vector<std::string> columns;
};

/// Share: from 0 to 1, or null if it is not known.
enum class ColumnKind { Text, State, Number, Bytes, Time, Flag, Share };

struct Column {
    std::string name;  ///< for -o
    ColumnKind kind;
    bool by_default;  ///< shown in a table without -o
    std::function<nlohmann::json(const Objects&, const Object&)> value;
    std::string key = name;  ///< in JSON: with the unit, if it has one
};

const std::vector<Column>& storeColumns();
const std::vector<Column>& originColumns();
const std::vector<Column>& snapshotColumns();
/// Of snapshots with what pruning said of them, in the properties Action and Reason.
const std::vector<Column>& pruneColumns();
const std::vector<Column>& jobColumns();
/// The part of a verb's help that tells which columns there are; of is empty, or says of what.
struct ColumnsOf {
    std::string of;
    const std::vector<Column>& columns;
};
std::string columnsHelp(const std::vector<ColumnsOf>& tables);
/// Of what a check of a store found, with the store's name in the property Store.
const std::vector<Column>& findingColumns();

/// A text that came from somewhere, without what a terminal would obey: control characters.
std::string printable(std::string text);

/// Usage if -o names a column that there is not: asked before anything is changed.
void checkColumns(const OutputOptions& options, const std::vector<Column>& columns);

/// Prints objects as a table, or as {"schema": 1, "<key>": [...]}; there error, if it
/// is one of errorJson(), stands beside them.
void printObjects(const OutputOptions& options, const std::string& key,
                  const std::vector<Column>& columns, const Objects& all,
                  const std::vector<Object>& shown, const nlohmann::json& error = {});
/// Prints one object, a property a line, or as {"schema": 1, "<key>": {...}}.
void printObject(const OutputOptions& options, const std::string& key,
                 const std::vector<Column>& columns, const Objects& all, const Object& shown);
/// Prints what was done: text for people, or fields in JSON.
void printDone(const OutputOptions& options, const std::string& text, nlohmann::json fields);
nlohmann::json errorJson(const std::string& name, const std::string& message);
void printFailure(bool json, const std::string& name, const std::string& message);

/// Says something on stderr.
void printWarning(const std::string& message);
/// Says on stderr that this store cannot be used, and why, if so.
void warnIfUnusable(const Object& store);
/// Says on stderr that one copy of the metadata of this store was damaged, if so.
void warnIfDamaged(const Object& store);

/// Says on stderr that this snapshot is not what its origin was, if so.
void warnIfStale(const Object& snapshot);

/// Asks before something is destroyed. Returns if it may be done; Failure (NotAllowed) if the
/// answer is no, or if there is no terminal to ask on and no --yes.
void confirm(const OutputOptions& options, const std::string& question);

}  // namespace cowsnap::cli

#endif
