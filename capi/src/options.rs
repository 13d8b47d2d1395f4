//! What a caller wants of a producer or a consumer. Everything that is 0 or NULL is the default.

use crate::args::{self, sized, text};
use crate::status::{Outcome, invalid};
use bips::{AccessRule, DType, Fourcc, OnStall, Policy, ProducerBuilder, Registry, Usage};
use std::ffi::c_char;
use std::sync::LazyLock;
use std::time::Duration;

/// What a producer's frames hold, and how it shares them. All zeros but `size` and the content is a good begin:
/// `bips_producer_options o = bips_producer_options_init(); o.format = "RGB3"; o.width = 640; o.height = 480;`
#[derive(Clone, Copy)]
#[repr(C)]
pub struct ProducerOptions {
    /// sizeof(bips_producer_options).
    pub size: usize,
    /// An image: V4L2's four-character code, such as "RGB3" or "NV12", with `width` and `height` in pixels.
    pub format: *const c_char,
    /// Width of an image, in pixels.
    pub width: u32,
    /// Height of an image, in pixels.
    pub height: u32,
    /// A tensor: type of an element, such as "float32" ("uint8" where absent), with `shape`.
    pub dtype: *const c_char,
    /// Lengths of the dimensions, in elements, the outermost first; `ndim` of them.
    pub shape: *const u64,
    /// Dimensions, up to 8.
    pub ndim: usize,
    /// Neither image nor tensor: plain bytes, so many.
    pub bytes: u64,
    /// Memory kind: "auto" (also where absent) or one that `bips doctor` lists.
    pub memory: *const c_char,
    /// Who may consume: "owner" (also where absent), "group:NAME" or "directory".
    pub access: *const c_char,
    /// What is done about a consumer that holds the stream up: "wait" (also where absent) or "expel:SECONDS".
    pub on_stall: *const c_char,
    /// The runtime directory; where absent $BIPS_DIR, /run/bips, $XDG_RUNTIME_DIR/bips or /tmp/bips-UID.
    pub directory: *const c_char,
    /// How long a call that may wait looks before it sleeps, in nanoseconds; 0 is the default, negative not at all.
    pub spin_ns: i64,
    /// What the memory will be used for: BIPS_USAGE_..., or 0 for the CPU alone.
    pub usage: u32,
    /// Slots of the pool, up to 64; 0 is 4.
    pub slots: u32,
    /// Most frames one consumer may lease; 0 is two fewer than there are slots, at least 1.
    pub max_held: u32,
    /// Frames that a late joiner still gets.
    pub history: u32,
    /// Not 0: consumers may write.
    pub writable: u8,
    /// Not 0: admits no consumer that could hold the producer back.
    pub refuse_reliable: u8,
    /// Zeros.
    pub reserved: [u8; 6],
}
sized!(ProducerOptions, "bips_producer_options", 120);

/// How a consumer reads.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct ConsumerOptions {
    /// sizeof(bips_consumer_options).
    pub size: usize,
    /// "reliable" (also where absent), "latest" or "keep-last:N".
    pub policy: *const c_char,
    /// The runtime directory, as for the producer.
    pub directory: *const c_char,
    /// How long a call that may wait looks before it sleeps, in nanoseconds; 0 is the default, negative not at all.
    pub spin_ns: i64,
    /// Not 0: goes on with the next producer of the name when this one ends.
    pub reconnect: u8,
    /// Zeros.
    pub reserved: [u8; 7],
    /// What the producer shows this consumer as, at most 64 bytes on one line; NULL: its program and host.
    pub label: *const c_char,
}
sized!(ConsumerOptions, "bips_consumer_options", 48);

/// Filled by the CPU, or read by it.
pub const BIPS_USAGE_CPU: u32 = 1;
/// Filled by a camera (V4L2).
pub const BIPS_USAGE_CAMERA: u32 = 2;
/// Used by CUDA.
pub const BIPS_USAGE_CUDA: u32 = 4;
/// Used by Vulkan.
pub const BIPS_USAGE_VULKAN: u32 = 8;
/// Scanned out by a display.
pub const BIPS_USAGE_DISPLAY: u32 = 16;
/// Read by a hardware encoder.
pub const BIPS_USAGE_ENCODER: u32 = 32;

const USAGES: [(u32, Usage); 6] = [
    (BIPS_USAGE_CPU, Usage::CPU),
    (BIPS_USAGE_CAMERA, Usage::CAMERA),
    (BIPS_USAGE_CUDA, Usage::CUDA),
    (BIPS_USAGE_VULKAN, Usage::VULKAN),
    (BIPS_USAGE_DISPLAY, Usage::DISPLAY),
    (BIPS_USAGE_ENCODER, Usage::ENCODER),
];

/// 0 leaves it to the core.
pub(crate) fn spin(nanoseconds: i64) -> Option<Duration> {
    (nanoseconds != 0).then(|| Duration::from_nanos(nanoseconds.max(0).unsigned_abs()))
}

/// # Safety
/// As the header says of the structure: its texts end with a NUL, its shape has its dimensions.
pub(crate) unsafe fn producer(name: &str, options: &ProducerOptions) -> Outcome<ProducerBuilder> {
    let mut builder = bips::Producer::builder(name).registry(registry());
    // SAFETY: the caller's promise, here and below.
    builder = unsafe { with_content(builder, options) }?;
    // SAFETY: as above.
    if let Some(kind) = unsafe { text(options.memory, "memory") }? {
        builder = builder.memory(kind);
    }
    // SAFETY: as above.
    if let Some(rule) = unsafe { text(options.access, "access") }? {
        builder = builder.access(AccessRule::parse(rule)?);
    }
    // SAFETY: as above.
    if let Some(rule) = unsafe { text(options.on_stall, "on_stall") }? {
        builder = builder.on_stall(OnStall::parse(rule)?);
    }
    // SAFETY: as above.
    if let Some(directory) = unsafe { args::path(options.directory) } {
        builder = builder.directory(directory);
    }
    if let Some(spin) = spin(options.spin_ns) {
        builder = builder.spin(spin);
    }
    if options.usage != 0 {
        builder = builder.usage(usage(options.usage)?);
    }
    if options.slots != 0 {
        builder = builder.slots(options.slots);
    }
    if options.max_held != 0 {
        builder = builder.max_held(options.max_held);
    }
    Ok(builder
        .history(options.history)
        .writable(options.writable != 0)
        .reliable(options.refuse_reliable == 0))
}

/// # Safety
/// As for [`producer`].
unsafe fn with_content(builder: ProducerBuilder, options: &ProducerOptions) -> Outcome<ProducerBuilder> {
    // SAFETY: the caller's promise, here and below.
    let format = unsafe { text(options.format, "format") }?;
    // SAFETY: as above.
    let dtype = unsafe { text(options.dtype, "dtype") }?;
    // SAFETY: as above.
    let shape = unsafe { args::slice(options.shape, options.ndim, "lengths in `shape`") }?;
    let tensor = dtype.is_some() || !shape.is_empty();
    match (format, tensor, options.bytes) {
        (Some(format), false, 0) => Ok(builder.image(Fourcc::parse(format)?, options.width, options.height)),
        (None, true, 0) => Ok(builder.tensor(DType::parse(dtype.unwrap_or("uint8"))?, shape)),
        (None, false, 1..) => Ok(builder.bytes(options.bytes)),
        (None, false, 0) => Err(invalid(
            "the options don't say what a frame holds: set `format`, `width` and `height`, or `dtype`, `shape` and \
             `ndim`, or `bytes`",
        )),
        _ => Err(invalid(
            "the options say more than once what a frame holds: an image (`format`), a tensor (`dtype`, `shape`) and \
             plain `bytes` exclude each other",
        )),
    }
}

fn usage(bits: u32) -> Outcome<Usage> {
    let known = USAGES.iter().fold(0, |known, (bit, _)| known | bit);
    if bits & !known != 0 {
        return Err(invalid(format!("{:#x} in `usage` is no BIPS_USAGE_...", bits & !known)));
    }
    Ok(USAGES.iter().filter(|(bit, _)| bits & bit != 0).fold(Usage::default(), |all, (_, one)| all | *one))
}

/// # Safety
/// As for [`producer`].
pub(crate) unsafe fn consumer(name: &str, options: &ConsumerOptions) -> Outcome<bips::ConsumerBuilder> {
    let mut builder = bips::Consumer::builder(name).registry(registry());
    // SAFETY: the caller's promise, here and below.
    if let Some(policy) = unsafe { text(options.policy, "policy") }? {
        builder = builder.policy(Policy::parse(policy)?);
    }
    // SAFETY: as above.
    if let Some(directory) = unsafe { args::path(options.directory) } {
        builder = builder.directory(directory);
    }
    // SAFETY: as above.
    if let Some(label) = unsafe { text(options.label, "label") }? {
        builder = builder.label(label);
    }
    if let Some(spin) = spin(options.spin_ns) {
        builder = builder.spin(spin);
    }
    Ok(builder.reconnect(options.reconnect != 0))
}

/// One for all handles: a memory kind tries once what the machine can do.
fn registry() -> Registry {
    static REGISTRY: LazyLock<Registry> = LazyLock::new(bips_backends::registry);
    REGISTRY.clone()
}
