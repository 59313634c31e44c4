// SPDX-License-Identifier: Apache-2.0
//
// RequestReader: bytes of a connection to requests, one at a time. http-parser knows HTTP; this holds it to the API's
// bounds: length of the path, of the head, of the body.
//
// What it reads comes from a client that may be hostile. It holds at most one request.
#pragma once

#include <http_parser.h>

#include <cstddef>
#include <string_view>

#include "api/message.h"

namespace wisp::api {

class RequestReader {
public:
    enum class Step : uint8_t {
        kMore,      ///< everything was read, and the request is not whole yet
        kContinue,  ///< the client waits for "100 Continue" before it sends its body
        kRequest,   ///< request() is whole
        kError,     ///< error() is the answer; the connection cannot be used any longer
    };

    /// `max_body`: bytes.
    explicit RequestReader(size_t max_body);

    /// Reads from `bytes`, and takes off its front what it has read: no more than to the end of one request.
    Step read(std::string_view& bytes);

    /// True between the first byte of a request and its last.
    bool in_request() const { return in_request_; }

    /// The request that is whole. The next read() starts another one.
    Request take_request();
    const Response& error() const { return error_; }

private:
    int on_url(std::string_view text);
    int on_header_field(std::string_view text);
    int on_header_value(std::string_view text);
    int on_headers_complete();
    int on_body(std::string_view text);
    int fail(const std::string& reason);
    int count_head(size_t size);
    void take_header();
    Response explain() const;

    template <int (RequestReader::*Method)(std::string_view)>
    static int text_callback(http_parser* parser, const char* text, size_t size) {
        return (static_cast<RequestReader*>(parser->data)->*Method)({text, size});
    }
    static const http_parser_settings& settings();

    const size_t max_body_;
    http_parser parser_;
    Request request_;
    Response error_;
    std::string header_name_, header_value_;  // of the header at hand, bounded
    size_t head_size_ = 0;
    bool in_value_ = false;
    bool in_request_ = false;
    bool wants_continue_ = false;
    bool complete_ = false;
};

}  // namespace wisp::api
