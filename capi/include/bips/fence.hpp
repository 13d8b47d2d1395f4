// Points on timelines of device work.
#ifndef BIPS_FENCE_HPP
#define BIPS_FENCE_HPP

#include "result.hpp"

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <utility>

BIPS_NAMESPACE_BEGIN

/// A counter that device work of yours advances. `value` says where it stands; `wait` blocks until it stands there, or the
/// time (negative: none) is over, and may be absent. Any thread calls them; what they throw is an error of the device.
class Timeline {
public:
    using Value = std::function<std::uint64_t()>;
    using Wait = std::function<void(std::uint64_t, std::chrono::nanoseconds)>;

    Timeline() noexcept = default;

    static Result<Timeline> try_create(Value value, Wait wait = {}) {
        auto both = std::make_unique<Functions>(Functions{std::move(value), std::move(wait)});
        auto functions = bips_timeline_functions_init();
        functions.context = both.get();
        functions.value = both->value ? &ask : nullptr;
        functions.wait = both->wait ? &block : nullptr;
        functions.destroy = [](void* context) { delete static_cast<Functions*>(context); };
        bips_timeline* timeline = nullptr;
        const bips_status status = bips_timeline_create(&functions, &timeline);
        if (status != BIPS_OK) return detail::failed(status); // and then `destroy` is not called
        both.release();
        return Timeline(timeline);
    }

    /// The point at which it stands at `value`.
    bips_fence at(std::uint64_t value) const noexcept { return {handle_.get(), value}; }

private:
    struct Functions {
        Value value;
        Wait wait;
    };

    explicit Timeline(bips_timeline* timeline) noexcept : handle_(timeline) {}

    template <class Work> static std::int32_t guarded(Work work) noexcept {
#ifdef BIPS_EXCEPTIONS
        try {
            work();
        } catch (...) {
            return -1;
        }
#else
        work();
#endif
        return 0;
    }
    static std::int32_t ask(void* context, std::uint64_t* value) {
        return guarded([&] { *value = static_cast<Functions*>(context)->value(); });
    }
    static std::int32_t block(void* context, std::uint64_t value, std::int64_t ns) {
        return guarded([&] { static_cast<Functions*>(context)->wait(value, std::chrono::nanoseconds(ns)); });
    }

    detail::Handle<bips_timeline, bips_timeline_destroy> handle_;
};

BIPS_NAMESPACE_END

#endif // BIPS_FENCE_HPP
