//! The machine, and what it lets this process have.

use std::fs;

use capibara::checkup::{self, Machine};
use rustix::process::{Resource, Rlimit, getrlimit};

use super::{Check, fix};
use crate::output::units;

/// What a run needs beside its own address space: code, image, stacks and this program.
const BESIDE: usize = 512 << 20;
/// Mappings that Linux gives a process where nobody changed it.
const USUAL_MAPPINGS: usize = 65_530;
/// With fewer open files nothing can be relied on, and with fewer than the second number a run with granted files may fail.
const LEAST_FILES: u64 = 64;
const USUAL_FILES: u64 = 1024;

pub(super) fn check(checks: &mut Vec<Check>) {
    let machine = Machine::look();
    checks.push(kernel(&machine));
    checks.push(processor(&machine));
    checks.push(page_size(machine.page_bytes));
    checks.push(address_space());
    checks.push(mappings(&machine));
    checks.push(open_files(getrlimit(Resource::Nofile)));
}

fn kernel(machine: &Machine) -> Check {
    const NAME: &str = "kernel";
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let release = release.trim();
    if !cfg!(target_os = "linux") {
        return Check::warning(NAME, format!("{} is not tested", std::env::consts::OS))
            .advice("run it on Linux where that matters");
    }
    let named = if release.is_empty() { "Linux (/proc is not there)".into() } else { format!("Linux {release}") };
    if machine.tells_written_pages {
        Check::ok(NAME, named)
    } else {
        Check::ok(NAME, format!("{named}; from 6.7 on, many runs in one process take less time"))
    }
}

fn processor(machine: &Machine) -> Check {
    const NAME: &str = "processor";
    if machine.missing_features.is_empty() {
        return Check::ok(NAME, machine.processor.clone());
    }
    let missing = machine.missing_features.join(", ");
    Check::warning(
        NAME,
        format!("it is no {}: it lacks {missing}, so code is compiled for this machine alone", machine.processor),
    )
    .fix("capibara runtime install python --native")
}

fn page_size(bytes: usize) -> Check {
    const NAME: &str = "page-size";
    let shown = units::size(bytes as u64);
    if bytes.is_power_of_two() && (4 << 10..=64 << 10).contains(&bytes) {
        Check::ok(NAME, shown)
    } else {
        Check::error(NAME, format!("pages of {shown}: memory images need pages of 4KiB to 64KiB"))
            .advice("start a kernel with pages of 4KiB, 16KiB or 64KiB")
    }
}

fn address_space() -> Check {
    const NAME: &str = "address-space";
    let needed = checkup::ADDRESS_SPACE_BYTES + BESIDE as u64;
    let Err(error) = checkup::reserve_address_space(BESIDE) else {
        return Check::ok(NAME, format!("{} can be reserved for a run", units::size(needed)));
    };
    let limit = getrlimit(Resource::As);
    if let Some(current) = limit.current {
        let check = Check::error(
            NAME,
            format!(
                "a run reserves {} of address space (and uses little of it), and this process may have {} (ulimit -v)",
                units::size(needed),
                units::size(current)
            ),
        );
        return match raised("v", &limit, needed.saturating_mul(2), 1024) {
            Some(command) => check.fix(command),
            None => check.advice("ask the administrator for a higher hard limit (`as` in /etc/security/limits.conf)"),
        };
    }
    let check = Check::error(NAME, format!("{} of address space cannot be reserved: {error}", units::size(needed)));
    match fs::read_to_string("/proc/sys/vm/overcommit_memory").as_deref().map(str::trim) {
        Ok("2") => check.fix(fix::as_root("sysctl -w vm.overcommit_memory=0")),
        _ => check.advice("look for a limit of this container or service on virtual memory"),
    }
}

/// The command that raises a soft limit to `wanted`, if the hard limit allows that; the shell counts in units of `unit` bytes.
fn raised(option: &str, limit: &Rlimit, wanted: u64, unit: u64) -> Option<String> {
    match limit.maximum {
        Some(most) if most < wanted && rustix::process::geteuid().is_root() => {
            Some(format!("ulimit -{option} {}", wanted.div_ceil(unit)))
        }
        Some(most) if most < wanted => None,
        _ => Some(format!("ulimit -S -{option} {}", wanted.div_ceil(unit))),
    }
}

fn mappings(machine: &Machine) -> Check {
    const NAME: &str = "memory-mappings";
    let most = machine.most_mappings;
    let runs = most.saturating_sub(machine.spare_mappings) / machine.mappings_of_a_run;
    let message = format!("vm.max_map_count is {most}: enough for about {runs} sessions in one process");
    if most < USUAL_MAPPINGS {
        Check::warning(NAME, message).fix(fix::as_root(&format!("sysctl -w vm.max_map_count={USUAL_MAPPINGS}")))
    } else {
        Check::ok(NAME, message)
    }
}

fn open_files(limit: Rlimit) -> Check {
    const NAME: &str = "open-files";
    let Some(current) = limit.current.filter(|current| *current < USUAL_FILES) else {
        let shown = limit.current.map_or("without a limit".into(), |most| format!("at most {most}"));
        return Check::ok(NAME, shown);
    };
    let message = format!("at most {current} (ulimit -n)");
    let check = if current < LEAST_FILES {
        Check::error(NAME, format!("{message}: a run needs about {LEAST_FILES}"))
    } else {
        Check::warning(NAME, format!("{message}: a script that opens many granted files may find none free"))
    };
    match raised("n", &limit, USUAL_FILES, 1) {
        Some(command) => check.fix(command),
        None => check.advice("ask the administrator for a higher hard limit (`nofile` in /etc/security/limits.conf)"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Status;
    use super::*;

    fn machine() -> Machine {
        Machine::look()
    }

    #[test]
    fn what_a_machine_lacks_is_said() {
        let mut old = machine();
        old.missing_features = vec!["sse4.2", "popcnt"];
        let check = processor(&old);
        assert!(check.status == Status::Warning && check.message.contains("sse4.2, popcnt"), "{check:?}");
        old.tells_written_pages = false;
        assert!(kernel(&old).status == Status::Ok && kernel(&old).message.contains("6.7"));
        old.most_mappings = 10_000;
        let check = mappings(&old);
        assert!(check.fix.as_ref().is_some_and(|fix| fix.ends_with("sysctl -w vm.max_map_count=65530")), "{check:?}");
        for (bytes, status) in
            [(4096, Status::Ok), (65536, Status::Ok), (2048, Status::Error), (1 << 20, Status::Error)]
        {
            assert_eq!(page_size(bytes).status, status, "{bytes}");
        }
    }

    #[test]
    fn limits_are_raised_as_far_as_they_can_be() {
        let limit = |current, maximum| Rlimit { current: Some(current), maximum };
        assert_eq!(open_files(limit(40, None)).fix.as_deref(), Some("ulimit -S -n 1024"));
        assert_eq!(open_files(limit(40, Some(4096))).status, Status::Error);
        assert_eq!(open_files(limit(256, Some(4096))).status, Status::Warning);
        assert_eq!(open_files(limit(1024, Some(1024))).status, Status::Ok);
        assert_eq!(open_files(Rlimit { current: None, maximum: None }).status, Status::Ok);
        let low = open_files(limit(40, Some(50)));
        assert!(low.fix.is_some() != low.advice.is_some(), "{low:?}");
    }
}
