// SPDX-License-Identifier: Apache-2.0
#include "http/request_reader.h"

#include <algorithm>
#include <charconv>
#include <cstring>
#include <utility>

#include "base/limits.h"
#include "base/result.h"
#include "base/utf8.h"

namespace wisp::http {

namespace {

constexpr char kInvalidRequest[] = "Invalid request.";
constexpr char kInvalidHeader[] = "Invalid header. Reason: ";

/// A control character other than a tab and what ends a line.
bool is_control(char c) {
    return (static_cast<unsigned char>(c) < 0x20 && c != '\t' && c != '\r' && c != '\n') || c == 0x7f;
}

/// A token of RFC 9110, section 5.6.2.
bool is_token(std::string_view text) {
    constexpr std::string_view kMarks = "!#$%&'*+-.^_`|~";
    return !text.empty() && std::all_of(text.begin(), text.end(), [&](char c) {
        return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || kMarks.contains(c);
    });
}

/// All of the text as a number of type T, digits only.
template <class T>
std::optional<T> number(std::string_view text, int base) {
    T value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
    if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
    return value;
}

/// Calls visit(item) for each item of a list with commas, blanks around it included.
template <class Visit>
void for_each_item(std::string_view list, Visit visit) {
    for (;;) {
        const size_t comma = list.find(',');
        visit(list.substr(0, comma));
        if (comma == std::string_view::npos) return;
        list.remove_prefix(comma + 1);
    }
}

std::string shortened(std::string_view text) {
    return std::string(text.substr(0, limits::kHttpQuote));
}

}  // namespace

RequestReader::Step RequestReader::read(std::string_view& bytes) {
    for (;;) {
        switch (state_) {
            case State::kWhole:
                return Step::kRequest;
            case State::kRefused:
                return Step::kRefused;
            case State::kBody:
            case State::kChunkData:
                if (bytes.empty()) return ask_for_more();
                read_data(bytes);
                break;
            default:
                if (bytes.empty()) return ask_for_more();
                read_line(bytes);
        }
    }
}

RequestReader::Step RequestReader::ask_for_more() {
    const bool continues = !in_head() && std::exchange(wants_continue_, false);
    return continues ? Step::kContinue : Step::kMore;
}

Request RequestReader::take_request() {
    state_ = State::kRequestLine;
    head_size_ = 0;
    data_left_ = 0;
    content_length_.reset();
    http_1_0_ = chunked_ = wants_continue_ = false;
    return std::exchange(request_, {});
}

bool RequestReader::in_head() const {
    return state_ == State::kRequestLine || state_ == State::kHeaders || state_ == State::kTrailers;
}

/// Bytes that the line at hand may still have, its line end included.
size_t RequestReader::line_limit() const {
    switch (state_) {
        case State::kRequestLine:
            return std::min(limits_.request_line - line_.size(), limits_.head - head_size_);
        case State::kHeaders:
        case State::kTrailers:
            return limits_.head - head_size_;
        default:
            return limits::kHttpChunkLine - line_.size();
    }
}

/// Reads to the end of a line, or all bytes. Only CR LF ends a line: what else looks like an end would let two readers
/// see different requests.
void RequestReader::read_line(std::string_view& bytes) {
    const size_t end = bytes.find('\n');
    const size_t size = end == std::string_view::npos ? bytes.size() : end + 1;
    const std::string_view part = bytes.substr(0, std::min(size, line_limit()));
    if (std::any_of(part.begin(), part.end(), is_control)) {
        if (state_ == State::kHeaders || state_ == State::kTrailers)
            return refuse(std::string(kInvalidHeader) + "Header contains invalid characters.");
        return refuse(kInvalidRequest);
    }
    if (part.size() < size) {
        const bool header = state_ == State::kHeaders || state_ == State::kTrailers;
        return refuse(header ? format("%sThe head is larger than %zu bytes.", kInvalidHeader, limits_.head)
                             : std::string(kInvalidRequest),
                      Refusal::Kind::kTooLong);
    }
    line_ += part;
    bytes.remove_prefix(size);
    if (in_head()) head_size_ += size;
    if (end == std::string_view::npos) return;

    const std::string line = std::exchange(line_, {});
    const bool ends_well = line.size() >= 2 && line[line.size() - 2] == '\r';
    if (!ends_well || line.find('\r') != line.size() - 2) return refuse(kInvalidRequest);
    take_line(std::string_view(line).substr(0, line.size() - 2));
}

void RequestReader::take_line(std::string_view line) {
    switch (state_) {
        case State::kRequestLine:
            if (!line.empty()) return take_request_line(line);
            head_size_ = 0;  // RFC 9112, section 2.2: an empty line before a request is skipped
            return;
        case State::kHeaders:
            return line.empty() ? end_headers() : take_header(line);
        case State::kChunkSize:
            return take_chunk_size(line);
        case State::kChunkEnd:
            if (!line.empty()) return refuse(kInvalidRequest);
            state_ = State::kChunkSize;
            return;
        default:  // a trailer: nothing needs it
            if (line.empty()) state_ = State::kWhole;
    }
}

void RequestReader::read_data(std::string_view& bytes) {
    const size_t size = static_cast<size_t>(std::min<uint64_t>(bytes.size(), data_left_));
    request_.body += bytes.substr(0, size);
    bytes.remove_prefix(size);
    data_left_ -= size;
    if (data_left_ == 0) state_ = state_ == State::kBody ? State::kWhole : State::kChunkEnd;
}

void RequestReader::take_request_line(std::string_view line) {
    const size_t method_end = line.find(' ');
    const size_t target_end = method_end == std::string_view::npos ? method_end : line.find(' ', method_end + 1);
    if (target_end == std::string_view::npos) return refuse(kInvalidRequest);
    const std::string_view method = line.substr(0, method_end);
    const std::string_view target = line.substr(method_end + 1, target_end - method_end - 1);
    const std::string_view version = line.substr(target_end + 1);

    if (!is_token(method)) return refuse("Invalid HTTP Method: Unsupported HTTP method.");
    if (target.empty()) return refuse("Invalid URI: Empty URI not allowed.");
    if (!valid_utf8(target)) return refuse("Invalid URI: Cannot parse URI as UTF-8.");
    http_1_0_ = version == "HTTP/1.0";
    if (!http_1_0_ && version != "HTTP/1.1") return refuse("Invalid HTTP Version: Unsupported HTTP version.");
    request_.method = method_of(method);
    request_.path = absolute_path(target);
    request_.keep_alive = !http_1_0_;
    state_ = State::kHeaders;
}

void RequestReader::take_header(std::string_view line) {
    if (!valid_utf8(line)) return refuse(std::string(kInvalidHeader) + "Header contains invalid characters.");
    const size_t colon = line.find(':');
    const Header header{line.substr(0, colon),
                        colon == std::string_view::npos ? std::string_view{} : line.substr(colon + 1)};
    if (colon == std::string_view::npos || !is_token(header.name))
        return refuse(kInvalidHeader + ("Header is incorrectly formatted. Key: " + shortened(header.name)));

    if (same_name(header.name, "content-length"))
        take_content_length(header);
    else if (same_name(header.name, "transfer-encoding"))
        take_transfer_encoding(header);
    else if (same_name(header.name, "accept-encoding"))
        take_accept_encoding(header);
    else if (same_name(header.name, "connection"))
        take_connection(header.value);
    else if (same_name(header.name, "expect"))
        wants_continue_ |= same_name(trim(header.value), "100-continue");
    (request_.headers += line) += "\r\n";
}

void RequestReader::take_content_length(const Header& header) {
    const auto length = number<uint32_t>(trim(header.value), 10);
    // RFC 9112, section 6.3: two lengths that differ let two readers see different requests.
    if (!length || (content_length_ && content_length_ != length)) return refuse_header("Invalid value.", header);
    content_length_ = length;
}

void RequestReader::take_transfer_encoding(const Header& header) {
    const std::string_view value = trim(header.value);
    if (same_name(value, "identity")) return;
    if (!same_name(value, "chunked") || chunked_ || http_1_0_) return refuse_header("Unsupported value.", header);
    chunked_ = true;
}

/// Bodies go out as they are: a client that refuses that cannot be served.
void RequestReader::take_accept_encoding(const Header& header) {
    const bool names_identity = header.value.find("identity") != std::string_view::npos;
    for_each_item(trim(header.value), [&](std::string_view item) {
        const std::string_view coding = trim(item);
        if (coding == "identity;q=0" || (coding == "*;q=0" && !names_identity))
            refuse_header("Invalid value.", {"Accept-Encoding", item});
    });
}

void RequestReader::take_connection(std::string_view value) {
    for_each_item(value, [&](std::string_view item) {
        if (same_name(trim(item), "close")) request_.keep_alive = false;
        if (same_name(trim(item), "keep-alive") && http_1_0_) request_.keep_alive = true;
    });
}

void RequestReader::end_headers() {
    // RFC 9112, section 6.1: a request with both lengths is likely to be an attack.
    if (chunked_ && content_length_) return refuse(kInvalidRequest);
    if (chunked_) {
        state_ = State::kChunkSize;
        return;
    }
    data_left_ = content_length_.value_or(0);
    if (data_left_ > limits_.body)
        return refuse(format("Request payload with size %zu is larger than the limit of %zu allowed by server.",
                             static_cast<size_t>(data_left_), limits_.body));
    state_ = data_left_ > 0 ? State::kBody : State::kWhole;
}

void RequestReader::take_chunk_size(std::string_view line) {
    const auto size = number<uint64_t>(line.substr(0, line.find_first_of("; \t")), 16);
    if (!size) return refuse(kInvalidRequest);
    if (*size > limits_.body - request_.body.size())
        return refuse(
            format("Request payload with a chunk of %llu bytes is larger than the limit of %zu allowed by "
                   "server.",
                   static_cast<unsigned long long>(*size), limits_.body));
    data_left_ = *size;
    state_ = data_left_ > 0 ? State::kChunkData : State::kTrailers;
}

void RequestReader::refuse(std::string reason, Refusal::Kind kind) {
    if (state_ == State::kRefused) return;
    refusal_ = {kind, std::move(reason)};
    state_ = State::kRefused;
}

void RequestReader::refuse_header(const char* reason, const Header& header) {
    refuse(format("%s%s Key:%s; Value:%s", kInvalidHeader, reason, shortened(header.name).c_str(),
                  shortened(header.value).c_str()));
}

}  // namespace wisp::http
