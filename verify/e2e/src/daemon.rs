//! One daemon alone.

use crate::client::{free_address, try_curl};
use crate::process::Process;
use crate::{program, wait_for};
use std::net::SocketAddr;
use std::process::Command;

/// A daemon that can be killed and started again with the same arguments.
pub struct Daemon {
    /// The running process.
    pub process: Process,
    arguments: Vec<String>,
    admin: SocketAddr,
}

impl Daemon {
    /// Starts `millrace ARGUMENTS…` and waits until it is ready.
    pub fn start(arguments: &[&str]) -> Daemon {
        let arguments: Vec<String> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        let admin = free_address();
        let process = spawn(&arguments, admin);
        let mut daemon = Daemon { process, arguments, admin };
        daemon.wait_until_ready();
        daemon
    }

    /// Starts it again after its end.
    pub fn start_again(&mut self) {
        self.process = spawn(&self.arguments, self.admin);
        self.wait_until_ready();
    }

    /// [`Daemon::start_again`] with further arguments.
    pub fn start_again_with(&mut self, further: &[&str]) {
        let mut arguments = self.arguments.clone();
        arguments.extend(further.iter().map(|argument| (*argument).to_owned()));
        self.process = spawn(&arguments, self.admin);
        self.wait_until_ready();
    }

    /// Starts it again and gives what it printed when it refused to.
    ///
    /// # Panics
    /// When it does not end by itself, or ends well.
    pub fn refuses_to_start(&mut self) -> String {
        self.process = spawn(&self.arguments, self.admin);
        let status = self.process.wait();
        assert!(!status.success(), "it ended well: {}", self.process.output());
        self.process.output()
    }

    fn wait_until_ready(&mut self) {
        let url = format!("http://{}/readyz", self.admin);
        let process = &mut self.process;
        wait_for("the daemon to be ready", || {
            if let Some(status) = process.ended() {
                panic!("it ended ({status}): {}", process.output());
            }
            try_curl(&url, &[]).is_ok_and(|answer| answer.status == 200).then_some(())
        });
    }
}

fn spawn(arguments: &[String], admin: SocketAddr) -> Process {
    let name = format!("millrace {}", arguments.join(" "));
    let mut command = Command::new(program("millrace"));
    Process::start(&name, command.args(arguments).args(["--admin", &admin.to_string()]))
}
