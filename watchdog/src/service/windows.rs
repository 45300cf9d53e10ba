//! The Windows service: a shell around `watchdog run`, which it starts as the console's user would, and asks to stop by
//! closing its standard input.
//!
//! A service has no console, so what the launcher says goes to `logs/watchdog.log`, and start, stop and end to the event log.
//! A launcher that ends by itself is started again from here; the service manager's own restarts are for this shell.
//!
//! For the moment in which `upgrade-launcher` leaves no executable, the service is one of the previous launcher, which is
//! whole: see [`Detour`]. A power cut then starts that one, and it lays itself in the missing one's place.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use config::InstallRoot;
use protocol::Failure;
use tokio::sync::watch;
use windows_service::service::{
    ServiceAccess, ServiceAction, ServiceActionType, ServiceConfig, ServiceControl, ServiceControlAccept,
    ServiceErrorControl, ServiceExitCode, ServiceFailureActions, ServiceFailureResetPeriod, ServiceInfo,
    ServiceStartType, ServiceState, ServiceStatus, ServiceType,
};
use windows_service::service_control_handler::{self, ServiceControlHandlerResult, ServiceStatusHandle};
use windows_service::service_manager::{ServiceManager, ServiceManagerAccess};
use windows_service::{define_windows_service, service_dispatcher};

use super::event_log::{self, Event};
use super::{Service, Wish};
use crate::process::{Log, Output, Process};
use crate::supervise::keep_log;
use crate::{access, upgrade_launcher};

/// The launcher stops its supervisor within 35 seconds.
const STOP_WITHIN: Duration = Duration::from_secs(45);
/// What the service manager waits for at a shutdown of the machine.
const PRESHUTDOWN: Duration = Duration::from_secs(60);
const START_WITHIN: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Pauses before the first, second and every further restart, of the launcher and of the service; the launcher has pauses of
/// its own for what it starts.
const RESTART_AFTER: [Duration; 3] = [Duration::from_secs(2), Duration::from_secs(10), Duration::from_secs(60)];
// What Windows says of a service.
const ACCESS_DENIED: i32 = 5;
const NO_SUCH_SETTING: i32 = 124;
const NO_SUCH_SERVICE: i32 = 1060;
const SERVICE_EXISTS: i32 = 1073;
const NEVER_STARTED: u32 = 1077;
/// After so long without an end, the next one is the first again.
const FORGET_AFTER: Duration = Duration::from_secs(3600);

pub fn service(root: &InstallRoot, service: &Service, wish: Wish) -> Result<(), Failure> {
    match wish {
        Wish::Install { print: true } => {
            println!("service {}, {}\n{}", service.name, account(service), command_line(root, service).join(" "));
            Ok(())
        }
        Wish::Install { print: false } => install(root, service),
        Wish::Uninstall => uninstall(root, service),
        Wish::Start => start(root, service),
        Wish::Stop => stop(root, service),
        Wish::Status => status(root, service),
    }
}

/// A virtual account: it exists as long as the service does, and has no password.
fn account(service: &Service) -> String {
    format!(r"NT SERVICE\{}", service.name)
}

fn command_line(root: &InstallRoot, service: &Service) -> Vec<String> {
    let launcher = upgrade_launcher::launcher_of(root);
    let (launcher, root) = (launcher.to_string_lossy().into_owned(), root.path().to_string_lossy().into_owned());
    [launcher.as_str(), "run", "--root", &root, "--service", &service.name].map(str::to_owned).into()
}

fn launch_arguments(root: &InstallRoot, service: &Service) -> Vec<OsString> {
    command_line(root, service)[1..].iter().map(OsString::from).collect()
}

fn install(root: &InstallRoot, service: &Service) -> Result<(), Failure> {
    let information = ServiceInfo {
        name: OsString::from(&service.name),
        display_name: OsString::from(format!("Plantlink ({})", service.name)),
        service_type: ServiceType::OWN_PROCESS,
        start_type: ServiceStartType::AutoStart,
        error_control: ServiceErrorControl::Normal,
        executable_path: upgrade_launcher::launcher_of(root),
        launch_arguments: launch_arguments(root, service),
        dependencies: Vec::new(),
        account_name: Some(OsString::from(account(service))),
        account_password: None,
    };
    let manager = manager(ServiceManagerAccess::CONNECT | ServiceManagerAccess::CREATE_SERVICE)?;
    let rights = ServiceAccess::CHANGE_CONFIG | ServiceAccess::START | ServiceAccess::DELETE;
    let created =
        manager.create_service(&information, rights).map_err(|error| failed("install the service", service, error))?;
    let configured = (|| {
        let description = format!("Gathers readings and keeps Plantlink running in {}", root.path().display());
        known("descriptions", created.set_description(description))?;
        // The network and the databases of the machine first.
        known("delayed start", created.set_delayed_auto_start(true))?;
        known("time for a stop at shutdown", created.set_preshutdown_timeout(PRESHUTDOWN))?;
        let restart = |delay| ServiceAction { action_type: ServiceActionType::Restart, delay };
        let actions = ServiceFailureActions {
            reset_period: ServiceFailureResetPeriod::After(FORGET_AFTER),
            reboot_msg: None,
            command: None,
            actions: Some(RESTART_AFTER.map(restart).into()),
        };
        known("restarts", created.update_failure_actions(actions))?;
        known("restarts after a clean end", created.set_failure_actions_on_non_crash_failures(true))
    })();
    let configured = configured.map_err(|error| failed("configure the service", service, error));
    let configured = configured
        .and_then(|()| folders(root)?.iter().try_for_each(|folder| access::grant(folder, &account(service))))
        .and_then(|()| event_log::install(&service.name));
    if let Err(failure) = configured {
        // Half a service would start with the machine, and not be what was asked for.
        let _ = created.delete();
        return Err(failure);
    }
    println!("the service {} is installed, and starts with the machine", service.name);
    println!("{}", service.how_to_start(root));
    Ok(())
}

/// A service manager that knows no such setting, such as Wine's, runs the service without it.
fn known(what: &str, set: windows_service::Result<()>) -> windows_service::Result<()> {
    match set {
        Err(windows_service::Error::Winapi(error)) if error.raw_os_error() == Some(NO_SUCH_SETTING) => {
            println!("the service manager of this machine knows no {what}; the service is installed without");
            Ok(())
        }
        other => other,
    }
}

/// The root, and where a SQLite database lies elsewhere.
fn folders(root: &InstallRoot) -> Result<Vec<PathBuf>, Failure> {
    Ok(std::iter::once(root.path().to_owned()).chain(super::database_folder(root)?).collect())
}

fn uninstall(root: &InstallRoot, service: &Service) -> Result<(), Failure> {
    let opened = open(root, service, ServiceAccess::QUERY_STATUS | ServiceAccess::STOP | ServiceAccess::DELETE)?;
    let running = opened.query_status().is_ok_and(|status| status.current_state != ServiceState::Stopped);
    if running {
        stop(root, service)?;
    }
    // While its name still means somebody.
    for folder in folders(root).unwrap_or_else(|_| vec![root.path().to_owned()]) {
        if folder.exists() {
            access::take_back(&folder, &account(service))?;
        }
    }
    opened.delete().map_err(|error| failed("remove the service", service, error))?;
    event_log::uninstall(&service.name)?;
    println!("the service {} is removed; the install root stays as it is", service.name);
    Ok(())
}

/// The service as one of the previous launcher, while the launcher itself is replaced.
pub struct Detour<'a> {
    root: &'a InstallRoot,
    service: &'a Service,
    opened: windows_service::service::Service,
    /// As an administrator may have changed it; without its account, which then stays.
    found: ServiceInfo,
}

impl<'a> Detour<'a> {
    /// `None` where there is no such service, or where it is one of another root.
    ///
    /// # Errors
    /// Without an administrator's rights.
    pub fn begin(root: &'a InstallRoot, service: &'a Service) -> Result<Option<Self>, Failure> {
        let Some(detour) = Self::find(root, service)? else { return Ok(None) };
        detour.lead_to(&upgrade_launcher::previous_of(root))?;
        Ok(Some(detour))
    }

    /// One that nobody has ended.
    ///
    /// # Errors
    /// As [`Detour::begin`].
    pub fn left_over(root: &'a InstallRoot, service: &'a Service) -> Result<Option<Self>, Failure> {
        let previous = upgrade_launcher::previous_of(root);
        Ok(Self::find(root, service)?.filter(|detour| starts(&detour.found.executable_path, &previous)))
    }

    fn find(root: &'a InstallRoot, service: &'a Service) -> Result<Option<Self>, Failure> {
        let rights = ServiceAccess::QUERY_CONFIG | ServiceAccess::CHANGE_CONFIG;
        let opened = match manager(ServiceManagerAccess::CONNECT)?.open_service(&service.name, rights) {
            Err(windows_service::Error::Winapi(error)) if error.raw_os_error() == Some(NO_SUCH_SERVICE) => {
                return Ok(None);
            }
            opened => opened.map_err(|error| failed("open the service", service, error))?,
        };
        let config = opened.query_config().map_err(|error| failed("ask after the service", service, error))?;
        if !is_of(root, &config) {
            return Ok(None);
        }
        let found = ServiceInfo {
            name: OsString::from(&service.name),
            display_name: config.display_name,
            service_type: config.service_type,
            start_type: config.start_type,
            error_control: config.error_control,
            executable_path: config.executable_path,
            launch_arguments: launch_arguments(root, service),
            dependencies: config.dependencies,
            account_name: None,
            account_password: None,
        };
        Ok(Some(Self { root, service, opened, found }))
    }

    /// Back to the launcher, which is whole.
    ///
    /// # Errors
    /// What the service manager says; then the service starts the previous launcher, until this is tried again.
    pub fn end(self) -> Result<(), Failure> {
        self.lead_to(&upgrade_launcher::launcher_of(self.root))
    }

    fn lead_to(&self, launcher: &Path) -> Result<(), Failure> {
        let led = ServiceInfo { executable_path: launcher.to_owned(), ..self.found.clone() };
        self.opened.change_config(&led).map_err(|error| failed("name the launcher of the service", self.service, error))
    }
}

/// Whether a service's command line is one of this program; names of files are the same in other letters.
fn starts(command: &Path, program: &Path) -> bool {
    let [command, program] = [command, program].map(|path| path.to_string_lossy().to_lowercase());
    let rest = command.trim_start_matches('"').strip_prefix(&program).map(str::to_owned);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['"', ' ']))
}

fn start(root: &InstallRoot, service: &Service) -> Result<(), Failure> {
    let opened = open(root, service, ServiceAccess::QUERY_STATUS | ServiceAccess::START)?;
    opened.start::<&OsStr>(&[]).map_err(|error| failed("start the service", service, error))?;
    wait_for(&opened, service, ServiceState::Running, START_WITHIN)?;
    println!("the service {} runs", service.name);
    Ok(())
}

fn stop(root: &InstallRoot, service: &Service) -> Result<(), Failure> {
    let opened = open(root, service, ServiceAccess::QUERY_STATUS | ServiceAccess::STOP)?;
    opened.stop().map_err(|error| failed("stop the service", service, error))?;
    wait_for(&opened, service, ServiceState::Stopped, STOP_WITHIN + START_WITHIN)?;
    println!("the service {} is stopped", service.name);
    Ok(())
}

fn status(root: &InstallRoot, service: &Service) -> Result<(), Failure> {
    let opened = open(root, service, ServiceAccess::QUERY_STATUS)?;
    let status = opened.query_status().map_err(|error| failed("ask after the service", service, error))?;
    let pid = status.process_id.map(|pid| format!(", process {pid}")).unwrap_or_default();
    println!("{}: {:?}{pid}", service.name, status.current_state);
    match status.current_state {
        ServiceState::Running => Ok(()),
        _ => Err(Failure::failed(format!("the service {} does not run: {}", service.name, end(status.exit_code)))),
    }
}

/// How it ended, in words.
fn end(code: ServiceExitCode) -> String {
    match code {
        ServiceExitCode::Win32(0) => "it was stopped".to_owned(),
        ServiceExitCode::Win32(NEVER_STARTED) => "it was not started since the machine was".to_owned(),
        ServiceExitCode::Win32(code) => std::io::Error::from_raw_os_error(code.cast_signed()).to_string(),
        ServiceExitCode::ServiceSpecific(code) => {
            format!("it ended with exit code {code}; the event log and logs\\watchdog.log say why")
        }
    }
}

fn wait_for(
    opened: &windows_service::service::Service,
    service: &Service,
    state: ServiceState,
    within: Duration,
) -> Result<(), Failure> {
    let deadline = Instant::now() + within;
    loop {
        let status = opened.query_status().map_err(|error| failed("ask after the service", service, error))?;
        if status.current_state == state {
            return Ok(());
        }
        let ended = state == ServiceState::Running && status.current_state == ServiceState::Stopped;
        if ended || Instant::now() > deadline {
            return Err(Failure::failed(format!(
                "the service {} is {:?} instead of {state:?}: {}",
                service.name,
                status.current_state,
                end(status.exit_code)
            )));
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

fn manager(rights: ServiceManagerAccess) -> Result<ServiceManager, Failure> {
    ServiceManager::local_computer(None::<&OsStr>, rights)
        .map_err(|error| Failure::failed(format!("could not ask the service manager: {}", cause(&error))))
}

/// A service of this root.
fn open(
    root: &InstallRoot,
    service: &Service,
    rights: ServiceAccess,
) -> Result<windows_service::service::Service, Failure> {
    let opened = manager(ServiceManagerAccess::CONNECT)?
        .open_service(&service.name, rights | ServiceAccess::QUERY_CONFIG)
        .map_err(|error| failed("open the service", service, error))?;
    let config = opened.query_config().map_err(|error| failed("ask after the service", service, error))?;
    match is_of(root, &config) {
        true => Ok(opened),
        false => Err(service.of_another_root(&config.executable_path.to_string_lossy())),
    }
}

fn is_of(root: &InstallRoot, config: &ServiceConfig) -> bool {
    let launchers = [upgrade_launcher::launcher_of(root), upgrade_launcher::previous_of(root)];
    launchers.iter().any(|launcher| starts(&config.executable_path, launcher))
}

fn failed(what: &str, service: &Service, error: windows_service::Error) -> Failure {
    let code = match &error {
        windows_service::Error::Winapi(error) => error.raw_os_error(),
        _ => None,
    };
    let hint = match code {
        Some(ACCESS_DENIED) => "; are you an administrator?",
        Some(NO_SUCH_SERVICE) => "; `watchdog service install` makes it",
        Some(SERVICE_EXISTS) => "; remove it first with `watchdog service uninstall`, or give this one another --name",
        _ => "",
    };
    Failure::failed(format!("could not {what} {}: {}{hint}", service.name, cause(&error)))
}

/// The system's own words; the crate's only say that a call failed.
fn cause(error: &windows_service::Error) -> String {
    match error {
        windows_service::Error::Winapi(error) => error.to_string(),
        other => other.to_string(),
    }
}

/// Which root, and as which service: the service manager calls a function that is given neither.
static STARTED: OnceLock<(InstallRoot, String)> = OnceLock::new();

define_windows_service!(serve, serve_service);

/// `watchdog run --service NAME`, as the service manager starts it.
///
/// # Errors
/// Started by anybody else.
pub fn run(root: &InstallRoot, name: &str) -> Result<(), Failure> {
    let _ = STARTED.set((root.clone(), name.to_owned()));
    service_dispatcher::start(name, serve).map_err(|error| {
        let what = "--service is for the service manager; leave it out to run everything in the foreground";
        Failure::usage(format!("{what} ({})", cause(&error)))
    })
}

fn serve_service(_: Vec<OsString>) {
    let Some((root, name)) = STARTED.get() else { return };
    let (stop, stopped) = watch::channel(false);
    let handler = move |control| match control {
        ServiceControl::Stop | ServiceControl::Preshutdown => {
            stop.send_replace(true);
            ServiceControlHandlerResult::NoError
        }
        ServiceControl::Interrogate => ServiceControlHandlerResult::NoError,
        _ => ServiceControlHandlerResult::NotImplemented,
    };
    // Without it nobody can be told anything.
    let Ok(status) = service_control_handler::register(name, handler) else { return };
    event_log::report(
        name,
        Event::Started,
        &format!("Plantlink {} starts in {}", daemon::version(), root.path().display()),
    );
    let kept = daemon::runtime().map(|runtime| runtime.block_on(keep(root, name, stopped, status)));
    let code = match &kept {
        Ok(()) => {
            event_log::report(name, Event::Stopped, "stopped, as it was asked to");
            ServiceExitCode::NO_ERROR
        }
        Err(failure) => {
            event_log::report(name, Event::Ended, &format!("could not be started: {}", failure.message));
            ServiceExitCode::ServiceSpecific(failure.exit.code().into())
        }
    };
    tell(status, ServiceState::Stopped, code, Duration::ZERO);
}

/// Runs the launcher, and again whenever it has ended by itself, until the service is to stop: the service manager would
/// neither do so after a clean end, nor let itself be stopped before it does.
async fn keep(root: &InstallRoot, name: &str, mut stopped: watch::Receiver<bool>, status: ServiceStatusHandle) {
    tell(status, ServiceState::Running, ServiceExitCode::NO_ERROR, Duration::ZERO);
    let mut ends = 0;
    while !*stopped.borrow() {
        let started = Instant::now();
        let said = run_once(root, &mut stopped, status).await.unwrap_or_else(|failure| failure.message);
        if *stopped.borrow() {
            return;
        }
        if started.elapsed() > FORGET_AFTER {
            ends = 0;
        }
        let pause = RESTART_AFTER[ends.min(RESTART_AFTER.len() - 1)];
        ends += 1;
        let next = format!("{said}; it is started again in {} s (logs\\watchdog.log has more)", pause.as_secs());
        event_log::report(name, Event::Ended, &next);
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            _ = stopped.wait_for(|stopped| *stopped) => {}
        }
    }
}

/// Until the launcher has ended; how it did, and why, if it has said so.
async fn run_once(
    root: &InstallRoot,
    stopped: &mut watch::Receiver<bool>,
    status: ServiceStatusHandle,
) -> Result<String, Failure> {
    let folder = root.path().to_string_lossy().into_owned();
    let arguments = ["run", "--root", &folder];
    let launcher = upgrade_launcher::mend(root)?;
    let started = Process::start(&launcher, &arguments, root.path(), &[], Log::Piped);
    let (mut launcher, Output { mut lines, log }) = started?;
    let logging = tokio::spawn(keep_log("watchdog", log, root.logs()));
    // For a supervisor, which this is none of.
    tokio::spawn(async move { tokio::io::copy(&mut lines, &mut tokio::io::sink()).await });
    let ended = tokio::select! {
        ended = launcher.wait() => ended.ok(),
        _ = stopped.wait_for(|stopped| *stopped) => {
            tell(status, ServiceState::StopPending, ServiceExitCode::NO_ERROR, STOP_WITHIN);
            launcher.stop(STOP_WITHIN).await
        }
    };
    let last_words = tokio::time::timeout(Duration::from_secs(1), logging).await.ok().and_then(Result::ok);
    let code = ended
        .and_then(|ended| ended.code())
        .map_or_else(|| "no exit code".to_owned(), |code| format!("exit code {code}"));
    Ok(match last_words.filter(|words| !words.is_empty()) {
        Some(words) => format!("ended by itself with {code}: {words}"),
        None => format!("ended by itself with {code}"),
    })
}

fn tell(status: ServiceStatusHandle, state: ServiceState, exit_code: ServiceExitCode, wait_hint: Duration) {
    let accepted = match state {
        ServiceState::Running => ServiceControlAccept::STOP | ServiceControlAccept::PRESHUTDOWN,
        _ => ServiceControlAccept::empty(),
    };
    let told = status.set_service_status(ServiceStatus {
        service_type: ServiceType::OWN_PROCESS,
        current_state: state,
        controls_accepted: accepted,
        exit_code,
        checkpoint: 0,
        wait_hint,
        process_id: None,
    });
    if let Err(error) = told {
        eprintln!("the service manager could not be told: {}", cause(&error));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_of_another_root_is_not_taken_for_ours() {
        let launcher = Path::new(r"C:\Plant Data\watchdog.exe");
        for (command, ours) in [
            (r#""c:\plant data\WATCHDOG.EXE" run --root "C:\Plant Data""#, true),
            (r"C:\Plant Data\watchdog.exe run", true),
            (r#""C:\Plant Data\watchdog.exe""#, true),
            (r#""C:\Plant Data 2\watchdog.exe" run --root "C:\Plant Data""#, false),
            (r"C:\Plant Data\watchdog.exe.old run", false),
        ] {
            assert_eq!(starts(Path::new(command), launcher), ours, "{command}");
        }
    }
}
