//! Output that waits in the guest's memory.
//!
//! A guest that prints in small pieces may keep them in buffers of its own and export where: `capibara_output`, the
//! address of two records, for standard output and error. Each is three numbers of 32 bits: how many bytes wait, what
//! went wrong when they were last written (a WASI errno), and where they lie. The host takes them before each of its
//! calls and when the run ends, however it ends: so they stay in order with all else the script does, and none are lost.
//!
//! Behind the records stand the address of a table of bytes and their number: for each descriptor below that, which
//! stream it is, 1 or 2, or 0. The host keeps it as descriptors are opened, closed and renumbered.

use super::abi::{self, Iovecs};
use super::descriptors::Target;
use super::{Fault, World};
use crate::stream::Stream;

/// Most bytes that may wait on one stream.
const MAX_WAITING: u32 = 64 << 10;
const RECORD_BYTES: u32 = 12;
const ERROR_AT: u32 = 4;
const DATA_AT: u32 = 8;
/// Where the table's address stands, and its number of descriptors.
const TABLE_AT: u32 = 24;
const COUNT_AT: u32 = 28;
/// Most descriptors of a table; no run has more.
const MOST_DESCRIPTORS: u32 = 4096;

/// Where the guest keeps them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OutputBuffers {
    /// Address of the two records.
    pub(super) records: u32,
    /// Address of the table, and how many descriptors it has.
    pub(super) table: u32,
    pub(super) descriptors: u32,
}

impl World {
    /// Says where the guest keeps its output buffers. Where the table is, is read now: it does not move.
    pub(crate) fn set_output_buffers(&mut self, mem: &[u8], records: u32) {
        let number = |at: u32| abi::read_u32(mem, records.saturating_add(at)).unwrap_or_default();
        let (table, descriptors) = (number(TABLE_AT), number(COUNT_AT).min(MOST_DESCRIPTORS));
        self.output_buffers = Some(OutputBuffers { records, table, descriptors });
    }

    /// Writes what waits in the guest's output buffers, as if the guest had called `fd_write`.
    ///
    /// # Errors
    /// Only stops, as those of `fd_write`. An errno is left where the guest finds it.
    pub(crate) fn take_output(&mut self, mem: &mut [u8]) -> Result<(), Fault> {
        let Some(OutputBuffers { records, .. }) = self.output_buffers else { return Ok(()) };
        self.take_stream(mem, records, Stream::Stdout)?;
        self.take_stream(mem, records.saturating_add(RECORD_BYTES), Stream::Stderr)
    }

    /// Tells the guest which stream a descriptor is now.
    pub(super) fn tell_stream(&self, mem: &mut [u8], fd: u32) {
        let Some(OutputBuffers { table, descriptors, .. }) = self.output_buffers else { return };
        let stream = match self.descriptors.get(fd).map(|descriptor| descriptor.target) {
            Ok(Target::Output(Stream::Stdout)) => 1,
            Ok(Target::Output(Stream::Stderr)) => 2,
            _ => 0,
        };
        // A table outside memory is a guest's mistake, and its loss.
        if fd < descriptors
            && let Ok([known]) = abi::slice_mut(mem, table.saturating_add(fd), 1)
            && *known != stream
        {
            *known = stream;
        }
    }

    fn take_stream(&mut self, mem: &mut [u8], record: u32, stream: Stream) -> Result<(), Fault> {
        // A record outside memory is a guest's mistake, and its loss: nothing waits there.
        let Ok(len @ 1..) = abi::read_u32(mem, record) else { return Ok(()) };
        // They are gone from the buffer first: what a stop cuts is not written a second time.
        abi::write_u32(mem, record, 0)?;
        match self.write_waiting(mem, record, stream, len.min(MAX_WAITING)) {
            // A record that ends outside memory is a guest's mistake, as above.
            Err(Fault::Errno(errno)) => {
                let _ = abi::write_u32(mem, record.saturating_add(ERROR_AT), errno as u32);
                Ok(())
            }
            other => other,
        }
    }

    fn write_waiting(&mut self, mem: &[u8], record: u32, stream: Stream, len: u32) -> Result<(), Fault> {
        let start = abi::read_u32(mem, record.saturating_add(DATA_AT))?;
        self.write_stream(mem, stream, &Iovecs::one(mem, start, len)?).map(drop)
    }
}
