// bips for C++17: zero-copy buffer sharing between processes. Header only, over bips.h, where every function is explained.
//
//     bips::Producer camera("cam", bips::image("RGB3", 1920, 1080));
//     auto slot = camera.acquire();
//     fill(slot.data(), slot.nbytes());
//     slot.publish();
//
//     for (auto& frame : bips::Consumer("cam", {}, std::chrono::seconds(10))) use(frame.bytes());
//
// All objects are move-only and give back what they hold when they end. What can fail comes twice: `receive` throws
// bips::Error, `try_receive` returns a bips::Result, also where exceptions are switched off.
//
// With OpenCV's headers on the include path, frame.mat() is a cv::Mat over the same memory (BIPS_NO_OPENCV: not so).

#ifndef BIPS_HPP
#define BIPS_HPP

#include "bips.h"

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <initializer_list>
#include <iterator>
#include <memory>
#include <optional>
#include <string>
#include <type_traits>
#include <unistd.h>
#include <utility>
#include <vector>

#if !defined(BIPS_NO_EXCEPTIONS) && defined(__cpp_exceptions)
#define BIPS_EXCEPTIONS 1
#include <stdexcept>
#endif

#if !defined(BIPS_NO_OPENCV) && defined(__has_include)
#if __has_include(<opencv2/core/mat.hpp>)
#define BIPS_OPENCV 1
#include <opencv2/core/mat.hpp>
#endif
#endif

namespace bips {

// Errors

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

/// What a call gave, or why it gave nothing.
template <class T> class [[nodiscard]] Result {
public:
    Result(T value) : status_(BIPS_OK), value_(std::move(value)) {}
    Result(bips_status status, std::string message) : status_(status), message_(std::move(message)) {}
    /// With a literal: costs no memory, for loops that look a million times a second.
    Result(bips_status status, const char* literal) noexcept : status_(status), literal_(literal) {}

    /// That of the call of bips.h that has just failed on this thread.
    static Result last(bips_status status) { return Result(status, std::string(bips_last_error_message())); }

    explicit operator bool() const noexcept { return status_ == BIPS_OK; }
    bips_status status() const noexcept { return status_; }
    const char* message() const noexcept { return literal_ != nullptr ? literal_ : message_.c_str(); }

    /// What it gave. Without it: throws, or ends the program where exceptions are switched off.
    T& value() & { return check(), *value_; }
    T&& value() && { return check(), std::move(*value_); }
    T& operator*() & { return value(); }
    T&& operator*() && { return std::move(*this).value(); }
    T* operator->() { return &value(); }

private:
    void check() const {
        if (status_ == BIPS_OK) return;
#ifdef BIPS_EXCEPTIONS
        throw Error(status_, message());
#else
        std::fprintf(stderr, "bips: %s\n", message());
        std::abort();
#endif
    }

    bips_status status_;
    std::string message_;
    const char* literal_ = nullptr;
    std::optional<T> value_;
};

/// Of a call that gives nothing but its success.
struct Done {};

namespace detail {
inline Result<Done> done(bips_status status) {
    return status == BIPS_OK ? Result<Done>(Done{}) : Result<Done>::last(status);
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

inline bips_status release_frame(bips_frame* frame) { return bips_frame_release(frame, nullptr); }
inline const char* text(const std::string& text) { return text.empty() ? nullptr : text.c_str(); }

/// C takes a text up to its first NUL, so one within would be another text.
template <class... Texts> bool whole(const Texts&... texts) {
    return ((texts.find('\0') == std::string::npos) && ...);
}
inline constexpr const char* not_whole = "a name, a folder or an option has a NUL within; take it out";
} // namespace detail

// Values

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

/// Memory that belongs to something else, as std::span.
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

    View<Byte> row(std::size_t y) const { return {data + y * stride, width}; }
};

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
    std::size_t nbytes() const noexcept { return static_cast<std::size_t>(content_.nbytes); }
    std::size_t planes() const noexcept { return content_.nplanes; }
    const bips_content& c() const noexcept { return content_; }

    /// A plane of the frame that begins at `data`.
    template <class Byte> Plane<Byte> plane(Byte* data, std::size_t i) const {
        const bips_plane& plane = content_.planes[i];
        return {data + plane.offset, static_cast<std::size_t>(plane.stride), static_cast<std::size_t>(plane.width),
                static_cast<std::size_t>(plane.rows)};
    }

    /// The elements of the frame that begins at `data`, which must lie without gaps and be as large as a `T`.
    template <class T, class Byte> Result<View<T>> try_as(Byte* data) const {
        static_assert(std::is_trivially_copyable_v<T>, "elements are plain data");
        std::int64_t step = sizeof(T);
        std::size_t count = 1;
        bool fits = content_.dtype.bits * content_.dtype.lanes == 8 * sizeof(T);
        for (std::size_t i = content_.ndim; i-- > 0;) {
            fits = fits && (content_.strides[i] == step || content_.shape[i] == 1);
            step *= static_cast<std::int64_t>(content_.shape[i]);
            count *= static_cast<std::size_t>(content_.shape[i]);
        }
        if (!fits) return {BIPS_INVALID_ARGUMENT, "the elements are of another size, or have gaps between them; use bytes()"};
        return View<T>(reinterpret_cast<T*>(data), count);
    }

#ifdef BIPS_OPENCV
    /// A matrix over the frame that begins at `data`, of rows x columns with channels.
    Result<cv::Mat> try_mat(std::byte* data) const {
        const int depth = cv_depth(content_.dtype);
        const bool channels = content_.ndim == 3 && content_.shape[2] >= 1 && content_.shape[2] <= CV_CN_MAX;
        const auto element = static_cast<std::int64_t>(content_.dtype.bits / 8) * (channels ? content_.strides[2] > 0 : 1);
        const auto pixel = element * static_cast<std::int64_t>(channels ? content_.shape[2] : 1);
        if (depth < 0 || (content_.ndim != 2 && !channels) || content_.strides[1] != pixel)
            return {BIPS_UNSUPPORTED, "a frame of this shape or type is no cv::Mat; make one of a plane or of bytes()"};
        const int type = CV_MAKETYPE(depth, channels ? static_cast<int>(content_.shape[2]) : 1);
        return cv::Mat(static_cast<int>(content_.shape[0]), static_cast<int>(content_.shape[1]), type, data,
                       static_cast<std::size_t>(content_.strides[0]));
    }
#endif

private:
#ifdef BIPS_OPENCV
    static int cv_depth(bips_dtype dtype) noexcept {
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

// Fences

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
        if (status != BIPS_OK) return Result<Timeline>::last(status);
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

// Frames

/// A writable, private view of a frame: only pages written to are copied, and nobody else sees it.
class PrivateView {
public:
    PrivateView() noexcept = default;
    std::byte* data() const noexcept { return data_; }

private:
    friend class Frame;
    PrivateView(bips_private_view* view, void* data) noexcept : handle_(view), data_(static_cast<std::byte*>(data)) {}
    detail::Handle<bips_private_view, bips_private_view_destroy> handle_;
    std::byte* data_ = nullptr;
};

/// A frame that another process published, readable in place until this ends. It may outlive its consumer.
class Frame {
public:
    Frame() noexcept { info_.size = 0; }
    Frame(Frame&& other) noexcept
        : handle_(std::move(other.handle_)), data_(std::exchange(other.data_, nullptr)),
          nbytes_(std::exchange(other.nbytes_, 0)) {
        info_.size = other.info_.size = 0;
    }
    Frame& operator=(Frame&& other) noexcept {
        handle_ = std::move(other.handle_);
        data_ = std::exchange(other.data_, nullptr);
        nbytes_ = std::exchange(other.nbytes_, 0);
        info_.size = other.info_.size = 0;
        return *this;
    }

    const std::byte* data() const noexcept { return static_cast<const std::byte*>(data_); }
    std::size_t nbytes() const noexcept { return nbytes_; }
    View<const std::byte> bytes() const { return {data(), nbytes()}; }
    Content content() const { return Content(info().content); }
    Dims<std::uint64_t> shape() const { return content().shape(); }
    const char* dtype_name() const { return bips_dtype_name(info().content.dtype); }
    Plane<const std::byte> plane(std::size_t i) const { return content().plane(data(), i); }
    View<const std::byte> metadata() const {
        return {static_cast<const std::byte*>(info().metadata), info().metadata_size};
    }
    /// Which publication of its producer this is, from 0.
    std::uint64_t sequence() const { return info().sequence; }
    std::uint32_t generation() const { return info().generation; }
    std::uint32_t slot() const { return info().slot; }
    bool readonly() const { return info().readonly != 0; }
    /// Of CLOCK_MONOTONIC, which is std::chrono::steady_clock's.
    std::chrono::nanoseconds timestamp() const { return ns(info().timestamp_ns); }
    std::chrono::nanoseconds published() const { return ns(info().published_ns); }

    /// The elements, which must lie without gaps and be as large as a `T`.
    template <class T> Result<View<const T>> try_as() const { return content().template try_as<const T>(data()); }

    /// Copies from `offset` of the slot on: safe whatever the producer does.
    Result<Done> try_copy(void* to, std::size_t size, std::size_t offset = 0) const {
        return detail::done(bips_frame_copy(c(), offset, to, size));
    }
    /// For V4L2, DRM, GStreamer.
    Result<Fd> try_fd() const {
        int number = -1;
        std::uint64_t offset = 0;
        const bips_status status = bips_frame_fd(c(), &number, &offset);
        if (status != BIPS_OK) return Result<Fd>::last(status);
        return Fd(number, offset);
    }
    /// It holds the lease itself.
    Result<PrivateView> try_private_view() const {
        bips_private_view* view = nullptr;
        void* data = nullptr;
        const bips_status status = bips_frame_private_view(c(), &view, &data);
        if (status != BIPS_OK) return Result<PrivateView>::last(status);
        return PrivateView(view, data);
    }
    /// For at::fromDLPack and the like: it holds the lease, and is given back by its deleter.
    Result<DLManagedTensorVersioned*> try_dlpack(int plane = -1) const {
        DLManagedTensorVersioned* tensor = nullptr;
        const bips_status status = bips_frame_dlpack(c(), plane, &tensor);
        if (status != BIPS_OK) return Result<DLManagedTensorVersioned*>::last(status);
        return tensor;
    }
    /// Once `done`. The end of the frame does the same for work that is done. Of a fence whose timeline has gone nobody
    /// knows when that is: then the frame stays as it was.
    Result<Done> try_release(const bips_fence& done) {
        const bips_status status = bips_frame_release(c(), &done);
        auto outcome = detail::done(status);
        const void* still = nullptr;
        if (status == BIPS_OK || bips_frame_data(c(), &still, nullptr) != BIPS_OK) {
            forget();
            handle_.release();
        }
        return outcome;
    }
    void release() noexcept {
        forget();
        handle_ = Handle();
    }

#ifdef BIPS_EXCEPTIONS
    template <class T> View<const T> as() const { return try_as<T>().value(); }
    void copy(void* to, std::size_t size, std::size_t offset = 0) const { try_copy(to, size, offset).value(); }
    Fd fd() const { return try_fd().value(); }
    PrivateView private_view() const { return try_private_view().value(); }
    DLManagedTensorVersioned* dlpack(int plane = -1) const { return try_dlpack(plane).value(); }
    void release(const bips_fence& done) { try_release(done).value(); }
#endif

#ifdef BIPS_OPENCV
    /// A matrix over the same memory, of rows x columns with channels: OpenCV knows no read-only memory, so do not write.
    Result<cv::Mat> try_mat() const { return content().try_mat(const_cast<std::byte*>(data())); }
#ifdef BIPS_EXCEPTIONS
    cv::Mat mat() const { return try_mat().value(); }
#endif
#endif

    explicit operator bool() const noexcept { return handle_.get() != nullptr; }
    bips_frame* c() const noexcept { return handle_.get(); }

private:
    friend class Consumer;
    using Handle = detail::Handle<bips_frame, detail::release_frame>;
    Frame(bips_frame* frame, const void* data, std::size_t nbytes) noexcept
        : handle_(frame), data_(data), nbytes_(nbytes) {
        info_.size = 0;
    }
    void forget() noexcept {
        data_ = nullptr;
        nbytes_ = 0;
        info_.size = 0;
    }

    static std::chrono::nanoseconds ns(std::uint64_t ns) { return std::chrono::nanoseconds(static_cast<std::int64_t>(ns)); }

    /// Asked for when first needed. Of no frame: all zeros.
    const bips_frame_info& info() const noexcept {
        if (info_.size == 0) {
            info_ = bips_frame_info_init();
            if (c() == nullptr || bips_frame_get_info(c(), &info_) != BIPS_OK) info_ = bips_frame_info_init();
        }
        return info_;
    }

    Handle handle_;
    const void* data_ = nullptr;
    std::size_t nbytes_ = 0;
    mutable bips_frame_info info_; // with a size of 0: not asked for yet
};

/// What a producer says about one frame.
struct Description {
    std::vector<std::uint64_t> shape = {}; ///< empty: the stream's
    std::chrono::nanoseconds timestamp{0}; ///< when it was captured, of CLOCK_MONOTONIC; 0: now
    const void* metadata = nullptr;
    std::size_t metadata_size = 0;
};

/// A slot to write the next frame into. Given back unseen unless it is published.
class WritableFrame {
public:
    WritableFrame() noexcept = default;
    WritableFrame(WritableFrame&& other) noexcept
        : handle_(std::move(other.handle_)), slot_(std::exchange(other.slot_, bips_slot{})) {}
    WritableFrame& operator=(WritableFrame&& other) noexcept {
        handle_ = std::move(other.handle_);
        slot_ = std::exchange(other.slot_, bips_slot{});
        return *this;
    }

    std::byte* data() const noexcept { return static_cast<std::byte*>(slot_.data); }
    /// Bytes of the slot.
    std::size_t nbytes() const noexcept { return slot_.nbytes; }
    View<std::byte> bytes() const noexcept { return {data(), nbytes()}; }
    std::uint32_t slot() const noexcept { return slot_.index; }
    /// How the stream's frames lie; all zeros once this was published.
    Content content() const {
        bips_content content{};
        bips_writable_frame_get_content(handle_.get(), &content);
        return Content(content);
    }
    Plane<std::byte> plane(std::size_t i) const { return content().plane(data(), i); }
    /// The elements, which must lie without gaps and be as large as a `T`.
    template <class T> Result<View<T>> try_as() const { return content().template try_as<T>(data()); }

    /// Hands it to every consumer, once `ready`; its sequence number, from 0. Also when it fails the frame has ended.
    Result<std::uint64_t> try_publish(const Description& description, const bips_fence* ready = nullptr) {
        auto described = bips_description_init();
        described.shape = description.shape.empty() ? nullptr : description.shape.data();
        described.ndim = description.shape.size();
        described.timestamp_ns = static_cast<std::uint64_t>(description.timestamp.count());
        described.metadata = description.metadata;
        described.metadata_size = description.metadata_size;
        std::uint64_t sequence = 0;
        const bips_status status = bips_writable_frame_publish(handle_.get(), &described, ready, &sequence);
        return published(status, sequence);
    }
    Result<std::uint64_t> try_publish() {
        std::uint64_t sequence = 0;
        const bips_status status = bips_writable_frame_publish(handle_.get(), nullptr, nullptr, &sequence);
        return published(status, sequence);
    }
    /// For frameworks that write into DLPack tensors; let go of it when the frame is published.
    Result<DLManagedTensorVersioned*> try_dlpack(int plane = -1) const {
        DLManagedTensorVersioned* tensor = nullptr;
        const bips_status status = bips_writable_frame_dlpack(handle_.get(), plane, &tensor);
        if (status != BIPS_OK) return Result<DLManagedTensorVersioned*>::last(status);
        return tensor;
    }
    void cancel() noexcept {
        slot_ = {};
        handle_ = Handle();
    }

#ifdef BIPS_EXCEPTIONS
    std::uint64_t publish() { return try_publish().value(); }
    std::uint64_t publish(const Description& description, const bips_fence* ready = nullptr) {
        return try_publish(description, ready).value();
    }
    DLManagedTensorVersioned* dlpack(int plane = -1) const { return try_dlpack(plane).value(); }
    template <class T> View<T> as() const { return try_as<T>().value(); }
#endif

#ifdef BIPS_OPENCV
    /// A matrix over the slot, to draw or decode into.
    Result<cv::Mat> try_mat() const { return content().try_mat(data()); }
#ifdef BIPS_EXCEPTIONS
    cv::Mat mat() const { return try_mat().value(); }
#endif
#endif

    explicit operator bool() const noexcept { return handle_.get() != nullptr; }

private:
    friend class Producer;
    using Handle = detail::Handle<bips_writable_frame, bips_writable_frame_cancel>;
    Result<std::uint64_t> published(bips_status status, std::uint64_t sequence) {
        slot_ = {};
        if (status != BIPS_OK) {
            auto why = Result<std::uint64_t>::last(status);
            handle_ = Handle(); // where that left it: given back
            return why;
        }
        handle_.release();
        return sequence;
    }

    WritableFrame(bips_writable_frame* frame, const bips_slot& slot) noexcept : handle_(frame), slot_(slot) {}

    Handle handle_;
    bips_slot slot_{};
};

// Producers

/// What a producer's frames hold, and how it shares them. Begin with bips::image, bips::tensor or bips::bytes.
struct ProducerOptions {
    std::string format = {}; ///< of an image: V4L2's code, such as "RGB3" or "NV12"
    std::uint32_t width = 0;
    std::uint32_t height = 0;
    std::string dtype = {}; ///< of a tensor, such as "float32"
    std::vector<std::uint64_t> shape = {};
    std::uint64_t nbytes = 0; ///< of plain bytes
    std::uint32_t slots = 0;  ///< 0 is 4, at most 64
    std::uint32_t max_held = 0; ///< frames one consumer may lease; 0 is two fewer than there are slots
    std::uint32_t history = 0;  ///< frames that a late joiner still gets
    std::uint32_t usage = 0;    ///< BIPS_USAGE_..., 0 for the CPU alone
    std::string memory = {};    ///< "auto", or a kind that bips::doctor lists
    std::string access = {};    ///< "owner", "group:NAME" or "directory"
    std::string on_stall = {};  ///< "wait" or "expel:SECONDS"
    std::string directory = {}; ///< the runtime directory
    bool writable = false;      ///< consumers may write
    bool reliable = true;       ///< admits consumers that could hold the producer back
    std::int64_t spin_ns = 0;   ///< looks so long before it sleeps; negative: not at all
};

inline ProducerOptions image(std::string format, std::uint32_t width, std::uint32_t height) {
    ProducerOptions options;
    options.format = std::move(format);
    options.width = width;
    options.height = height;
    return options;
}
inline ProducerOptions tensor(std::string dtype, std::vector<std::uint64_t> shape) {
    ProducerOptions options;
    options.dtype = std::move(dtype);
    options.shape = std::move(shape);
    return options;
}
inline ProducerOptions bytes(std::uint64_t nbytes) {
    ProducerOptions options;
    options.nbytes = nbytes;
    return options;
}

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

/// Owns the pool of one stream and publishes frames from it. Any thread, several at once. Its end is that of the stream.
class Producer {
public:
    Producer() noexcept = default;

    static Result<Producer> try_create(const std::string& name, const ProducerOptions& options) {
        if (!detail::whole(name, options.format, options.dtype, options.memory, options.access, options.on_stall,
                           options.directory))
            return {BIPS_INVALID_ARGUMENT, detail::not_whole};
        auto c = bips_producer_options_init();
        c.format = detail::text(options.format);
        c.width = options.width;
        c.height = options.height;
        c.dtype = detail::text(options.dtype);
        c.shape = options.shape.data();
        c.ndim = options.shape.size();
        c.bytes = options.nbytes;
        c.slots = options.slots;
        c.max_held = options.max_held;
        c.history = options.history;
        c.usage = options.usage;
        c.memory = detail::text(options.memory);
        c.access = detail::text(options.access);
        c.on_stall = detail::text(options.on_stall);
        c.directory = detail::text(options.directory);
        c.writable = options.writable;
        c.refuse_reliable = !options.reliable;
        c.spin_ns = options.spin_ns;
        bips_producer* producer = nullptr;
        const bips_status status = bips_producer_create(name.c_str(), &c, &producer);
        if (status != BIPS_OK) return Result<Producer>::last(status);
        return Producer(producer);
    }

    /// A free slot for the next frame.
    Result<WritableFrame> try_acquire(Timeout timeout = forever) const {
        bips_writable_frame* frame = nullptr;
        auto slot = bips_slot_init();
        const bips_status status = bips_producer_acquire_slot(c(), timeout.ns(), &frame, &slot);
        if (status == BIPS_TIMEOUT && timeout.ns() == 0) return {status, "no slot is free just now"};
        if (status != BIPS_OK) return Result<WritableFrame>::last(status);
        return WritableFrame(frame, slot);
    }
    Result<Done> try_wait_for_consumers(std::uint32_t count, Timeout timeout = forever) const {
        return detail::done(bips_producer_wait_for_consumers(c(), count, timeout.ns()));
    }
    Result<Layout> try_layout() const {
        auto layout = bips_layout_init();
        const bips_status status = bips_producer_get_layout(c(), &layout);
        if (status != BIPS_OK) return Result<Layout>::last(status);
        return Layout(layout);
    }
    Result<bips_producer_stats> try_stats() const {
        auto stats = bips_producer_stats_init();
        const bips_status status = bips_producer_get_stats(c(), &stats);
        if (status != BIPS_OK) return Result<bips_producer_stats>::last(status);
        return stats;
    }
    /// Who consumes it now.
    Result<std::vector<bips_consumer_state>> try_consumers() const {
        std::vector<bips_consumer_state> consumers(64);
        std::size_t count = 0;
        const bips_status status = bips_producer_get_consumers(c(), consumers.data(), consumers.size(), &count);
        if (status != BIPS_OK) return Result<std::vector<bips_consumer_state>>::last(status);
        consumers.resize(count);
        return consumers;
    }
    /// Ends the stream now.
    void close() const noexcept { bips_producer_close(c()); }

#ifdef BIPS_EXCEPTIONS
    Producer(const std::string& name, const ProducerOptions& options) : Producer(try_create(name, options).value()) {}
    WritableFrame acquire(Timeout timeout = forever) const { return try_acquire(timeout).value(); }
    void wait_for_consumers(std::uint32_t count, Timeout timeout = forever) const {
        try_wait_for_consumers(count, timeout).value();
    }
    Layout layout() const { return try_layout().value(); }
    bips_producer_stats stats() const { return try_stats().value(); }
    std::vector<bips_consumer_state> consumers() const { return try_consumers().value(); }
#endif

    explicit operator bool() const noexcept { return c() != nullptr; }
    bips_producer* c() const noexcept { return handle_.get(); }

private:
    explicit Producer(bips_producer* producer) noexcept : handle_(producer) {}
    detail::Handle<bips_producer, bips_producer_destroy> handle_;
};

// Consumers

/// How a consumer reads.
struct ConsumerOptions {
    std::string policy = {};    ///< "reliable", "latest" or "keep-last:N"
    std::string directory = {}; ///< the runtime directory
    bool reconnect = false;     ///< goes on with the next producer of the name when this one ends
    std::int64_t spin_ns = 0;   ///< looks so long before it sleeps; negative: not at all
    std::string label = {};     ///< what the producer shows it as; empty: its program and host
};

/// Takes frames from one stream. One thread at a time.
class Consumer {
public:
    Consumer() noexcept = default;

    /// Waits as long as `timeout` for the stream to appear.
    static Result<Consumer> try_connect(const std::string& name, const ConsumerOptions& options = {},
                                        Timeout timeout = now) {
        if (!detail::whole(name, options.policy, options.directory)) return {BIPS_INVALID_ARGUMENT, detail::not_whole};
        auto c = bips_consumer_options_init();
        c.policy = detail::text(options.policy);
        c.directory = detail::text(options.directory);
        c.reconnect = options.reconnect;
        c.spin_ns = options.spin_ns;
        c.label = detail::text(options.label);
        bips_consumer* consumer = nullptr;
        const bips_status status = bips_consumer_connect(name.c_str(), &c, timeout.ns(), &consumer);
        if (status != BIPS_OK) return Result<Consumer>::last(status);
        return Consumer(consumer);
    }

    /// The next frame.
    Result<Frame> try_receive(Timeout timeout = forever) {
        bips_frame* frame = nullptr;
        const void* data = nullptr;
        std::size_t nbytes = 0;
        const bips_status status = bips_consumer_receive_data(c(), timeout.ns(), &frame, &data, &nbytes);
        if (status == BIPS_TIMEOUT && timeout.ns() == 0) return {status, "no frame is there just now"};
        if (status != BIPS_OK) return Result<Frame>::last(status);
        return Frame(frame, data, nbytes);
    }
    /// For poll and epoll: readable when there may be something to receive. It belongs to the consumer.
    Result<int> try_poll_fd() {
        int fd = -1;
        const bips_status status = bips_consumer_poll_fd(c(), &fd);
        if (status != BIPS_OK) return Result<int>::last(status);
        return fd;
    }
    Result<Layout> try_layout() const {
        auto layout = bips_layout_init();
        const bips_status status = bips_consumer_get_layout(c(), &layout);
        if (status != BIPS_OK) return Result<Layout>::last(status);
        return Layout(layout);
    }
    Result<bips_consumer_stats> try_stats() const {
        auto stats = bips_consumer_stats_init();
        const bips_status status = bips_consumer_get_stats(c(), &stats);
        if (status != BIPS_OK) return Result<bips_consumer_stats>::last(status);
        return stats;
    }
    /// How the stream ended, or that it has not.
    bips_ending ending() const noexcept {
        bips_ending ending = BIPS_NOT_ENDED;
        bips_consumer_get_ending(c(), &ending);
        return ending;
    }

#ifdef BIPS_EXCEPTIONS
    explicit Consumer(const std::string& name, const ConsumerOptions& options = {}, Timeout timeout = now)
        : Consumer(try_connect(name, options, timeout).value()) {}
    Frame receive(Timeout timeout = forever) { return try_receive(timeout).value(); }
    int poll_fd() { return try_poll_fd().value(); }
    Layout layout() const { return try_layout().value(); }
    bips_consumer_stats stats() const { return try_stats().value(); }
#endif

    /// All frames until the stream ends. An error other than that is thrown; without exceptions it ends the program.
    class Iterator {
    public:
        using iterator_category = std::input_iterator_tag;
        using value_type = Frame;
        using difference_type = std::ptrdiff_t;
        using pointer = Frame*;
        using reference = Frame&;

        Iterator() noexcept = default;
        explicit Iterator(Consumer* consumer) : consumer_(consumer) { ++*this; }
        Frame& operator*() noexcept { return frame_; }
        Frame* operator->() noexcept { return &frame_; }
        Iterator& operator++() {
            frame_.release();
            auto next = consumer_->try_receive();
            if (next.status() == BIPS_CLOSED) {
                consumer_ = nullptr;
            } else {
                frame_ = std::move(next).value();
            }
            return *this;
        }
        bool operator==(const Iterator& other) const noexcept { return consumer_ == other.consumer_; }
        bool operator!=(const Iterator& other) const noexcept { return !(*this == other); }

    private:
        Consumer* consumer_ = nullptr;
        Frame frame_;
    };
    Iterator begin() { return Iterator(this); }
    Iterator end() noexcept { return Iterator(); }

    explicit operator bool() const noexcept { return c() != nullptr; }
    bips_consumer* c() const noexcept { return handle_.get(); }

private:
    explicit Consumer(bips_consumer* consumer) noexcept : handle_(consumer) {}
    detail::Handle<bips_consumer, bips_consumer_destroy> handle_;
};

// What there is

/// The names of all streams whose producer lives.
inline Result<std::vector<std::string>> try_streams(const std::string& directory = {}) {
    if (!detail::whole(directory)) return {BIPS_INVALID_ARGUMENT, detail::not_whole};
    std::vector<std::string> names;
    const bips_status status = bips_streams(
        detail::text(directory),
        [](const char* name, void* names) { static_cast<std::vector<std::string>*>(names)->emplace_back(name); }, &names);
    if (status != BIPS_OK) return Result<std::vector<std::string>>::last(status);
    return names;
}

/// The public facts of a stream.
inline Result<bips_stream_info> try_query(const std::string& name, const std::string& directory = {}) {
    if (!detail::whole(name, directory)) return {BIPS_INVALID_ARGUMENT, detail::not_whole};
    auto info = bips_stream_info_init();
    const bips_status status = bips_query(name.c_str(), detail::text(directory), &info, nullptr, 0, nullptr);
    if (status != BIPS_OK) return Result<bips_stream_info>::last(status);
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
    std::vector<Check> checks;
    const bips_status status = bips_doctor(
        detail::text(directory),
        [](const bips_check* check, void* checks) {
            const char* next_step = check->next_step != nullptr ? check->next_step : "";
            static_cast<std::vector<Check>*>(checks)->push_back({check->name, check->detail, next_step, check->status});
        },
        &checks);
    if (status != BIPS_OK) return Result<std::vector<Check>>::last(status);
    return checks;
}

#ifdef BIPS_EXCEPTIONS
inline std::vector<std::string> streams(const std::string& directory = {}) { return try_streams(directory).value(); }
inline bips_stream_info query(const std::string& name, const std::string& directory = {}) {
    return try_query(name, directory).value();
}
inline std::vector<Check> doctor(const std::string& directory = {}) { return try_doctor(directory).value(); }
#endif

} // namespace bips

#endif // BIPS_HPP
