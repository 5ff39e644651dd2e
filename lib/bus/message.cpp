// SPDX-License-Identifier: GPL-2.0-or-later
// Appending and reading of the types in Value.
#include "bus/message.h"

#include <fcntl.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/error.h"
#include "base/names.h"

namespace cowsnap {

namespace {

void checkRead(int result) {
    if (result >= 0)
        return;
    if (result == -ENXIO || result == -EBADMSG || result == -EINVAL)
        fail(ErrorKind::InvalidArgument, "an argument of the call has another type than expected");
    failErrno(-result, "cannot read a D-Bus message");
}

void checkAppend(int result) {
    if (result < 0)
        failErrno(-result, "cannot make a D-Bus message");
}

template <typename... Handlers>
struct Overloaded : Handlers... {
    using Handlers::operator()...;
};
template <typename... Handlers>
Overloaded(Handlers...) -> Overloaded<Handlers...>;

}  // namespace

const char* signatureOf(const Value& value) {
    return std::visit(Overloaded{
                          [](bool) { return "b"; },
                          [](std::uint32_t) { return "u"; },
                          [](std::uint64_t) { return "t"; },
                          [](double) { return "d"; },
                          [](const std::string&) { return "s"; },
                          [](const ObjectPath&) { return "o"; },
                          [](const std::vector<std::string>&) { return "as"; },
                          [](const std::vector<ObjectPath>&) { return "ao"; },
                      },
                      value);
}

void Message::append(const Value& value) {
    const auto basic = [&](char type, const void* data) {
        checkAppend(sd_bus_message_append_basic(message_, type, data));
    };
    // What is told may come from outside, as the name of a program: it is told as far as it can
    // be. What is asked for is never something else.
    const bool is_asked = sd_bus_message_is_method_call(message_, nullptr, nullptr) > 0;
    const auto text = [&](const std::string& said) {
        basic('s', (is_asked ? said : legible(said)).c_str());
    };
    const auto array = [&](const char* contents, const auto& elements, auto append_one) {
        checkAppend(sd_bus_message_open_container(message_, 'a', contents));
        for (const auto& element : elements)
            append_one(element);
        checkAppend(sd_bus_message_close_container(message_));
    };
    const auto object = [&](const ObjectPath& path) { basic('o', path.path.c_str()); };
    std::visit(Overloaded{
                   [&](bool flag) {
                       const int number = flag ? 1 : 0;
                       basic('b', &number);
                   },
                   [&](std::uint32_t number) { basic('u', &number); },
                   [&](std::uint64_t number) { basic('t', &number); },
                   [&](double number) { basic('d', &number); },
                   [&](const std::string& said) { text(said); },
                   [&](const ObjectPath& path) { object(path); },
                   [&](const std::vector<std::string>& texts) { array("s", texts, text); },
                   [&](const std::vector<ObjectPath>& paths) { array("o", paths, object); },
               },
               value);
}

void Message::appendVariant(const Value& value) {
    checkAppend(sd_bus_message_open_container(message_, 'v', signatureOf(value)));
    append(value);
    checkAppend(sd_bus_message_close_container(message_));
}

void Message::append(const Dictionary& dictionary) {
    checkAppend(sd_bus_message_open_container(message_, 'a', "{sv}"));
    for (const auto& [key, value] : dictionary) {
        checkAppend(sd_bus_message_open_container(message_, 'e', "sv"));
        append(Value(key));
        appendVariant(value);
        checkAppend(sd_bus_message_close_container(message_));
    }
    checkAppend(sd_bus_message_close_container(message_));
}

void Message::append(const std::vector<Dictionary>& dictionaries) {
    checkAppend(sd_bus_message_open_container(message_, 'a', "a{sv}"));
    for (const auto& dictionary : dictionaries)
        append(dictionary);
    checkAppend(sd_bus_message_close_container(message_));
}

void Message::append(const std::vector<std::pair<ObjectPath, std::string>>& pairs) {
    checkAppend(sd_bus_message_open_container(message_, 'a', "(os)"));
    for (const auto& [object, text] : pairs) {
        checkAppend(sd_bus_message_open_container(message_, 'r', "os"));
        append(Value(object));
        append(Value(text));
        checkAppend(sd_bus_message_close_container(message_));
    }
    checkAppend(sd_bus_message_close_container(message_));
}

void Message::append(const FileDescriptor& file) {
    const int descriptor = file.get();
    checkAppend(sd_bus_message_append_basic(message_, 'h', &descriptor));
}

void Message::allowInteractiveAuthorization() {
    checkAppend(sd_bus_message_set_allow_interactive_authorization(message_, 1));
}

void Message::setExpectReply(bool expect) {
    checkAppend(sd_bus_message_set_expect_reply(message_, expect ? 1 : 0));
}

void Message::setAutoStart(bool start) {
    checkAppend(sd_bus_message_set_auto_start(message_, start ? 1 : 0));
}

void Message::open(char type, const char* contents) {
    checkAppend(sd_bus_message_open_container(message_, type, contents));
}

void Message::close() {
    checkAppend(sd_bus_message_close_container(message_));
}

const char* Message::readBasic(char type) {
    const char* text = nullptr;
    const int result = sd_bus_message_read_basic(message_, type, &text);
    checkRead(result == 0 ? -ENXIO : result);
    return text;
}

bool Message::readBool() {
    int flag = 0;
    const int result = sd_bus_message_read_basic(message_, 'b', &flag);
    checkRead(result == 0 ? -ENXIO : result);
    return flag != 0;
}

std::string Message::readString() {
    return readBasic('s');
}

ObjectPath Message::readObjectPath() {
    return {readBasic('o')};
}

std::uint64_t Message::readUint64() {
    std::uint64_t number = 0;
    const int result = sd_bus_message_read_basic(message_, 't', &number);
    checkRead(result == 0 ? -ENXIO : result);
    return number;
}

FileDescriptor Message::readFile() {
    int descriptor = -1;
    const int result = sd_bus_message_read_basic(message_, 'h', &descriptor);
    checkRead(result == 0 ? -ENXIO : result);
    FileDescriptor own(::fcntl(descriptor, F_DUPFD_CLOEXEC, 0));
    if (!own)
        failErrno(errno, "cannot take over a file from a D-Bus message");
    return own;
}

std::string Message::describeValue(char type, const char* contents) {
    if (contents != nullptr) {
        std::string text = fmt::format("{}{}<", type, contents);
        enter(type, contents);
        text += describeRest();
        exit();
        return text + ">";
    }
    if (type == 's' || type == 'o' || type == 'g') {
        const std::string text = readBasic(type);
        return fmt::format("{}{}:{};", type, text.size(), text);
    }
    std::uint64_t number = 0;  // large enough for all others
    const int result = sd_bus_message_read_basic(message_, type, &number);
    checkRead(result == 0 ? -ENXIO : result);
    return fmt::format("{}{};", type, number);
}

std::string Message::describeRest() {
    std::string text;
    char type = 0;
    const char* contents = nullptr;
    while (sd_bus_message_peek_type(message_, &type, &contents) > 0)
        text += describeValue(type, contents);
    return text;
}

/// In the order of the keys, whatever the caller's was.
std::string Message::describeOptions(const std::set<std::string>& without_keys) {
    std::map<std::string, std::string> options;
    enter('a', "{sv}");
    while (enter('e', "sv")) {
        const std::string key = readString();
        options[key] = describeRest();
        exit();
    }
    exit();
    std::string text;
    for (const auto& [key, value] : options)
        if (!without_keys.contains(key))
            text += fmt::format("{}:{}={}", key.size(), key, value);
    return text;
}

std::string Message::fingerprint(const std::set<std::string>& without_keys) {
    rewind();
    std::string text;
    char type = 0;
    const char* contents = nullptr;
    while (sd_bus_message_peek_type(message_, &type, &contents) > 0) {
        const bool are_options = type == 'a' && std::string_view(contents) == "{sv}";
        text += are_options ? describeOptions(without_keys) : describeValue(type, contents);
    }
    rewind();
    return text;
}

/// Stays where it is, in whatever container, once there is more than limit.
std::size_t Message::countRest(std::size_t limit) {
    constexpr std::size_t each = 8;  // with its length, and what it is aligned to
    std::size_t bytes = 0;
    char type = 0;
    const char* contents = nullptr;
    while (bytes <= limit && sd_bus_message_peek_type(message_, &type, &contents) > 0) {
        bytes += each;
        if (contents != nullptr) {
            enter(type, contents);
            bytes += countRest(limit - std::min(bytes, limit));
            if (bytes <= limit)
                exit();
        } else if (type == 's' || type == 'o' || type == 'g') {
            bytes += std::strlen(readBasic(type));
        } else {
            checkRead(sd_bus_message_skip(message_, std::string(1, type).c_str()));
        }
    }
    return bytes;
}

std::size_t Message::argumentBytes(std::size_t limit) {
    rewind();
    const std::size_t bytes = countRest(limit);
    rewind();
    return bytes;
}

void Message::skip(const std::string& types) {
    checkRead(sd_bus_message_skip(message_, types.c_str()));
}

void Message::rewind() {
    checkRead(sd_bus_message_rewind(message_, 1));
}

bool Message::enter(char type, const char* contents) {
    const int result = sd_bus_message_enter_container(message_, type, contents);
    checkRead(result);
    return result > 0;
}

void Message::exit() {
    checkRead(sd_bus_message_exit_container(message_));
}

std::vector<std::string> Message::readStrings() {
    std::vector<std::string> texts;
    if (!enter('a', "s"))
        checkRead(-ENXIO);
    while (sd_bus_message_at_end(message_, 0) == 0)
        texts.push_back(readString());
    exit();
    return texts;
}

std::vector<ObjectPath> Message::readObjectPaths() {
    std::vector<ObjectPath> objects;
    if (!enter('a', "o"))
        checkRead(-ENXIO);
    while (sd_bus_message_at_end(message_, 0) == 0)
        objects.push_back(readObjectPath());
    exit();
    return objects;
}

std::vector<std::pair<ObjectPath, std::string>> Message::readPairs() {
    std::vector<std::pair<ObjectPath, std::string>> pairs;
    if (!enter('a', "(os)"))
        checkRead(-ENXIO);
    while (enter('r', "os")) {
        ObjectPath object = readObjectPath();
        pairs.emplace_back(std::move(object), readString());
        exit();
    }
    exit();
    return pairs;
}

Value Message::readValue(const std::string& signature) {
    if (signature == "b")
        return readBool();
    if (signature == "u") {
        std::uint32_t number = 0;
        checkRead(sd_bus_message_read_basic(message_, 'u', &number));
        return number;
    }
    if (signature == "t")
        return readUint64();
    if (signature == "d") {
        double number = 0;
        checkRead(sd_bus_message_read_basic(message_, 'd', &number));
        return number;
    }
    if (signature == "s")
        return readString();
    if (signature == "o")
        return readObjectPath();
    if (signature == "as")
        return readStrings();
    return readObjectPaths();
}

std::optional<Value> Message::readVariant() {
    char type = 0;
    const char* contents = nullptr;
    checkRead(sd_bus_message_peek_type(message_, &type, &contents));
    if (type != 'v' || contents == nullptr)
        checkRead(-ENXIO);
    const std::string signature = contents;
    static const std::vector<std::string> known{"b", "u", "t", "d", "s", "o", "as", "ao"};
    bool is_known = false;
    for (const auto& candidate : known)
        is_known = is_known || candidate == signature;
    if (!is_known) {
        checkRead(sd_bus_message_skip(message_, "v"));
        return std::nullopt;
    }
    enter('v', signature.c_str());
    Value value = readValue(signature);
    exit();
    return value;
}

Dictionary Message::readDictionary() {
    Dictionary dictionary;
    if (!enter('a', "{sv}"))
        checkRead(-ENXIO);
    while (enter('e', "sv")) {
        std::string key = readString();
        auto value = readVariant();
        if (!value)
            fail(ErrorKind::InvalidArgument, "the option \"{}\" has a type that no option has",
                 key);
        if (!dictionary.emplace(key, std::move(*value)).second)
            fail(ErrorKind::InvalidArgument, "the option \"{}\" is given twice", key);
        exit();
    }
    exit();
    return dictionary;
}

Dictionary Message::readKnown() {
    Dictionary dictionary;
    if (!enter('a', "{sv}"))
        checkRead(-ENXIO);
    while (enter('e', "sv")) {
        std::string key = readString();
        if (auto value = readVariant())
            dictionary.insert_or_assign(std::move(key), std::move(*value));
        exit();
    }
    exit();
    return dictionary;
}

std::vector<Dictionary> Message::readDictionaries() {
    std::vector<Dictionary> dictionaries;
    if (!enter('a', "a{sv}"))
        checkRead(-ENXIO);
    while (sd_bus_message_at_end(message_, 0) == 0)
        dictionaries.push_back(readKnown());
    exit();
    return dictionaries;
}

}  // namespace cowsnap
