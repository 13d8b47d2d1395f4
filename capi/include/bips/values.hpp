// Times, views of memory, lengths, descriptors.
#ifndef BIPS_VALUES_HPP
#define BIPS_VALUES_HPP

#include "result.hpp"

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <unistd.h>
#include <utility>

#if defined(__cpp_lib_ranges)
#include <ranges>
#endif

BIPS_NAMESPACE_BEGIN

/// How long a call may wait: any std::chrono::duration, bips::forever, or bips::now, which tries once.
class Timeout {
public:
    template <class Rep, class Period>
    constexpr Timeout(std::chrono::duration<Rep, Period> time)
        : ns_(!(time.count() > 0)                ? 0
              : std::chrono::duration<double>(time) < longest
                  ? std::chrono::duration_cast<std::chrono::nanoseconds>(time).count()
                  : std::chrono::nanoseconds::max().count()) {}
    static constexpr Timeout never() { return Timeout(-1); }
    constexpr std::int64_t ns() const { return ns_; }

private:
    constexpr explicit Timeout(std::int64_t ns) : ns_(ns) {}
    /// Less than 2^63 ns, which is 292 years: what is longer, such as hours::max(), must not run over.
    static constexpr std::chrono::duration<double> longest{9.2e9};
    std::int64_t ns_;
};
inline constexpr Timeout forever = Timeout::never();
inline constexpr Timeout now = std::chrono::nanoseconds(0);

/// Memory that belongs to something else, as std::span, and as unchecked.
template <class T> class View {
public:
    constexpr View() noexcept = default;
    constexpr View(T* data, std::size_t size) noexcept : data_(data), size_(size) {}

    constexpr T* data() const noexcept { return data_; }
    constexpr std::size_t size() const noexcept { return size_; }
    constexpr bool empty() const noexcept { return size_ == 0; }
    constexpr T* begin() const noexcept { return data_; }
    constexpr T* end() const noexcept { return data_ + size_; }
    constexpr T& operator[](std::size_t i) const noexcept { return data_[i]; }

private:
    T* data_ = nullptr;
    std::size_t size_ = 0;
};

/// Lengths or steps of up to 8 dimensions, a value of its own.
template <class T> class Dims {
public:
    Dims(const T* values, std::size_t size) : size_(size < BIPS_MAX_DIMS ? size : BIPS_MAX_DIMS) {
        std::memcpy(values_.data(), values, size_ * sizeof(T));
    }
    std::size_t size() const noexcept { return size_; }
    const T* begin() const noexcept { return values_.data(); }
    const T* end() const noexcept { return values_.data() + size_; }
    T operator[](std::size_t i) const noexcept { return values_[i]; }

private:
    std::array<T, BIPS_MAX_DIMS> values_{};
    std::size_t size_;
};

/// One plane of an image. `Byte` is const where the memory is read-only.
template <class Byte> struct Plane {
    Byte* data;
    std::size_t stride; ///< from the start of one row to the next, in bytes
    std::size_t width;  ///< bytes of a row that hold pixels
    std::size_t rows;

    /// One of `rows`, from 0.
    View<Byte> row(std::size_t y) const { return {data + y * stride, width}; }
};

/// A descriptor of the memory, closed when it ends, and where in it the slot begins.
class Fd {
public:
    Fd() noexcept = default;
    Fd(int number, std::uint64_t offset) noexcept : number_(number), offset_(offset) {}
    Fd(Fd&& other) noexcept : number_(std::exchange(other.number_, -1)), offset_(other.offset_) {}
    Fd& operator=(Fd&& other) noexcept {
        Fd taken(std::move(other)); // closes what was held before
        std::swap(number_, taken.number_);
        std::swap(offset_, taken.offset_);
        return *this;
    }
    ~Fd() {
        if (number_ >= 0) ::close(number_);
    }

    int number() const noexcept { return number_; }
    std::uint64_t offset() const noexcept { return offset_; }
    /// Yours to close now.
    int release() noexcept { return std::exchange(number_, -1); }

private:
    int number_ = -1;
    std::uint64_t offset_ = 0;
};

BIPS_NAMESPACE_END

#if defined(__cpp_lib_ranges)
template <class T> inline constexpr bool std::ranges::enable_borrowed_range<bips::View<T>> = true;
#endif

#endif // BIPS_VALUES_HPP
