//! MQTT, against mosquitto: TLS, a password, wildcards, JSON, and what is published while we are away.

use std::fmt::Write as _;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use end_to_end::programs::run;
use end_to_end::wait_for;

use crate::gathering::SOON;
use crate::{SQLITE, World};

const USER: &str = "plant";
const PASSWORD: &str = "se cret#1";

/// A broker that only lets in whoever has the password, over TLS.
struct Broker {
    child: Option<Child>,
    folder: PathBuf,
    port: u16,
}

impl Broker {
    fn start(folder: &Path) -> Self {
        std::fs::create_dir_all(folder).unwrap();
        let [key, certificate, passwords] = ["key.pem", "cert.pem", "passwords"].map(|name| folder.join(name));
        // An authority, and what it has signed.
        let script = "openssl req -x509 -newkey rsa:2048 -nodes -days 9 -subj '/CN=authority' -keyout ca.key -out ca.pem
            openssl req -newkey rsa:2048 -nodes -subj '/CN=broker' -keyout key.pem -out broker.csr
            printf 'subjectAltName=IP:127.0.0.1\nbasicConstraints=CA:FALSE\n' > extensions
            openssl x509 -req -in broker.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 9 -extfile extensions -out cert.pem";
        run(Command::new("sh").args(["-e", "-c", script]).current_dir(folder)).good();
        run(Command::new("mosquitto_passwd").args(["-b", "-c"]).arg(&passwords).args([USER, PASSWORD])).good();
        // It takes no port 0.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut text = format!("listener {port} 127.0.0.1\nallow_anonymous false\nuser root\n");
        writeln!(text, "password_file {}\ncertfile {}", passwords.display(), certificate.display()).unwrap();
        writeln!(text, "keyfile {}\npersistence true\npersistence_location {}/", key.display(), folder.display())
            .unwrap();
        std::fs::write(folder.join("mosquitto.conf"), text).unwrap();
        let mut broker = Self { child: None, folder: folder.to_owned(), port };
        broker.go_on();
        broker
    }

    fn go_on(&mut self) {
        let mut mosquitto = Command::new("/usr/sbin/mosquitto");
        mosquitto.arg("-c").arg(self.folder.join("mosquitto.conf")).stdout(Stdio::null()).stderr(Stdio::null());
        self.child = Some(mosquitto.spawn().unwrap());
        wait_for("the broker", SOON, || TcpStream::connect(("127.0.0.1", self.port)).ok());
    }

    fn stop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        let _ = child.kill();
        let _ = child.wait();
    }

    fn publish(&self, topic: &str, message: &str, more: &[&str]) {
        let mut publish = Command::new("mosquitto_pub");
        publish.args(["-h", "127.0.0.1", "-p", &self.port.to_string(), "-u", USER, "-P", PASSWORD, "-q", "1"]);
        publish.arg("--cafile").arg(self.folder.join("ca.pem")).args(["-t", topic, "-m", message]);
        run(publish.args(more)).good();
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.stop();
    }
}

#[test]
fn what_is_published_is_stored_once_also_while_the_collector_or_the_broker_is_away() {
    let mut world = World::new(SQLITE);
    let mut broker = Broker::start(&world.folder.path().join("broker"));
    std::fs::write(world.plant.root.join("config/broker.password"), format!("{PASSWORD}\n")).unwrap();
    let sources = format!(
        "[[mqtt]]\nname = \"cell\"\nhost = \"127.0.0.1\"\nport = {}\nca_file = \"{}\"\nuser = \"{USER}\"\n\
         password_file = \"config/broker.password\"\n\n\
         [[mqtt.tag]]\ntopic = \"plant/press/speed\"\nname = \"speed\"\nunit = \"rpm\"\nscale = 0.5\n\n\
         [[mqtt.tag]]\ntopic = \"plant/+/oil\"\nname = \"{{1}}.oil\"\njson = \"/temperature\"\njson_time = \"/at\"\n\n\
         [[mqtt.tag]]\ntopic = \"doors/#\"\nname = \"door.{{1}}\"\ntype = \"bool\"\n",
        broker.port,
        broker.folder.join("ca.pem").display()
    );
    world.set_sources(&sources);
    broker.publish("doors/east/1", "open", &["-r"]);
    world.plant.start_and_wait();
    wait_for("the broker's yes", SOON, || world.is_up("cell"));
    // What the broker has kept is of unknown age.
    world.wait_for_value("cell.door.east.1", (Some(1.0), 64));
    broker.publish("plant/press/speed", "1480", &[]);
    world.wait_for_value("cell.speed", (Some(740.0), 192));
    broker.publish("plant/mill/oil", "{\"temperature\":61.5,\"at\":\"2026-02-22T10:00:00Z\"}", &[]);
    world.wait_for_value("cell.mill.oil", (Some(61.5), 192));
    assert_eq!(world.stored_of("cell.mill.oil")[0].0.with_millis(), "2026-02-22T10:00:00.000Z");
    broker.publish("plant/press/speed", "fast", &[]);
    world.wait_for_value("cell.speed", (None, 0));
    wait_for("what is wrong with it to be said", SOON, || {
        world.error_of("cell")?.contains("plant/press/speed: `fast` is no number").then_some(())
    });
    // Looked at once, beside the collector, it shows what the broker has kept, and takes nothing away.
    let shown = world.gather_once();
    let line = |name: &str| shown.iter().find(|line| line.contains(name)).unwrap_or_else(|| panic!("{shown:#?}"));
    assert!(line("cell.door.east.1").contains("uncertain"), "{}", line("cell.door.east.1"));
    assert!(line("cell.speed").contains("no message within 5 s"), "{}", line("cell.speed"));
    broker.publish("plant/press/speed", "1482", &[]);
    world.wait_for_value("cell.speed", (Some(741.0), 192));
    let bad = world.values_of("cell.speed").iter().filter(|(_, quality)| *quality == 0).count();
    assert_eq!(bad, 1, "the collector was not sent away");

    // While the collector is away the broker keeps it.
    world.plant.stop();
    for speed in ["2", "4", "6"] {
        broker.publish("plant/press/speed", speed, &[]);
    }
    world.plant.start_and_wait();
    world.wait_for_value("cell.speed", (Some(3.0), 192));
    let values = world.values_of("cell.speed");
    assert_eq!(values[values.len() - 3..], [1.0, 2.0, 3.0].map(|value| (Some(value), 192)), "each once, in order");

    // A broker that is gone makes its tags bad, once, and is subscribed to again.
    broker.stop();
    world.wait_for_value("cell.speed", (None, 0));
    broker.go_on();
    wait_for("the broker's yes again", SOON, || world.is_up("cell"));
    broker.publish("plant/press/speed", "10", &[]);
    world.wait_for_value("cell.speed", (Some(5.0), 192));

    // A wrong password is said, and mended without a restart.
    std::fs::write(world.plant.root.join("config/broker.password"), "wrong\n").unwrap();
    broker.stop();
    broker.go_on();
    wait_for("a refusal to be said", SOON, || world.error_of("cell")?.contains("refused").then_some(()));
    std::fs::write(world.plant.root.join("config/broker.password"), PASSWORD).unwrap();
    wait_for("the broker's yes at last", SOON, || world.is_up("cell"));
}
