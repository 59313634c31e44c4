// SPDX-License-Identifier: Apache-2.0
#include "api/request_reader.h"

#include <strings.h>

#include <algorithm>
#include <utility>

#include "api/limits.h"
#include "base/result.h"

namespace wisp::api {

namespace {

constexpr size_t kHeaderOfInterest = 64;  // name and value of a header are kept up to here: only Expect matters

Method method_of(const http_parser& parser) {
    switch (parser.method) {
        case HTTP_GET:
            return Method::kGet;
        case HTTP_PUT:
            return Method::kPut;
        case HTTP_PATCH:
            return Method::kPatch;
        case HTTP_DELETE:
            return Method::kDelete;
        default:
            return Method::kOther;
    }
}

void append_bounded(std::string& out, std::string_view text) {
    out += text.substr(0, kHeaderOfInterest - std::min(kHeaderOfInterest, out.size()));
}

/// "http://host/path" to "/path", which is what a proxy would be asked.
std::string without_host(std::string url) {
    const size_t scheme = url.find("://");
    if (scheme == std::string::npos || url[0] == '/') return url;
    const size_t slash = url.find('/', scheme + 3);
    return slash == std::string::npos ? "/" : url.substr(slash);
}

}  // namespace

const http_parser_settings& RequestReader::settings() {
    static constexpr auto kReader = [](http_parser* parser) { return static_cast<RequestReader*>(parser->data); };
    static const http_parser_settings kSettings = [] {
        http_parser_settings all{};
        all.on_message_begin = [](http_parser* parser) {
            kReader(parser)->in_request_ = true;
            return 0;
        };
        all.on_url = text_callback<&RequestReader::on_url>;
        all.on_header_field = text_callback<&RequestReader::on_header_field>;
        all.on_header_value = text_callback<&RequestReader::on_header_value>;
        all.on_body = text_callback<&RequestReader::on_body>;
        // (To the parser, 1 means that there is no body.)
        all.on_headers_complete = [](http_parser* parser) {
            return kReader(parser)->on_headers_complete() == 0 ? 0 : -1;
        };
        all.on_message_complete = [](http_parser* parser) {
            kReader(parser)->complete_ = true;
            http_parser_pause(parser, 1);
            return 0;
        };
        return all;
    }();
    return kSettings;
}

RequestReader::RequestReader(size_t max_body) : max_body_(max_body) {
    http_parser_init(&parser_, HTTP_REQUEST);
    parser_.data = this;
}

RequestReader::Step RequestReader::read(std::string_view& bytes) {
    const size_t taken = http_parser_execute(&parser_, &settings(), bytes.data(), bytes.size());
    const http_errno code = HTTP_PARSER_ERRNO(&parser_);
    if (code == HPE_PAUSED) http_parser_pause(&parser_, 0);
    bytes.remove_prefix(std::min(taken, bytes.size()));
    if (complete_) return Step::kRequest;
    if (code != HPE_OK && code != HPE_PAUSED) {
        if (error_.status == 204) error_ = explain();
        return Step::kError;
    }
    if (parser_.upgrade) {
        error_ = protocol_error("Invalid request.");
        return Step::kError;
    }
    return std::exchange(wants_continue_, false) ? Step::kContinue : Step::kMore;
}

Request RequestReader::take_request() {
    request_.keep_alive = http_should_keep_alive(&parser_) != 0;
    in_request_ = complete_ = in_value_ = wants_continue_ = false;
    head_size_ = 0;
    header_name_.clear();
    header_value_.clear();
    Request whole = std::exchange(request_, {});
    whole.path = without_host(std::move(whole.path));
    return whole;
}

int RequestReader::fail(const std::string& reason) {
    error_ = protocol_error(reason);
    return 1;
}

int RequestReader::count_head(size_t size) {
    head_size_ += size;
    return head_size_ > kMaxHead ? fail("Invalid header. Reason: the request's head is larger than " +
                                        std::to_string(kMaxHead) + " bytes.")
                                 : 0;
}

int RequestReader::on_url(std::string_view text) {
    if (request_.path.size() + text.size() > kMaxPath) return fail("Invalid request.");
    request_.path += text;
    return count_head(text.size());
}

int RequestReader::on_header_field(std::string_view text) {
    if (std::exchange(in_value_, false)) take_header();
    append_bounded(header_name_, text);
    return count_head(text.size() + 4);  // and ": \r\n"
}

int RequestReader::on_header_value(std::string_view text) {
    in_value_ = true;
    append_bounded(header_value_, text);
    return count_head(text.size());
}

void RequestReader::take_header() {
    if (strcasecmp(header_name_.c_str(), "expect") == 0 && strcasecmp(header_value_.c_str(), "100-continue") == 0)
        wants_continue_ = true;
    header_name_.clear();
    header_value_.clear();
}

int RequestReader::on_headers_complete() {
    if (std::exchange(in_value_, false)) take_header();
    request_.method = method_of(parser_);
    if (parser_.http_major != 1 || parser_.http_minor > 1)
        return fail("Invalid HTTP Version: Unsupported HTTP version.");
    // content_length is its greatest value where none was given.
    const bool has_length = parser_.content_length != UINT64_MAX;
    if (has_length && parser_.content_length > max_body_)
        return fail(format("Request payload with size %llu is larger than the limit of %zu allowed by server.",
                           static_cast<unsigned long long>(parser_.content_length), max_body_));
    if (has_length && parser_.content_length == 0) wants_continue_ = false;
    return 0;
}

int RequestReader::on_body(std::string_view text) {
    if (request_.body.size() + text.size() > max_body_)
        return fail(format("Request payload is larger than the limit of %zu allowed by server.", max_body_));
    request_.body += text;
    return 0;
}

Response RequestReader::explain() const {
    switch (HTTP_PARSER_ERRNO(&parser_)) {
        case HPE_INVALID_METHOD:
            return protocol_error("Invalid HTTP Method: Unsupported HTTP method.");
        case HPE_INVALID_VERSION:
            return protocol_error("Invalid HTTP Version: Unsupported HTTP version.");
        case HPE_INVALID_URL:
            return protocol_error("Invalid URI: the request's path is not valid.");
        case HPE_INVALID_HEADER_TOKEN:
            return protocol_error("Invalid header. Reason: Header is incorrectly formatted.");
        case HPE_INVALID_CONTENT_LENGTH:
        case HPE_UNEXPECTED_CONTENT_LENGTH:
            return protocol_error("Invalid header. Reason: Invalid value. Key:Content-Length");
        case HPE_HEADER_OVERFLOW:
            return protocol_error("Invalid header. Reason: the request's head is too large.");
        default:
            return protocol_error("Invalid request.");
    }
}

}  // namespace wisp::api
