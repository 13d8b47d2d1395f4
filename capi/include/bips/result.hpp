// What calls give: a value, or why there is none.
#ifndef BIPS_RESULT_HPP
#define BIPS_RESULT_HPP

#include "config.hpp"

#include <cstdio>
#include <cstdlib>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>

#ifdef BIPS_EXCEPTIONS
#include <stdexcept>
#endif

BIPS_NAMESPACE_BEGIN

#ifdef BIPS_EXCEPTIONS
/// Why a call failed: its status, and a sentence that names the next step.
class Error : public std::runtime_error {
public:
    Error(bips_status status, const std::string& message) : std::runtime_error(message), status_(status) {}

    bips_status status() const noexcept { return status_; }
    /// Such as "not-found".
    const char* name() const noexcept { return bips_status_name(status_); }

private:
    bips_status status_;
};
#endif

/// Why a call gave nothing.
class Failure {
public:
    Failure(bips_status status, std::string message) : status_(status), message_(std::move(message)) {}
    /// With a literal: costs no memory, for loops that look a million times a second.
    Failure(bips_status status, const char* literal) noexcept : status_(status), literal_(literal) {}

    bips_status status() const noexcept { return status_; }
    const char* message() const noexcept { return literal_ != nullptr ? literal_ : message_.c_str(); }

private:
    bips_status status_;
    std::string message_;
    const char* literal_ = nullptr;
};

/// What a call gave, or why it gave nothing.
template <class T> class [[nodiscard]] Result {
public:
    Result(T value) : value_(std::move(value)) {}
    Result(Failure why) : why_(std::move(why)) {}
    Result(bips_status status, std::string message) : why_(Failure(status, std::move(message))) {}
    Result(bips_status status, const char* literal) noexcept : why_(Failure(status, literal)) {}

    explicit operator bool() const noexcept { return value_.has_value(); }
    bips_status status() const noexcept { return why_.status(); }
    /// Empty where there is a value.
    const char* message() const noexcept { return why_.message(); }

    /// What it gave. Without it: throws, or ends the program where exceptions are switched off.
    T& value() & { return check(), *value_; }
    const T& value() const& { return check(), *value_; }
    /// A value of its own: a reference into a Result that is about to end would be one to nothing.
    T value() && { return check(), std::move(*value_); }
    T& operator*() & { return value(); }
    const T& operator*() const& { return value(); }
    T operator*() && { return std::move(*this).value(); }
    T* operator->() { return &value(); }
    const T* operator->() const { return &value(); }

private:
    void check() const {
        if (value_) return;
#ifdef BIPS_EXCEPTIONS
        throw Error(status(), message());
#else
        std::fprintf(stderr, "bips: %s\n", message());
        std::abort();
#endif
    }

    Failure why_{BIPS_OK, ""};
    std::optional<T> value_;
};

/// Of a call that gives nothing but its success.
struct Done {};

namespace detail {
/// Why the call of bips.h that has just failed on this thread did so.
inline Failure failed(bips_status status) { return {status, std::string(bips_last_error_message())}; }

/// The same of a call with this handle. C can't know what it means in C++ that there is none.
inline Failure failed(bips_status status, const void* handle) {
    if (handle != nullptr) return failed(status);
    return {BIPS_INVALID_ARGUMENT,
            "this object is empty: it was never filled, has been moved from, or has given back what it held"};
}

inline Result<Done> done(bips_status status, const void* handle) {
    if (status != BIPS_OK) return failed(status, handle);
    return Done{};
}

/// Owns a handle of bips.h.
template <class T, bips_status (*End)(T*)> class Handle {
public:
    Handle() noexcept = default;
    explicit Handle(T* handle) noexcept : handle_(handle) {}
    Handle(Handle&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
    Handle& operator=(Handle&& other) noexcept {
        Handle taken(std::move(other)); // ends what was held before
        std::swap(handle_, taken.handle_);
        return *this;
    }
    ~Handle() {
        if (handle_ != nullptr) End(handle_);
    }

    T* get() const noexcept { return handle_; }
    T* release() noexcept { return std::exchange(handle_, nullptr); }

private:
    T* handle_ = nullptr;
};

inline const char* text(const std::string& text) { return text.empty() ? nullptr : text.c_str(); }

/// C takes a text up to its first NUL, so one within would be another text.
template <class... Texts> bool whole(const Texts&... texts) {
    return ((texts.find('\0') == std::string::npos) && ...);
}
inline constexpr const char* not_whole = "a name, a folder or an option has a NUL within; take it out";
} // namespace detail

BIPS_NAMESPACE_END

#endif // BIPS_RESULT_HPP
