//! Facts about streams as plain dictionaries, whose types are in `bips/types.py`.

use crate::errors::OrRaise;
use bips::{ConsumerInfo, Content, StreamInfo};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyTuple};
use std::path::PathBuf;

/// A dictionary from `name: value` pairs.
macro_rules! dict {
    ($py:expr, $($name:literal: $value:expr),+ $(,)?) => {{
        let dict = pyo3::types::PyDict::new($py);
        $(dict.set_item(pyo3::intern!($py, $name), $value)?;)+
        dict
    }};
}
pub(crate) use dict;

/// `Layout`: how frames lie in their slots.
pub(crate) fn layout<'py>(
    py: Python<'py>,
    content: &Content,
    slot_bytes: u64,
) -> PyResult<Bound<'py, PyDict>> {
    let planes = PyList::empty(py);
    for plane in content.planes() {
        planes.append(dict!(py,
            "offset": plane.offset, "stride": plane.stride, "width": plane.width, "rows": plane.rows))?;
    }
    Ok(dict!(py,
        "dtype": content.dtype().name(),
        "shape": PyTuple::new(py, content.shape())?,
        "strides": PyTuple::new(py, content.strides())?,
        "format": content.fourcc().map(|fourcc| fourcc.to_string()),
        "nbytes": content.nbytes(),
        "slot_bytes": slot_bytes,
        "planes": planes,
    ))
}

/// A list of `ConsumerInfo`.
pub(crate) fn consumers<'py>(py: Python<'py>, consumers: &[ConsumerInfo]) -> PyResult<Bound<'py, PyList>> {
    let list = PyList::empty(py);
    for consumer in consumers {
        list.append(dict!(py,
            "pid": consumer.pid,
            "label": consumer.label.as_str(),
            "uid": consumer.uid,
            "policy": consumer.policy.to_string(),
            "held": consumer.held,
            "held_for": consumer.held_for.as_secs_f64(),
            "unread": consumer.unread,
            "unread_for": consumer.unread_for.as_secs_f64(),
            "received": consumer.received,
            "missed": consumer.missed,
            "expelled": consumer.expelled,
            "in_the_way": consumer.in_the_way,
        ))?;
    }
    Ok(list)
}

/// Names of the streams whose producer lives, sorted.
///
/// directory: the runtime directory; None for the usual one ($BIPS_DIR, /run/bips, …).
#[pyfunction]
#[pyo3(signature = (directory=None))]
pub(crate) fn streams(py: Python<'_>, directory: Option<PathBuf>) -> PyResult<Vec<String>> {
    py.detach(|| bips::streams(directory.as_deref())).or_raise()
}

/// The public facts of one stream, as a `bips.types.StreamInfo` dictionary.
///
/// Raises bips.NotFound when no producer of this name lives.
#[pyfunction]
#[pyo3(signature = (name, *, directory=None))]
pub(crate) fn info<'py>(
    py: Python<'py>,
    name: &str,
    directory: Option<PathBuf>,
) -> PyResult<Bound<'py, PyDict>> {
    let info: StreamInfo = py.detach(|| bips::query(name, directory.as_deref())).or_raise()?;
    Ok(dict!(py,
        "name": info.name.as_str(),
        "pid": info.pid,
        "memory": info.memory.as_str(),
        "slots": info.slots,
        "layout": layout(py, &info.content, info.slot_bytes)?,
        "published": info.published,
        "evicted": info.evicted,
        "expelled": info.expelled,
        "on_stall": info.on_stall.to_string(),
        "stalled_for": info.stalled_for.map(|time| time.as_secs_f64()),
        "writable": info.writable,
        "reliable": info.reliable,
        "access": info.access.as_str(),
        "max_held": info.max_held,
        "history": info.history,
        "consumers": consumers(py, &info.consumers)?,
    ))
}

/// What works on this machine, what doesn't, and what to do about it, as a `bips.types.Report` dictionary.
///
/// directory: the runtime directory to look at; None for the usual one. Drivers of GPUs are not loaded for it: `bips doctor`
/// tries those.
#[pyfunction]
#[pyo3(signature = (directory=None))]
pub(crate) fn doctor(py: Python<'_>, directory: Option<PathBuf>) -> PyResult<Bound<'_, PyDict>> {
    use bips_backends::Status;
    let report = py.detach(|| bips_backends::doctor_in_passing(directory.as_deref()));
    let checks = PyList::empty(py);
    let mut ok = true;
    for check in &report.checks {
        let status = match check.status {
            Status::Ok => "ok",
            Status::Warn => "warn",
            Status::Fail => "fail",
            Status::Skip => "skip",
        };
        ok &= status != "fail";
        checks.append(dict!(py,
            "name": check.name.as_str(),
            "status": status,
            "detail": check.detail.as_str(),
            "next_step": check.next_step.as_deref(),
        ))?;
    }
    Ok(dict!(py, "ok": ok, "checks": checks))
}
