//! Sessions, through the public library.

use std::future::Future as _;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use capibara::{EngineError, Epoch, LimitKind, Limits, Policy, Session, SessionConfig, Status};
use capibara_tests::engine;

fn pinned() -> SessionConfig {
    let mut config = SessionConfig::default();
    (config.epoch, config.seed) = (Some(Epoch::from_nanos(1_769_860_800_000_000_000)), Some(1));
    config
}

fn said(session: &mut Session, code: &str) -> String {
    let outcome = session.run_blocking(code).unwrap();
    assert!(outcome.success(), "{code}: {:?} {}", outcome.status, outcome.stderr.text());
    outcome.stdout.text().into_owned()
}

#[test]
fn what_a_turn_leaves_the_next_one_finds() {
    let mut session = engine().session(pinned()).unwrap();
    assert_eq!(session.memory_bytes(), 0);
    assert_eq!(said(&mut session, "import json\nx = [1]\ndef f(n): return x * n\nopen('a', 'w').write('kept')"), "");
    assert!(session.memory_bytes() > 0);
    assert_eq!(said(&mut session, "x.append(2)\nprint(json.dumps(f(2)), open('a').read())"), "[1, 2, 1, 2] kept\n");
    assert_eq!(said(&mut session, "file = open('b', 'w')\nprint(file.write('open'), end='')"), "4");
    assert_eq!(said(&mut session, "file.close(); print(open('b').read())"), "open\n");
    // Memory that grew is there in the next turn, too.
    assert_eq!(said(&mut session, "large = bytearray(100 << 20); large[-1] = 7"), "");
    assert_eq!(said(&mut session, "print(large[-1], len(large) >> 20)"), "7 100\n");
    // An exception and an exit end the turn, and what came before them stays.
    let failed = session.run_blocking("y = 1\n1 / 0").unwrap();
    assert_eq!(failed.exit_code(), Some(1));
    assert!(failed.stderr.text().contains("    1 / 0\n    ~~^~~\nZeroDivisionError"), "{}", failed.stderr.text());
    assert_eq!(session.run_blocking("y += 1\nimport sys; sys.exit(3)").unwrap().exit_code(), Some(3));
    assert_eq!(session.run_blocking("y = (").unwrap().exit_code(), Some(1));
    assert_eq!(said(&mut session, "print(y)"), "2\n");
    // A traceback shows the lines of every turn it goes through.
    said(&mut session, "def div(a, b):\n    return a / b");
    let failed = session.run_blocking("# two lines\ndiv(1, 0)").unwrap().stderr.text().into_owned();
    assert!(failed.contains(", line 2, in <module>\n    div(1, 0)\n"), "{failed}");
    assert!(failed.contains(", line 2, in div\n    return a / b\n"), "{failed}");
}

#[test]
fn equal_sessions_are_equal_in_every_turn() {
    let turns = [
        "import random, time\nprint(random.random(), time.time(), id(random))",
        "time.sleep(2); print(time.time(), random.random())",
        "class A: pass\nprint(A(), time.monotonic())",
        "1 / 0",
        "print(open('/tmp/x', 'w').write('y' * 1000), random.random(), time.time())",
    ];
    let (first, second) = (engine(), engine());
    let mut sessions = [first.session(pinned()).unwrap(), second.session(pinned()).unwrap()];
    let mut clock = 0.0;
    for turn in turns {
        let [one, other] = sessions.each_mut().map(|session| session.run_blocking(turn).unwrap());
        assert_eq!((&one.stdout, &one.stderr, &one.status), (&other.stdout, &other.stderr, &other.status));
        assert_eq!((one.usage.fuel, one.job_sha256), (other.usage.fuel, other.job_sha256));
        // Time goes on.
        for word in one.stdout.text().split_whitespace().filter(|word| word.starts_with("17698")) {
            let now: f64 = word.parse().unwrap();
            assert!(now > clock, "{turn}: {now} after {clock}");
            clock = now;
        }
    }
    // The same turn after another past is another job.
    let again = sessions[0].run_blocking(turns[3]).unwrap();
    assert_ne!(again.job_sha256, sessions[1].run_blocking("pass").unwrap().job_sha256);
}

#[test]
fn each_turn_has_the_limits_for_itself() {
    let mut config = pinned();
    config.limits =
        Limits { fuel: Some(500_000_000), output: 2_000, wall_time: Duration::from_secs(3), ..config.limits };
    let mut session = engine().session(config).unwrap();
    for turn in 0..20 {
        let outcome =
            session.run_blocking("import time; time.sleep(1)\nfor i in range(100_000): pass\nprint('x' * 500)");
        let outcome = outcome.unwrap();
        assert!(outcome.success(), "turn {turn}: {:?}", outcome.status);
        let slept = outcome.usage.slept.as_secs_f64();
        assert!((0.999..=1.001).contains(&slept), "{slept}");
        assert_eq!(outcome.usage.output_bytes, 501);
    }
}

#[test]
fn a_stopped_turn_ends_the_session_and_says_so() {
    for (code, kind) in [
        ("while True: pass", LimitKind::Fuel),
        ("import time; time.sleep(100)", LimitKind::WallTime),
        ("print('x' * 100_000)", LimitKind::Output),
    ] {
        let mut config = pinned();
        config.limits = Limits { fuel: Some(200_000_000), output: 10_000, ..config.limits };
        let mut session = engine().session(config).unwrap();
        session.run_blocking("x = 1").unwrap();
        let stopped = session.run_blocking(code).unwrap();
        assert!(matches!(&stopped.status, Status::Limit(hit) if hit.kind == kind), "{code}: {:?}", stopped.status);
        let refused = session.run_blocking("print(x)").unwrap_err();
        assert!(matches!(refused, EngineError::SessionEnded { .. }), "{refused}");
        assert_eq!((refused.code(), refused.hint().is_some()), ("session-ended", true));
    }
    // A turn that is dropped, or canceled, is one that was stopped.
    let engine = engine();
    let mut session = engine.session(SessionConfig::default()).unwrap();
    {
        let mut turn = Box::pin(session.run("while True: pass"));
        assert!(turn.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    }
    assert!(matches!(session.run_blocking("1"), Err(EngineError::SessionEnded { .. })));
    let mut session = engine.session(SessionConfig::default()).unwrap();
    session.canceler().cancel();
    assert!(matches!(session.run_blocking("1").unwrap().status, Status::Canceled { .. }));
    assert!(matches!(session.run_blocking("1"), Err(EngineError::SessionEnded { .. })));
}

#[test]
fn a_denied_turn_changes_nothing() {
    let mut session = engine().session(SessionConfig::new(Policy::preset("strict").unwrap())).unwrap();
    said(&mut session, "x = 1");
    assert_eq!(session.run_blocking("x = 2\nimport os; os.system('id')").unwrap().status, Status::Denied);
    assert_eq!(said(&mut session, "print(x)"), "1\n");
}

#[test]
fn sessions_share_nothing_and_leave_nothing() {
    let engine = engine();
    let mut sessions: Vec<Session> = (0..20).map(|_| engine.session(SessionConfig::default()).unwrap()).collect();
    for (number, session) in sessions.iter_mut().enumerate() {
        said(session, &format!("import json; json.number = {number}; open('/tmp/n', 'w').write('{number}')"));
    }
    for (number, session) in sessions.iter_mut().enumerate().rev() {
        assert_eq!(said(session, "print(json.number, open('/tmp/n').read())"), format!("{number} {number}\n"));
    }
    drop(sessions);
    for _ in 0..20 {
        let mut fresh = engine.session(SessionConfig::default()).unwrap();
        assert_eq!(
            said(&mut fresh, "import json, os; print(hasattr(json, 'number'), os.listdir('/tmp'))"),
            "False []\n"
        );
    }
}

#[test]
fn live_sessions_have_real_clocks() {
    let mut config = SessionConfig::default();
    config.live = true;
    let mut session = engine().session(config).unwrap();
    let started = Instant::now();
    let earlier: f64 = said(&mut session, "import time; print(time.time())").parse().unwrap_or_default();
    let outcome = session.run_blocking("time.sleep(0.05); print(time.time())").unwrap();
    assert_eq!(outcome.usage.fuel, None);
    assert!(started.elapsed() >= Duration::from_millis(50));
    assert!(outcome.stdout.text().trim().parse::<f64>().unwrap() >= earlier + 0.05);
}
