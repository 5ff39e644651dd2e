// SPDX-License-Identifier: GPL-2.0-or-later
// A span from now on, or a date with or without a time of day.
#include "cli/times.h"

#include <charconv>
#include <iterator>
#include <optional>
#include <string_view>

#include <fmt/format.h>

#include "cli/exit.h"

namespace cowsnap::cli {

namespace {

/// The number in front of text, which is cut off.
std::optional<int> takeNumber(std::string_view& text) {
    int number = 0;
    const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (code != std::errc() || number < 0 || text.front() == '-')
        return std::nullopt;
    text.remove_prefix(static_cast<std::size_t>(end - text.data()));
    return number;
}

std::optional<std::uint64_t> span(std::string_view text, std::time_t now) {
    const auto count = takeNumber(text);
    if (!count || text.size() != 1)
        return std::nullopt;
    constexpr std::uint64_t minute = 60;
    constexpr std::uint64_t hour = 60 * minute;
    constexpr std::uint64_t day = 24 * hour;
    constexpr std::uint64_t week = 7 * day;
    const auto from = static_cast<std::uint64_t>(now);
    const auto units = static_cast<std::uint64_t>(*count);
    switch (text.front()) {
        case 'm':
            return from + units * minute;
        case 'h':
            return from + units * hour;
        case 'd':
            return from + units * day;
        case 'w':
            return from + units * week;
        default:
            return std::nullopt;
    }
}

std::optional<std::uint64_t> date(std::string_view text) {
    std::tm wanted{};
    wanted.tm_isdst = -1;
    int* const fields[] = {&wanted.tm_year, &wanted.tm_mon, &wanted.tm_mday, &wanted.tm_hour,
                           &wanted.tm_min};
    constexpr std::string_view separators = "-- :";
    for (std::size_t i = 0; i < std::size(fields); ++i) {
        const auto number = takeNumber(text);
        if (!number)
            return std::nullopt;
        *fields[i] = *number;
        constexpr std::size_t day = 2;
        if (i == day && text.empty())
            break;
        if (i + 1 == std::size(fields))
            break;
        if (text.empty() || text.front() != separators[i])
            return std::nullopt;
        text.remove_prefix(1);
    }
    constexpr int first_year = 1970;
    constexpr int last_year = 9999;
    constexpr int year_of_zero = 1900;
    if (!text.empty() || wanted.tm_year < first_year || wanted.tm_year > last_year)
        return std::nullopt;
    wanted.tm_year -= year_of_zero;
    wanted.tm_mon -= 1;
    std::tm real = wanted;
    const std::time_t time = std::mktime(&real);
    // mktime() makes March 2 of February 30, which is hardly what was meant. An hour that the
    // clocks leave out becomes the next one.
    if (time <= 0 || real.tm_mon != wanted.tm_mon || real.tm_mday != wanted.tm_mday ||
        real.tm_min != wanted.tm_min || wanted.tm_hour > 23)
        return std::nullopt;
    return static_cast<std::uint64_t>(time);
}

}  // namespace

std::uint64_t timeFrom(const std::string& text, std::time_t now) {
    if (text == "never")
        return 0;
    if (const auto time = span(text, now))
        return *time;
    if (const auto time = date(text))
        return *time;
    throw Failure(
        ExitCode::Usage, "Usage",
        fmt::format(
            "\"{}\" is no time: write 30m (minutes), 12h, 30d or 8w (from now on), 2030-12-31 or "
            "\"2030-12-31 18:00\" (local time), or never",
            text));
}

}  // namespace cowsnap::cli
