// SPDX-License-Identifier: Apache-2.0
#include "http/request.h"

#include <strings.h>

#include <algorithm>
#include <cstddef>

namespace wisp::http {

const char* to_string(Method method) {
    switch (method) {
        case Method::kGet:
            return "GET";
        case Method::kPut:
            return "PUT";
        case Method::kPatch:
            return "PATCH";
        case Method::kDelete:
            return "DELETE";
        case Method::kOther:
            break;
    }
    return "OTHER";
}

Method method_of(std::string_view name) {
    for (const Method method : {Method::kGet, Method::kPut, Method::kPatch, Method::kDelete})
        if (name == to_string(method)) return method;
    return Method::kOther;
}

std::optional<Header> Request::find_header(std::initializer_list<std::string_view> names) const {
    std::optional<Header> found;
    std::string_view rest = headers;
    while (!rest.empty()) {
        const size_t end = rest.find("\r\n");
        const std::string_view line = rest.substr(0, end);
        rest.remove_prefix(std::min(rest.size(), line.size() + 2));
        const size_t colon = line.find(':');
        if (colon == std::string_view::npos) continue;
        const std::string_view name = line.substr(0, colon);
        const bool wanted = std::any_of(names.begin(), names.end(), [&](auto other) { return same_name(name, other); });
        if (wanted) found = {name, trim(line.substr(colon + 1))};
    }
    return found;
}

std::string_view absolute_path(std::string_view target) {
    constexpr std::string_view kScheme = "http://";
    if (target.starts_with('/')) return target;
    if (!target.starts_with(kScheme)) return {};
    const size_t slash = target.find('/', kScheme.size());
    return slash == std::string_view::npos ? std::string_view{} : target.substr(slash);
}

bool same_name(std::string_view a, std::string_view b) {
    return a.size() == b.size() && strncasecmp(a.data(), b.data(), a.size()) == 0;
}

std::string_view trim(std::string_view text) {
    while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
    while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
    return text;
}

}  // namespace wisp::http
