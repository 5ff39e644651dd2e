// SPDX-License-Identifier: GPL-2.0-or-later
// In which line of a JSON text the keys of its outermost object stand. Knows no keys.
#ifndef COWSNAP_DAEMON_CONFIG_KEY_LINES_H
#define COWSNAP_DAEMON_CONFIG_KEY_LINES_H

#include <cstddef>
#include <map>
#include <string>

namespace cowsnap {

/// Lines by key, counted from 1. InvalidArgument, with file and line, if text is no JSON, is no
/// object, or names a key twice.
std::map<std::string, std::size_t> keyLines(const std::string& text, const std::string& file_name);

}  // namespace cowsnap

#endif
