// SPDX-License-Identifier: GPL-2.0-or-later
// The JSON parser does not say where it is: what it reads from counts the lines.
#include "config/key_lines.h"

#include <iterator>

#include <nlohmann/json.hpp>

#include "base/error.h"

namespace cowsnap {

namespace {

using nlohmann::json;

/// Goes through a text and counts the ends of lines that it has passed.
class CountingIterator {
public:
    using iterator_category = std::input_iterator_tag;
    using value_type = char;
    using difference_type = std::ptrdiff_t;
    using pointer = const char*;
    using reference = const char&;

    CountingIterator(const char* position, std::size_t* line) : position_(position), line_(line) {}
    reference operator*() const { return *position_; }
    CountingIterator& operator++() {
        if (*position_ == '\n')
            ++*line_;
        ++position_;
        return *this;
    }
    CountingIterator operator++(int) {
        const CountingIterator before = *this;
        ++*this;
        return before;
    }
    bool operator==(const CountingIterator& other) const { return position_ == other.position_; }
    bool operator!=(const CountingIterator& other) const { return position_ != other.position_; }

private:
    const char* position_;
    std::size_t* line_;
};

/// Notes the keys of the outermost object. Stops at what is wrong.
class KeyFinder final : public nlohmann::json_sax<json> {
public:
    KeyFinder(const std::string& file_name, const std::size_t& line)
        : file_name_(file_name), line_(line) {}

    std::map<std::string, std::size_t> take() { return std::move(lines_); }

    bool null() override { return value(); }
    bool boolean(bool) override { return value(); }
    bool number_integer(number_integer_t) override { return value(); }
    bool number_unsigned(number_unsigned_t) override { return value(); }
    bool number_float(number_float_t, const string_t&) override { return value(); }
    bool string(string_t&) override { return value(); }
    bool binary(binary_t&) override { return value(); }
    bool start_array(std::size_t) override { return value() && ++depth_ > 0; }
    bool end_array() override {
        --depth_;
        return true;
    }
    bool start_object(std::size_t) override {
        ++depth_;
        return true;
    }
    bool end_object() override {
        --depth_;
        return true;
    }
    bool key(string_t& name) override {
        if (depth_ == 1 && !lines_.emplace(name, line_).second)
            fail(ErrorKind::InvalidArgument, "{}:{}: the key \"{}\" is there twice", file_name_,
                 line_, name);
        return true;
    }
    bool parse_error(std::size_t, const std::string&,
                     const nlohmann::detail::exception& error) override {
        std::string_view text = error.what();
        text.remove_prefix(text.find("] ") + 2);  // the name of the exception
        fail(ErrorKind::InvalidArgument, "{}:{}: {}", file_name_, line_, text);
    }

private:
    bool value() const {
        if (depth_ == 0)
            fail(ErrorKind::InvalidArgument, "{}:{}: expected an object, {{ ... }}", file_name_,
                 line_);
        return true;
    }

    const std::string& file_name_;
    const std::size_t& line_;
    std::map<std::string, std::size_t> lines_;
    int depth_ = 0;
};

}  // namespace

std::map<std::string, std::size_t> keyLines(const std::string& text, const std::string& file_name) {
    std::size_t line = 1;
    const char* const begin = text.data();
    KeyFinder finder(file_name, line);
    json::sax_parse(CountingIterator(begin, &line), CountingIterator(begin + text.size(), &line),
                    &finder, json::input_format_t::json, true, true);
    return finder.take();
}

}  // namespace cowsnap
