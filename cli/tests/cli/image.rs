//! `emprune image`: every kind of picture against the rule in big integers, and pictures that are none.

use crate::desk::{Desk, backends, skipped, texts, wants_gpu};
use crate::schema::obeys;
use image::{DynamicImage, ImageBuffer, ImageFormat, Luma, LumaA, Rgb, Rgba};
use num_bigint::BigUint;
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::Cursor;

/// A picture as numbers.
#[derive(Clone, Debug, PartialEq)]
struct Numbers {
    width: usize,
    height: usize,
    /// Samples of a pixel, and how many of them are colours.
    stride: usize,
    colours: usize,
    samples: Vec<u32>,
}

impl Numbers {
    fn of(image: &DynamicImage) -> Self {
        let (width, height, stride) = (image.width() as usize, image.height() as usize, image.color().channel_count());
        let samples = match image.as_flat_samples_u8() {
            Some(flat) => flat.samples.iter().map(|&sample| sample.into()).collect(),
            None => image.as_flat_samples_u16().unwrap().samples.iter().map(|&sample| sample.into()).collect(),
        };
        let colours = if stride < 3 { 1 } else { 3 };
        Self { width, height, stride: stride.into(), colours, samples }
    }

    /// The rule, as it is written: the kept samples of every channel, the effective numbers of its patches, and the picture that is left.
    fn pruned(&self, side: usize, (numerator, denominator): (u32, u32)) -> (Vec<u64>, Vec<Vec<f64>>, Self) {
        let mut output = self.clone();
        let (mut kept, mut n_eff) = (vec![0; self.colours], vec![Vec::new(); self.colours]);
        for (channel, kept) in kept.iter_mut().enumerate() {
            for top in (0..self.height).step_by(side) {
                for left in (0..self.width).step_by(side) {
                    let (bottom, right) = ((top + side).min(self.height), (left + side).min(self.width));
                    let patch = (top..bottom).flat_map(|y| (left..right).map(move |x| (x, y)));
                    let patch: Vec<_> = patch.map(|(x, y)| (y * self.width + x) * self.stride + channel).collect();
                    let levels: Vec<_> = patch.iter().map(|&at| self.samples[at]).collect();
                    let (winners, mean, effective) = contest(&levels, numerator, denominator);
                    n_eff[channel].push(effective);
                    *kept += winners.iter().filter(|&&wins| wins).count() as u64;
                    for (&at, wins) in patch.iter().zip(winners) {
                        if !wins {
                            output.samples[at] = mean;
                        }
                    }
                }
            }
        }
        (kept, n_eff, output)
    }
}

/// The nearest f64: the standard library knows what a decimal is nearest to.
fn ratio(up: &BigUint, down: &BigUint) -> f64 {
    let scaled = up * BigUint::from(10u32).pow(40);
    let sticky = if (&scaled % down) == BigUint::ZERO { "" } else { "1" };
    let text = format!("{:0>60}{sticky}", (scaled / down).to_string());
    let (whole, fraction) = text.split_at(20);
    format!("{whole}.{fraction}").parse().unwrap()
}

/// Who is kept, the rounded mean, and the effective number.
fn contest(levels: &[u32], numerator: u32, denominator: u32) -> (Vec<bool>, u32, f64) {
    let n = BigUint::from(levels.len());
    let sum: BigUint = levels.iter().map(|&level| BigUint::from(level)).sum();
    let mut known = BTreeMap::new();
    // A score in units of 2^-149: what f32 a decimal is nearest to, the standard library knows.
    let mut score = |level: u32| {
        let of = |known: &mut BTreeMap<u32, BigUint>| {
            let scaled = BigUint::from(level) * &n;
            let distance = if scaled > sum { scaled - &sum } else { &sum - scaled } * BigUint::from(10u32).pow(60);
            let sticky = if (&distance % &n) == BigUint::ZERO { "" } else { "1" };
            let text = format!("{:0>70}{sticky}", (distance / &n).to_string());
            let (whole, fraction) = text.split_at(10);
            let bits = format!("{whole}.{fraction}").parse::<f32>().unwrap().to_bits();
            let (exponent, mantissa) = (bits >> 23, BigUint::from(bits & 0x7f_ffff));
            let units = if exponent == 0 { mantissa } else { (mantissa + (1u32 << 23)) << (exponent - 1) };
            known.insert(level, units.clone());
            units
        };
        known.get(&level).cloned().unwrap_or_else(|| of(&mut known))
    };
    let scores: Vec<BigUint> = levels.iter().map(|&level| score(level)).collect();
    let (s, q): (BigUint, BigUint) = (scores.iter().sum(), scores.iter().map(|score| score * score).sum());
    let (squared, n_eff) = (&s * &s, if q == BigUint::ZERO { levels.len() as f64 } else { ratio(&(&s * &s), &q) });
    let k = if q == BigUint::ZERO { n.clone() } else { numerator * squared / (denominator * q) };
    let k = usize::try_from(k.clamp(1u32.into(), n.clone())).unwrap();
    let mut order: Vec<usize> = (0..levels.len()).collect();
    order.sort_by(|&a, &b| scores[b].cmp(&scores[a]).then(a.cmp(&b)));
    let mut winners = vec![false; levels.len()];
    order[..k].iter().for_each(|&at| winners[at] = true);
    let (floor, rest) = (&sum / &n, &sum % &n * 2u32);
    let up = rest > n || (rest == n && floor.bit(0));
    (winners, u32::try_from(floor).unwrap() + u32::from(up), n_eff)
}

/// Something like a photo: soft shades, an edge, noise.
fn level(x: u32, y: u32, channel: u32, levels: u32) -> u32 {
    let noise = (x.wrapping_mul(2_654_435_761) ^ y.wrapping_mul(0x9e37_79b9) ^ channel.wrapping_mul(0x85eb_ca6b)) % 23;
    let edge = if (x / 5 + y / 7).is_multiple_of(3) { levels / 3 } else { levels / 2 };
    (edge + x * levels / 200 + y * (channel + 1) * levels / 300 + noise * levels / 256) % levels
}

fn picture(kind: &str, width: u32, height: u32) -> DynamicImage {
    let eight = |x, y, channel| level(x, y, channel, 1 << 8) as u8;
    let sixteen = |x, y, channel| level(x, y, channel, 1 << 16) as u16;
    macro_rules! make {
        ($variant:ident, $pixel:ident, $level:ident, $($channel:literal)*) => {
            DynamicImage::$variant(ImageBuffer::from_fn(width, height, |x, y| $pixel([$($level(x, y, $channel)),*])))
        };
    }
    match kind {
        "L8" => make!(ImageLuma8, Luma, eight, 0),
        "LA8" => make!(ImageLumaA8, LumaA, eight, 0 1),
        "RGB8" => make!(ImageRgb8, Rgb, eight, 0 1 2),
        "RGBA8" => make!(ImageRgba8, Rgba, eight, 0 1 2 3),
        "L16" => make!(ImageLuma16, Luma, sixteen, 0),
        "LA16" => make!(ImageLumaA16, LumaA, sixteen, 0 1),
        "RGB16" => make!(ImageRgb16, Rgb, sixteen, 0 1 2),
        _ => make!(ImageRgba16, Rgba, sixteen, 0 1 2 3),
    }
}

const KINDS: [&str; 8] = ["L8", "LA8", "RGB8", "RGBA8", "L16", "LA16", "RGB16", "RGBA16"];

fn encoded(image: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

fn decoded(bytes: &[u8]) -> DynamicImage {
    image::load_from_memory_with_format(bytes, ImageFormat::Png).unwrap()
}

/// Prune `in` and compare with the oracle; what the report says comes back.
fn check(desk: &Desk, input: &DynamicImage, args: &[&str], side: usize, beta: (u32, u32)) -> Value {
    let (stdout, _) = desk.succeed(&[&["image", "in", "-o", "out.png", "--overwrite", "--json"], args].concat());
    let report: Value = serde_json::from_str(&stdout).unwrap();
    obeys(desk, "image", &report);
    assert_eq!(report.get("fallback"), Some(&Value::Null));
    let (kept, n_eff, expected) = Numbers::of(input).pruned(side, beta);
    let output = decoded(&desk.read("out.png"));
    let what = format!("{:?} {}x{} {args:?}", input.color(), input.width(), input.height());
    assert_eq!(output.color(), input.color(), "{what}");
    assert!(Numbers::of(&output) == expected, "{what}: other pixels than the rule's");
    let channels = report["channels"].as_array().unwrap();
    let says: Vec<_> = channels.iter().map(|channel| channel["kept"].as_u64().unwrap()).collect();
    assert_eq!(says, kept, "{what}");
    for (channel, patches) in channels.iter().zip(n_eff) {
        // One number for a whole channel, none for patches.
        let whole = patches.first().filter(|_| !args.contains(&"--patch"));
        assert_eq!(channel["n_eff"].as_f64().map(f64::to_bits), whole.map(|n_eff| n_eff.to_bits()), "{what}");
    }
    assert_eq!(report["totals"]["kept"], kept.iter().sum::<u64>());
    let names: Vec<_> = channels.iter().map(|channel| channel["name"].as_str().unwrap()).collect();
    assert_eq!(names, if kept.len() == 1 { &["grey"][..] } else { &["red", "green", "blue"] });
    report
}

#[test]
fn every_kind_of_picture_keeps_what_the_rule_says() {
    let desk = Desk::new();
    for kind in KINDS {
        for (width, height) in [(13, 7), (1, 1), (1, 9), (17, 1)] {
            let input = picture(kind, width, height);
            desk.write("in", &encoded(&input, ImageFormat::Png));
            check(&desk, &input, &[], 17, (1, 1));
            check(&desk, &input, &["--patch", "4", "--beta", "0.7"], 4, (7, 10));
        }
    }
}

#[test]
fn patches_of_any_size_have_a_mean_each() {
    let desk = Desk::new();
    let input = picture("RGB8", 20, 15);
    desk.write("in", &encoded(&input, ImageFormat::Png));
    for side in [1, 2, 3, 5, 7, 14, 15, 16, 20, 4_000_000_000] {
        let report = check(&desk, &input, &["--patch", &side.to_string()], side, (1, 1));
        let channel = &report["channels"][0];
        let patches = (20usize.div_ceil(side) * 15usize.div_ceil(side)) as u64;
        assert_eq!((&channel["contests"], &channel["n_eff"]), (&Value::from(patches), &Value::Null));
    }
    // A patch of one pixel is flat: it is its mean, and is kept.
    let report = check(&desk, &input, &["--patch", "1"], 1, (1, 1));
    assert_eq!((&report["totals"]["sparsity"], &report["totals"]["psnr"]), (&Value::from(0.0), &Value::Null));
    assert_eq!(decoded(&desk.read("out.png")), input);
}

/// As Wang and others have it, in windows of 8 x 8 side by side.
fn similarity(before: &Numbers, after: &Numbers, channel: usize, peak: f64) -> f64 {
    let mut total = 0.0;
    for top in (0..before.height).step_by(8) {
        for left in (0..before.width).step_by(8) {
            let (bottom, right) = ((top + 8).min(before.height), (left + 8).min(before.width));
            let window = (top..bottom).flat_map(|y| (left..right).map(move |x| (x, y)));
            let window: Vec<_> = window.map(|(x, y)| (y * before.width + x) * before.stride + channel).collect();
            let count = window.len() as f64;
            let of = |picture: &Numbers| window.iter().map(|&at| f64::from(picture.samples[at])).collect::<Vec<f64>>();
            let (a, b) = (of(before), of(after));
            let [mean_a, mean_b] = [&a, &b].map(|levels| levels.iter().sum::<f64>() / count);
            let moment = |a: &[f64], mean_a: f64, b: &[f64], mean_b: f64| {
                a.iter().zip(b).map(|(a, b)| (a - mean_a) * (b - mean_b)).sum::<f64>() / count
            };
            let (c1, c2) = ((0.01 * peak).powi(2), (0.03 * peak).powi(2));
            let spread = moment(&a, mean_a, &a, mean_a) + moment(&b, mean_b, &b, mean_b);
            let light = (2.0 * mean_a * mean_b + c1) / (mean_a.powi(2) + mean_b.powi(2) + c1);
            total += count * light * (2.0 * moment(&a, mean_a, &b, mean_b) + c2) / (spread + c2);
        }
    }
    total / (before.width * before.height) as f64
}

#[test]
fn long_contests_use_tables_and_several_bands() {
    let desk = Desk::new();
    // More samples than levels, and lines that do not fill the windows in which pictures are compared.
    for (kind, width, height) in [("RGB8", 40, 270), ("L16", 260, 300)] {
        let input = picture(kind, width, height);
        desk.write("in", &encoded(&input, ImageFormat::Png));
        let report = check(&desk, &input, &["--report", "report"], 300, (1, 1));
        assert_eq!(desk.json("report"), report);
        let output = decoded(&desk.read("out.png"));
        let (before, after) = (Numbers::of(&input), Numbers::of(&output));
        let squares = before.samples.iter().zip(&after.samples).map(|(a, b)| f64::from(a.abs_diff(*b)).powi(2));
        let mean = squares.sum::<f64>() / before.samples.len() as f64;
        let peak = if kind == "L16" { 65535.0f64 } else { 255.0 };
        let psnr = report["totals"]["psnr"].as_f64().unwrap();
        assert!((psnr - 10.0 * (peak * peak / mean).log10()).abs() < 1e-9, "{psnr}");
        let similarity = |channel| similarity(&before, &after, channel, peak);
        let expected = (0..before.colours).map(similarity).sum::<f64>() / before.colours as f64;
        let ssim = report["totals"]["ssim"].as_f64().unwrap();
        assert!((ssim - expected).abs() < 1e-9 && (0.01..0.999).contains(&ssim), "{ssim} is not {expected}");
        for channel in report["channels"].as_array().unwrap() {
            let share = channel["n_eff"].as_f64().unwrap().floor();
            assert_eq!(channel["kept"].as_f64().unwrap().to_bits(), share.to_bits(), "{channel}");
            assert!(channel["mass"].as_f64() >= channel["mass_bound"].as_f64(), "{channel}");
        }
    }
}

#[test]
fn a_flat_picture_stays_as_it_is() {
    let desk = Desk::new();
    let input = DynamicImage::ImageRgb8(ImageBuffer::from_pixel(9, 9, Rgb([7, 255, 0])));
    desk.write("in", &encoded(&input, ImageFormat::Png));
    for args in [&[][..], &["--patch", "4"], &["--beta", "0.1"]] {
        let totals = check(&desk, &input, args, if args.len() == 2 && args[0] == "--patch" { 4 } else { 9 }, (1, 1));
        let totals = &totals["totals"];
        assert_eq!((&totals["sparsity"], &totals["psnr"]), (&Value::from(0.0), &Value::Null));
        assert_eq!(totals["ssim"], 1.0);
        assert_eq!(decoded(&desk.read("out.png")), input);
    }
    let (stdout, _) = desk.succeed(&["image", "in", "-o", "out.png", "--overwrite"]);
    for part in ["PSNR infinite", "SSIM 1.0000", "red", "9 x 9, 8 bits", "243 of 243 samples kept"] {
        assert!(stdout.contains(part), "{stdout} is without {part:?}");
    }
}

#[test]
fn every_backend_makes_the_same_picture() {
    let backends = backends();
    let [_, gpu] = &backends[..] else { return };
    let desk = Desk::new();
    for (kind, patch) in [
        ("RGB8", &[][..]),
        ("RGBA16", &[]),
        ("RGB8", &["--patch", "8"]),
        ("L16", &["--patch", "50"]),
        ("L8", &["--beta", "0.7"]),
        ("LA8", &[]),
        ("LA16", &["--patch", "301"]),
        ("RGBA8", &["--patch", "16", "--beta", "1.3"]),
        ("RGB16", &[]),
        ("JPEG", &["--patch", "8"]),
    ] {
        let picture = if kind == "JPEG" {
            encoded(&picture("RGB8", 301, 203), ImageFormat::Jpeg)
        } else {
            encoded(&picture(kind, 301, 203), ImageFormat::Png)
        };
        desk.write("in", &picture);
        desk.succeed(&[&["image", "in", "-o", "cpu.png", "--overwrite", "--report", "cpu"], patch].concat());
        let args = ["image", "in", "-o", "gpu.png", "--overwrite", "--report", "gpu"];
        let output = desk.run(&[&args[..], gpu, patch].concat());
        assert_eq!(output.status.code(), Some(0), "{}", texts(&output).1);
        assert!(desk.read("cpu.png") == desk.read("gpu.png"), "{kind} {patch:?}");
        let (mut cpu, mut gpu) = (desk.json("cpu"), desk.json("gpu"));
        assert_eq!((&cpu["backend"], &gpu["backend"]), (&Value::from("cpu"), &Value::from("gpu")));
        for report in [&mut cpu, &mut gpu] {
            report["backend"].take();
            report["adapter"].take();
        }
        assert_eq!(cpu, gpu);
    }
}

#[test]
fn a_device_that_fails_leaves_the_picture_to_the_cpu_or_fails_clearly() {
    if !wants_gpu() || !cfg!(debug_assertions) {
        skipped("no GPU is wanted, or a release build has no faults to inject");
        return;
    }
    let desk = Desk::new();
    let adapter = std::env::var("EMPRUNE_TEST_ADAPTER").unwrap_or_default();
    desk.write("in", &encoded(&picture("RGB8", 301, 203), ImageFormat::Png));
    desk.succeed(&["image", "in", "-o", "cpu.png", "--patch", "16"]);
    let run = |backend: &str, out: &str| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_emprune"));
        command.env("XDG_RUNTIME_DIR", std::env::temp_dir()).env("EMPRUNE_FAULT", "lost:3");
        command.args([
            "image",
            "in",
            "-o",
            out,
            "--patch",
            "16",
            "--backend",
            backend,
            "--adapter",
            &adapter,
            "--json",
        ]);
        command.current_dir(desk.path(".")).output().unwrap()
    };
    let output = run("auto", "auto.png");
    let (stdout, stderr) = texts(&output);
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    assert!(stderr.contains("channel: ") && stderr.contains("the CPU goes on from there"), "{stderr}");
    let report: Value = serde_json::from_str(&stdout).unwrap();
    obeys(&desk, "image", &report);
    let fallback = &report["fallback"];
    assert!(fallback["reason"].as_str().unwrap().contains("lost") && fallback["tensor"] == "red", "{fallback}");
    assert!(desk.read("auto.png") == desk.read("cpu.png"));
    let output = run("gpu", "none.png");
    assert_eq!(output.status.code(), Some(1), "{}", texts(&output).1);
    assert_eq!(desk.names(), ["auto.png", "cpu.png", "in"], "debris");
}

/// A JPEG with a word about how the camera was held.
fn turned(jpeg: &[u8], orientation: u8) -> Vec<u8> {
    let exif = [
        b"Exif\0\0MM\0*\0\0\0\x08\0\x01".as_slice(),
        &[0x01, 0x12, 0, 3, 0, 0, 0, 1, 0, orientation, 0, 0, 0, 0, 0, 0],
    ]
    .concat();
    let len = (exif.len() as u16 + 2).to_be_bytes();
    [&jpeg[..2], &[0xff, 0xe1], &len, &exif, &jpeg[2..]].concat()
}

#[test]
fn a_jpeg_is_pruned_as_it_is_seen() {
    let desk = Desk::new();
    for kind in ["RGB8", "L8"] {
        let jpeg = encoded(&picture(kind, 33, 20), ImageFormat::Jpeg);
        let seen = image::load_from_memory(&jpeg).unwrap();
        desk.write("in", &jpeg);
        check(&desk, &seen, &[], 33, (1, 1));
        desk.write("in", &turned(&jpeg, 6));
        let report = check(&desk, &seen.rotate90(), &["--patch", "6"], 6, (1, 1));
        assert_eq!((&report["width"], &report["height"]), (&Value::from(20), &Value::from(33)));
        // Not all of it: a decoder that paints the rest grey is not believed.
        for end in [jpeg.len() - 2, jpeg.len() - 30] {
            desk.write("in", &jpeg[..end]);
            desk.fail(&["image", "in", "-o", "half.png"], 1, &["in: ", "truncated"]);
        }
    }
}

/// The checksum of a PNG's chunk.
fn crc(bytes: &[u8]) -> u32 {
    let step = |crc: u32, byte: &u8| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 })
    };
    !bytes.iter().fold(u32::MAX, step)
}

/// A PNG of these chunks.
fn png(chunks: &[(&[u8; 4], Vec<u8>)]) -> Vec<u8> {
    let mut file = b"\x89PNG\r\n\x1a\n".to_vec();
    for (name, data) in chunks {
        let body = [&name[..], data].concat();
        file.extend([&(data.len() as u32).to_be_bytes()[..], &body, &crc(&body).to_be_bytes()].concat());
    }
    file
}

/// The header of a picture of 2 x 2, of 8 bits.
fn header(colour: u8, interlaced: u8) -> (&'static [u8; 4], Vec<u8>) {
    (b"IHDR", vec![0, 0, 0, 2, 0, 0, 0, 2, 8, colour, 0, 0, interlaced])
}

/// Lines of a PNG, not compressed.
fn lines(bytes: &[u8]) -> (&'static [u8; 4], Vec<u8>) {
    let len = bytes.len() as u16;
    let (a, b) = bytes.iter().fold((1u32, 0u32), |(a, b), &byte| (a + u32::from(byte), b + a + u32::from(byte)));
    let sum = (((b % 65521) << 16) | (a % 65521)).to_be_bytes();
    (b"IDAT", [&[0x78, 1, 1][..], &len.to_le_bytes(), &(!len).to_le_bytes(), bytes, &sum].concat())
}

#[test]
fn palettes_and_interlaced_lines_are_what_they_show() {
    let desk = Desk::new();
    let end = (b"IEND", vec![]);
    // Every line begins with its filter, 0; an interlaced 2 x 2 has a line for the first entry, the second, and the rest.
    let (plain, adam7) = (lines(&[0, 0, 1, 0, 2, 1]), lines(&[0, 0, 0, 1, 0, 2, 1]));
    let palette = (b"PLTE", vec![200, 10, 30, 90, 60, 120, 5, 255, 0]);
    let rgb = [[200u8, 10, 30], [90, 60, 120], [5, 255, 0], [90, 60, 120]].map(Rgb);
    let shown = DynamicImage::from(ImageBuffer::from_fn(2, 2, |x, y| rgb[(x + 2 * y) as usize]));
    let clear = (b"tRNS", vec![255, 128]);
    let alphas = [255u8, 128, 255, 128];
    let with_alpha = DynamicImage::from(ImageBuffer::from_fn(2, 2, |x, y| {
        let (at, Rgb([r, g, b])) = ((x + 2 * y) as usize, rgb[(x + 2 * y) as usize]);
        Rgba([r, g, b, alphas[at]])
    }));
    let grey = DynamicImage::from(ImageBuffer::from_fn(2, 2, |x, y| Luma([[0u8, 1, 2, 1][(x + 2 * y) as usize]])));
    for (chunks, expected) in [
        (vec![header(3, 0), palette.clone(), plain.clone(), end.clone()], &shown),
        (vec![header(3, 1), palette.clone(), adam7.clone(), end.clone()], &shown),
        (vec![header(3, 1), palette, clear, adam7.clone(), end.clone()], &with_alpha),
        (vec![header(0, 1), adam7, end], &grey),
    ] {
        desk.write("in", &png(&chunks));
        check(&desk, expected, &[], 2, (1, 1));
    }
}

#[test]
fn a_jpeg_of_inks_is_refused_by_name() {
    let desk = Desk::new();
    let mut jpeg = encoded(&picture("RGB8", 20, 20), ImageFormat::Jpeg);
    let frame = jpeg.windows(2).position(|two| two == [0xff, 0xc0]).unwrap();
    assert_eq!(jpeg[frame + 9], 3, "colours");
    jpeg[frame + 9] = 4;
    desk.write("in", &jpeg);
    // Any number of fill bytes may stand before a marker.
    for fill in 0..3 {
        let filled = [&jpeg[..frame], &vec![0xff; fill], &jpeg[frame..]].concat();
        desk.write("in", &filled);
        desk.fail(&["image", "in", "-o", "out.png"], 1, &["in: ", "CMYK"]);
    }
}

#[test]
fn half_a_jpeg_is_refused_and_fill_bytes_are_none() {
    let desk = Desk::new();
    let whole = encoded(&picture("RGB8", 200, 160), ImageFormat::Jpeg);
    for fill in 0..3 {
        let filled = |len: usize| [&whole[..2], &vec![0xff; fill], &whole[2..len]].concat();
        desk.write("in", &filled(whole.len()));
        desk.succeed(&["image", "in", "-o", "out.png", "--overwrite"]);
        desk.write("in", &filled(whole.len() * 2 / 3));
        desk.fail(&["image", "in", "-o", "new.png"], 1, &["in: ", "truncated"]);
    }
}

#[test]
fn what_is_no_picture_is_refused() {
    let desk = Desk::new();
    let png = encoded(&picture("RGB8", 50, 40), ImageFormat::Png);
    let fail = |bytes: &[u8], parts: &[&str]| {
        desk.write("in", bytes);
        desk.fail(&["image", "in", "-o", "out.png", "--report", "report"], 1, parts);
    };
    fail(b"", &["in: neither a PNG nor a JPEG"]);
    fail(b"GIF89a\x01\0\x01\0\0\0\0;", &["in: neither a PNG nor a JPEG"]);
    fail(&png[..png.len() / 2], &["in: ", "cannot be decoded"]);
    fail(&png[..30], &["in: ", "cannot be understood"]);
    fail(&[0xff, 0xd8, 0xff, 0xe0, 0, 2], &["in: "]);
    let mut spoiled = png.clone();
    spoiled[60] ^= 0x40;
    fail(&spoiled, &["in: "]);
    // A header that claims what no memory holds, with the right checksum.
    for (width, height) in [(100_000u32, 100_000u32), (u32::MAX >> 1, 1), (u32::MAX >> 1, u32::MAX >> 1)] {
        let mut huge = png.clone();
        huge[16..20].copy_from_slice(&width.to_be_bytes());
        huge[20..24].copy_from_slice(&height.to_be_bytes());
        let sum = crc(&huge[12..29]).to_be_bytes();
        huge[29..33].copy_from_slice(&sum);
        fail(&huge, &["in: "]);
    }
    desk.fail(&["image", "gone", "-o", "out.png"], 1, &["gone", "cannot open"]);
    desk.fail(&["image", ".", "-o", "out.png"], 1, &["not a regular file"]);
}

#[test]
fn nothing_is_overwritten_unasked() {
    let desk = Desk::new();
    desk.write("in", &encoded(&picture("L8", 5, 4), ImageFormat::Png));
    desk.fail(&["image", "in", "-o", "in", "--overwrite"], 1, &["in is the same file as the input in"]);
    desk.succeed(&["image", "in", "-o", "out.png"]);
    desk.fail(&["image", "in", "-o", "out.png"], 1, &["out.png exists", "--overwrite"]);
    desk.fail(&["image", "in", "-o", "x", "--report", "x"], 1, &["x is to be written twice"]);
    for (args, part) in [
        (&["--patch", "0"][..], "--patch"),
        (&["--patch=-1"], "--patch"),
        (&["--beta", "0"], "beta"),
        (&["--backend", "cpu", "--adapter", "x"], "--adapter is not for --backend cpu"),
    ] {
        desk.fail(&[&["image", "in", "-o", "new.png"], args].concat(), 2, &[part]);
    }
    desk.fail(&["image", "in"], 2, &["--output"]);
    for name in ["new.jpg", "new.JPEG", "new.webp", "new.bmp", "new.gif", "new.tif", "new.png.TIFF"] {
        desk.fail(&["image", "in", "-o", name], 2, &["--output", name, "PNG"]);
    }
    for name in ["new", "new.PNG", "new.jpg.png"] {
        desk.succeed(&["image", "in", "-o", name]);
    }
}
