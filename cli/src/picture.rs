//! Pictures in files: what they are decoded to, what is refused, and how they are written.

use crate::input::open_regular;
use crate::pixels::{Layout, MOST_PIXELS};
use anyhow::{Context, Result, bail, ensure};
use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{DynamicImage, ExtendedColorType, ImageDecoder, ImageEncoder, ImageFormat, ImageReader, Limits};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, Write};
use std::path::Path;

/// More than any picture of [`MOST_PIXELS`] takes, twice.
const MOST_BYTES: u64 = 16 * MOST_PIXELS;

/// What a JPEG may have besides its pixels: profiles, thumbnails, a film of the moment.
const MOST_HEADERS: u64 = 128 << 20;
/// Of a JPEG, at the best quality and without luck.
const BYTES_OF_PIXEL: u64 = 16;

/// A decoded picture.
#[derive(Debug)]
pub(crate) struct Picture {
    pub(crate) layout: Layout,
    pub(crate) samples: Samples,
    /// What the numbers mean as colours, if the file says so.
    profile: Option<Vec<u8>>,
}

/// Interleaved, line by line.
#[derive(Clone, Debug)]
pub(crate) enum Samples {
    Eight(Vec<u8>),
    Sixteen(Vec<u16>),
}

impl Picture {
    /// Decode a file; nothing is allocated for a picture that is too large.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let open = || {
            let mut file = open_regular(path)?;
            let format =
                ImageReader::new(BufReader::new(&file)).with_guessed_format().context("cannot read it")?.format();
            file.rewind().context("cannot read it")?;
            match format {
                Some(ImageFormat::Png) => {}
                Some(ImageFormat::Jpeg) => check_jpeg(&file)?,
                _ => bail!("neither a PNG nor a JPEG file"),
            }
            file.rewind().context("cannot read it")?;
            decode(file)
        };
        open().with_context(|| path.display().to_string())
    }

    /// The names of the channels that are pruned; the one that may follow is alpha.
    pub(crate) fn colours(&self) -> &'static [&'static str] {
        if self.layout.stride < 3 { &["grey"] } else { &["red", "green", "blue"] }
    }

    /// Write it as PNG, with other samples.
    pub(crate) fn write(&self, samples: &Samples, out: impl Write) -> Result<()> {
        let Layout { width, height, stride } = self.layout;
        use ExtendedColorType::{L8, L16, La8, La16, Rgb8, Rgb16, Rgba8, Rgba16};
        let (bytes, kinds): (&[u8], _) = match samples {
            Samples::Eight(samples) => (samples, [L8, La8, Rgb8, Rgba8]),
            Samples::Sixteen(samples) => (bytemuck::cast_slice(samples), [L16, La16, Rgb16, Rgba16]),
        };
        // Of a large picture, a better compression takes longer than all else.
        let mut encoder = PngEncoder::new_with_quality(out, CompressionType::Fast, FilterType::Adaptive);
        if let Some(profile) = &self.profile {
            encoder.set_icc_profile(profile.clone()).context("the colour profile")?;
        }
        encoder.write_image(bytes, width, height, kinds[stride - 1]).context("cannot write the picture")
    }
}

fn decode(file: File) -> Result<Picture> {
    let mut reader = ImageReader::new(BufReader::new(file)).with_guessed_format().context("cannot read it")?;
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(MOST_BYTES);
    reader.limits(limits);
    let mut decoder = reader.into_decoder().context("the picture cannot be understood")?;
    let (width, height) = decoder.dimensions();
    let pixels = u64::from(width) * u64::from(height);
    ensure!(
        (1..=MOST_PIXELS).contains(&pixels),
        "the picture has {width} x {height} = {pixels} pixels, and may have 1 to {MOST_PIXELS}"
    );
    let orientation = decoder.orientation().context("the orientation cannot be understood")?;
    let profile = decoder.icc_profile().context("the colour profile cannot be understood")?;
    let mut image = DynamicImage::from_decoder(decoder).context("the picture cannot be decoded")?;
    // As cameras hold it and viewers show it; the output has no word of orientation.
    image.apply_orientation(orientation);
    let (width, height) = (image.width(), image.height());
    let (stride, samples) = match image {
        DynamicImage::ImageLuma8(image) => (1, Samples::Eight(image.into_raw())),
        DynamicImage::ImageLumaA8(image) => (2, Samples::Eight(image.into_raw())),
        DynamicImage::ImageRgb8(image) => (3, Samples::Eight(image.into_raw())),
        DynamicImage::ImageRgba8(image) => (4, Samples::Eight(image.into_raw())),
        DynamicImage::ImageLuma16(image) => (1, Samples::Sixteen(image.into_raw())),
        DynamicImage::ImageLumaA16(image) => (2, Samples::Sixteen(image.into_raw())),
        DynamicImage::ImageRgb16(image) => (3, Samples::Sixteen(image.into_raw())),
        DynamicImage::ImageRgba16(image) => (4, Samples::Sixteen(image.into_raw())),
        other => bail!("the picture has pixels of the kind {:?}, and 8 or 16 bits are needed", other.color()),
    };
    Ok(Picture { layout: Layout { width, height, stride }, samples, profile })
}

/// What the decoder would not say: it paints grey what a truncated file lacks, guesses at the colours of inks, and reads all of a file
/// before it looks at the size of the picture.
pub(crate) fn check_jpeg(file: &File) -> Result<()> {
    let len = file.metadata().context("cannot look at it")?.len();
    let mut reader = BufReader::new(file);
    let (pixels, has_data) = read_segments(&mut reader)?;
    let most = MOST_HEADERS.saturating_add(pixels.saturating_mul(BYTES_OF_PIXEL));
    ensure!(len <= most, "the file has {len} bytes, and a JPEG of {pixels} pixels may have {most}");
    ensure!(pixels <= MOST_PIXELS, "the picture has {pixels} pixels, and may have 1 to {MOST_PIXELS}");
    ensure!(!has_data || has_end(&mut reader).context("cannot read it")?, "truncated: the JPEG data has no end");
    Ok(()) // if it is not what was thought, the decoder will say so
}

/// Walk over segments with lengths, which may hold pictures of their own, up to the first that is followed by data. Returns how
/// many pixels there are, and whether there was such a one.
fn read_segments(reader: &mut BufReader<&File>) -> Result<(u64, bool)> {
    let mut pixels = 0;
    let mut head = next::<2>(reader)?.and(next::<2>(reader)?);
    while let Some([0xff, marker]) = head {
        if marker == 0xff {
            // Any number of these may stand before a marker.
            head = next::<1>(reader)?.map(|[marker]| [0xff, marker]);
            continue;
        }
        let Some(len) = next::<2>(reader)? else { break };
        let mut rest = i64::from(u16::from_be_bytes(len)) - 2;
        // The frame: precision, height, width, and how many colours there are.
        let is_frame = (0xc0..=0xcf).contains(&marker) && ![0xc4, 0xc8, 0xcc].contains(&marker);
        if is_frame {
            let Some([_, high, low, more, less, colours]) = next::<6>(reader)? else { break };
            ensure!(colours != 4, "a CMYK JPEG: its four inks are no grey and no RGB");
            let [height, width] = [[high, low], [more, less]].map(|side| u64::from(u16::from_be_bytes(side)));
            pixels = height * width;
            rest -= 6;
        }
        if rest < 0 {
            break;
        }
        reader.seek_relative(rest).context("cannot read it")?;
        if marker == 0xda {
            return Ok((pixels, true));
        }
        head = next::<2>(reader)?;
    }
    Ok((pixels, false))
}

/// The next bytes, if there are so many.
fn next<const N: usize>(reader: &mut impl Read) -> Result<Option<[u8; N]>> {
    let mut bytes = [0; N];
    match reader.read_exact(&mut bytes) {
        Ok(()) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error).context("cannot read it"),
    }
}

/// In a JPEG's data, 0xff before the end's 0xd9 is nothing else.
fn has_end(reader: &mut impl BufRead) -> io::Result<bool> {
    let mut after_ff = false;
    loop {
        let bytes = reader.fill_buf()?;
        if bytes.is_empty() {
            return Ok(false);
        }
        for &byte in bytes {
            if after_ff && byte == 0xd9 {
                return Ok(true);
            }
            after_ff = byte == 0xff;
        }
        let len = bytes.len();
        reader.consume(len);
    }
}
