//! Bytes to the device and back, for weights that live on the host.

use super::device::Device;
use crate::error::{Error, ErrorKind};

/// A buffer in device memory, zeroed.
pub(crate) fn buffer(device: &wgpu::Device, label: &str, size: u64) -> wgpu::Buffer {
    device.create_buffer(&wgpu::BufferDescriptor {
        label: Some(label),
        size: size.max(16),
        usage: wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST,
        mapped_at_creation: false,
    })
}

/// Bytes to the front of a buffer; up to three zeros fill the last word.
pub(crate) fn upload(device: &Device, buffer: &wgpu::Buffer, bytes: &[u8]) {
    let (words, rest) = bytes.split_at(bytes.len() & !3);
    if !words.is_empty() {
        device.queue.write_buffer(buffer, 0, words);
    }
    if !rest.is_empty() {
        let mut last = [0; 4];
        last[..rest.len()].copy_from_slice(rest);
        device.queue.write_buffer(buffer, words.len() as u64, &last);
    }
}

/// Submit what was recorded, wait for it, and read the front of some buffers.
pub(crate) fn read_back(
    device: &Device,
    mut encoder: wgpu::CommandEncoder,
    wanted: &[(&wgpu::Buffer, u64)],
) -> Result<Vec<Vec<u8>>, Error> {
    let total: u64 = wanted.iter().map(|(_, size)| size).sum();
    let staging = device.device.create_buffer(&wgpu::BufferDescriptor {
        label: Some("emprune.readback"),
        size: total.max(4),
        usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
        mapped_at_creation: false,
    });
    let mut at = 0;
    for (buffer, size) in wanted {
        encoder.copy_buffer_to_buffer(buffer, 0, &staging, at, *size);
        at += size;
    }
    let (sender, receiver) = std::sync::mpsc::channel();
    encoder.map_buffer_on_submit(&staging, wgpu::MapMode::Read, .., move |result| {
        // The receiver is gone only when an error has been found already.
        let _ = sender.send(result);
    });
    submit_and_wait(device, encoder)?;
    let lost =
        |e: &dyn std::fmt::Display| Error::new(ErrorKind::DeviceLost, format!("the device does not answer: {e}"));
    receiver.recv().map_err(|e| lost(&e))?.map_err(|e| lost(&e))?;
    let mapped = staging.slice(..).get_mapped_range().map_err(|e| lost(&e))?;
    let mut at = 0;
    let out = wanted.iter().map(|(_, size)| {
        let from = at;
        at += *size as usize;
        mapped[from..at].to_vec()
    });
    Ok(out.collect())
}

pub(crate) fn submit_and_wait(device: &Device, encoder: wgpu::CommandEncoder) -> Result<(), Error> {
    #[cfg(debug_assertions)]
    fault(device)?;
    submit(device, [encoder.finish()])
}

/// Have everything on the device that was uploaded, and the memory back that it was uploaded from.
pub(crate) fn wait_for_uploads(device: &Device) -> Result<(), Error> {
    submit(device, [])
}

fn submit<const N: usize>(device: &Device, commands: [wgpu::CommandBuffer; N]) -> Result<(), Error> {
    device.queue.submit(commands);
    let waited = device.device.poll(wgpu::PollType::wait_indefinitely());
    // What the device complained about explains a failed wait better than the wait does.
    device.check()?;
    waited.map(drop).map_err(|e| Error::new(ErrorKind::DeviceLost, format!("the device does not answer: {e}")))
}

/// For tests, and in no release build: `EMPRUNE_FAULT=lost:3` takes the device away before the third submission of the
/// process, `memory:3` its memory, `short:3` does so for that submission alone; `internal:3` uses it as nobody may.
#[cfg(debug_assertions)]
fn fault(device: &Device) -> Result<(), Error> {
    use std::sync::atomic::{AtomicUsize, Ordering};
    static SUBMISSIONS: AtomicUsize = AtomicUsize::new(0);
    let Ok(fault) = std::env::var("EMPRUNE_FAULT") else { return Ok(()) };
    let submission = 1 + SUBMISSIONS.fetch_add(1, Ordering::Relaxed);
    let is_at = |at: &str| at == submission.to_string();
    let is_behind = |at: &str| at.parse().is_ok_and(|at| submission >= at);
    match fault.split_once(':') {
        Some(("lost", at)) if is_at(at) => device.device.destroy(),
        Some((kind @ ("memory" | "short"), at)) if is_at(at) || (kind == "memory" && is_behind(at)) => {
            return Err(Error::new(ErrorKind::OutOfMemory, "the device has no memory left"));
        }
        // No buffer can be mapped both ways.
        Some(("internal", at)) if is_at(at) => drop(device.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("emprune.fault"),
            size: 4,
            usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::MAP_WRITE,
            mapped_at_creation: false,
        })),
        _ => {}
    }
    Ok(())
}
