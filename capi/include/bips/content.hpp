// How a frame lies in its slot: as a tensor, as planes, as OpenCV's matrix.
#ifndef BIPS_CONTENT_HPP
#define BIPS_CONTENT_HPP

#include "values.hpp"

#include <cstddef>
#include <cstdint>
#include <string>
#include <type_traits>

#ifdef BIPS_OPENCV
#include <climits>
#include <opencv2/core/mat.hpp>
#endif

BIPS_NAMESPACE_BEGIN

namespace detail {
/// Whether the bytes of such an element may be read as a T. Classes, such as pixels of yours, std::complex and halves,
/// are up to whoever made them.
template <class T> constexpr bool reads(bips_dtype dtype) {
    if (dtype.bits * dtype.lanes != 8 * static_cast<int>(sizeof(T))) return false;
    if constexpr (!std::is_arithmetic_v<T> || std::is_same_v<std::remove_cv_t<T>, char>) {
        return true; // char, std::byte: any byte
    } else if constexpr (std::is_floating_point_v<T>) {
        return dtype.code == 2;
    } else if constexpr (std::is_signed_v<T>) {
        return dtype.code == 0;
    } else {
        // Besides unsigned numbers: the bits of bools, and of floating point numbers that C++ has no type for.
        return dtype.code == 1 || dtype.code == 6 || dtype.code == 4 || (dtype.code == 2 && dtype.bits <= 16);
    }
}

/// A tensor over a frame or a slot, made by one of the functions of bips.h that do.
template <class Tensor, class Handle>
Result<Tensor*> tensor(bips_status (*make)(const Handle*, std::int32_t, Tensor**), const Handle* handle, int plane) {
    Tensor* made = nullptr;
    const bips_status status = make(handle, plane, &made);
    if (status != BIPS_OK) return failed(status, handle);
    return made;
}
} // namespace detail

/// How a frame lies in its slot.
class Content {
public:
    explicit Content(const bips_content& content) : content_(content) {}

    Dims<std::uint64_t> shape() const { return {content_.shape, content_.ndim}; }
    /// In bytes.
    Dims<std::int64_t> strides() const { return {content_.strides, content_.ndim}; }
    bips_dtype dtype() const noexcept { return content_.dtype; }
    /// Such as "uint8".
    const char* dtype_name() const noexcept { return bips_dtype_name(content_.dtype); }
    std::uint32_t width() const noexcept { return content_.width; }
    std::uint32_t height() const noexcept { return content_.height; }
    /// V4L2's four-character code, 0 for a tensor.
    std::uint32_t fourcc() const noexcept { return content_.fourcc; }
    /// How the pixels lie in each plane, as DRM numbers it; 0 is row by row.
    std::uint64_t modifier() const noexcept { return content_.modifier; }
    std::size_t nbytes() const noexcept { return static_cast<std::size_t>(content_.nbytes); }
    std::size_t planes() const noexcept { return content_.nplanes; }
    const bips_content& c() const noexcept { return content_; }

    /// Plane `i`, from 0, of the frame that begins at `data`.
    template <class Byte> Result<Plane<Byte>> try_plane(Byte* data, std::size_t i) const {
        if (i >= content_.nplanes || i >= BIPS_MAX_PLANES || data == nullptr) return no_plane(i);
        const bips_plane& plane = content_.planes[i];
        return Plane<Byte>{data + plane.offset, static_cast<std::size_t>(plane.stride),
                           static_cast<std::size_t>(plane.width), static_cast<std::size_t>(plane.rows)};
    }
    /// The same. Where there is none it throws, or ends the program where exceptions are switched off.
    template <class Byte> Plane<Byte> plane(Byte* data, std::size_t i) const { return try_plane(data, i).value(); }

    /// The elements of the frame that begins at `data`, which must lie without gaps. `T` is their type in C++, an unsigned
    /// type of their size for bool and what C++ has no type for (float16, bfloat16), or a class of yours of their size.
    template <class T, class Byte> Result<View<T>> try_as(Byte* data) const {
        static_assert(std::is_trivially_copyable_v<T>, "elements are plain data");
        static_assert(!std::is_same_v<std::remove_cv_t<T>, bool>,
                      "read bools as std::uint8_t: another process may have written other values than 0 and 1");
        if (data == nullptr) return detail::failed(BIPS_INVALID_ARGUMENT, nullptr);
        if (!detail::reads<T>(content_.dtype))
            return {BIPS_INVALID_ARGUMENT, std::string("the elements are ") + dtype_name() +
                                               ", which is another type than was asked for; bytes() is of any"};
        auto step = static_cast<std::int64_t>(sizeof(T));
        std::size_t count = 1;
        bool dense = true;
        for (std::size_t i = content_.ndim; i-- > 0;) {
            dense = dense && (content_.strides[i] == step || content_.shape[i] == 1);
            step *= static_cast<std::int64_t>(content_.shape[i]);
            count *= static_cast<std::size_t>(content_.shape[i]);
        }
        if (!dense) return {BIPS_INVALID_ARGUMENT, "there are gaps between the elements; go by plane() and its rows"};
        return View<T>(reinterpret_cast<T*>(data), count);
    }

#ifdef BIPS_OPENCV
    /// A matrix over the frame that begins at `data`, of rows x columns with channels.
    Result<cv::Mat> try_mat(std::byte* data) const {
        if (data == nullptr) return detail::failed(BIPS_INVALID_ARGUMENT, nullptr);
        const int depth = cv_depth(content_.dtype);
        const bool channels = content_.ndim == 3 && content_.shape[2] >= 1 && content_.shape[2] <= CV_CN_MAX;
        if (depth < 0 || (content_.ndim != 2 && !channels) || content_.shape[0] > INT_MAX || content_.shape[1] > INT_MAX)
            return no_mat();
        const std::int64_t element = content_.dtype.bits / 8;
        const auto count = channels ? static_cast<int>(content_.shape[2]) : 1;
        const std::int64_t pixel = element * count;
        // OpenCV steps from row to row as far as it is told, and nowhere else.
        if ((channels && content_.strides[2] != element) || content_.strides[1] != pixel ||
            content_.strides[0] < pixel * static_cast<std::int64_t>(content_.shape[1]) || content_.strides[0] % element != 0)
            return no_mat();
        return cv::Mat(static_cast<int>(content_.shape[0]), static_cast<int>(content_.shape[1]), CV_MAKETYPE(depth, count),
                       data, static_cast<std::size_t>(content_.strides[0]));
    }
    /// A matrix over plane `i`, with a column for each of its elements: reshape(2) makes pairs of NV12's chroma.
    Result<cv::Mat> try_mat(std::byte* data, std::size_t i) const {
        auto found = try_plane(data, i);
        if (!found) return Failure(found.status(), std::string(found.message()));
        const int depth = cv_depth(content_.dtype);
        const auto element = static_cast<std::size_t>(content_.dtype.bits / 8);
        if (depth < 0 || found->width / element > INT_MAX || found->rows > INT_MAX || found->stride % element != 0)
            return no_mat();
        return cv::Mat(static_cast<int>(found->rows), static_cast<int>(found->width / element), CV_MAKETYPE(depth, 1),
                       found->data, found->stride);
    }
#endif

private:
    Failure no_plane(std::size_t i) const {
        if (content_.nplanes == 0) return detail::failed(BIPS_INVALID_ARGUMENT, nullptr);
        return {BIPS_INVALID_ARGUMENT, "there is no plane " + std::to_string(i) + ": they go from 0 to " +
                                           std::to_string(content_.nplanes - 1) + ", see planes()"};
    }

#ifdef BIPS_OPENCV
    static Failure no_mat() {
        return {BIPS_UNSUPPORTED, "a frame of this shape or type is no cv::Mat; make one of a plane, mat(0), or of bytes()"};
    }
    static int cv_depth(bips_dtype dtype) noexcept {
        if (dtype.lanes != 1) return -1;
        switch (dtype.code << 8 | dtype.bits) {
        case 0x008: return CV_8S;
        case 0x010: return CV_16S;
        case 0x020: return CV_32S;
        case 0x108: return CV_8U;
        case 0x110: return CV_16U;
        case 0x210: return CV_16F;
        case 0x220: return CV_32F;
        case 0x240: return CV_64F;
        default: return -1;
        }
    }
#endif

    bips_content content_;
};

/// How a pool lies and what its frames hold.
struct Layout {
    Content content;
    std::uint64_t slot_bytes;
    std::uint32_t slots;
    std::uint32_t max_held;
    bool writable;
    std::string memory;

    explicit Layout(const bips_layout& c)
        : content(c.content), slot_bytes(c.slot_bytes), slots(c.slots), max_held(c.max_held), writable(c.writable != 0),
          memory(c.memory) {}
    Layout() : Layout(bips_layout_init()) {}
};

BIPS_NAMESPACE_END

#endif // BIPS_CONTENT_HPP
