//! The digest that names a job: everything a run depended on, in one unambiguous order.

use crate::fields::Fields;
use crate::job::Script;
use crate::modules::ScriptModule;
use crate::outcome::Digest;
use crate::world::InputEnd;

/// Increased whenever the encoding below changes.
const VERSION: u64 = 3;

/// What goes into the digest.
pub(crate) struct Identity<'a> {
    pub(crate) language: &'a str,
    pub(crate) script: &'a Script,
    pub(crate) modules: &'a [ScriptModule],
    pub(crate) args: &'a [String],
    pub(crate) env: &'a [(String, String)],
    /// Where the script sees what is granted of the host, and whether it may write there, outer ones first.
    pub(crate) grants: &'a [(String, bool)],
    /// Of what the script saw there, if it looked.
    pub(crate) host_sha256: Option<[u8; 32]>,
    pub(crate) limits: &'a capibara_policies::Limits,
    pub(crate) epoch: u64,
    pub(crate) seed: u128,
    pub(crate) live: bool,
    /// Of the bytes the script read, and their number.
    pub(crate) stdin_sha256: [u8; 32],
    pub(crate) stdin_bytes: u64,
    /// What the script was told of the end.
    pub(crate) stdin_end: InputEnd,
    /// Of the tools it had, if it had any.
    pub(crate) tools_sha256: Option<[u8; 32]>,
}

impl Identity<'_> {
    pub(crate) fn digest(&self) -> Digest {
        let mut fields = Fields::default();
        fields.text("capibara job");
        fields.number(VERSION);
        fields.text(self.language);
        let (kind, name, source): (&str, &str, &[u8]) = match self.script {
            Script::File { name, source } => ("file", name, source),
            Script::Code(code) => ("code", "", code.as_bytes()),
            Script::StandardInput(code) => ("standard-input", "", code.as_bytes()),
            Script::Module(name) => ("module", name, b""),
        };
        fields.text(kind);
        fields.text(name);
        fields.bytes(source);
        fields.number(self.modules.len() as u64);
        for module in self.modules {
            fields.text(&module.path);
            fields.bytes(&module.source);
        }
        fields.number(self.args.len() as u64);
        self.args.iter().for_each(|arg| fields.text(arg));
        fields.number(self.env.len() as u64);
        for (name, value) in self.env {
            fields.text(name);
            fields.text(value);
        }
        fields.number(self.grants.len() as u64);
        for (guest, writable) in self.grants {
            fields.text(guest);
            fields.number(u64::from(*writable));
        }
        fields.bytes(self.host_sha256.as_ref().map_or(&[], |digest| digest.as_slice()));
        let limits = self.limits;
        fields.number(u64::from(limits.fuel.is_some()));
        fields.number(limits.fuel.unwrap_or(0));
        fields.bytes(&limits.wall_time.as_nanos().to_le_bytes());
        for limit in [limits.memory, limits.output, limits.bytes_written, limits.files, limits.descriptors] {
            fields.number(limit);
        }
        fields.number(self.epoch);
        fields.bytes(&self.seed.to_le_bytes());
        fields.number(u64::from(self.live));
        fields.number(self.stdin_bytes);
        fields.bytes(&self.stdin_sha256);
        fields.number(match self.stdin_end {
            InputEnd::NotSeen => 0,
            InputEnd::Seen => 1,
            InputEnd::Failed => 2,
        });
        if let Some(tools) = &self.tools_sha256 {
            fields.bytes(tools);
        }
        Digest(fields.digest())
    }
}
