// What there is: streams, and what this machine can do.
#ifndef BIPS_FACTS_HPP
#define BIPS_FACTS_HPP

#include "result.hpp"

#include <exception>
#include <string>
#include <utility>
#include <vector>

BIPS_NAMESPACE_BEGIN

namespace detail {
/// What a call back gathers. What it throws must not go through the library, which is not made of C++: it waits here.
template <class T> class Gathered {
public:
    template <class Make> void add(Make make) noexcept {
#ifdef BIPS_EXCEPTIONS
        try {
            if (!thrown_) all_.push_back(make());
        } catch (...) {
            thrown_ = std::current_exception();
        }
#else
        all_.push_back(make());
#endif
    }
    std::vector<T> take() {
#ifdef BIPS_EXCEPTIONS
        if (thrown_) std::rethrow_exception(thrown_);
#endif
        return std::move(all_);
    }

private:
    std::vector<T> all_;
#ifdef BIPS_EXCEPTIONS
    std::exception_ptr thrown_;
#endif
};
} // namespace detail

/// The names of all streams whose producer lives.
inline Result<std::vector<std::string>> try_streams(const std::string& directory = {}) {
    if (!detail::whole(directory)) return {BIPS_INVALID_ARGUMENT, detail::not_whole};
    detail::Gathered<std::string> names;
    const bips_status status = bips_streams(
        detail::text(directory),
        [](const char* name, void* to) {
            static_cast<detail::Gathered<std::string>*>(to)->add([&] { return std::string(name); });
        },
        &names);
    if (status != BIPS_OK) return detail::failed(status);
    return names.take();
}

/// The public facts of a stream.
inline Result<bips_stream_info> try_query(const std::string& name, const std::string& directory = {}) {
    if (!detail::whole(name, directory)) return {BIPS_INVALID_ARGUMENT, detail::not_whole};
    auto info = bips_stream_info_init();
    const bips_status status = bips_query(name.c_str(), detail::text(directory), &info, nullptr, 0, nullptr);
    if (status != BIPS_OK) return detail::failed(status);
    return info;
}

/// One thing that was tried on this machine.
struct Check {
    std::string name;
    std::string detail;
    std::string next_step; ///< empty: nothing is to do
    bips_check_status status;
};

/// What this machine can do, found by trying it.
inline Result<std::vector<Check>> try_doctor(const std::string& directory = {}) {
    if (!detail::whole(directory)) return {BIPS_INVALID_ARGUMENT, detail::not_whole};
    detail::Gathered<Check> checks;
    const bips_status status = bips_doctor(
        detail::text(directory),
        [](const bips_check* check, void* to) {
            static_cast<detail::Gathered<Check>*>(to)->add([&] {
                const char* next_step = check->next_step != nullptr ? check->next_step : "";
                return Check{check->name, check->detail, next_step, check->status};
            });
        },
        &checks);
    if (status != BIPS_OK) return detail::failed(status);
    return checks.take();
}

#ifdef BIPS_EXCEPTIONS
inline std::vector<std::string> streams(const std::string& directory = {}) { return try_streams(directory).value(); }
inline bips_stream_info query(const std::string& name, const std::string& directory = {}) {
    return try_query(name, directory).value();
}
inline std::vector<Check> doctor(const std::string& directory = {}) { return try_doctor(directory).value(); }
#endif

BIPS_NAMESPACE_END

#endif // BIPS_FACTS_HPP
