//! Clocks that jump: deadlines, costs and images are of the monotonic clock; only what expires at a date asks the wall clock.
#![cfg(target_os = "linux")]

use std::path::{Path, PathBuf};
use std::process::Command as Program;
use std::time::Duration;

use futures::future::try_join_all;
use reverie::client::Outcome;
use reverie_integration_tests::Fallible;
use reverie_integration_tests::processes::Processes;
use reverie_integration_tests::requests::{draw, quick};
use reverie_service_kit::Address;
use reverie_service_kit::client::credential;
use tempfile::TempDir;
use tokio::process::Command;
use tonic::{Code, Status};

/// Years of 365 days.
const YEAR: i64 = 365 * 86_400;

const BETWEEN_JUMPS: Duration = Duration::from_millis(50);

/// Preloaded, it makes a process read the wall clock with the offset that a file holds, in seconds. The monotonic clock stays as it is,
/// as when the time of a machine is set.
const LIBRARY: &str = r#"
    #define _GNU_SOURCE
    #include <fcntl.h>
    #include <stdlib.h>
    #include <sys/syscall.h>
    #include <sys/time.h>
    #include <time.h>
    #include <unistd.h>
    static long offset(void) {
        char text[32] = {0};
        int file = open(getenv("CLOCK_OFFSET_FILE"), O_RDONLY);
        if (file < 0) abort();
        if (read(file, text, sizeof text - 1) < 0) abort();
        close(file);
        return atol(text);
    }
    int clock_gettime(clockid_t clock, struct timespec *now) {
        int result = syscall(SYS_clock_gettime, clock, now);
        if (result == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) now->tv_sec += offset();
        return result;
    }
    int gettimeofday(struct timeval *restrict now, void *restrict zone) {
        struct timespec exact;
        int result = clock_gettime(CLOCK_REALTIME, &exact);
        now->tv_sec = exact.tv_sec;
        now->tv_usec = exact.tv_nsec / 1000;
        return result;
    }
    time_t time(time_t *kept) {
        struct timespec exact;
        clock_gettime(CLOCK_REALTIME, &exact);
        if (kept) *kept = exact.tv_sec;
        return exact.tv_sec;
    }
"#;

/// The wall clock of some processes.
struct WallClock {
    folder: TempDir,
    library: PathBuf,
}

impl WallClock {
    fn new() -> Fallible<Self> {
        let folder = tempfile::tempdir()?;
        let (source, library) = (folder.path().join("clock.c"), folder.path().join("clock.so"));
        std::fs::write(&source, LIBRARY)?;
        let compiled =
            Program::new("cc").args(["-shared", "-fPIC", "-o"]).args([&library, &source]).status()?;
        assert!(compiled.success(), "{compiled}");
        let clock = Self { folder, library };
        clock.set(0)?;
        Ok(clock)
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("offset")
    }

    /// Puts it this many seconds before or after the true time, at once.
    fn set(&self, offset: i64) -> Fallible<()> {
        let new = self.folder.path().join("new");
        std::fs::write(&new, offset.to_string())?;
        Ok(std::fs::rename(new, self.file())?)
    }

    fn of(&self, command: &mut Command) {
        command.env("LD_PRELOAD", &self.library).env("CLOCK_OFFSET_FILE", self.file());
    }
}

/// API keys with one that expires in about seventy years.
fn keys(folder: &Path) -> Fallible<PathBuf> {
    let file = folder.join("keys.toml");
    let digest = reverie_access::keys::digest("rvk_clock");
    let entry = "name = 'clock'\nscopes = ['generate']\nexpires = '2096-01-01T00:00:00Z'";
    std::fs::write(&file, format!("[[keys]]\nsha256 = '{digest}'\n{entry}"))?;
    Ok(file)
}

async fn image(address: &Address, seed: u64) -> Result<Outcome, Status> {
    draw(address, quick("a small zunin on the left, snow", 256, seed)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wall_clock_that_jumps_ends_no_call_and_changes_no_image() -> Fallible<()> {
    let clock = WallClock::new()?;
    let keys = keys(clock.folder.path())?;
    let six = Processes::start_as(&[], |mut command| {
        clock.of(&mut command);
        let is_pipeline = command.as_std().get_program().to_string_lossy().ends_with("reverie-pipeline");
        if is_pipeline {
            command.args(["--set", &format!("access.keys={}", keys.display())]);
        }
        Ok(command)
    })
    .await?;
    let address = six.pipeline.address()?;
    credential::show("rvk_clock")?;
    let expected = try_join_all((0..4).map(|seed| image(&address, seed))).await?;

    // There and back again, as long as images are drawn.
    let jumps = async {
        for offset in [YEAR, -YEAR, 0, -50 * YEAR, 50 * YEAR].into_iter().cycle() {
            clock.set(offset)?;
            tokio::time::sleep(BETWEEN_JUMPS).await;
        }
        Fallible::Ok(())
    };
    let drawn = tokio::select! {
        drawn = try_join_all((0..4).chain(0..4).map(|seed| image(&address, seed))) => drawn?,
        failed = jumps => return failed,
    };
    for (seed, drawn) in drawn.iter().enumerate() {
        assert!(drawn.image == expected[seed % 4].image, "{seed}");
    }

    // The processes did see it.
    clock.set(80 * YEAR)?;
    let expired = image(&address, 0).await.map(drop).unwrap_err();
    assert_eq!(expired.code(), Code::Unauthenticated, "{expired}");
    assert!(expired.message().contains("expired"), "{expired}");
    clock.set(0)?;
    assert!(image(&address, 0).await?.image == expected[0].image);
    Ok(())
}
