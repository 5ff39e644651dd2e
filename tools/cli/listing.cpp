// SPDX-License-Identifier: GPL-2.0-or-later
// The text becomes objects while it is read: a tree of it would be many times as large, and most of
// the time that a list takes.
#include "cli/listing.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <string_view>

#include "cli/exit.h"

namespace cowsnap::cli {

namespace {

using nlohmann::json;

constexpr std::uint64_t kKnownSchema = 1;

/// {"schema": 1, "stores": [{"Path": ..., property: value, ...}, ...], "origins": ..., "snapshots":
/// ...}, where a value is a boolean, a number, a string or an array of strings.
class Reader : public nlohmann::json_sax<json> {
public:
    bool null() override { return unexpected("null"); }
    bool boolean(bool value) override { return take(value); }
    bool number_integer(std::int64_t value) override { return take(static_cast<double>(value)); }
    bool number_float(double value, const std::string& /*as it stands*/) override {
        return take(value);
    }
    bool binary(json::binary_t& /*value*/) override { return unexpected("binary"); }

    bool number_unsigned(std::uint64_t value) override {
        if (place_ != Place::Document || key_ != "schema")
            return take(value);
        if (value != kKnownSchema)
            throw Failure(ExitCode::Failed, "Failed",
                          "the daemon's list of snapshots is of another version than this program");
        has_schema_ = true;
        return true;
    }

    bool string(std::string& value) override {
        if (place_ != Place::Values)
            return take(std::move(value));
        values_.push_back(std::move(value));
        return true;
    }

    bool start_object(std::size_t /*size*/) override {
        if (place_ == Place::Outside) {
            place_ = Place::Document;
        } else if (place_ == Place::List && has_schema_) {
            place_ = Place::Element;
            list_->emplace_back();
        } else {
            return unexpected("an object");
        }
        return true;
    }

    bool key(std::string& value) override {
        key_ = std::move(value);
        return true;
    }

    bool end_object() override {
        if (place_ == Place::Element && list_->back().path.empty())
            return unexpected("an object without path");
        place_ = place_ == Place::Element ? Place::List : Place::Outside;
        return true;
    }

    bool start_array(std::size_t /*size*/) override {
        if (place_ == Place::Document) {
            list_ = listNamed(key_);
            place_ = Place::List;
            return list_ != nullptr || unexpected(key_);
        }
        if (place_ != Place::Element)
            return unexpected("an array");
        place_ = Place::Values;
        values_.clear();
        return true;
    }

    bool end_array() override {
        if (place_ == Place::List) {
            place_ = Place::Document;
            return true;
        }
        place_ = Place::Element;
        return take(std::move(values_));
    }

    bool parse_error(std::size_t /*position*/, const std::string& /*last_token*/,
                     const json::exception& error) override {
        return unexpected(error.what());
    }

    Objects&& objects() {
        if (!has_schema_)
            unexpected("no schema");
        return std::move(objects_);
    }

private:
    enum class Place { Outside, Document, List, Element, Values };

    static bool unexpected(std::string_view what) {
        throw Failure(ExitCode::Failed, "Failed",
                      fmt::format("the daemon's list of snapshots is not understood: {}", what));
    }

    std::vector<Object>* listNamed(std::string_view name) {
        if (name == "stores")
            return &objects_.stores;
        if (name == "origins")
            return &objects_.origins;
        return name == "snapshots" ? &objects_.snapshots : nullptr;
    }

    /// A property of the last object of the list.
    bool take(Value value) {
        if (place_ != Place::Element)
            return unexpected("a value");
        Object& object = list_->back();
        if (key_ == "Path") {
            if (const auto* path = std::get_if<std::string>(&value))
                object.path = *path;
        }
        object.properties.insert_or_assign(std::move(key_), std::move(value));
        return true;
    }

    Objects objects_;
    Place place_ = Place::Outside;
    bool has_schema_ = false;
    std::string key_;
    std::vector<Object>* list_ = nullptr;
    std::vector<std::string> values_;
};

}  // namespace

Objects objectsOfListing(const std::string& text) {
    Reader reader;
    json::sax_parse(text, &reader);
    return reader.objects();
}

}  // namespace cowsnap::cli
