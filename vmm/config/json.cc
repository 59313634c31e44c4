// SPDX-License-Identifier: Apache-2.0
#include "vmm/config/json.h"

#include <charconv>
#include <cmath>
#include <cstdlib>
#include <utility>

#include "base/check.h"
#include "base/utf8.h"

#define RAPIDJSON_ASSERT(condition) CHECK(condition)
#include <rapidjson/memorystream.h>
#include <rapidjson/reader.h>

#include "vmm/config/json_faults.h"

namespace wisp::config {

namespace {

using Kind = Value::Kind;

Place place(size_t offset) {
    return static_cast<Place>(offset);
}

std::vector<uint32_t> find_lines(std::string_view text) {
    std::vector<uint32_t> starts = {0};
    for (size_t end = 0; (end = text.find('\n', end)) != std::string_view::npos;) starts.push_back(place(++end));
    return starts;
}

/// RapidJSON's events to a tree. `stream` is the one the reader reads: where it stands is where the event ends.
class TreeBuilder {
public:
    TreeBuilder(std::string_view text, const rapidjson::MemoryStream& stream) : scanner_(text), stream_(stream) {}

    bool Null() { return finish(scalar(Kind::kNull)); }
    bool Bool(bool boolean) {
        Value value = scalar(Kind::kBool);
        value.boolean = boolean;
        return finish(std::move(value));
    }
    bool RawNumber(const char* digits, unsigned length, bool copy);
    bool String(const char* text, unsigned length, bool copy);
    bool Key(const char* text, unsigned length, bool copy);
    bool StartObject() { return open(Kind::kObject); }
    bool StartArray() { return open(Kind::kArray); }
    bool EndObject(unsigned) { return close(); }
    bool EndArray(unsigned) { return close(); }

    // The reader needs their names and never calls them: numbers come as text.
    bool Int(int) { return false; }
    bool Uint(unsigned) { return false; }
    bool Int64(int64_t) { return false; }
    bool Uint64(uint64_t) { return false; }
    bool Double(double) { return false; }

    /// Puts a syntax fault where the tree is still open, and closes the rest.
    void fault(const JsonFault& fault);

    Value take_root() { return std::move(root_); }

private:
    JsonScanner::In surroundings() const {
        if (open_.empty()) return JsonScanner::In::kNothing;
        return open_.back().container.is(Kind::kArray) ? JsonScanner::In::kArray : JsonScanner::In::kObject;
    }
    Value scalar(Kind kind);
    bool finish(Value value);
    bool open(Kind kind);
    bool close();
    bool stop(const char* message, size_t offset);

    JsonScanner scanner_;
    const rapidjson::MemoryStream& stream_;
    size_t last_end_ = 0;  ///< where the previous event ended
    Value root_;
    bool stopped_ = false;

    /// Containers that are open, outermost first, each with the key it will get in the one before.
    struct Open {
        Value container;
        Member key;
    };
    std::vector<Open> open_;
};

Value TreeBuilder::scalar(Kind kind) {
    Value value;
    value.kind = kind;
    value.begin = place(scanner_.skip(last_end_));
    return value;
}

bool TreeBuilder::finish(Value value) {
    last_end_ = stream_.Tell();
    value.end = place(last_end_);
    value.after = place(scanner_.after(last_end_, surroundings()));
    if (open_.empty()) {
        root_ = std::move(value);
        return true;
    }
    Open& parent = open_.back();
    if (parent.container.is(Kind::kArray)) {
        parent.container.items.push_back(std::move(value));
    } else {
        parent.key.value = std::move(value);
        parent.container.members.push_back(std::exchange(parent.key, {}));
    }
    return true;
}

bool TreeBuilder::open(Kind kind) {
    if (open_.size() == kMaxJsonDepth) return stop("recursion limit exceeded", stream_.Tell());
    Value value = scalar(kind);
    last_end_ = stream_.Tell();
    open_.push_back({std::move(value), {}});
    return true;
}

bool TreeBuilder::close() {
    Value value = std::move(open_.back().container);
    open_.pop_back();
    return finish(std::move(value));
}

bool TreeBuilder::Key(const char* text, unsigned length, bool) {
    last_end_ = stream_.Tell();
    if (!valid_utf8({text, length})) return stop("invalid unicode code point", last_end_);
    Member& key = open_.back().key;
    key.name.assign(text, length);
    key.after = place(scanner_.after(last_end_, JsonScanner::In::kObject));
    key.present = true;
    return true;
}

bool TreeBuilder::String(const char* text, unsigned length, bool) {
    if (!valid_utf8({text, length})) return stop("invalid unicode code point", stream_.Tell());
    Value value = scalar(Kind::kString);
    value.text.assign(text, length);
    return finish(std::move(value));
}

bool TreeBuilder::RawNumber(const char* digits, unsigned length, bool) {
    // RapidJSON takes "01" as a 0 and something after it.
    if (digits[length - 1] == '0' && (length == 1 || (length == 2 && digits[0] == '-')) &&
        scanner_.digit(stream_.Tell()))
        return stop("invalid number", stream_.Tell() + 1);

    Value value = scalar(Kind::kUnsigned);
    const char* const end = digits + length;
    const bool negative = digits[0] == '-';
    const bool integer = std::string_view(digits, length).find_first_of(".eE") == std::string_view::npos;
    if (integer) {
        if (!negative && std::from_chars(digits, end, value.number).ec == std::errc()) return finish(std::move(value));
        int64_t number = 0;
        if (negative && std::from_chars(digits, end, number).ec == std::errc() && number != 0) {
            value.kind = Kind::kSigned;
            value.number = static_cast<uint64_t>(number);
            return finish(std::move(value));
        }
    }
    value.kind = Kind::kFloat;
    if (integer) value.text.assign(digits, length);
    value.real = strtod(digits, nullptr);
    if (!std::isfinite(value.real)) return stop("number out of range", stream_.Tell());
    return finish(std::move(value));
}

bool TreeBuilder::stop(const char* message, size_t offset) {
    fault({message, offset});
    return false;
}

void TreeBuilder::fault(const JsonFault& fault) {
    if (std::exchange(stopped_, true)) return;
    Value value;
    value.kind = Kind::kFault;
    value.text = fault.message;
    value.begin = value.end = value.after = place(fault.offset);
    while (!open_.empty()) {
        Open inner = std::move(open_.back());
        open_.pop_back();
        if (inner.key.present) {
            inner.key.value = std::move(value);
            inner.container.members.push_back(std::move(inner.key));
        } else {
            inner.container.items.push_back(std::move(value));
        }
        value = std::move(inner.container);
    }
    root_ = std::move(value);
}

}  // namespace

Document parse_json(std::string_view text) {
    CHECK(text.size() < kNoPlace);
    constexpr unsigned kFlags = rapidjson::kParseNumbersAsStringsFlag | rapidjson::kParseStopWhenDoneFlag;
    rapidjson::MemoryStream stream(text.data(), text.size());
    TreeBuilder builder(text, stream);
    rapidjson::Reader reader;
    const rapidjson::ParseResult result = reader.Parse<kFlags>(stream, builder);

    Document document;
    document.size = place(text.size());
    document.line_starts = find_lines(text);
    if (result.IsError()) {
        if (result.Code() != rapidjson::kParseErrorTermination) builder.fault(explain_json_fault(text, result));
        document.root = builder.take_root();
        return document;
    }
    document.root = builder.take_root();
    const size_t rest = JsonScanner(text).skip_blanks(stream.Tell());
    if (rest < text.size()) {
        document.tail.kind = Kind::kFault;
        document.tail.text = "trailing characters";
        document.tail.end = place(rest + 1);
    }
    return document;
}

Result<Value> parse_json_strict(std::string_view text) {
    Document document = parse_json(text);
    const Value* fault = document.root.find_fault();
    if (!fault && document.tail.is(Kind::kFault)) fault = &document.tail;
    if (fault) return std::unexpected(document.error({fault->text, fault->end}));
    return std::move(document.root);
}

}  // namespace wisp::config
