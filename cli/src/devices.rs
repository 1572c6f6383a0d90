//! `emprune devices`: what could do the work.

use crate::report::write_json;
use crate::table::{new_table, to_text};
use anyhow::Result;
use emprune::{Backend, Pruner};
use serde::Serialize;
use std::fmt::Write as _;

#[derive(Serialize)]
struct Devices {
    schema: &'static str,
    cpu: Cpu,
    /// Best first.
    adapters: Vec<Adapter>,
}

#[derive(Default, Serialize)]
struct Cpu {
    threads: usize,
    simd: &'static str,
}

#[derive(Serialize)]
struct Adapter {
    name: String,
    backend: String,
    driver: String,
    device_type: String,
    /// Used only when asked for.
    software: bool,
    /// Which shaders would run.
    variant: &'static str,
    subgroup_min: u32,
    subgroup_max: u32,
    max_binding_bytes: u64,
    max_buffer_bytes: u64,
    workgroup_bytes: u32,
    workgroup_invocations: u32,
    storage_buffers: u32,
}

/// List them.
pub(crate) fn run(json: bool) -> Result<()> {
    let cpu = Pruner::cpu();
    let devices = Devices {
        schema: "emprune.devices/1",
        cpu: match *cpu.backend() {
            Backend::Cpu { threads, simd } => Cpu { threads, simd },
            _ => Cpu::default(),
        },
        adapters: adapters(),
    };
    let mut text = Vec::new();
    if json {
        write_json(&mut text, &devices)?;
    } else {
        text = format!("{}\n\n{}\n", cpu.backend(), table(&devices.adapters)).into_bytes();
    }
    crate::print(&text)
}

fn table(adapters: &[Adapter]) -> String {
    if adapters.is_empty() {
        return if cfg!(feature = "gpu") {
            "no adapter: no GPU and no software driver was found; the CPU does all the work"
        } else {
            "no adapter: this program was built without GPU support"
        }
        .to_owned();
    }
    let mut table = new_table();
    table.set_header(["adapter", "backend", "type", "variant", "binding", "buffer", "workgroup", "subgroup"]);
    for adapter in adapters {
        let Adapter { workgroup_bytes, workgroup_invocations, subgroup_min, subgroup_max, .. } = adapter;
        table.add_row([
            adapter.name.clone(),
            adapter.backend.clone(),
            adapter.device_type.clone(),
            adapter.variant.to_owned(),
            bytes(adapter.max_binding_bytes),
            bytes(adapter.max_buffer_bytes),
            format!("{workgroup_invocations}, {}", bytes((*workgroup_bytes).into())),
            format!("{subgroup_min}-{subgroup_max}"),
        ]);
    }
    let mut text = to_text(table);
    text.push('\n');
    for adapter in adapters {
        let Adapter { name, backend, driver, .. } = adapter;
        let software = if adapter.software { "; a software adapter: used only when asked for" } else { "" };
        // Writing to a String cannot fail.
        let _ = write!(text, "\n{name} ({backend}): driver {driver}{software}");
    }
    text
}

/// In the largest unit that is a power of 1024 and not above the number.
fn bytes(number: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let power = (number.max(1).ilog2() / 10) as usize;
    let value = number as f64 / (1u64 << (10 * power)) as f64;
    let places = usize::from(value.fract() != 0.0);
    format!("{value:.places$} {}", units[power])
}

#[cfg(feature = "gpu")]
fn adapters() -> Vec<Adapter> {
    let adapter = |a: emprune::gpu::Adapter| Adapter {
        name: a.name,
        backend: a.backend,
        driver: a.driver,
        device_type: a.device_type,
        software: a.software,
        variant: a.variant,
        subgroup_min: a.subgroup_min,
        subgroup_max: a.subgroup_max,
        max_binding_bytes: a.max_binding_bytes,
        max_buffer_bytes: a.max_buffer_bytes,
        workgroup_bytes: a.workgroup_bytes,
        workgroup_invocations: a.workgroup_invocations,
        storage_buffers: a.storage_buffers,
    };
    emprune::gpu::adapters().into_iter().map(adapter).collect()
}

#[cfg(not(feature = "gpu"))]
fn adapters() -> Vec<Adapter> {
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_the_unit_that_fits() {
        for (number, text) in
            [(0, "0 B"), (1023, "1023 B"), (16384, "16 KiB"), (1 << 27, "128 MiB"), (u64::MAX, "16 EiB")]
        {
            assert_eq!(bytes(number), text);
        }
        assert_eq!(bytes(1536), "1.5 KiB");
    }
}
