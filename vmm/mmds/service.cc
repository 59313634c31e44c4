// SPDX-License-Identifier: Apache-2.0
#include "vmm/mmds/service.h"

#include <strings.h>

#include <charconv>
#include <cstring>
#include <optional>

namespace wisp::mmds {

struct Service::GuestRequest {
    std::string_view method, target, version;
    std::optional<std::string_view> token, ttl, forwarded_for, accept;
};

struct Service::Answer {
    int status = 200;
    std::string body = {};
    const char* content_type = "text/plain";
    std::string extra_headers = {};
};

namespace {

constexpr size_t kMaxBody = 2048;

std::string_view trim(std::string_view text) {
    while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
    while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
    return text;
}

bool same_name(std::string_view name, const char* wanted) {
    return name.size() == strlen(wanted) && strncasecmp(name.data(), wanted, name.size()) == 0;
}

std::string_view take_line(std::string_view& text) {
    const size_t end = text.find("\r\n");
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 2);
    return line;
}

/// Calls visit(name, value) for each header of a head.
template <class Visit>
void for_each_header(std::string_view head, Visit visit) {
    take_line(head);
    while (!head.empty()) {
        const std::string_view line = take_line(head);
        const size_t colon = line.find(':');
        if (colon != std::string_view::npos) visit(trim(line.substr(0, colon)), trim(line.substr(colon + 1)));
    }
}

template <class T>
std::optional<T> number(std::string_view text) {
    T value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
    return value;
}

/// Path of "/a/b", or of "http://169.254.169.254/a/b"; nothing if it is neither.
std::optional<std::string_view> path_of(std::string_view target) {
    if (target.starts_with("http://")) {
        const size_t slash = target.find('/', 7);
        target = slash == std::string_view::npos ? "/" : target.substr(slash);
    }
    if (!target.starts_with('/')) return std::nullopt;
    return target;
}

const char* reason(int status) {
    switch (status) {
        case 200:
            return "OK";
        case 400:
            return "Bad Request";
        case 401:
            return "Unauthorized";
        case 404:
            return "Not Found";
        case 405:
            return "Method Not Allowed";
        default:
            return "Not Implemented";
    }
}

}  // namespace

size_t Service::request_length(std::string_view bytes) {
    const size_t end = bytes.find("\r\n\r\n");
    if (end == std::string_view::npos) return 0;
    size_t body = 0;
    for_each_header(bytes.substr(0, end), [&](std::string_view name, std::string_view value) {
        if (same_name(name, "content-length")) body = number<size_t>(value).value_or(0);
    });
    const size_t length = end + 4 + std::min(body, kMaxBody);
    return length <= bytes.size() ? length : 0;
}

std::string Service::answer(std::string_view bytes, uint64_t now_ms) {
    GuestRequest request;
    const std::string_view head = bytes.substr(0, bytes.find("\r\n\r\n"));
    std::string_view rest = head;
    std::string_view line = take_line(rest);
    const size_t first = line.find(' '), last = line.rfind(' ');
    if (first != std::string_view::npos && last > first) {
        request.method = line.substr(0, first);
        request.target = trim(line.substr(first + 1, last - first - 1));
        request.version = line.substr(last + 1);
    }
    for_each_header(head, [&](std::string_view name, std::string_view value) {
        if (same_name(name, "x-metadata-token") || same_name(name, "x-aws-ec2-metadata-token")) request.token = value;
        if (same_name(name, "x-metadata-token-ttl-seconds") || same_name(name, "x-aws-ec2-metadata-token-ttl-seconds"))
            request.ttl = value;
        if (same_name(name, "x-forwarded-for")) request.forwarded_for = value;
        if (same_name(name, "accept")) request.accept = value;
    });
    const Answer answer = respond(request, now_ms);
    return format(
               "HTTP/1.1 %d %s\r\nServer: Firecracker API\r\nConnection: keep-alive\r\n%sContent-Type: "
               "%s\r\nContent-Length: %zu\r\n\r\n",
               answer.status, reason(answer.status), answer.extra_headers.c_str(), answer.content_type,
               answer.body.size()) +
           answer.body;
}

Service::Answer Service::respond(const GuestRequest& request, uint64_t now_ms) {
    if (request.version != "HTTP/1.1" && request.version != "HTTP/1.0")
        return {.status = 400, .body = "Invalid request."};
    if (!path_of(request.target)) return {.status = 400, .body = "Invalid URI."};
    if (request.method == "GET") return get(request, now_ms);
    if (request.method == "PUT") return put_token(request, now_ms);
    return {.status = 405, .body = "Not allowed HTTP method.", .extra_headers = "Allow: GET, PUT\r\n"};
}

Service::Answer Service::get(const GuestRequest& request, uint64_t now_ms) {
    const bool valid = request.token && tokens_.valid(*request.token, now_ms);
    if (!request.token)
        ++counters_.no_token;
    else if (!valid)
        ++counters_.invalid_token;
    if (version_ == config::MmdsVersion::kV2 && !request.token)
        return {.status = 401,
                .body =
                    "No MMDS token provided. Use `X-metadata-token` or `X-aws-ec2-metadata-token` header to specify "
                    "the session token."};
    if (version_ == config::MmdsVersion::kV2 && !valid) return {.status = 401, .body = "MMDS token not valid."};

    const std::string_view path = *path_of(request.target);
    const config::Value* const value = data_.find(path);
    if (!value) return {.status = 404, .body = "Resource not found: " + std::string(path) + "."};
    const bool json =
        !imds_compat_ && request.accept && request.accept->find("application/json") != std::string_view::npos;
    if (json) return {.body = config::to_json(*value), .content_type = "application/json"};
    std::optional<std::string> text = to_imds_text(*value);
    if (!text) return {.status = 501, .body = "Cannot retrieve value. The value has an unsupported type."};
    return {.body = *std::move(text)};
}

Service::Answer Service::put_token(const GuestRequest& request, uint64_t now_ms) {
    const std::string_view path = *path_of(request.target);
    // A proxy in the guest must not fetch a token for somebody else.
    if (request.forwarded_for)
        return {.status = 400, .body = "Invalid header. Reason: Unsupported header name. Key: x-forwarded-for"};
    if (path != "/latest/api/token") return {.status = 404, .body = "Resource not found: " + std::string(path) + "."};
    if (!request.ttl)
        return {.status = 400,
                .body =
                    "Token time to live value not found. Use `X-metadata-token-ttl-seconds` or "
                    "`X-aws-ec2-metadata-token-ttl-seconds` header to specify the token's lifetime."};
    const auto seconds = number<uint32_t>(*request.ttl);
    if (!seconds || *seconds < kMinTokenSeconds || *seconds > kMaxTokenSeconds)
        return {.status = 400,
                .body = "Invalid time to live value provided for token: " + std::string(*request.ttl) +
                        format(". Please provide a value between %u and %u.", kMinTokenSeconds, kMaxTokenSeconds)};
    return {.body = tokens_.issue(*seconds, now_ms),
            .extra_headers = format("X-metadata-token-ttl-seconds: %u\r\n", *seconds)};
}

}  // namespace wisp::mmds
