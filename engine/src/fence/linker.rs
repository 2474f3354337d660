//! Connects a guest's WASI imports with the World: counts, tells the World the moment, translates results, waits.

use std::future::poll_fn;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::{Duration, Instant};

use wasmtime::{Caller, Extern, Linker};

use super::calls::{self, LARGEST_MESSAGE, refused};
use super::state::{State, StopError};
use crate::events::Waiting;
use crate::world::{Fault, Progress, Wait, World};

/// The module that WASI preview 1 is imported from.
pub(crate) const WASI: &str = "wasi_snapshot_preview1";
/// The answer to a call that succeeded.
const SUCCESS: i32 = 0;

/// Counts a call; once, however often it is tried: that depends on when input arrives.
fn count(caller: &mut Caller<'_, State>) {
    let state = caller.data_mut();
    state.host_calls += 1;
    state.world.count_call();
}

/// Fuel spent so far, by the guest and by host calls.
///
/// What host calls cost is not taken from the store's fuel each time: setting that begins a new stretch until the guest
/// has to give control back, and a script that calls all the time would never do so. It is taken when it comes to a
/// part of the limit, so that the guest cannot run on for long with fuel that is gone.
fn fuel_spent(caller: &mut Caller<'_, State>) -> wasmtime::Result<u64> {
    let left = caller.get_fuel()?;
    let state = caller.data();
    let start = state.fuel_start;
    let owed = state.fuel_owed();
    let spent = start.saturating_sub(left).saturating_add(owed);
    if spent >= start {
        return Err(wasmtime::Error::new(StopError::Fuel));
    }
    if owed > start / State::FUEL_PARTS {
        caller.set_fuel(left.saturating_sub(owed))?;
        let state = caller.data_mut();
        state.fuel_taken = state.fuel_taken.saturating_add(owed);
    }
    Ok(spent)
}

/// Memory and World of the calling guest, if it may go on; tells the World what time it is, and takes the output that waits.
fn enter<'a>(caller: &'a mut Caller<'_, State>) -> wasmtime::Result<(&'a mut [u8], &'a mut World)> {
    caller.data().may_go_on().map_err(wasmtime::Error::new)?;
    let spent = if caller.data().fuel_start == 0 { 0 } else { fuel_spent(caller)? };
    let memory = match caller.data().memory {
        Some(memory) => memory,
        // A program's start function calls before the instance is there.
        None => caller
            .get_export("memory")
            .and_then(Extern::into_memory)
            .ok_or_else(|| wasmtime::Error::msg("it exports no `memory`"))?,
    };
    let (bytes, state) = memory.data_and_store_mut(caller);
    if let Some(meter) = &state.meter {
        meter.fuel.store(spent, Ordering::Relaxed);
    }
    state.world.set_moment(spent);
    state.world.set_linear_bytes(bytes.len() as u64);
    if let Err(Fault::Stop(stop)) = state.world.take_output(bytes) {
        return Err(wasmtime::Error::new(StopError::World(stop)));
    }
    Ok((bytes, &mut state.world))
}

fn answer(result: Result<(), Fault>) -> wasmtime::Result<i32> {
    match result {
        Ok(()) => Ok(SUCCESS),
        Err(Fault::Errno(errno)) => Ok(errno as i32),
        Err(Fault::Stop(stop)) => Err(wasmtime::Error::new(StopError::World(stop))),
        Err(Fault::Again) => Err(wasmtime::Error::msg("a call that cannot be made again asked for that")),
    }
}

/// Runs a World function that may have to wait, again and again until it is done.
async fn until_done(
    mut caller: Caller<'_, State>,
    mut call: impl FnMut(&mut World, &mut [u8]) -> Result<Progress, Fault>,
) -> wasmtime::Result<i32> {
    count(&mut caller);
    loop {
        let (memory, world) = enter(&mut caller)?;
        let progress = call(world, memory);
        let slept = u64::try_from(world.slept().as_nanos()).unwrap_or(u64::MAX);
        caller.data().slept_nanos.store(slept, Ordering::Relaxed);
        caller.data().tell_usage();
        let wait = match progress {
            Ok(Progress::Done) => return Ok(SUCCESS),
            Ok(Progress::Wait(wait)) => wait,
            Err(fault) => return answer(Err(fault)),
        };
        caller.data().tell_waiting(match wait {
            Wait::Stdin | Wait::StdinUntil(_) => Waiting::Input,
            Wait::Until(_) => Waiting::Moment,
        });
        match wait {
            Wait::Stdin => read_stdin(caller.data_mut(), None).await,
            Wait::StdinUntil(until) => read_stdin(caller.data_mut(), Some(until)).await,
            Wait::Until(until) => sleep(caller.data_mut(), until).await,
        }
        caller.data().tell_waiting(Waiting::Nothing);
    }
}

/// Waits for input of the host, at the longest until a moment, and hands it to the World.
async fn read_stdin(state: &mut State, until: Option<Instant>) {
    let wanted = state.world.stdin_wanted().unwrap_or(1);
    let Some(mut stdin) = state.stdin.take() else {
        state.world.stdin_arrived(Ok(&[]));
        return;
    };
    let timer = state.timer.clone();
    let mut alarm = timer.alarm();
    let arrived = poll_fn(|cx| {
        if let Poll::Ready(arrived) = stdin.poll_read(cx, wanted) {
            return Poll::Ready(Some(arrived));
        }
        match until {
            Some(until) if Instant::now() >= until => Poll::Ready(None),
            Some(until) => match alarm.set(until, cx.waker()) {
                Ok(()) => Poll::Pending,
                Err(error) => Poll::Ready(Some(Err(error))),
            },
            None => Poll::Pending,
        }
    })
    .await;
    state.stdin = Some(stdin);
    if let Some(arrived) = arrived {
        state.world.stdin_arrived(arrived.as_deref().map_err(|error| error.kind().into()));
    }
}

/// Waits until a moment: a real sleep of a live run.
async fn sleep(state: &mut State, until: Instant) {
    let timer = state.timer.clone();
    let mut alarm = timer.alarm();
    poll_fn(|cx| {
        if Instant::now() >= until || alarm.set(until, cx.waker()).is_err() { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

/// The module that a guest imports its own functions from: see [`calls`].
const OURS: &str = "capibara";
/// No call has its answer, and none waits for one.
const NONE_CAN_COME: i32 = -1;
/// There is no such answer.
const NO_ANSWER: i32 = -1;

/// Takes a message of the guest.
fn call(mut caller: Caller<'_, State>, at: u32, length: u32) -> wasmtime::Result<i32> {
    count(&mut caller);
    let Some(calls) = caller.data().calls.clone() else { return Ok(refused::NOBODY_LISTENS) };
    if length > LARGEST_MESSAGE {
        return Ok(refused::TOO_LARGE);
    }
    let (memory, world) = enter(&mut caller)?;
    world.count_message(u64::from(length));
    let end = at.checked_add(length).map(|end| at as usize..end as usize);
    let Some(message) = end.and_then(|range| memory.get(range)) else { return Ok(refused::NOT_UNDERSTOOD) };
    Ok(calls::lock(&calls).take(message))
}

/// Waits for an answer; its call, 0 if none came in time, less than 0 if none can come. Of a negative time, for ever.
async fn wait(mut caller: Caller<'_, State>, milliseconds: i32) -> wasmtime::Result<i32> {
    count(&mut caller);
    enter(&mut caller)?;
    let Some(calls) = caller.data().calls.clone() else { return Ok(NONE_CAN_COME) };
    let began = Instant::now();
    let until = u64::try_from(milliseconds).ok().and_then(|most| began.checked_add(Duration::from_millis(most)));
    let timer = caller.data().timer.clone();
    let mut alarm = timer.alarm();
    caller.data().tell_usage();
    caller.data().tell_waiting(Waiting::Moment);
    let mut waited = false;
    let answered = poll_fn(|cx| {
        let mut calls = calls::lock(&calls);
        // The watch tells it first, and polls again.
        if calls.is_untold() {
            return Poll::Pending;
        }
        if let Some(number) = calls.announce() {
            return Poll::Ready(number);
        }
        if !calls.any_waits() {
            return Poll::Ready(NONE_CAN_COME);
        }
        if let Some(until) = until {
            if Instant::now() >= until && !calls.is_fresh() {
                return Poll::Ready(0);
            }
            // Without an alarm it would wait for an answer, which comes or is late.
            let _ = alarm.set(until, cx.waker());
        }
        waited = true;
        Poll::Pending
    })
    .await;
    caller.data().tell_waiting(Waiting::Nothing);
    // A script that watches the clock sees that time has passed. One that had not to wait depends on no real time.
    if waited {
        caller.data_mut().world.pass(began.elapsed());
    }
    enter(&mut caller)?;
    Ok(answered)
}

/// Copies an answer, if there is room for it; its length, or less than 0 if there is none.
fn read(mut caller: Caller<'_, State>, number: i32, at: u32, capacity: u32) -> wasmtime::Result<i32> {
    count(&mut caller);
    let Some(calls) = caller.data().calls.clone() else { return Ok(NO_ANSWER) };
    let (memory, world) = enter(&mut caller)?;
    let mut calls = calls::lock(&calls);
    let Some(answer) = calls.answer(number) else { return Ok(NO_ANSWER) };
    let Ok(length) = u32::try_from(answer.len()) else { return Ok(NO_ANSWER) };
    if length > capacity {
        return Ok(length.cast_signed());
    }
    let end = at.checked_add(length).map(|end| at as usize..end as usize);
    let Some(place) = end.and_then(|range| memory.get_mut(range)) else { return Ok(NO_ANSWER) };
    place.copy_from_slice(answer);
    world.count_message(u64::from(length));
    calls.has_read(number);
    Ok(length.cast_signed())
}

/// Defines functions that answer at once, each a method of the World with the same name and parameters.
macro_rules! define {
    ($linker:ident: $($name:ident($($arg:ident: $ty:ty),*);)*) => {$(
        $linker.func_wrap(WASI, stringify!($name), |mut caller: Caller<'_, State>, $($arg: $ty),*| -> wasmtime::Result<i32> {
            count(&mut caller);
            loop {
                let (memory, world) = enter(&mut caller)?;
                let result = world.$name(memory, $($arg),*);
                caller.data().tell_usage();
                // Deadline and canceler are looked at in between.
                if !matches!(result, Err(Fault::Again)) {
                    return answer(result);
                }
            }
        })?;
    )*};
}

/// Defines functions that may wait.
macro_rules! define_waiting {
    ($linker:ident: $($name:ident($($arg:ident: $ty:ty),*);)*) => {$(
        $linker.func_wrap_async(WASI, stringify!($name), |caller: Caller<'_, State>, ($($arg,)*): ($($ty,)*)| {
            Box::new(until_done(caller, move |world, memory| world.$name(memory, $($arg),*)))
        })?;
    )*};
}

/// Defines all of WASI preview 1, and the three functions of ours.
pub(crate) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    define! { linker:
        args_get(argv: u32, buffer: u32);
        args_sizes_get(count: u32, size: u32);
        environ_get(environ: u32, buffer: u32);
        environ_sizes_get(count: u32, size: u32);
        clock_res_get(id: u32, result: u32);
        clock_time_get(id: u32, precision: u64, result: u32);
        fd_advise(fd: u32, offset: u64, len: u64, advice: u32);
        fd_allocate(fd: u32, offset: u64, len: u64);
        fd_close(fd: u32);
        fd_datasync(fd: u32);
        fd_fdstat_get(fd: u32, result: u32);
        fd_fdstat_set_flags(fd: u32, flags: u32);
        fd_fdstat_set_rights(fd: u32, base: u64, inheriting: u64);
        fd_filestat_get(fd: u32, result: u32);
        fd_filestat_set_size(fd: u32, size: u64);
        fd_filestat_set_times(fd: u32, atim: u64, mtim: u64, flags: u32);
        fd_pread(fd: u32, iovs: u32, iovs_len: u32, offset: u64, result: u32);
        fd_prestat_get(fd: u32, result: u32);
        fd_prestat_dir_name(fd: u32, path: u32, path_len: u32);
        fd_pwrite(fd: u32, iovs: u32, iovs_len: u32, offset: u64, result: u32);
        fd_readdir(fd: u32, buffer: u32, buffer_len: u32, cookie: u64, result: u32);
        fd_renumber(from: u32, to: u32);
        fd_seek(fd: u32, offset: i64, whence: u32, result: u32);
        fd_sync(fd: u32);
        fd_tell(fd: u32, result: u32);
        fd_write(fd: u32, iovs: u32, iovs_len: u32, result: u32);
        path_create_directory(fd: u32, path: u32, path_len: u32);
        path_filestat_get(fd: u32, flags: u32, path: u32, path_len: u32, result: u32);
        path_filestat_set_times(fd: u32, flags: u32, path: u32, path_len: u32, atim: u64, mtim: u64, fst_flags: u32);
        path_link(old_fd: u32, old_flags: u32, old_path: u32, old_len: u32, new_fd: u32, new_path: u32, new_len: u32);
        path_open(fd: u32, dirflags: u32, path: u32, path_len: u32, oflags: u32, base: u64, inheriting: u64, fdflags: u32, result: u32);
        path_readlink(fd: u32, path: u32, path_len: u32, buffer: u32, buffer_len: u32, result: u32);
        path_remove_directory(fd: u32, path: u32, path_len: u32);
        path_rename(old_fd: u32, old_path: u32, old_len: u32, new_fd: u32, new_path: u32, new_len: u32);
        path_symlink(old_path: u32, old_len: u32, fd: u32, new_path: u32, new_len: u32);
        path_unlink_file(fd: u32, path: u32, path_len: u32);
        proc_raise(signal: u32);
        random_get(buffer: u32, len: u32);
        sched_yield();
        sock_accept(fd: u32, flags: u32, result: u32);
        sock_recv(fd: u32, iovs: u32, iovs_len: u32, flags: u32, result: u32, result_flags: u32);
        sock_send(fd: u32, iovs: u32, iovs_len: u32, flags: u32, result: u32);
        sock_shutdown(fd: u32, how: u32);
    }
    define_waiting! { linker:
        fd_read(fd: u32, iovs: u32, iovs_len: u32, result: u32);
        poll_oneoff(subscriptions: u32, events: u32, count: u32, result: u32);
    }
    linker.func_wrap(OURS, "call", call)?;
    linker.func_wrap_async(OURS, "wait", |caller: Caller<'_, State>, (milliseconds,): (i32,)| {
        Box::new(wait(caller, milliseconds))
    })?;
    linker.func_wrap(OURS, "read", read)?;
    linker.func_wrap(WASI, "proc_exit", |mut caller: Caller<'_, State>, code: u32| -> wasmtime::Result<()> {
        count(&mut caller);
        let (memory, world) = enter(&mut caller)?;
        answer(world.proc_exit(memory, code)).map(drop)
    })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};
    use std::task::{Context, Waker};

    use wasmtime::{Engine, Module, Store, TypedFunc};

    use super::super::calls::Calls;
    use super::super::watch::poll_once;
    use super::*;
    use crate::artifact::{Cpu, Metering, config};
    use crate::stream::Stdin;
    use crate::timer::Timer;
    use crate::tools::{Tool, ToolError, Tools};
    use crate::world::{ClockConfig, Quotas, RandomConfig, WorldConfig};

    /// A guest that calls what it is told to, with one page of memory.
    const GUEST: &str = r#"(module
        (import "capibara" "call" (func $call (param i32 i32) (result i32)))
        (import "capibara" "wait" (func $wait (param i32) (result i32)))
        (import "capibara" "read" (func $read (param i32 i32 i32) (result i32)))
        (memory (export "memory") 1)
        (func (export "call") (param i32 i32) (result i32) (call $call (local.get 0) (local.get 1)))
        (func (export "wait") (param i32) (result i32) (call $wait (local.get 0)))
        (func (export "read") (param i32 i32 i32) (result i32) (call $read (local.get 0) (local.get 1) (local.get 2))))"#;
    const MEMORY: u32 = 1 << 16;

    #[test]
    fn addresses_and_numbers_of_messages_are_checked() {
        let quotas = Quotas { output: 0, bytes_written: 0, files: 10, descriptors: 10, memory: 1 << 20 };
        let world = World::new(WorldConfig {
            args: Vec::new(),
            env: Vec::new(),
            clock: ClockConfig::Virtual { epoch_nanos: 0 },
            random: RandomConfig::Seeded(7),
            stdin: Stdin::Closed,
            sink: None,
            capture: false,
            quotas,
            deadline: Instant::now(),
            files: Vec::new(),
            grants: Vec::new(),
        })
        .unwrap();
        let any = Tool::dynamic("any", "", None, |value| async move { Ok::<_, ToolError>(value) });
        let calls = Arc::new(Mutex::new(Calls::new(Tools::new(&[any]).unwrap(), None)));
        let engine = Engine::new(&config(Metering::Unmetered, Cpu::Native, None).unwrap()).unwrap();
        let mut linker = Linker::new(&engine);
        link(&mut linker).unwrap();
        let mut store = Store::new(&engine, State::new(world, 1 << 20, None, Arc::new(Timer::new())));
        store.data_mut().calls = Some(calls.clone());
        let module = Module::new(&engine, wat::parse_str(GUEST).unwrap()).unwrap();
        let instance = poll_once(linker.instantiate_async(&mut store, &module)).unwrap().unwrap();
        let memory = instance.get_memory(&mut store, "memory").unwrap();
        let call: TypedFunc<(u32, u32), i32> = instance.get_typed_func(&mut store, "call").unwrap();
        let wait: TypedFunc<i32, i32> = instance.get_typed_func(&mut store, "wait").unwrap();
        let read: TypedFunc<(i32, u32, u32), i32> = instance.get_typed_func(&mut store, "read").unwrap();

        let message = br#"{"tool": "any", "arguments": {"a": 1}}"#;
        let length = message.len() as u32;
        memory.write(&mut store, 8, message).unwrap();
        memory.write(&mut store, (MEMORY - length) as usize, message).unwrap();
        let mut send = |at, length| poll_once(call.call_async(&mut store, (at, length))).unwrap().unwrap();
        for (at, length) in
            [(MEMORY, 1), (MEMORY - 1, 2), (u32::MAX, 1), (u32::MAX, LARGEST_MESSAGE), (u32::MAX, 0), (0, MEMORY + 1)]
        {
            assert_eq!(send(at, length), refused::NOT_UNDERSTOOD, "{at} {length}");
        }
        for length in [LARGEST_MESSAGE + 1, u32::MAX] {
            assert_eq!(send(0, length), refused::TOO_LARGE, "{length}");
        }
        // The control: the same message at two places, the last bytes of memory among them.
        assert_eq!((send(8, length), send(MEMORY - length, length)), (1, 2));

        assert!(calls::lock(&calls).poll(&mut Context::from_waker(Waker::noop())));
        for (milliseconds, number) in [(i32::MIN, 1), (i32::MAX, 2), (-1, NONE_CAN_COME), (0, NONE_CAN_COME)] {
            assert_eq!(poll_once(wait.call_async(&mut store, milliseconds)).unwrap().unwrap(), number);
        }

        let answer = br#"{"result":{"a":1}}"#;
        let length = answer.len() as u32;
        let mut take = |number, at, room| poll_once(read.call_async(&mut store, (number, at, room))).unwrap().unwrap();
        for number in [0, -1, 3, i32::MAX, i32::MIN] {
            assert_eq!(take(number, 8, MEMORY), NO_ANSWER, "{number}");
        }
        for (at, room) in
            [(MEMORY, length), (MEMORY - 1, length), (u32::MAX, u32::MAX), (u32::MAX - length + 1, length)]
        {
            assert_eq!(take(1, at, room), NO_ANSWER, "{at} {room}");
        }
        // Too small a place is told how large it has to be, wherever it lies; an answer is read once.
        assert_eq!((take(1, u32::MAX, 0), take(1, 0, length - 1)), (length as i32, length as i32));
        assert_eq!(take(1, MEMORY - length, length), length as i32);
        assert_eq!(take(1, 0, length), NO_ANSWER);
        assert_eq!(take(2, 0, u32::MAX), length as i32);
        assert_eq!(&memory.data(&store)[(MEMORY - length) as usize..], answer);
    }
}
