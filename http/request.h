// SPDX-License-Identifier: Apache-2.0
//
// An HTTP/1.1 request, apart from how it travels. Its bytes come from a client of the API or from the guest: nothing in
// it is trusted, but its lengths are within the limits of the reader that made it.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>

namespace wisp::http {

/// The methods that a server here answers, and one value for all others.
enum class Method : uint8_t { kGet, kPut, kPatch, kDelete, kOther };

/// "GET"
const char* to_string(Method method);
Method method_of(std::string_view name);

/// A header line, cut at its colon, without the blanks around the value.
struct Header {
    std::string_view name;
    std::string_view value;
};

struct Request {
    Method method = Method::kOther;
    std::string path;     ///< as absolute_path()
    std::string headers;  ///< the header lines as they were sent, each with "\r\n" at its end
    std::string body;
    bool keep_alive = true;  ///< false: the client wants the connection closed after the answer

    /// The last header that has one of these names, in any case.
    std::optional<Header> find_header(std::initializer_list<std::string_view> names) const;
};

/// The path of a request's target with its query: "/a" of "/a" and of "http://host/a". Empty where the target has
/// none, as Firecracker reads it.
std::string_view absolute_path(std::string_view target);

/// Whether two names are the same but for the case of ASCII letters.
bool same_name(std::string_view a, std::string_view b);

/// Without the blanks and tabs at both ends.
std::string_view trim(std::string_view text);

}  // namespace wisp::http
