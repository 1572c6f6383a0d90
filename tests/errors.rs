//! What is refused, on every backend: with the right kind, place and word, and with the weights as they were.
#![allow(clippy::unwrap_used, reason = "a test may panic")]
#![allow(clippy::float_cmp, reason = "exact is what is asked for")]

mod common;

use common::check::{Guarded, ask, check_refusal, tensor, tensor_mut};
use common::inputs::{self, distribution};
use common::oracle::{self, Contests, Kind, Question, Weights};
use common::pieces::Pieces;
use common::{backends, dtype};
use emprune::{
    Beta, Dtype, Error, ErrorKind, Granularity, Mask, Pruner, Rule, Score, Tensor, TensorMut, TensorSpec, Want,
};

const CONTESTS: [Contests; 3] = [Contests::Row, Contests::Tensor, Contests::Global];

/// The question is refused by both calls, as the oracle says, and every byte of every tensor stays.
fn refused(backend: &common::Named, tensors: &[Weights], question: &Question) {
    let want = oracle::answer(tensors, question).unwrap_err();
    let rule = common::rule(question);
    let inputs: Vec<Tensor<'_>> = tensors.iter().map(|w| tensor(w, &w.bytes)).collect();
    let mut copies: Vec<Guarded> = common::check::guarded(tensors);
    let mut outputs: Vec<TensorMut<'_>> =
        tensors.iter().zip(&mut copies).map(|(w, copy)| tensor_mut(w, copy.bytes_mut())).collect();
    let errors =
        [backend.pruner.mask(&inputs, &rule).unwrap_err(), backend.pruner.prune(&mut outputs, &rule).unwrap_err()];
    for error in errors {
        check_refusal(&want, &error)
            .unwrap_or_else(|wrong| panic!("{}: {question:?}: {wrong}; {error:?}", backend.name));
        one_line(&error);
    }
    for (weights, copy) in tensors.iter().zip(&copies) {
        copy.check().unwrap();
        assert!(
            copy.bytes() == weights.bytes,
            "{}: {question:?} was refused and changed {}",
            backend.name,
            weights.label
        );
    }
}

/// Messages are one lower-case line.
fn one_line(error: &Error) {
    let text = error.to_string();
    assert!(!text.is_empty() && !text.contains('\n') && !text.ends_with('.'), "{text:?}");
    assert!(text.starts_with(|c: char| !c.is_uppercase() || text.starts_with("NaN")), "{text:?}");
}

fn with_bits(mut weights: Weights, at: usize, bits: u32) -> Weights {
    let size = weights.kind.size();
    weights.bytes[at * size..(at + 1) * size].copy_from_slice(&bits.to_le_bytes()[..size]);
    weights
}

/// Quiet and signalling NaNs with every kind of payload, and both infinities.
fn no_numbers(kind: Kind) -> Vec<u32> {
    let (infinity, quiet, sign) = (inputs::infinity(kind), 1 << (kind.widths().1 - 1), inputs::sign(kind));
    let magnitudes = [infinity, infinity | 1, infinity | quiet, infinity | quiet | 1, sign - 1];
    magnitudes.into_iter().flat_map(|bits| [bits, bits | sign]).collect()
}

#[test]
fn what_is_no_number_is_named() {
    for backend in backends() {
        for (k, kind) in [Kind::F32, Kind::F16, Kind::Bf16].into_iter().enumerate() {
            for (i, bits) in no_numbers(kind).into_iter().enumerate() {
                let good = distribution("normal").weights(kind, 2, 131, 1);
                let bad = |at| with_bits(good.clone(), at, bits);
                let contests = CONTESTS[(i + k) % 3];
                for at in [0, 130, 131, 261] {
                    let question = Question { contests, wanda: false, beta: 1.0, ..Question::RULE };
                    refused(backend, &[bad(at)], &question);
                    refused(backend, &[good.clone(), bad(at)], &question);
                }
            }
        }
    }
}

/// Of several bad entries the first is named: in the first tensor that has one, whatever comes after it.
#[test]
fn the_first_of_many_is_named() {
    for backend in backends() {
        for contests in CONTESTS {
            let question = Question { contests, wanda: false, beta: 1.0, ..Question::RULE };
            let good = distribution("normal").weights(Kind::F32, 301, 67, 2);
            let (nan, infinity) = (f32::NAN.to_bits(), f32::INFINITY.to_bits());
            let both = |first, second| with_bits(with_bits(good.clone(), 5000, first), 20_000, second);
            refused(backend, &[both(nan, infinity), both(infinity, nan)], &question);
            refused(backend, &[good.clone(), both(infinity, nan), with_bits(good.clone(), 0, nan)], &question);
            let everywhere = inputs::weights("all NaN".to_owned(), Kind::F32, 67, &vec![nan; 301 * 67]);
            refused(backend, &[good.clone(), everywhere], &question);
        }
    }
}

#[test]
fn a_bad_entry_in_a_large_tensor_is_found() {
    for backend in backends() {
        for (i, at) in [0, 4095, 4096, 65_535, 65_536, 69_999].into_iter().enumerate() {
            let good = distribution("normal").weights(Kind::Bf16, 1, 70_000, 3);
            let question = Question { contests: CONTESTS[i % 3], wanda: false, beta: 1.0, ..Question::RULE };
            refused(backend, &[with_bits(good, at, inputs::infinity(Kind::Bf16))], &question);
        }
    }
}

/// Finite weights, finite norms, and a product that no f32 holds: named at the first place, and to the last bit.
#[test]
fn a_product_that_overflows_is_named() {
    for backend in backends() {
        for contests in CONTESTS {
            let question = Question { contests, wanda: true, beta: 1.0, ..Question::RULE };
            let mut weights = distribution("normal").weights(Kind::F32, 5, 67, 4);
            weights.norms = Some(vec![1.0; 67]);
            let largest = |norm: f32, at: usize| {
                let mut weights = with_bits(weights.clone(), at, f32::MAX.to_bits());
                weights.norms.as_mut().unwrap()[at % 67] = norm;
                weights
            };
            for at in [0, 66, 200, 334] {
                refused(backend, &[largest(2.0, at)], &question);
                refused(backend, &[largest(-1.0f32.next_up(), at)], &question);
                refused(backend, &[weights.clone(), largest(f32::MAX, at)], &question);
                // Just within: the largest f32 itself is a score like any other.
                ask(std::slice::from_ref(backend), &[largest(-1.0, at)], &question);
            }
            // A weight that is no number is so whatever its norm, a zero too.
            for norm in [0.0, 1e-40, 3e38] {
                let mut bad = with_bits(weights.clone(), 70, f32::NAN.to_bits());
                bad.norms.as_mut().unwrap()[3] = norm;
                refused(backend, &[bad], &question);
            }
        }
    }
}

/// 65520 is where f16 ends, not where scores end: products of f16 weights go on.
#[test]
fn products_of_f16_weights_are_f32() {
    let mut weights = distribution("normal").weights(Kind::F16, 1, 9, 5);
    weights.norms = Some(vec![1e30; 9]);
    for backend in backends() {
        ask(
            std::slice::from_ref(backend),
            std::slice::from_ref(&weights),
            &Question { contests: Contests::Tensor, wanda: true, beta: 1.0, ..Question::RULE },
        );
    }
}

// ---- arguments

#[track_caller]
fn invalid<T>(what: &str, result: Result<T, Error>) {
    let Err(error) = result else { panic!("{what} is not refused") };
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{what}: {error:?}");
    assert_eq!(error.index(), None, "{what}: {error:?}");
    one_line(&error);
}

#[test]
fn a_beta_that_is_no_positive_ratio() {
    for beta in [
        0.0,
        -0.0,
        -1.0,
        -1e-9,
        f64::NAN,
        -f64::NAN,
        f64::INFINITY,
        f64::NEG_INFINITY,
        1e-300,
        1e300,
        5e-324,
        f64::MAX,
        1e20,
        1e-20,
    ] {
        invalid(&format!("beta {beta:e}"), Beta::new(beta));
    }
    invalid("0/1", Beta::ratio(0, 1));
    invalid("1/0", Beta::ratio(1, 0));
    assert_eq!(Beta::new(1.0).unwrap(), Beta::ONE, "one");
    assert_eq!(Beta::ratio(14, 20).unwrap(), Beta::new(0.7).unwrap(), "a ratio in lowest terms");
    assert_eq!(
        (Beta::ratio(u64::MAX, 1).unwrap().numerator(), Beta::ratio(1, u64::MAX).unwrap().denominator()),
        (u64::MAX, u64::MAX),
        "the ends"
    );
}

/// The ends of what a beta can be.
#[test]
fn extreme_betas_are_exact() {
    let ones = [1.0f32; 100];
    for backend in backends() {
        let kept = |num, den| {
            let rule = Rule::new().with_beta(Beta::ratio(num, den).unwrap());
            backend.pruner.mask(&[ones.as_slice().into()], &rule).unwrap().0.kept()
        };
        assert_eq!(kept(u64::MAX, 1), 100, "{}", backend.name);
        assert_eq!(kept(1, u64::MAX), 1, "{}", backend.name);
        assert_eq!(kept(u64::MAX, u64::MAX), 100, "{}", backend.name);
        assert_eq!(kept(u64::MAX - 1, u64::MAX), 99, "{}", backend.name);
        assert_eq!(kept(u64::MAX / 2, u64::MAX), 49, "{}", backend.name);
        assert_eq!(kept(u64::MAX / 2 + 1, u64::MAX), 50, "{}", backend.name);
        assert_eq!(kept(2, 3), 66, "{}", backend.name);
    }
}

#[test]
fn lengths_that_do_not_fit() {
    let values = [1.0f32; 12];
    invalid("7 bytes of f32", Tensor::from_bytes(&[0; 7], Dtype::F32));
    invalid("3 bytes of bf16", TensorMut::from_bytes(&mut [0; 3], Dtype::Bf16));
    for row_len in [0, 5, 13, u64::MAX] {
        invalid("a row length", Tensor::from(&values[..]).with_row_len(row_len));
        invalid("a row length", TensorMut::from(&mut values.to_vec()).with_row_len(row_len));
        invalid("a row length", TensorSpec::new(Dtype::F16, 12, row_len));
    }
    for norms in [&[][..], &[1.0; 3], &[1.0; 5], &[1.0; 12]] {
        invalid("norms", Tensor::from(&values[..]).with_row_len(4).unwrap().with_norms(norms));
    }
    invalid("a mask of another length", Mask::from_bytes(vec![0; 2], 17));
    invalid("a mask of another length", Mask::from_bytes(vec![0; 2], 8));
    let mask = Mask::from_bytes(vec![0xff, 1], 9).unwrap();
    let mut weights = vec![1.0f32; 10];
    invalid("a mask for other weights", mask.apply((&mut weights).into()));
    assert_eq!(weights, [1.0; 10], "what is refused changes nothing");
    assert!(!mask.get(9) && !mask.get(u64::MAX), "past the end nothing is kept");
}

#[test]
fn norms_that_are_no_numbers() {
    let values = [1.0f32; 4];
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::from_bits(0x7f80_0001), f32::from_bits(0xffc0_1234)] {
        for at in 0..4 {
            let mut norms = [1.0; 4];
            norms[at] = bad;
            invalid("a norm", Tensor::from(&values[..]).with_norms(&norms));
            invalid("a norm", TensorMut::from(&mut values.to_vec()).with_norms(&norms));
        }
    }
}

/// Whatever the order of the two calls, norms that do not fit the rows are refused in the end.
#[test]
fn norms_before_the_row_length() {
    let values = [1.0f32; 12];
    let norms = [1.0f32; 12];
    for backend in backends() {
        let result =
            Tensor::from(&values[..]).with_norms(&norms).and_then(|tensor| tensor.with_row_len(4)).and_then(|tensor| {
                let rule = Rule::new().with_score(Score::Wanda).with_granularity(Granularity::Row);
                backend.pruner.mask(&[tensor], &rule)
            });
        invalid("12 norms for rows of 4", result);
    }
}

#[test]
fn norms_and_scores_that_do_not_go_together() {
    let norms = [1.0f32; 6];
    let wanda = Rule::new().with_score(Score::Wanda);
    for backend in backends() {
        for granularity in [Granularity::Row, Granularity::Tensor, Granularity::Global] {
            let mut values = vec![3.0f32, -1.0, 1.0, 0.5, 0.25, 2.0];
            let before = values.clone();
            let pruner = &backend.pruner;
            let plain = [values.as_slice().into()];
            invalid("Wanda without norms", pruner.mask(&plain, &wanda.with_granularity(granularity)));
            let normed = [Tensor::from(&values).with_norms(&norms).unwrap()];
            invalid("norms for a magnitude", pruner.mask(&normed, &Rule::new().with_granularity(granularity)));
            let result = pruner.prune(&mut [(&mut values).into()], &wanda.with_granularity(granularity));
            invalid("Wanda without norms", result);
            assert_eq!(values, before, "what is refused changes nothing");
        }
    }
}

#[test]
fn nothing_to_prune() {
    for backend in backends() {
        for granularity in [Granularity::Row, Granularity::Tensor, Granularity::Global] {
            let rule = Rule::new().with_granularity(granularity);
            let empty: [f32; 0] = [];
            let one = [1.0f32];
            invalid("no tensor", backend.pruner.mask(&[], &rule));
            invalid("no tensor", backend.pruner.prune(&mut [], &rule));
            invalid("an empty tensor", backend.pruner.mask(&[empty.as_slice().into()], &rule));
            let error = backend.pruner.mask(&[one.as_slice().into(), empty.as_slice().into()], &rule).unwrap_err();
            assert_eq!(
                (error.kind(), error.tensor()),
                (ErrorKind::InvalidInput, Some(1)),
                "{}: {error:?}",
                backend.name
            );
        }
    }
    invalid("an empty tensor", emprune::prune(&mut Vec::<f32>::new(), &Rule::new()));
    invalid("an empty tensor", emprune::mask(&Vec::<half::f16>::new(), &Rule::new()));
}

/// The fields of a spec are public, so a source can lie about its shape.
#[test]
fn a_source_that_lies_about_its_shape() {
    struct Liar<'a>(Pieces<'a>, [TensorSpec; 1]);
    impl emprune::Source for Liar<'_> {
        fn tensors(&self) -> &[TensorSpec] {
            &self.1
        }
        fn load(&mut self, tensor: usize, range: std::ops::Range<u64>) -> std::io::Result<&mut [u8]> {
            self.0.load(tensor, range)
        }
        fn store(&mut self, tensor: usize, range: std::ops::Range<u64>, mask: Option<&Mask>) -> std::io::Result<()> {
            self.0.store(tensor, range, mask)
        }
    }
    let weights = [distribution("normal").weights(Kind::F32, 1, 12, 6)];
    for backend in backends() {
        for row_len in [0, 5, 24] {
            for granularity in [Granularity::Row, Granularity::Tensor, Granularity::Global] {
                let mut spec = TensorSpec::new(Dtype::F32, 12, 12).unwrap();
                spec.row_len = row_len;
                let mut source = Liar(Pieces::new(&weights, 1000, Want::default()), [spec]);
                let rule = Rule::new().with_granularity(granularity);
                invalid("a row length", backend.pruner.stream(&mut source, &rule, Want::default()));
            }
        }
    }
}

/// A header that was made up may say anything. No list is made of what is not there.
#[test]
fn a_source_of_more_than_there_can_be() {
    struct Boaster([TensorSpec; 1]);
    impl emprune::Source for Boaster {
        fn tensors(&self) -> &[TensorSpec] {
            &self.0
        }
        fn load(&mut self, _: usize, _: std::ops::Range<u64>) -> std::io::Result<&mut [u8]> {
            Err(std::io::Error::other("there is nothing to load"))
        }
        fn store(&mut self, _: usize, _: std::ops::Range<u64>, _: Option<&Mask>) -> std::io::Result<()> {
            Ok(())
        }
    }
    let kind = |what: &str, result: Result<(), Error>| {
        let error = result.expect_err(what);
        one_line(&error);
        error.kind()
    };
    for backend in backends() {
        let limit = ErrorKind::Limit;
        // Too many bytes, too many entries for exact sums, and as many as there may be.
        for (len, expected) in [(u64::MAX, limit), (1 << 50, limit), (1 << 45, limit), (1 << 40, ErrorKind::Io)] {
            let mut source = Boaster([TensorSpec::new(Dtype::F32, len, 1).unwrap()]);
            for granularity in [Granularity::Row, Granularity::Tensor, Granularity::Global] {
                let rule = Rule::new().with_granularity(granularity);
                let streamed = backend.pruner.stream(&mut source, &rule, Want::default()).map(drop);
                let kind = kind("a tensor that is not there", streamed);
                // A device refuses what it has no counters for before anything is read.
                let is_right = kind == expected || (expected == ErrorKind::Io && kind == ErrorKind::Limit);
                assert!(is_right, "{}: {len} entries by {granularity}: {kind:?}", backend.name);
            }
            let (pruner, structure, rule) = (&backend.pruner, emprune::Structure::Row, Rule::new());
            let rule = rule.with_granularity(Granularity::Tensor);
            let streamed = pruner.stream_structures(&mut source, structure, emprune::Norm::L2, &rule, Want::default());
            let kind = kind("rows that are not there", streamed.map(drop));
            // Where an address has 32 bits, so many cannot even be numbered.
            let most = if usize::BITS == 32 { limit } else { ErrorKind::OutOfMemory };
            assert!([expected, most].contains(&kind), "{}: {len} rows: {kind:?}", backend.name);
        }
    }
}

/// A load that gives fewer or more bytes than were asked for is an error, not a wrong answer.
#[test]
fn a_source_that_gives_the_wrong_number_of_bytes() {
    struct Short(Vec<u8>, [TensorSpec; 1]);
    impl emprune::Source for Short {
        fn tensors(&self) -> &[TensorSpec] {
            &self.1
        }
        fn load(&mut self, _: usize, _: std::ops::Range<u64>) -> std::io::Result<&mut [u8]> {
            Ok(&mut self.0)
        }
        fn store(&mut self, _: usize, _: std::ops::Range<u64>, _: Option<&Mask>) -> std::io::Result<()> {
            Ok(())
        }
    }
    for backend in backends() {
        for bytes in [0, 4, 44, 47, 52, 96] {
            for granularity in [Granularity::Row, Granularity::Tensor, Granularity::Global] {
                let mut source = Short(vec![0; bytes], [TensorSpec::new(dtype(Kind::F32), 12, 4).unwrap()]);
                let want = Want { zeros: true, masks: true };
                let result = backend.pruner.stream(&mut source, &Rule::new().with_granularity(granularity), want);
                assert!(result.is_err(), "{}: {bytes} bytes for 12 f32, {granularity:?}: {result:?}", backend.name);
            }
        }
    }
}

// ---- choosing a backend

#[test]
fn the_best_backend_is_no_software_adapter() {
    assert!(!Pruner::best().backend().is_software(), "{}", Pruner::best().backend());
}

#[cfg(feature = "gpu")]
#[test]
fn no_adapter_is_an_error_and_never_the_cpu() {
    use emprune::gpu::{Options, adapters};
    let error = Pruner::gpu(&Options::new().with_adapter("no adapter is called so").with_software(true)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoAdapter, "{error:?}");
    one_line(&error);
    // A software adapter is taken only when it is asked for.
    for adapter in adapters().iter().filter(|a| a.software) {
        if adapters().iter().all(|other| other.software) {
            let error = Pruner::gpu(&Options::new()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NoAdapter, "{adapter:?}: {error:?}");
        }
    }
}
