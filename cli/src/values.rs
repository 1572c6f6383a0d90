//! The entries of tensors as the numbers that they are: what is drawn, and scores that are decided by.

use emprune::Dtype;

/// The entries of a tensor, in order; every dtype's are f32 too.
pub(crate) fn for_each_value(bytes: &[u8], dtype: Dtype, mut each: impl FnMut(f32)) {
    match dtype {
        Dtype::F32 => bytes.as_chunks().0.iter().for_each(|entry| each(f32::from_le_bytes(*entry))),
        Dtype::F16 => bytes.as_chunks().0.iter().for_each(|entry| each(half::f16::from_le_bytes(*entry).to_f32())),
        Dtype::Bf16 => bytes.as_chunks().0.iter().for_each(|entry| each(half::bf16::from_le_bytes(*entry).to_f32())),
        Dtype::F8E4m3 => bytes.iter().for_each(|&entry| each(e4m3(entry))),
        Dtype::F8E5m2 => bytes.iter().for_each(|&entry| each(e5m2(entry))),
        // A new one must not be taken for one of these.
        _ => bytes.chunks_exact(dtype.size()).for_each(|_| each(f32::NAN)),
    }
}

/// Of f16, the upper half.
fn e5m2(bits: u8) -> f32 {
    half::f16::from_le_bytes([0, bits]).to_f32()
}

/// Of f16, the sign and what follows the first bit of the exponent: with a bias of 7 where f16 has 15. There is no infinity, and one NaN.
fn e4m3(bits: u8) -> f32 {
    let magnitude = bits & 0x7f;
    if magnitude == 0x7f {
        return f32::NAN;
    }
    let value = 256.0 * half::f16::from_bits(u16::from(magnitude) << 7).to_f32();
    if bits == magnitude { value } else { -value }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eight_bits_are_the_numbers_that_they_are() {
        let values = |bytes: &[u8], dtype| {
            let mut values = Vec::new();
            for_each_value(bytes, dtype, |value| values.push(value.to_bits()));
            values
        };
        let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
        // From the tables of the standard: zeros, the least and the largest subnormal, the least normal, one, and the largest.
        let two = 2f32;
        let e4m3 = [0.0, -0.0, two.powi(-9), 7.0 * two.powi(-9), two.powi(-6), 1.0, -1.5, 448.0];
        assert_eq!(values(&[0, 0x80, 1, 7, 8, 0x38, 0xbc, 0x7e], Dtype::F8E4m3), bits(&e4m3));
        let e5m2 = [0.0, -0.0, two.powi(-16), 3.0 * two.powi(-16), two.powi(-14), 1.0, -1.5, 57344.0, f32::INFINITY];
        assert_eq!(values(&[0, 0x80, 1, 3, 4, 0x3c, 0xbe, 0x7b, 0x7c], Dtype::F8E5m2), bits(&e5m2));
        for (dtype, nan) in [(Dtype::F8E4m3, 0xff), (Dtype::F8E5m2, 0x7d)] {
            assert!(f32::from_bits(values(&[nan], dtype)[0]).is_nan());
        }
    }
}
