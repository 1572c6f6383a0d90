//! Adapters: what there is, which one to take, and opening it.

use super::kernels::{Checks, Variant};
use crate::error::{Error, ErrorKind};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

/// What is asked of an adapter. By default: hardware, the best there is.
#[non_exhaustive]
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// A part of the adapter's name, driver, backend or [`Display`](fmt::Display) text, in any case of letters. The first
    /// match counts.
    pub adapter: Option<String>,
    /// Accept an adapter that a processor stands in for.
    pub allow_software: bool,
    /// Most bytes in one binding; by default what the device allows. Larger weights are cut into windows.
    pub max_binding_bytes: Option<u64>,
    /// Most bytes of a contest's weights that stay between its passes on a device whose memory is the program's own: one that a processor stands in
    /// for, or that is integrated; more are uploaded again for each. By default 256 MiB, and 2 GiB on hardware of any kind.
    pub max_shared_bytes: Option<u64>,
    /// Which shaders run.
    pub variant: Variant,
    /// What they check while they run.
    pub checks: Checks,
}

impl Options {
    /// Hardware, the best there is.
    pub fn new() -> Self {
        Self::default()
    }

    /// Only an adapter with this in its name, driver or backend.
    #[must_use]
    pub fn with_adapter(mut self, part: impl Into<String>) -> Self {
        self.adapter = Some(part.into());
        self
    }

    /// Accept a software adapter too.
    #[must_use]
    pub fn with_software(mut self, allow: bool) -> Self {
        self.allow_software = allow;
        self
    }

    /// Choose the shaders.
    #[must_use]
    pub fn with_variant(mut self, variant: Variant) -> Self {
        self.variant = variant;
        self
    }

    /// Choose what the shaders check.
    #[must_use]
    pub fn with_checks(mut self, checks: Checks) -> Self {
        self.checks = checks;
        self
    }

    /// Keep no more of a contest's weights than this on a device whose memory is the program's own.
    #[must_use]
    pub fn with_max_shared_bytes(mut self, bytes: u64) -> Self {
        self.max_shared_bytes = Some(bytes);
        self
    }

    /// Open the device with this limit on a binding's bytes, to bound memory or to try windows on small weights.
    #[must_use]
    pub fn with_max_binding_bytes(mut self, bytes: u64) -> Self {
        self.max_binding_bytes = Some(bytes);
        self
    }
}

/// An adapter, and the limits that matter here.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Adapter {
    /// As the driver calls it.
    pub name: String,
    /// The driver and its version.
    pub driver: String,
    /// `Vulkan`, `Metal`, `Dx12`, `Gl` or `BrowserWebGpu`.
    pub backend: String,
    /// `DiscreteGpu`, `IntegratedGpu`, `VirtualGpu`, `Cpu` or `Other`.
    pub device_type: String,
    /// A processor stands in for it.
    pub software: bool,
    /// Smallest subgroup.
    pub subgroup_min: u32,
    /// Largest subgroup.
    pub subgroup_max: u32,
    /// Most bytes in one storage binding.
    pub max_binding_bytes: u64,
    /// Most bytes in one buffer.
    pub max_buffer_bytes: u64,
    /// Workgroup memory.
    pub workgroup_bytes: u32,
    /// Most lanes of a workgroup.
    pub workgroup_invocations: u32,
    /// Storage buffers that one stage can see.
    pub storage_buffers: u32,
    /// The shader variant that runs, or would: `portable` or `subgroup`.
    pub variant: &'static str,
}

impl Adapter {
    fn new(adapter: &wgpu::Adapter) -> Self {
        let (info, limits) = (adapter.get_info(), adapter.limits());
        let driver = format!("{} {}", info.driver, info.driver_info);
        Self {
            driver: driver.trim().to_owned(),
            backend: format!("{:?}", info.backend),
            device_type: format!("{:?}", info.device_type),
            // llvmpipe behind GL calls itself what it is only by its type.
            software: info.device_type == wgpu::DeviceType::Cpu,
            subgroup_min: info.subgroup_min_size,
            subgroup_max: info.subgroup_max_size,
            max_binding_bytes: limits.max_storage_buffer_binding_size,
            max_buffer_bytes: limits.max_buffer_size,
            workgroup_bytes: limits.max_compute_workgroup_storage_size,
            workgroup_invocations: limits.max_compute_invocations_per_workgroup,
            storage_buffers: limits.max_storage_buffers_per_shader_stage,
            variant: variant_of(adapter.features().contains(wgpu::Features::SUBGROUP)),
            name: info.name,
        }
    }

    /// Whether its memory is the program's too, and it is hardware.
    pub(crate) fn is_integrated(&self) -> bool {
        self.device_type == "IntegratedGpu"
    }

    fn matches(&self, part: &str) -> bool {
        let part = part.to_lowercase();
        let texts = [&self.name, &self.driver, &self.backend, &self.to_string()];
        texts.into_iter().any(|text| text.to_lowercase().contains(&part))
    }

    /// Hardware before software, native interfaces before GL, discrete before integrated.
    fn rank(&self) -> (bool, bool, u32) {
        let kind = match self.device_type.as_str() {
            "DiscreteGpu" => 0,
            "IntegratedGpu" => 1,
            "VirtualGpu" => 2,
            _ => 3,
        };
        (self.software, self.backend == "Gl", kind)
    }
}

impl fmt::Display for Adapter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}{})", self.name, self.backend, if self.software { ", software" } else { "" })
    }
}

fn variant_of(subgroup: bool) -> &'static str {
    if subgroup { Variant::Subgroup.name() } else { Variant::Portable.name() }
}

fn instance() -> wgpu::Instance {
    let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle_from_env();
    // Nothing here dispatches indirectly; the check would cost a pipeline.
    descriptor.flags.remove(wgpu::InstanceFlags::VALIDATION_INDIRECT_CALL);
    wgpu::Instance::new(descriptor)
}

/// A browser answers after the program has returned to it, and nothing here can wait for that.
const BROWSER: bool = cfg!(all(target_arch = "wasm32", not(target_os = "emscripten")));

fn enumerate() -> Vec<(Adapter, wgpu::Adapter)> {
    if BROWSER {
        return Vec::new();
    }
    let found = pollster::block_on(instance().enumerate_adapters(wgpu::Backends::all()));
    let mut adapters: Vec<_> = found.into_iter().map(|a| (Adapter::new(&a), a)).collect();
    adapters.sort_by_key(|(adapter, _)| adapter.rank());
    adapters
}

/// What there is on this machine, best first: hardware before software, Vulkan, Metal and DX12 before GL. Nothing in a browser.
pub fn adapters() -> Vec<Adapter> {
    enumerate().into_iter().map(|(adapter, _)| adapter).collect()
}

/// An open device, and what went wrong on it.
#[derive(Debug)]
pub(crate) struct Device {
    pub(crate) adapter: Adapter,
    pub(crate) device: wgpu::Device,
    pub(crate) queue: wgpu::Queue,
    failure: Arc<Mutex<Option<(ErrorKind, String)>>>,
}

impl Device {
    pub(crate) fn open(options: &Options) -> Result<Self, Error> {
        let adapters = enumerate();
        let fits = |adapter: &Adapter| {
            (options.allow_software || !adapter.software)
                && options.adapter.as_deref().is_none_or(|part| adapter.matches(part))
        };
        let names: Vec<_> = adapters.iter().map(|(adapter, _)| adapter.to_string()).collect();
        let mut failed = None;
        for (info, adapter) in adapters.into_iter().filter(|(adapter, _)| fits(adapter)) {
            match Self::open_adapter(info, &adapter, options) {
                // An adapter that was named is meant; of all others the next one may open.
                Err(e) if options.adapter.is_none() => failed = failed.or(Some(e)),
                opened => return opened,
            }
        }
        Err(failed.unwrap_or_else(|| Error::new(ErrorKind::NoAdapter, no_adapter(options, &names))))
    }

    fn open_adapter(mut info: Adapter, adapter: &wgpu::Adapter, options: &Options) -> Result<Self, Error> {
        let mut limits = crate::gpu::required_limits(&adapter.limits());
        if let Some(bytes) = options.max_binding_bytes {
            limits.max_storage_buffer_binding_size = limits.max_storage_buffer_binding_size.min(bytes);
        }
        info.max_binding_bytes = limits.max_storage_buffer_binding_size;
        let subgroup = options
            .variant
            .uses_subgroups(adapter.features())
            .map_err(|e| Error::new(ErrorKind::Limit, format!("{info}: {e}")))?;
        info.variant = variant_of(subgroup);
        let descriptor = wgpu::DeviceDescriptor {
            label: Some("emprune"),
            required_features: if subgroup { wgpu::Features::SUBGROUP } else { wgpu::Features::empty() },
            required_limits: limits,
            experimental_features: wgpu::ExperimentalFeatures::disabled(),
            memory_hints: wgpu::MemoryHints::Performance,
            trace: wgpu::Trace::Off,
        };
        let (device, queue) = pollster::block_on(adapter.request_device(&descriptor))
            .map_err(|e| Error::new(ErrorKind::Limit, format!("{info} does not open: {e}")))?;
        // Without a handler wgpu panics. The first error is the cause, those after it are consequences.
        let failure = Arc::new(Mutex::new(None));
        let slot = failure.clone();
        device.on_uncaptured_error(Arc::new(move |error| {
            let kind = match error {
                wgpu::Error::OutOfMemory { .. } => ErrorKind::OutOfMemory,
                _ => ErrorKind::Internal,
            };
            note(&slot, kind, error.to_string());
        }));
        let slot = failure.clone();
        device.set_device_lost_callback(move |reason, message| {
            note(&slot, ErrorKind::DeviceLost, format!("the device is lost ({reason:?}): {message}"));
        });
        Ok(Self { adapter: info, device, queue, failure })
    }

    /// The first thing that went wrong since the last call. A device that is lost stays lost.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let mut slot = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        let failure = slot.take();
        *slot = failure.clone().filter(|(kind, _)| *kind == ErrorKind::DeviceLost);
        failure.map_or(Ok(()), |(kind, message)| Err(Error::new(kind, message)))
    }
}

fn note(slot: &Mutex<Option<(ErrorKind, String)>>, kind: ErrorKind, message: String) {
    let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
    // A lost device explains everything, before it and after.
    if slot.is_none() || kind == ErrorKind::DeviceLost {
        *slot = Some((kind, message));
    }
}

fn no_adapter(options: &Options, names: &[String]) -> String {
    let wanted = match &options.adapter {
        Some(part) if options.allow_software => format!("no adapter has {part:?} in its name, driver or backend"),
        Some(part) => format!("no hardware adapter has {part:?} in its name, driver or backend"),
        None if options.allow_software => "there is no adapter".to_owned(),
        None => "there is no hardware adapter".to_owned(),
    };
    match names {
        [] if BROWSER => format!("{wanted}: a browser's cannot be waited for; open it yourself and use gpu::Kernels"),
        [] => format!("{wanted}: none was found"),
        names => format!("{wanted}; there is {}", names.join(", ")),
    }
}
