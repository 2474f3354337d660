//! Output that waits in the guest's memory.
//!
//! A guest that prints in small pieces may keep them in buffers of its own and export where: `capibara_output`, the
//! address of two records, for descriptors 1 and 2. Each is three numbers of 32 bits: how many bytes wait, what went
//! wrong when they were last written (a WASI errno), and where they lie. The host takes them before each of its calls
//! and when the run ends, however it ends: so they stay in order with all else the script does, and none are lost.

use super::abi::{self, Errno, Iovecs};
use super::{Fault, World};

/// Most bytes that may wait on one stream.
const MAX_WAITING: u32 = 64 << 10;
const RECORD_BYTES: u32 = 12;
const ERROR_AT: u32 = 4;
const DATA_AT: u32 = 8;

impl World {
    /// Says where the guest keeps its output buffers.
    pub(crate) fn set_output_buffers(&mut self, address: u32) {
        self.output_buffers = Some(address);
    }

    /// Writes what waits in the guest's output buffers, as if the guest had called `fd_write`.
    ///
    /// # Errors
    /// Only stops, as those of `fd_write`. An errno is left where the guest finds it.
    pub(crate) fn take_output(&mut self, mem: &mut [u8]) -> Result<(), Fault> {
        let Some(address) = self.output_buffers else { return Ok(()) };
        self.take_stream(mem, address, 1)?;
        self.take_stream(mem, address.saturating_add(RECORD_BYTES), 2)
    }

    fn take_stream(&mut self, mem: &mut [u8], record: u32, fd: u32) -> Result<(), Fault> {
        // A record outside memory is a guest's mistake, and its loss: nothing waits there.
        let Ok(len @ 1..) = abi::read_u32(mem, record) else { return Ok(()) };
        // They are gone from the buffer first: what a stop cuts is not written a second time.
        abi::write_u32(mem, record, 0)?;
        match self.write_waiting(mem, record, fd, len.min(MAX_WAITING)) {
            Err(Fault::Errno(errno)) => Ok(abi::write_u32(mem, record.saturating_add(ERROR_AT), errno as u32)?),
            other => other,
        }
    }

    fn write_waiting(&mut self, mem: &[u8], record: u32, fd: u32, len: u32) -> Result<(), Fault> {
        let mut start = abi::read_u32(mem, record.saturating_add(DATA_AT))?;
        let mut left = len;
        while left > 0 {
            let written = self.write_ranges(mem, fd, &Iovecs::one(mem, start, left)?)?;
            let written = u32::try_from(written).unwrap_or(left).min(left);
            if written == 0 {
                return Err(Errno::Io.into());
            }
            start = start.saturating_add(written);
            left = left.saturating_sub(written);
        }
        Ok(())
    }
}
