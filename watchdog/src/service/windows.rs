//! The Windows service: a shell around `watchdog run`, which it starts as the console's user would, and asks to stop by
//! closing its standard input.
//!
//! A service has no console, so what the launcher says goes to `logs/watchdog.log`. A launcher that ends by itself ends the
//! service with its exit code, and the service manager starts it again, also after a clean end; so the moment in which
//! `upgrade-launcher` leaves no executable is covered once there is one again.

use std::ffi::{OsStr, OsString};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use config::{Credentials, InstallRoot};
use protocol::Failure;
use readings::Place;
use tokio::sync::watch;
use windows_service::service::{
    ServiceAccess, ServiceAction, ServiceActionType, ServiceControl, ServiceControlAccept, ServiceErrorControl,
    ServiceExitCode, ServiceFailureActions, ServiceFailureResetPeriod, ServiceInfo, ServiceStartType, ServiceState,
    ServiceStatus, ServiceType,
};
use windows_service::service_control_handler::{self, ServiceControlHandlerResult, ServiceStatusHandle};
use windows_service::service_manager::{ServiceManager, ServiceManagerAccess};
use windows_service::{define_windows_service, service_dispatcher};

use super::{Service, Wish};
use crate::process::{Log, Output, Process};
use crate::supervise::keep_log;
use crate::{access, executable};

/// The launcher stops its supervisor within 35 seconds.
const STOP_WITHIN: Duration = Duration::from_secs(45);
/// What the service manager waits for at a shutdown of the machine.
const PRESHUTDOWN: Duration = Duration::from_secs(60);
const START_WITHIN: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Pauses before the first, second and every further restart; the launcher has pauses of its own for what it starts.
const RESTART_AFTER: [Duration; 3] = [Duration::from_secs(2), Duration::from_secs(10), Duration::from_secs(60)];
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
        Wish::Start => start(service),
        Wish::Stop => stop(service),
        Wish::Status => status(service),
    }
}

/// A virtual account: it exists as long as the service does, and has no password.
fn account(service: &Service) -> String {
    format!(r"NT SERVICE\{}", service.name)
}

fn command_line(root: &InstallRoot, service: &Service) -> Vec<String> {
    let launcher = root.path().join(executable("watchdog"));
    let (launcher, root) = (launcher.to_string_lossy().into_owned(), root.path().to_string_lossy().into_owned());
    [launcher.as_str(), "run", "--root", &root, "--service", &service.name].map(str::to_owned).into()
}

fn install(root: &InstallRoot, service: &Service) -> Result<(), Failure> {
    let command = command_line(root, service);
    let information = ServiceInfo {
        name: OsString::from(&service.name),
        display_name: OsString::from(format!("Plantlink ({})", service.name)),
        service_type: ServiceType::OWN_PROCESS,
        start_type: ServiceStartType::AutoStart,
        error_control: ServiceErrorControl::Normal,
        executable_path: command[0].clone().into(),
        launch_arguments: command[1..].iter().map(OsString::from).collect(),
        dependencies: Vec::new(),
        account_name: Some(OsString::from(account(service))),
        account_password: None,
    };
    let manager = manager(ServiceManagerAccess::CONNECT | ServiceManagerAccess::CREATE_SERVICE)?;
    let rights = ServiceAccess::CHANGE_CONFIG | ServiceAccess::START | ServiceAccess::DELETE;
    let created =
        manager.create_service(&information, rights).map_err(|error| failed("install the service", service, error))?;
    let configured = (|| {
        created
            .set_description(format!("Gathers readings and keeps Plantlink running in {}", root.path().display()))?;
        // The network and the databases of the machine first.
        created.set_delayed_auto_start(true)?;
        created.set_preshutdown_timeout(PRESHUTDOWN)?;
        let restart = |delay| ServiceAction { action_type: ServiceActionType::Restart, delay };
        created.update_failure_actions(ServiceFailureActions {
            reset_period: ServiceFailureResetPeriod::After(FORGET_AFTER),
            reboot_msg: None,
            command: None,
            actions: Some(RESTART_AFTER.map(restart).into()),
        })?;
        created.set_failure_actions_on_non_crash_failures(true)
    })();
    let configured = configured.map_err(|error| failed("configure the service", service, error));
    let configured =
        configured.and_then(|()| folders(root)?.iter().try_for_each(|folder| access::grant(folder, &account(service))));
    if let Err(failure) = configured {
        // Half a service would start with the machine, and not be what was asked for.
        let _ = created.delete();
        return Err(failure);
    }
    println!("the service {} is installed, and starts with the machine", service.name);
    println!("start it now with: watchdog service start --root {}", root.path().display());
    Ok(())
}

/// The root, and where a SQLite database lies elsewhere.
fn folders(root: &InstallRoot) -> Result<Vec<std::path::PathBuf>, Failure> {
    let mut folders = vec![root.path().to_owned()];
    let url = Credentials::read_file(&root.credentials_file())?.database_url;
    if let Some(Ok(Place::Sqlite(file))) = url.map(|url| readings::place(&url, root.path()))
        && let Some(outside) = file.parent().filter(|folder| !folder.starts_with(root.path()))
    {
        folders.push(outside.to_owned());
    }
    Ok(folders)
}

fn uninstall(root: &InstallRoot, service: &Service) -> Result<(), Failure> {
    let opened = open(service, ServiceAccess::QUERY_STATUS | ServiceAccess::STOP | ServiceAccess::DELETE)?;
    let running = opened.query_status().is_ok_and(|status| status.current_state != ServiceState::Stopped);
    if running {
        stop(service)?;
    }
    // While its name still means somebody.
    for folder in folders(root).unwrap_or_else(|_| vec![root.path().to_owned()]) {
        if folder.exists() {
            access::take_back(&folder, &account(service))?;
        }
    }
    opened.delete().map_err(|error| failed("remove the service", service, error))?;
    println!("the service {} is removed; the install root stays as it is", service.name);
    Ok(())
}

fn start(service: &Service) -> Result<(), Failure> {
    let opened = open(service, ServiceAccess::QUERY_STATUS | ServiceAccess::START)?;
    opened.start::<&OsStr>(&[]).map_err(|error| failed("start the service", service, error))?;
    wait_for(&opened, service, ServiceState::Running, START_WITHIN)
}

fn stop(service: &Service) -> Result<(), Failure> {
    let opened = open(service, ServiceAccess::QUERY_STATUS | ServiceAccess::STOP)?;
    opened.stop().map_err(|error| failed("stop the service", service, error))?;
    wait_for(&opened, service, ServiceState::Stopped, STOP_WITHIN + START_WITHIN)
}

fn status(service: &Service) -> Result<(), Failure> {
    let opened = open(service, ServiceAccess::QUERY_STATUS)?;
    let status = opened.query_status().map_err(|error| failed("ask after the service", service, error))?;
    let pid = status.process_id.map(|pid| format!(", process {pid}")).unwrap_or_default();
    println!("{}: {:?}{pid}", service.name, status.current_state);
    match status.current_state {
        ServiceState::Running => Ok(()),
        _ => Err(Failure::failed(format!("the service {} does not run: {:?}", service.name, status.exit_code))),
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
                "the service {} is {:?} instead of {state:?} ({:?}); logs/watchdog.log says why",
                service.name, status.current_state, status.exit_code
            )));
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

fn manager(rights: ServiceManagerAccess) -> Result<ServiceManager, Failure> {
    ServiceManager::local_computer(None::<&OsStr>, rights)
        .map_err(|error| Failure::failed(format!("could not ask the service manager: {}", cause(&error))))
}

fn open(service: &Service, rights: ServiceAccess) -> Result<windows_service::service::Service, Failure> {
    manager(ServiceManagerAccess::CONNECT)?
        .open_service(&service.name, rights)
        .map_err(|error| failed("open the service", service, error))
}

fn failed(what: &str, service: &Service, error: windows_service::Error) -> Failure {
    let cause = cause(&error);
    Failure::failed(format!("could not {what} {}: {cause}; are you an administrator?", service.name))
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
        ServiceControl::Stop | ServiceControl::Shutdown | ServiceControl::Preshutdown => {
            stop.send_replace(true);
            ServiceControlHandlerResult::NoError
        }
        ServiceControl::Interrogate => ServiceControlHandlerResult::NoError,
        _ => ServiceControlHandlerResult::NotImplemented,
    };
    // Without it nobody can be told anything.
    let Ok(status) = service_control_handler::register(name, handler) else { return };
    let kept = daemon::runtime().and_then(|runtime| runtime.block_on(keep(root, stopped, status)));
    let code = match kept {
        Ok(0) => ServiceExitCode::NO_ERROR,
        Ok(code) => ServiceExitCode::ServiceSpecific(code),
        Err(failure) => ServiceExitCode::ServiceSpecific(failure.exit.code().into()),
    };
    tell(status, ServiceState::Stopped, code, Duration::ZERO);
}

/// Runs the launcher until it ends or the service is to stop; its exit code.
async fn keep(
    root: &InstallRoot,
    mut stopped: watch::Receiver<bool>,
    status: ServiceStatusHandle,
) -> Result<u32, Failure> {
    tell(status, ServiceState::StartPending, ServiceExitCode::NO_ERROR, START_WITHIN);
    let folder = root.path().to_string_lossy().into_owned();
    let arguments = ["run", "--root", &folder];
    let started = Process::start(&std::env::current_exe()?, &arguments, root.path(), &[], Log::Piped);
    let (mut launcher, Output { mut lines, log }) = started?;
    let logging = tokio::spawn(keep_log("watchdog", log, root.logs()));
    // For a supervisor, which this is none of.
    tokio::spawn(async move { tokio::io::copy(&mut lines, &mut tokio::io::sink()).await });
    tell(status, ServiceState::Running, ServiceExitCode::NO_ERROR, Duration::ZERO);
    let ended = tokio::select! {
        ended = launcher.wait() => ended.ok(),
        _ = stopped.wait_for(|stopped| *stopped) => {
            tell(status, ServiceState::StopPending, ServiceExitCode::NO_ERROR, STOP_WITHIN);
            launcher.stop(STOP_WITHIN).await
        }
    };
    let _ = tokio::time::timeout(Duration::from_secs(1), logging).await;
    Ok(ended.and_then(|ended| ended.code()).map_or(1, i32::cast_unsigned))
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
