//! Buffers that fit and buffers that do not.

use crate::common;

use crate::common::inputs::{distribution, with_norms};
use crate::common::oracle::{Contests, Kind};
use crate::devices::turns;
use crate::plans::{ROW, plan};
use crate::task::{Arena, part, question, spec};
use emprune::gpu::wgpu::{self, BufferUsages};
use emprune::gpu::{Buffers, Plan, SliceBuffers};
use emprune::{Dtype, ErrorKind, Granularity, Rule, Score, TensorSpec};

/// Buffers for one slice of 33 bf16 in rows of 11, each alone, so that one at a time can be wrong.
struct Loose {
    weights: wgpu::Buffer,
    norms: wgpu::Buffer,
    mask: wgpu::Buffer,
    records: wgpu::Buffer,
    workspace: wgpu::Buffer,
}

#[derive(Clone)]
struct Bound<'a> {
    slices: Vec<SliceBuffers<'a>>,
    records: wgpu::BufferBinding<'a>,
    workspace: wgpu::BufferBinding<'a>,
}

#[test]
fn buffers_that_do_not_fit_are_refused() {
    let shape = [(Dtype::Bf16, 33, 11)];
    for turn in turns() {
        let gpu = turn.gpu;
        let storage = |bytes: u64| gpu.buffer(&vec![0; 512 + bytes as usize], BufferUsages::STORAGE);
        let with_norms = plan(gpu, &shape, ROW.with_score(Score::Wanda)).unwrap();
        let without = plan(gpu, &shape, ROW).unwrap();
        let own = Loose {
            weights: storage(68),
            norms: storage(44),
            mask: storage(8),
            records: storage(with_norms.records_bytes()),
            workspace: storage(with_norms.workspace_bytes()),
        };
        let exactly =
            |buffer, bytes: u64| wgpu::BufferBinding { buffer, offset: 256, size: wgpu::BufferSize::new(bytes) };
        let right = Bound {
            slices: vec![SliceBuffers {
                weights: exactly(&own.weights, 68),
                norms: Some(exactly(&own.norms, 44)),
                scores: None,
                mask: exactly(&own.mask, 8),
            }],
            records: exactly(&own.records, with_norms.records_bytes()),
            workspace: exactly(&own.workspace, with_norms.workspace_bytes()),
        };
        let bind = |plan: &Plan, bound: &Bound<'_>| {
            let scope = gpu.device.push_error_scope(wgpu::ErrorFilter::Validation);
            let buffers = Buffers {
                slices: &bound.slices,
                records: bound.records.clone(),
                workspace: bound.workspace.clone(),
                keys: None,
            };
            let job = gpu.kernels.bind(plan, &buffers).map(drop);
            let raised = pollster::block_on(scope.pop());
            assert!(raised.is_none(), "{}: binding raised {}, and returned {job:?}", gpu.name, raised.unwrap());
            job
        };
        bind(&with_norms, &right).unwrap();
        let refuse = |what: &str, plan: &Plan, tensor: Option<usize>, spoil: &dyn Fn(&mut Bound<'_>)| {
            let mut bound = right.clone();
            spoil(&mut bound);
            let error = bind(plan, &bound).expect_err(what);
            assert_eq!(
                (error.kind(), error.tensor()),
                (ErrorKind::InvalidInput, tensor),
                "{}: {what}: {error:?}",
                gpu.name
            );
        };
        refuse("no slice", &with_norms, None, &|b| b.slices.clear());
        refuse("a slice too many", &with_norms, None, &|b| b.slices.push(b.slices[0].clone()));
        refuse("no norms", &with_norms, Some(0), &|b| b.slices[0].norms = None);
        refuse("norms for nothing", &without, Some(0), &|_| {});
        type Pick = for<'b, 'a> fn(&'b mut Bound<'a>) -> &'b mut wgpu::BufferBinding<'a>;
        let fields: [(&str, Option<usize>, Pick); 5] = [
            ("weights", Some(0), |b| &mut b.slices[0].weights),
            ("norms", Some(0), |b| b.slices[0].norms.as_mut().unwrap()),
            ("mask", Some(0), |b| &mut b.slices[0].mask),
            ("records", None, |b| &mut b.records),
            ("workspace", None, |b| &mut b.workspace),
        ];
        let unusable = gpu.buffer(&vec![0; 1 << 20], BufferUsages::COPY_SRC);
        for (what, tensor, pick) in fields {
            refuse(&format!("{what} a word too small"), &with_norms, tensor, &|b| {
                let field = pick(b);
                field.size = wgpu::BufferSize::new(field.size.unwrap().get() - 4);
            });
            refuse(&format!("{what} that end before they do"), &with_norms, tensor, &|b| pick(b).offset = 768);
            refuse(&format!("{what} that are too little a rest"), &with_norms, tensor, &|b| {
                let field = pick(b);
                *field = wgpu::BufferBinding { buffer: field.buffer, offset: 768, size: None };
            });
            refuse(&format!("{what} behind the end"), &with_norms, tensor, &|b| pick(b).offset = 1 << 40);
            refuse(&format!("{what} between two places"), &with_norms, tensor, &|b| pick(b).offset = 252);
            refuse(&format!("{what} without a usage"), &with_norms, tensor, &|b| {
                let field = pick(b);
                // The buffer outlives the loop; the field's lifetime is the shorter one.
                *field = wgpu::BufferBinding { buffer: leak(&unusable), offset: 0, size: None };
            });
        }
        // The workspace is cleared by a copy.
        let descriptor = wgpu::BufferDescriptor {
            label: None,
            size: 1 << 20,
            usage: BufferUsages::STORAGE,
            mapped_at_creation: false,
        };
        let no_copies = gpu.device.create_buffer(&descriptor);
        refuse("a workspace without COPY_DST", &with_norms, None, &|b| {
            b.workspace = leak(&no_copies).as_entire_buffer_binding();
        });
    }
}

/// One handle for the rest of the process: `Bound` cannot name the lifetime of a buffer that comes later.
fn leak(buffer: &wgpu::Buffer) -> &'static wgpu::Buffer {
    Box::leak(Box::new(buffer.clone()))
}

/// What is written has bytes of its own.
#[test]
fn overlapping_buffers_are_refused() {
    for turn in turns() {
        let gpu = turn.gpu;
        let rule = common::rule(&question(Contests::Row, false, 1.0));
        let plan = gpu.kernels.plan(&[TensorSpec::new(Dtype::F32, 3000, 1000).unwrap()], &rule).unwrap();
        let weights = gpu.buffer(&[0; 12_000], BufferUsages::STORAGE);
        let shared = gpu.buffer(&[0; 1 << 16], BufferUsages::STORAGE);
        let at = |offset| wgpu::BufferBinding { buffer: &shared, offset, size: None };
        let bind = |mask, records, workspace| {
            let slices = [SliceBuffers {
                weights: weights.as_entire_buffer_binding(),
                norms: None,
                scores: None,
                mask: at(mask),
            }];
            gpu.kernels
                .bind(&plan, &Buffers { slices: &slices, records: at(records), workspace: at(workspace), keys: None })
        };
        bind(0, 1024, 4096).unwrap_or_else(|error| panic!("{}: {error}", gpu.name));
        for (mask, records, workspace) in [(0, 256, 4096), (1024, 1024, 4096), (0, 1024, 1024), (4096, 1024, 4352)] {
            let error = bind(mask, records, workspace).expect_err("bytes are shared");
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{}: {error}", gpu.name);
            assert!(error.to_string().contains("overlaps"), "{}: {error}", gpu.name);
        }
    }
}

/// Neither slices of one contest nor keys may share what is written. The number of candidates rests on that, and with it every index.
#[test]
fn overlapping_slices_and_keys_are_refused() {
    for turn in turns() {
        let gpu = turn.gpu;
        let spec = TensorSpec::new(Dtype::F32, 3000, 1000).unwrap();
        let global = Rule::new().with_granularity(Granularity::Global);
        let plan = gpu.kernels.plan(&[spec, spec], &global).unwrap();
        let weights = gpu.buffer(&[0; 1 << 15], BufferUsages::STORAGE);
        let results = gpu.buffer(&vec![0; (1 << 16) + plan.workspace_bytes() as usize], BufferUsages::STORAGE);
        let at = |buffer, offset| wgpu::BufferBinding { buffer, offset, size: None };
        let bind = |offsets: [u64; 2], masks: [u64; 2]| {
            let slice = |i: usize| SliceBuffers {
                weights: at(&weights, offsets[i]),
                norms: None,
                scores: None,
                mask: at(&results, masks[i]),
            };
            let slices = [slice(0), slice(1)];
            let (records, workspace) = (at(&results, 4096), at(&results, 1 << 16));
            gpu.kernels.bind(&plan, &Buffers { slices: &slices, records, workspace, keys: None })
        };
        bind([0, 12_032], [0, 512]).unwrap_or_else(|error| panic!("{}: {error}", gpu.name));
        for (offsets, masks) in
            [([0, 0], [0, 512]), ([0, 11_776], [0, 512]), ([0, 12_032], [0, 256]), ([0, 12_032], [512, 512])]
        {
            let error = bind(offsets, masks).expect_err("bytes are shared");
            assert!(error.to_string().contains("overlaps"), "{} {offsets:?} {masks:?}: {error}", gpu.name);
        }

        let column = Rule::new().with_granularity(Granularity::Column);
        let plan = gpu.kernels.plan(&[spec], &column).unwrap();
        let workspace = gpu.buffer(&vec![0; plan.workspace_bytes() as usize], BufferUsages::STORAGE);
        let results = gpu.buffer(&[0; 1 << 18], BufferUsages::STORAGE);
        let bind = |keys, mask, records| {
            let slices =
                [SliceBuffers { weights: at(&weights, 0), norms: None, scores: None, mask: at(&results, mask) }];
            let keys = Some(at(&results, keys));
            let buffers =
                Buffers { slices: &slices, records: at(&results, records), workspace: at(&workspace, 0), keys };
            gpu.kernels.bind(&plan, &buffers)
        };
        bind(0, 16_384, 32_768).unwrap_or_else(|error| panic!("{}: {error}", gpu.name));
        for (keys, mask, records) in [(0, 11_776, 32_768), (0, 16_384, 256), (16_384, 16_384, 32_768)] {
            let error = bind(keys, mask, records).expect_err("bytes are shared");
            assert!(error.to_string().contains("overlaps"), "{} {keys} {mask} {records}: {error}", gpu.name);
        }
    }
}

/// Norms may be shared, but not with what is zeroed before they are read.
#[test]
fn norms_are_no_weights_of_another_slice() {
    for turn in turns() {
        let gpu = turn.gpu;
        let rule = Rule::new().with_granularity(Granularity::Global).with_score(Score::Wanda);
        let spec = TensorSpec::new(Dtype::F32, 3000, 100).unwrap();
        let plan = gpu.kernels.plan(&[spec, spec], &rule).unwrap();
        let [one, other, norms] = [0; 3].map(|_| gpu.buffer(&[0; 16_384], BufferUsages::STORAGE));
        let results = gpu.buffer(&[0; 1 << 16], BufferUsages::STORAGE);
        let workspace = gpu.buffer(&vec![0; plan.workspace_bytes() as usize], BufferUsages::STORAGE);
        let at = |buffer, offset| wgpu::BufferBinding { buffer, offset, size: None };
        let bind = |norms_of_other| {
            let slice = |weights, norms, mask| SliceBuffers {
                weights: at(weights, 0),
                norms: Some(norms),
                scores: None,
                mask: at(&results, mask),
            };
            let slices = [slice(&one, at(&norms, 0), 0), slice(&other, norms_of_other, 1024)];
            let (records, workspace) = (at(&results, 4096), at(&workspace, 0));
            gpu.kernels.bind(&plan, &Buffers { slices: &slices, records, workspace, keys: None })
        };
        for sound in [at(&norms, 0), at(&norms, 256), at(&one, 12_288)] {
            bind(sound).unwrap_or_else(|error| panic!("{}: {error}", gpu.name));
        }
        for offset in [0, 256, 11_776] {
            let error = bind(at(&one, offset)).expect_err("the first slice is zeroed before the second is read");
            assert_eq!((error.kind(), error.tensor()), (ErrorKind::InvalidInput, Some(1)), "{}: {error}", gpu.name);
            assert!(error.to_string().contains("norms") && error.to_string().contains("weights of slice 0"), "{error}");
        }
    }
}

/// Everything in one buffer: `bind` says that it does not work. An error of wgpu's at the submit is too late.
#[test]
fn one_buffer_for_everything() {
    let weights = with_norms(distribution("normal").weights(Kind::F16, 9, 131, 430), 430);
    for (wanda, contests) in
        [(false, Contests::Tensor), (true, Contests::Tensor), (false, Contests::Row), (true, Contests::Row)]
    {
        let asked = question(contests, wanda, 1.0);
        for turn in turns() {
            let gpu = turn.gpu;
            let plan = gpu.kernels.plan(&[spec(&weights)], &common::rule(&asked)).unwrap();
            let mut arena = Arena::new(gpu.align());
            let place = arena.place(&weights.bytes);
            let norms = arena.place(bytemuck::cast_slice(weights.norms.as_ref().unwrap()));
            let sizes = [plan.mask_bytes(0).unwrap(), plan.records_bytes(), plan.workspace_bytes()];
            let [mask, records, workspace] = sizes.map(|bytes| arena.lend(bytes as usize));
            let buffer = gpu.buffer(&arena.bytes, BufferUsages::STORAGE | BufferUsages::COPY_SRC);
            let slices = [SliceBuffers {
                weights: part(&buffer, &place),
                norms: wanda.then(|| part(&buffer, &norms)),
                scores: None,
                mask: part(&buffer, &mask),
            }];
            let buffers = Buffers {
                slices: &slices,
                records: part(&buffer, &records),
                workspace: part(&buffer, &workspace),
                keys: None,
            };
            let error = gpu.kernels.bind(&plan, &buffers).expect_err("weights share a buffer with what is written");
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{}: {error:?}", gpu.name);
        }
    }
}

/// Room for keys and scores beside the weights: each where the plan wants it, and not otherwise; never where something is written meanwhile.
#[test]
fn keys_and_scores_go_where_they_are_wanted() {
    for turn in turns() {
        let gpu = turn.gpu;
        let of = |rule: Rule, scored: bool| {
            let spec = TensorSpec::new(Dtype::F32, 3000, 30).unwrap();
            let spec = if scored { spec.with_scores(Dtype::Bf16) } else { spec };
            gpu.kernels.plan(&[spec], &rule).unwrap()
        };
        let column = of(Rule::new().with_granularity(Granularity::Column), false);
        let (row, given) = (of(ROW, false), of(ROW.with_score(Score::Given), true));
        let buffer = |bytes: usize| gpu.buffer(&vec![0; bytes], BufferUsages::STORAGE);
        let (weights, scores, results, workspace) = (buffer(12_000), buffer(6000), buffer(1 << 16), buffer(1 << 18));
        let keys = buffer(column.keys_bytes() as usize);
        let small = buffer(column.keys_bytes() as usize - 4);
        let whole = wgpu::Buffer::as_entire_buffer_binding;
        let bind = |plan: &Plan, scores: Option<&wgpu::Buffer>, keys: Option<&wgpu::Buffer>| {
            let mask = wgpu::BufferBinding { buffer: &results, offset: 0, size: wgpu::BufferSize::new(1024) };
            let records = wgpu::BufferBinding { buffer: &results, offset: 1024, size: None };
            let slices = [SliceBuffers { weights: whole(&weights), norms: None, scores: scores.map(whole), mask }];
            let buffers = Buffers { slices: &slices, records, workspace: whole(&workspace), keys: keys.map(whole) };
            gpu.kernels.bind(plan, &buffers)
        };
        for (plan, scores, keys) in [
            (&column, None, Some(&keys)),
            (&row, None, None),
            (&given, Some(&scores), None),
            (&given, Some(&weights), None),
        ] {
            bind(plan, scores, keys).unwrap_or_else(|error| panic!("{}: {error}", gpu.name));
        }
        for (plan, scores, keys, word) in [
            (&column, None, None, "keys"),
            (&column, None, Some(&small), "keys"),
            (&column, None, Some(&workspace), "workspace"),
            (&column, None, Some(&weights), "keys"),
            (&row, None, Some(&keys), "keys"),
            (&row, Some(&scores), None, "scores"),
            (&given, None, None, "scores"),
            (&given, Some(&results), None, "scores"),
        ] {
            let error = bind(plan, scores, keys).expect_err(word);
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{}: {error}", gpu.name);
            assert!(error.to_string().contains(word), "{}: {error} must name {word}", gpu.name);
        }
    }
}
