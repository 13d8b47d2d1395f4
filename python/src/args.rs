//! Arguments as Python programs write them.

use crate::errors::{OrRaise, invalid};
use bips::{Content, DType, Fourcc, OnStall, Party, Shape};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyString, PyType};

/// What a slot holds, from `shape` and `dtype`, or `size` and `format`, or `size` in bytes.
pub(crate) fn content(
    shape: Option<&Bound<'_, PyAny>>,
    dtype: Option<&Bound<'_, PyAny>>,
    size: Option<&Bound<'_, PyAny>>,
    format: Option<&str>,
) -> PyResult<Content> {
    let fourcc = format.map(fourcc).transpose()?;
    let dtype = dtype.map(self::dtype).transpose()?;
    let content = match (shape, size, fourcc) {
        (Some(shape), None, None) => Content::tensor(dtype.unwrap_or(DType::U8), &self::shape(shape)?),
        (None, Some(size), Some(fourcc)) => {
            let (width, height) = size_in_pixels(size)?;
            Content::image(fourcc, width, height)
        }
        (None, Some(size), None) => Content::bytes(size.extract().map_err(|_| {
            invalid(
                "size without format is a number of bytes; give format=\"RGB3\" (or another) for an image",
            )
        })?),
        (Some(_), size, _) => {
            let other = if size.is_some() { "size" } else { "format" };
            return Err(invalid(format!(
                "shape and {other} say it twice; drop {other} for a tensor, shape=(…) with dtype=\"…\", or drop shape \
                 for an image, size=(width, height) with format=\"RGB3\""
            )));
        }
        (None, None, _) => {
            return Err(invalid(
                "say what a slot holds: shape=(…) with dtype=\"…\", or size=(width, height) with format=\"RGB3\", or \
                 size=number_of_bytes",
            ));
        }
    };
    let content = content.or_raise()?;
    match dtype {
        Some(dtype) if dtype != content.dtype() => Err(invalid(format!(
            "the elements of a slot of this size are {}, not {dtype}; drop dtype, or say shape=(…) instead of size",
            content.dtype()
        ))),
        _ => Ok(content),
    }
}

/// A pixel format; of one that there isn't, the core lists those there are.
fn fourcc(code: &str) -> PyResult<Fourcc> {
    Fourcc::parse(code).or_raise()
}

/// The name of an element type: `"uint8"`, or a type object of NumPy, PyTorch, JAX.
fn dtype(dtype: &Bound<'_, PyAny>) -> PyResult<DType> {
    let name = if let Ok(name) = dtype.cast::<PyString>() {
        name.to_string()
    } else if let Ok(class) = dtype.cast::<PyType>() {
        class.name()?.to_string()
    } else if let Some(name) = dtype.getattr_opt("name")?.and_then(|name| name.extract().ok()) {
        name
    } else {
        // str(torch.uint8) is "torch.uint8".
        dtype.str()?.to_string()
    };
    DType::parse(name.rsplit('.').next().unwrap_or(&name)).or_raise()
}

/// Lengths of dimensions: a sequence of whole numbers, or one.
pub(crate) fn shape(shape: &Bound<'_, PyAny>) -> PyResult<Shape> {
    let bad = || {
        let shown = shape.repr().map_or_else(|_| "this".into(), |text| text.to_string());
        invalid(format!(
            "{shown} is no shape; give a sequence of whole numbers from 0 upwards, such as (1080, 1920, 3)"
        ))
    };
    let lengths = match shape.extract::<u64>() {
        Ok(length) => vec![length],
        Err(_) => shape
            .try_iter()
            .map_err(|_| bad())?
            .map(|length| length?.extract())
            .collect::<PyResult<Vec<u64>>>()
            .map_err(|_| bad())?,
    };
    Shape::new(&lengths).or_raise()
}

/// `(width, height)`, or `"1920x1080"`.
fn size_in_pixels(size: &Bound<'_, PyAny>) -> PyResult<(u32, u32)> {
    let parsed = match size.extract::<String>() {
        Ok(text) => {
            text.split_once('x').and_then(|(width, height)| Some((width.parse().ok()?, height.parse().ok()?)))
        }
        Err(_) => size.extract().ok(),
    };
    parsed.ok_or_else(|| invalid("the size of an image is (width, height) in pixels, such as (1920, 1080)"))
}

/// A word, of which the core says which there are; `forms` does so for what is no string at all.
pub(crate) fn word(name: &str, value: &Bound<'_, PyAny>, forms: &str) -> PyResult<String> {
    value.extract().map_err(|_| wrong_type(name, value, forms))
}

/// For a value of a type that can't be meant; `forms` are what can.
pub(crate) fn wrong_type(name: &str, value: &Bound<'_, PyAny>, forms: &str) -> PyErr {
    let shown = value.repr().map_or_else(|_| "this".into(), |text| text.to_string());
    let class = value.get_type().name().map_or_else(|_| "this type".into(), |name| name.to_string());
    PyTypeError::new_err(format!("{name} can't be {shown}, of type {class}; give {forms}"))
}

/// What to do about a stall, with a hint for who gave the time alone.
pub(crate) fn on_stall(value: &Bound<'_, PyAny>) -> PyResult<OnStall> {
    let forms = match value.extract::<f64>() {
        Ok(seconds) if seconds > 0.0 => {
            format!("the string \"wait\" or \"expel:SECONDS\", here \"expel:{seconds}\"")
        }
        _ => String::from("the string \"wait\" or \"expel:SECONDS\", such as \"expel:2.5\""),
    };
    OnStall::parse(&word("on_stall", value, &forms)?).or_raise()
}

/// A count that the core takes as `u32`; what doesn't even fit is refused here.
pub(crate) fn count(name: &str, value: i64) -> PyResult<u32> {
    u32::try_from(value)
        .map_err(|_| invalid(format!("{name}={value} is out of range; give a small number from 0 upwards")))
}

/// Who will use the memory: `"cpu"`, `"vulkan:0"`, `"camera:/dev/video0"`, …
pub(crate) fn parties(names: &Bound<'_, PyAny>) -> PyResult<Vec<Party>> {
    let names: Vec<String> = match names.extract::<String>() {
        Ok(name) => vec![name],
        Err(_) => names.extract()?,
    };
    names.iter().map(|name| name.parse().or_raise()).collect()
}

/// Refuses a stream: nothing here is on a device yet.
pub(crate) fn no_stream(stream: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
    match stream {
        None => Ok(()),
        Some(_) => Err(crate::errors::unsupported(
            "this memory is the CPU's and has no streams; wait for the device first (torch.cuda.synchronize()) and \
             leave stream=None",
        )),
    }
}
