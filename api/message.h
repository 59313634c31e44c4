// SPDX-License-Identifier: Apache-2.0
//
// A request and an answer of the API, apart from how they travel.
#pragma once

#include <string>

#include "http/request.h"
#include "http/response.h"

namespace wisp::api {

using http::Method;
using http::Request;

struct Response : http::Response {
    bool deprecated = false;  ///< the request used something that will go away
    bool fatal = false;       ///< the process ends after this answer is sent

    static Response no_content() { return {}; }
    static Response json(std::string body);
    static Response fault(const std::string& message, int status = 400);
    /// The answer to what is not HTTP, or not HTTP as this API speaks it. `reason` is a sentence.
    static Response protocol_error(const std::string& reason);
    /// The answer to a client for which there is no room.
    static Response too_many_connections();
};

/// "400 Bad Request", for the log.
const char* status_text(int status);

}  // namespace wisp::api
