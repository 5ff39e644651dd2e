// SPDX-License-Identifier: GPL-2.0-or-later
#include "base/log_fields.h"

#include <algorithm>

namespace cowsnap {

namespace {

thread_local LogFields::Fields fields_of_thread;

}  // namespace

LogFields::LogFields(Fields fields) : outer_(fields_of_thread.size()) {
    for (auto& field : fields)
        fields_of_thread.push_back(std::move(field));
}

LogFields::~LogFields() {
    fields_of_thread.resize(outer_);
}

LogFields::Fields LogFields::current() {
    Fields result;
    for (const auto& field : fields_of_thread)
        if (std::find(result.begin(), result.end(), field) == result.end())
            result.push_back(field);
    return result;
}

}  // namespace cowsnap
