//! A picture decoded, edited, encoded. Pure: bytes in, bytes out, the same for the same.
//!
//! What always holds: nothing is decoded before its size is known to be within [`crate::operations::fits`], and no
//! operation makes more than that (decompression bombs). The result has the original's format, save GIF, whose
//! first frame becomes PNG. It keeps the colour profile and none of the other metadata; a camera's orientation is
//! applied first, so that crops mean what the eye sees.

use std::io::Cursor;

use image::codecs::jpeg::JpegEncoder;
use image::codecs::png::PngEncoder;
use image::codecs::webp::WebPEncoder;
use image::imageops::FilterType;
use image::{
    DynamicImage, ExtendedColorType, ImageDecoder, ImageEncoder, ImageError, ImageFormat, ImageReader, Limits,
};

use crate::operations::{Operation, Operations, SIDE_MAX, fits};
use crate::photo::{PHOTO_BYTES_MAX, Picture};

/// Of 100; where more is hardly seen.
const JPEG_QUALITY: u8 = 88;
/// What a decoder may allocate besides the picture, in bytes.
const DECODER_ALLOCATION_MAX: u64 = 256 << 20;

/// Why a picture can't be had.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub(crate) enum PictureError {
    #[error("not a picture of a known format: JPEG, PNG, WebP and GIF are")]
    Format,
    #[error(
        "too large: {width}x{height} pixels; sides may have {SIDE_MAX}, all together {}",
        crate::operations::PIXELS_MAX
    )]
    Size { width: u32, height: u32 },
    #[error("damaged: {0}")]
    Damaged(String),
    #[error("{operation} has no pixel in the picture of {width}x{height}")]
    OutsideOfPicture { operation: Operation, width: u32, height: u32 },
    #[error("the result has {0} bytes; {PHOTO_BYTES_MAX} are the most")]
    ResultBytes(usize),
    #[error("the result can't be encoded: {0}")]
    Encode(ImageError),
}

/// What the picture's head says of it; its body is not looked at.
pub(crate) fn inspect(bytes: &[u8]) -> Result<Picture, PictureError> {
    let format = format_of(bytes)?;
    let (width, height) = decoder(bytes, format)?.dimensions();
    if !fits(width, height) {
        return Err(PictureError::Size { width, height });
    }
    Ok(Picture { content_type: format.to_mime_type().into(), bytes: bytes.len(), width, height })
}

/// Does `operations` in order.
pub(crate) fn edit(bytes: &[u8], operations: &Operations) -> Result<(Vec<u8>, Picture), PictureError> {
    inspect(bytes)?;
    let format = format_of(bytes)?;
    let mut decoder = decoder(bytes, format)?;
    let profile = decoder.icc_profile().ok().flatten();
    let orientation = decoder.orientation().map_err(damaged)?;
    let mut picture = eight_bit(DynamicImage::from_decoder(decoder).map_err(damaged)?);
    picture.apply_orientation(orientation);
    for operation in operations.iter() {
        picture = apply(&picture, operation)?;
    }
    encode(&picture, format, profile)
}

fn format_of(bytes: &[u8]) -> Result<ImageFormat, PictureError> {
    match image::guess_format(bytes) {
        Ok(format @ (ImageFormat::Jpeg | ImageFormat::Png | ImageFormat::WebP | ImageFormat::Gif)) => {
            Ok(format)
        }
        _ => Err(PictureError::Format),
    }
}

fn decoder(bytes: &[u8], format: ImageFormat) -> Result<impl ImageDecoder + '_, PictureError> {
    let mut limits = Limits::default();
    limits.max_image_width = Some(SIDE_MAX);
    limits.max_image_height = Some(SIDE_MAX);
    limits.max_alloc = Some(DECODER_ALLOCATION_MAX);
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    reader.limits(limits);
    reader.into_decoder().map_err(damaged)
}

fn damaged(error: ImageError) -> PictureError {
    match error {
        ImageError::Limits(limit) => PictureError::Damaged(format!("beyond the limits: {limit}")),
        other => PictureError::Damaged(other.to_string()),
    }
}

/// Eight bits a channel, with alpha where there is any: what every format here can carry.
fn eight_bit(picture: DynamicImage) -> DynamicImage {
    match (&picture, picture.color().has_alpha()) {
        (DynamicImage::ImageRgb8(_) | DynamicImage::ImageRgba8(_), _) => picture,
        (_, true) => picture.into_rgba8().into(),
        (_, false) => picture.into_rgb8().into(),
    }
}

fn apply(picture: &DynamicImage, operation: Operation) -> Result<DynamicImage, PictureError> {
    let (width_now, height_now) = (picture.width(), picture.height());
    match operation {
        Operation::Crop { x, y, width, height } => {
            if x >= width_now || y >= height_now {
                return Err(PictureError::OutsideOfPicture {
                    operation,
                    width: width_now,
                    height: height_now,
                });
            }
            // What lies beyond the edge is cut off.
            Ok(picture.crop_imm(x, y, width, height))
        }
        Operation::Resize { width, height, exact: true } => Ok(stretch(picture, width, height)),
        Operation::Resize { width, height, exact: false } => {
            Ok(picture.resize(width, height, FilterType::Lanczos3))
        }
        Operation::Blur { sigma } => Ok(picture.blur(sigma)),
        Operation::Sharpen { sigma } => Ok(picture.unsharpen(sigma, 0)),
    }
}

/// Stretches to this size. The library resizes one way first, with sixteen bytes a pixel in between; that picture can
/// be far larger than both (8192×1000 to 1000×8192), so the way that makes the smaller one comes first: it has at
/// most as many pixels as the larger of both.
fn stretch(picture: &DynamicImage, width: u32, height: u32) -> DynamicImage {
    let (width_now, height_now) = (picture.width(), picture.height());
    if u64::from(width_now) * u64::from(height) <= u64::from(width) * u64::from(height_now) {
        return picture.resize_exact(width, height, FilterType::Lanczos3);
    }
    picture.resize_exact(width, height_now, FilterType::Lanczos3).resize_exact(
        width,
        height,
        FilterType::Lanczos3,
    )
}

fn encode(
    picture: &DynamicImage,
    format: ImageFormat,
    profile: Option<Vec<u8>>,
) -> Result<(Vec<u8>, Picture), PictureError> {
    let mut bytes = Vec::new();
    let format = match format {
        ImageFormat::Gif => ImageFormat::Png,
        other => other,
    };
    match format {
        // JPEG knows no alpha; a JPEG original has none.
        ImageFormat::Jpeg => {
            let picture = DynamicImage::from(picture.to_rgb8());
            write(JpegEncoder::new_with_quality(&mut bytes, JPEG_QUALITY), &picture, profile)?;
        }
        ImageFormat::WebP => write(WebPEncoder::new_lossless(&mut bytes), picture, profile)?,
        _ => write(PngEncoder::new(&mut bytes), picture, profile)?,
    }
    if bytes.len() > PHOTO_BYTES_MAX {
        return Err(PictureError::ResultBytes(bytes.len()));
    }
    let description = Picture {
        content_type: format.to_mime_type().into(),
        bytes: bytes.len(),
        width: picture.width(),
        height: picture.height(),
    };
    Ok((bytes, description))
}

fn write(
    mut encoder: impl ImageEncoder,
    picture: &DynamicImage,
    profile: Option<Vec<u8>>,
) -> Result<(), PictureError> {
    if let Some(profile) = profile {
        // A format that carries none goes without.
        let _ = encoder.set_icc_profile(profile);
    }
    let color = if picture.color().has_alpha() { ExtendedColorType::Rgba8 } else { ExtendedColorType::Rgb8 };
    encoder
        .write_image(picture.as_bytes(), picture.width(), picture.height(), color)
        .map_err(PictureError::Encode)
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::{Rgb, RgbImage, RgbaImage};

    /// 4×2: the left half red, the right half blue, one green pixel in the corner.
    fn flag() -> RgbImage {
        RgbImage::from_fn(4, 2, |x, y| match (x, y) {
            (0, 0) => Rgb([0, 255, 0]),
            (0..2, _) => Rgb([255, 0, 0]),
            _ => Rgb([0, 0, 255]),
        })
    }

    fn encoded(picture: impl Into<DynamicImage>, format: ImageFormat) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        picture.into().write_to(&mut bytes, format).unwrap();
        bytes.into_inner()
    }

    fn edited(bytes: &[u8], operations: &str) -> RgbImage {
        let (bytes, description) = edit(bytes, &operations.parse().unwrap()).unwrap();
        let picture = image::load_from_memory(&bytes).unwrap().into_rgb8();
        assert_eq!((description.width, description.height), picture.dimensions());
        assert_eq!(description.bytes, bytes.len());
        picture
    }

    #[test]
    fn crop_takes_these_pixels() {
        let picture = edited(&encoded(flag(), ImageFormat::Png), "crop:1x1+2x1");
        assert_eq!(picture.dimensions(), (2, 1));
        assert_eq!(picture.get_pixel(0, 0), &Rgb([255, 0, 0]));
        assert_eq!(picture.get_pixel(1, 0), &Rgb([0, 0, 255]));
    }

    #[test]
    fn crop_is_cut_at_the_edge_and_must_touch_the_picture() {
        let png = encoded(flag(), ImageFormat::Png);
        assert_eq!(edited(&png, "crop:3x0+100x100").dimensions(), (1, 2));
        let outside = edit(&png, &"crop:4x0+1x1".parse().unwrap());
        assert!(matches!(outside, Err(PictureError::OutsideOfPicture { .. })));
    }

    #[test]
    fn resize_keeps_proportions_unless_told() {
        let png = encoded(flag(), ImageFormat::Png);
        assert_eq!(edited(&png, "resize:8x8").dimensions(), (8, 4));
        assert_eq!(edited(&png, "resize:8x8!").dimensions(), (8, 8));
        assert_eq!(edited(&png, "resize:2x2,resize:1x1!").dimensions(), (1, 1));
    }

    #[test]
    fn blur_softens_and_sharpen_hardens_an_edge() {
        let step = RgbImage::from_fn(16, 4, |x, _| if x < 8 { Rgb([64; 3]) } else { Rgb([192; 3]) });
        let png = encoded(step, ImageFormat::Png);
        let blurred = edited(&png, "blur:2");
        let (dark, light) = (blurred.get_pixel(7, 2)[0], blurred.get_pixel(8, 2)[0]);
        assert!(64 < dark && dark < light && light < 192, "{dark} {light}");
        let sharpened = edited(&png, "sharpen:2");
        let (dark, light) = (sharpened.get_pixel(7, 2)[0], sharpened.get_pixel(8, 2)[0]);
        assert!(dark < 64 && light > 192, "{dark} {light}");
        // Far from the edge nothing changes.
        assert_eq!(sharpened.get_pixel(0, 0)[0], 64);
    }

    #[test]
    fn order_counts() {
        let png = encoded(flag(), ImageFormat::Png);
        assert_eq!(edited(&png, "crop:0x0+2x2,resize:4x4").dimensions(), (4, 4));
        assert_eq!(edited(&png, "resize:4x4,crop:0x0+2x2").dimensions(), (2, 2));
    }

    #[test]
    fn formats_stay_and_gif_becomes_png() {
        for (format, then) in [
            (ImageFormat::Png, "image/png"),
            (ImageFormat::Jpeg, "image/jpeg"),
            (ImageFormat::WebP, "image/webp"),
            (ImageFormat::Gif, "image/png"),
        ] {
            let original: DynamicImage = if format == ImageFormat::Gif {
                DynamicImage::from(flag()).into_rgba8().into()
            } else {
                flag().into()
            };
            let (bytes, picture) = edit(&encoded(original, format), &Operations::default()).unwrap();
            assert_eq!(picture.content_type, then);
            assert_eq!(inspect(&bytes).unwrap(), picture);
        }
    }

    #[test]
    fn alpha_and_other_depths_survive() {
        let clear = RgbaImage::from_pixel(2, 2, image::Rgba([10, 20, 30, 40]));
        let (bytes, _) = edit(&encoded(clear.clone(), ImageFormat::Png), &Operations::default()).unwrap();
        assert_eq!(image::load_from_memory(&bytes).unwrap().into_rgba8(), clear);
        let deep = image::ImageBuffer::from_pixel(2, 2, image::Luma([0xffff_u16]));
        let white = edited(&encoded(DynamicImage::ImageLuma16(deep), ImageFormat::Png), "");
        assert_eq!(white.get_pixel(1, 1), &Rgb([255; 3]));
    }

    #[test]
    fn a_camera_held_upright_gives_an_upright_picture() {
        // Left half black, right half white, 32×16; EXIF orientation 6: shown turned clockwise, black on top.
        let picture = RgbImage::from_fn(32, 16, |x, _| if x < 16 { Rgb([0; 3]) } else { Rgb([255; 3]) });
        let jpeg = encoded(picture, ImageFormat::Jpeg);
        let exif =
            b"\xff\xe1\x00\x22Exif\0\0MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";
        let turned = edited(&[&jpeg[..2], exif, &jpeg[2..]].concat(), "crop:0x0+16x30");
        assert_eq!(turned.dimensions(), (16, 30));
        assert!(turned.get_pixel(8, 4)[0] < 30 && turned.get_pixel(8, 26)[0] > 225);
    }

    #[test]
    fn stretching_either_way_first_is_the_same_to_the_eye() {
        let wide = encoded(RgbImage::from_fn(200, 10, |x, _| Rgb([x as u8; 3])), ImageFormat::Png);
        let tall = edited(&wide, "resize:10x200!");
        assert_eq!(tall.dimensions(), (10, 200));
        for x in 0..10 {
            let (is, should) = (i32::from(tall.get_pixel(x, 100)[0]), 10 + 20 * x as i32);
            assert!((is - should).abs() < 6, "{x}: {is}");
        }
    }

    #[test]
    fn doing_it_twice_gives_the_same_bytes() {
        let png = encoded(flag(), ImageFormat::Png);
        let operations = "resize:40x40,blur:1.5,sharpen:1".parse().unwrap();
        assert_eq!(edit(&png, &operations).unwrap(), edit(&png, &operations).unwrap());
    }

    #[test]
    fn bombs_and_rubbish_are_refused() {
        assert!(matches!(edit(b"GIF", &Operations::default()), Err(PictureError::Format)));
        assert!(matches!(edit(&[b'a'; 1 << 20], &Operations::default()), Err(PictureError::Format)));
        let png = encoded(flag(), ImageFormat::Png);
        assert!(matches!(
            edit(&png[..png.len() - 20], &Operations::default()),
            Err(PictureError::Damaged(_))
        ));
        // A head that claims 60,000 × 60,000 pixels, with its checksum right; no body is needed to refuse it.
        let mut bomb = png;
        bomb[16..20].copy_from_slice(&60_000_u32.to_be_bytes());
        bomb[20..24].copy_from_slice(&60_000_u32.to_be_bytes());
        let crc = crc32(&bomb[12..29]);
        bomb[29..33].copy_from_slice(&crc.to_be_bytes());
        let refused = edit(&bomb, &Operations::default()).unwrap_err().to_string();
        assert!(refused.contains("too large") || refused.contains("limits"), "{refused}");
    }

    fn crc32(bytes: &[u8]) -> u32 {
        !bytes.iter().fold(!0_u32, |crc, byte| {
            (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
                (crc >> 1) ^ if crc & 1 == 1 { 0xedb8_8320 } else { 0 }
            })
        })
    }
}
