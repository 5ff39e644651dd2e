// SPDX-License-Identifier: GPL-2.0-or-later
#include "exact_options.h"

#include <stdexcept>

namespace vmtest {

namespace {

Origin parseOrigin(const std::string& text) {
    const std::size_t colon = text.find(':');
    if (colon == std::string::npos)
        throw std::runtime_error("--origin needs NAME:ID");
    Origin origin;
    origin.name = text.substr(0, colon);
    std::size_t id_end = 0;
    origin.id = static_cast<std::uint32_t>(std::stoul(text.substr(colon + 1), &id_end));
    const std::string device = text.substr(colon + 1 + id_end);
    origin.device = device.empty() ? "/dev/mapper/" + origin.name : device.substr(1);
    return origin;
}

}  // namespace

Options parseOptions(const std::vector<std::string>& words) {
    Options options;
    for (std::size_t i = 0; i < words.size(); ++i) {
        const std::string& word = words[i];
        const auto value = [&]() -> const std::string& {
            if (++i == words.size())
                throw std::runtime_error(word + " needs a value");
            return words[i];
        };
        if (word == "--store")
            options.store = value();
        else if (word == "--origin")
            options.origins.push_back(parseOrigin(value()));
        else if (word == "--journal")
            options.journal = value();
        else if (word == "--crash")
            options.crash = true;
        else if (word == "--no-overlay")
            options.overlay = false;
        else if (word == "--no-discards")
            options.writers.discards = false;
        else if (word == "--nowait")
            options.no_wait = true;
        else if (word == "--writers")
            options.writers.writers = static_cast<unsigned>(std::stoul(value()));
        else if (word == "--writes")
            options.writes = std::stoul(value());
        else if (word == "--most")
            options.most = std::stoul(value());
        else if (word == "--alignment")
            options.writers.alignment = static_cast<std::uint32_t>(std::stoul(value()));
        else if (word == "--seed")
            options.writers.seed = std::stoul(value());
        else if (word.starts_with("--"))
            throw std::runtime_error("unknown option " + word);
        else
            options.actions.push_back(word);
    }
    if (options.store.empty() || options.origins.empty())
        throw std::runtime_error("--store and --origin are needed");
    options.writers.discards = options.writers.discards && !options.crash;
    return options;
}

}  // namespace vmtest
