//! The grammar of `ops=`: what to do to a photo, in order.
//!
//! ```text
//! ops       = [ op *( "," op ) ]          at most OPERATIONS_MAX; none: the picture is only encoded anew
//! op        = crop / resize / blur / sharpen
//! crop      = "crop:" X "x" Y "+" W "x" H   the rectangle of W×H pixels whose upper left corner is X,Y
//! resize    = "resize:" W "x" H [ "!" ]     the largest that fits W×H in the picture's proportions; "!": W×H exactly
//! blur      = "blur:" SIGMA                 Gaussian, 0.1 to SIGMA_MAX pixels
//! sharpen   = "sharpen:" SIGMA              unsharp mask over that radius
//! ```
//!
//! Sizes are whole pixels, 1 to [`SIDE_MAX`]. A `+` may come as a space: that is what form decoding makes of it in
//! a query. [`Operations`] displays in the same grammar.

use std::fmt;
use std::str::FromStr;

/// The most operations of a photo.
pub const OPERATIONS_MAX: usize = 8;
/// The longest side of a picture, given or made, in pixels.
pub const SIDE_MAX: u32 = 8192;
/// The most pixels of a picture, given or made.
pub const PIXELS_MAX: u64 = 16_000_000;
/// The least radius, in pixels.
pub const SIGMA_MIN: f32 = 0.1;
/// The widest radius, in pixels: with [`PIXELS_MAX`] and [`OPERATIONS_MAX`] it bounds the time of a job.
pub const SIGMA_MAX: f32 = 20.0;

/// One operation.
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum Operation {
    Crop { x: u32, y: u32, width: u32, height: u32 },
    Resize { width: u32, height: u32, exact: bool },
    Blur { sigma: f32 },
    Sharpen { sigma: f32 },
}

/// Operations in the order in which they are done.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Operations(Vec<Operation>);

/// Why a text is not a list of operations.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidOperations {
    #[allow(missing_docs)]
    #[error("at most {OPERATIONS_MAX} operations")]
    TooMany,
    #[allow(missing_docs)]
    #[error(
        "`{0}` is no operation: there are crop:XxY+WxH, resize:WxH, resize:WxH!, blur:SIGMA and sharpen:SIGMA"
    )]
    Unknown(String),
    #[allow(missing_docs)]
    #[error("`{0}`: sides must be 1 to {SIDE_MAX} pixels and at most {PIXELS_MAX} in all")]
    Size(String),
    #[allow(missing_docs)]
    #[error("`{0}`: the radius must be {SIGMA_MIN} to {SIGMA_MAX} pixels")]
    Sigma(String),
}

impl Operations {
    /// The operations, first to last.
    pub fn iter(&self) -> impl Iterator<Item = Operation> + '_ {
        self.0.iter().copied()
    }
}

impl FromStr for Operations {
    type Err = InvalidOperations;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        if text.bytes().filter(|byte| *byte == b',').count() >= OPERATIONS_MAX {
            return Err(InvalidOperations::TooMany);
        }
        text.split(',').map(Operation::from_str).collect::<Result<_, _>>().map(Self)
    }
}

impl FromStr for Operation {
    type Err = InvalidOperations;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // What is quoted back is bounded.
        let quoted = || text.chars().take(64).collect::<String>();
        let unknown = || InvalidOperations::Unknown(quoted());
        let (name, argument) = text.split_once(':').ok_or_else(unknown)?;
        let operation = match name {
            "crop" => {
                let (corner, size) = argument.split_once(['+', ' ']).ok_or_else(unknown)?;
                let (x, y) = pair(corner).ok_or_else(unknown)?;
                let (width, height) = pair(size).ok_or_else(unknown)?;
                if x >= SIDE_MAX || y >= SIDE_MAX {
                    return Err(InvalidOperations::Size(quoted()));
                }
                Self::Crop { x, y, width, height }
            }
            "resize" => {
                let (size, exact) = argument.strip_suffix('!').map_or((argument, false), |size| (size, true));
                let (width, height) = pair(size).ok_or_else(unknown)?;
                Self::Resize { width, height, exact }
            }
            "blur" => Self::Blur { sigma: decimal(argument).ok_or_else(unknown)? },
            "sharpen" => Self::Sharpen { sigma: decimal(argument).ok_or_else(unknown)? },
            _ => return Err(unknown()),
        };
        match operation {
            Self::Crop { width, height, .. } | Self::Resize { width, height, .. } if !fits(width, height) => {
                Err(InvalidOperations::Size(quoted()))
            }
            Self::Blur { sigma } | Self::Sharpen { sigma } if !(SIGMA_MIN..=SIGMA_MAX).contains(&sigma) => {
                Err(InvalidOperations::Sigma(quoted()))
            }
            _ => Ok(operation),
        }
    }
}

/// Whether a picture of this size is within [`SIDE_MAX`] and [`PIXELS_MAX`].
pub fn fits(width: u32, height: u32) -> bool {
    (1..=SIDE_MAX).contains(&width)
        && (1..=SIDE_MAX).contains(&height)
        && u64::from(width) * u64::from(height) <= PIXELS_MAX
}

/// `AxB`, digits only: no sign, no space.
fn pair(text: &str) -> Option<(u32, u32)> {
    let (a, b) = text.split_once('x')?;
    let number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?;
    Some((number(a)?, number(b)?))
}

/// Digits with at most one point: what `f32` parses besides (`inf`, `1e9`) is none of ours.
fn decimal(text: &str) -> Option<f32> {
    text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.').then(|| text.parse().ok())?
}

impl fmt::Display for Operations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, operation) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            write!(f, "{operation}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Crop { x, y, width, height } => write!(f, "crop:{x}x{y}+{width}x{height}"),
            Self::Resize { width, height, exact } => {
                write!(f, "resize:{width}x{height}{}", if *exact { "!" } else { "" })
            }
            Self::Blur { sigma } => write!(f, "blur:{sigma}"),
            Self::Sharpen { sigma } => write!(f, "sharpen:{sigma}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_four_in_order() {
        let text = "crop:10x20+200x100,resize:640x480,blur:2.5,sharpen:1";
        let operations: Operations = text.parse().unwrap();
        assert_eq!(
            operations.iter().collect::<Vec<_>>(),
            [
                Operation::Crop { x: 10, y: 20, width: 200, height: 100 },
                Operation::Resize { width: 640, height: 480, exact: false },
                Operation::Blur { sigma: 2.5 },
                Operation::Sharpen { sigma: 1.0 },
            ]
        );
        assert_eq!(operations.to_string(), text);
    }

    #[test]
    fn a_plus_may_come_as_a_space_and_none_is_some() {
        assert_eq!("crop:1x2 3x4".parse::<Operations>(), "crop:1x2+3x4".parse());
        assert_eq!("".parse::<Operations>().unwrap().iter().count(), 0);
        assert_eq!("resize:5x6!".parse::<Operations>().unwrap().to_string(), "resize:5x6!");
    }

    #[test]
    fn nonsense_is_refused() {
        for text in [
            ",",
            "crop",
            "crop:",
            "crop:1x1",
            "crop:1x1+x",
            "crop:-1x1+2x2",
            "crop:1x1++2x2",
            "resize:10",
            "resize:10x",
            "resize:+1x1",
            "resize:1x1!!",
            "rotate:90",
            "blur:",
            "blur:.",
            "blur:nan",
            "blur:1e3",
            "blur:-1",
            "BLUR:1",
            "blur:1 ",
            "resize:99999999999x1",
        ] {
            assert!(matches!(text.parse::<Operations>(), Err(InvalidOperations::Unknown(_))), "{text}");
        }
        for text in ["crop:0x0+0x5", "crop:8192x0+5x5", "resize:8193x1", "resize:8192x8192", "resize:0x0"] {
            assert!(matches!(text.parse::<Operations>(), Err(InvalidOperations::Size(_))), "{text}");
        }
        for text in ["blur:0", "sharpen:20.1", "blur:0.05"] {
            assert!(matches!(text.parse::<Operations>(), Err(InvalidOperations::Sigma(_))), "{text}");
        }
        let many = ["blur:1"; OPERATIONS_MAX].join(",");
        assert!(many.parse::<Operations>().is_ok());
        assert_eq!(format!("{many},blur:1").parse::<Operations>(), Err(InvalidOperations::TooMany));
    }
}
