//! Who uses the buffers of a stream, and how.

use crate::backend::Usage;
use crate::{Error, Result};
use std::fmt;
use std::str::FromStr;

/// One who uses the buffers: what for, and by which device where that matters. In words: `cpu`, `cpu-write`,
/// `camera:/dev/video0`, `vulkan:0`, `cuda:0`, `display`, `encoder`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Party {
    usage: Usage,
    device: Option<String>,
}

/// Bytes of a device's name, as those of a path of a device node may be.
const MAX_DEVICE: usize = 64;

impl Party {
    /// Parties with this usage, one for each flag, by whatever device.
    pub fn all_of(usage: Usage) -> impl Iterator<Item = Self> {
        usage.iter().map(|usage| Self { usage, device: None })
    }

    /// One of the flags of [`Usage`].
    pub fn usage(&self) -> Usage {
        self.usage
    }

    /// The device by name: a path, or a number in the driver's list.
    pub fn device(&self) -> Option<&str> {
        self.device.as_deref()
    }

    /// The device's number, for those that are numbered; 0 if none is named.
    ///
    /// # Errors
    /// `InvalidArgument` for what is no number.
    pub fn number(&self) -> Result<usize> {
        let Some(device) = &self.device else { return Ok(0) };
        let number = device.parse().ok().filter(|number: &usize| *number < 100);
        number
            .ok_or_else(|| Error::invalid(format!("{self} names no device by number; use {}:0", self.usage)))
    }

    /// The parties of a list with commas.
    ///
    /// # Errors
    /// `InvalidArgument`, saying what there is.
    pub fn parse_list(list: &str) -> Result<Vec<Self>> {
        list.split(',').map(str::trim).filter(|word| !word.is_empty()).map(str::parse).collect()
    }
}

impl FromStr for Party {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (word, device) = text.split_once(':').map_or((text, None), |(word, device)| (word, Some(device)));
        let usage = Usage::parse_all([word])?;
        let by_cpu = Usage::CPU | Usage::CPU_WRITE;
        match device {
            Some(_) if by_cpu.contains(usage) => {
                Err(Error::invalid(format!("{text:?}: there is one {word} for all; use {word} alone")))
            }
            Some(device)
                if device.is_empty()
                    || device.len() > MAX_DEVICE
                    || device.contains(|c: char| c.is_control() || c == ',') =>
            {
                Err(Error::invalid(format!(
                    "{text:?} names no device; use {word} alone, or as in camera:/dev/video0 and vulkan:0"
                )))
            }
            device => Ok(Self { usage, device: device.map(Into::into) }),
        }
    }
}

impl fmt::Display for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.device {
            Some(device) => write!(f, "{}:{device}", self.usage),
            None => write!(f, "{}", self.usage),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_come_back_as_they_went() {
        for text in
            ["cpu", "cpu-write", "camera:/dev/video0", "camera", "vulkan:0", "cuda:1", "display", "encoder"]
        {
            assert_eq!(text.parse::<Party>().unwrap().to_string(), text);
        }
        let list = Party::parse_list("camera:/dev/video0, cuda:0,").unwrap();
        assert_eq!(
            list.iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["camera:/dev/video0", "cuda:0"]
        );
        assert_eq!(list[0].device(), Some("/dev/video0"));
        assert_eq!((list[1].number().unwrap(), "vulkan".parse::<Party>().unwrap().number().unwrap()), (0, 0));
    }

    #[test]
    fn nonsense_says_what_there_is() {
        for (text, says) in [
            ("gpu", "cpu, camera, cuda, vulkan"),
            ("", "is not one of"),
            ("cpu:0", "use cpu alone"),
            ("vulkan:", "names no device"),
            ("camera:\n", "names no device"),
        ] {
            let error = text.parse::<Party>().unwrap_err().to_string();
            assert!(error.contains(says), "{text:?}: {error}");
        }
        let long = format!("camera:{}", "x".repeat(65));
        assert!(long.parse::<Party>().is_err());
        let error = list_number("vulkan:first").to_string();
        assert!(error.contains("use vulkan:0"), "{error}");
    }

    fn list_number(text: &str) -> Error {
        text.parse::<Party>().unwrap().number().unwrap_err()
    }
}
