//! The identity runtime: answers its inputs, after a time that the settings choose.
//!
//! It needs no artifact and no engine, so it shows what the server itself costs, stands in for a model of known latency,
//! and lets tests and simulations run on real threads. It computes nothing and copies nothing.

#![allow(clippy::disallowed_types, reason = "an execution takes real time, on a thread that no test's clock governs")]

#[cfg(test)]
mod tests;

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::{Artifact, Instance, Interrupt, LoadedModel, Runtime, wanted};
use crate::error::{Error, Result};
use crate::model::{Signature, TensorSpec};
use crate::tensor::Tensor;

/// How long before its end a wait stops sleeping and spins: Linux wakes a sleeper about 60 microseconds late (its default
/// timer slack is 50), which would show in a latency curve of short executions.
const SPIN: Duration = Duration::from_micros(120);

/// Models whose outputs are their inputs, by position.
#[derive(Clone, Copy, Debug, Default)]
pub struct IdentityRuntime;

impl IdentityRuntime {
    /// The runtime.
    pub fn new() -> Self {
        Self
    }
}

impl Runtime for IdentityRuntime {
    fn name(&self) -> &'static str {
        "identity"
    }

    fn platform(&self) -> &'static str {
        "identity"
    }

    fn load(&self, artifact: &Artifact) -> Result<Arc<dyn LoadedModel>> {
        let signature = signature(&artifact.declared).map_err(|error| error.within(artifact.path.display()))?;
        Ok(Arc::new(IdentityModel { signature: Arc::new(signature), execute_time: artifact.execute_time }))
    }
}

/// What the settings declare, with outputs like the inputs where they declare none.
fn signature(declared: &Signature) -> Result<Signature> {
    let Signature { inputs, outputs } = declared;
    if inputs.is_empty() {
        return Err(Error::unavailable(
            "an identity model has no file that states its inputs: declare each in model.toml with name, datatype and \
             shape, such as name = \"x\", datatype = \"FP32\", shape = [-1, 4]",
        ));
    }
    if outputs.is_empty() {
        let mirrored = inputs.iter().map(|input| TensorSpec { optional: false, ..input.clone() });
        return Ok(Signature { inputs: inputs.clone(), outputs: mirrored.collect() });
    }
    if outputs.len() != inputs.len() {
        return Err(Error::unavailable(format!(
            "an identity model answers its inputs by position, but {} inputs and {} outputs are declared: declare as many \
             outputs as inputs, or none",
            inputs.len(),
            outputs.len()
        )));
    }
    for (input, output) in inputs.iter().zip(outputs) {
        if input.datatype != output.datatype {
            return Err(Error::unavailable(format!(
                "an identity model answers its inputs by position, so output '{}' has to be {} like input '{}', not {}",
                output.name, input.datatype, input.name, output.datatype
            )));
        }
    }
    Ok(declared.clone())
}

struct IdentityModel {
    signature: Arc<Signature>,
    execute_time: Duration,
}

impl LoadedModel for IdentityModel {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn instance(&self) -> Result<Box<dyn Instance>> {
        Ok(Box::new(IdentityInstance {
            signature: self.signature.clone(),
            execute_time: self.execute_time,
            bell: Arc::default(),
        }))
    }
}

struct IdentityInstance {
    signature: Arc<Signature>,
    execute_time: Duration,
    bell: Arc<Bell>,
}

/// Ends an execution before its time.
#[derive(Default)]
struct Bell {
    rung: Mutex<bool>,
    change: Condvar,
}

impl Interrupt for Bell {
    fn interrupt(&self) {
        *self.rung.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.change.notify_all();
    }
}

impl Instance for IdentityInstance {
    fn execute(&mut self, inputs: &[Option<Tensor>], outputs: &[usize]) -> Result<Vec<Tensor>> {
        if !self.bell.wait(self.execute_time) {
            return Err(Error::execution("the execution was interrupted"));
        }
        let answer = |(&position, output): (&usize, &TensorSpec)| {
            let input = inputs.get(position).and_then(Option::as_ref);
            input.cloned().ok_or_else(|| {
                let input = &self.signature.inputs[position].name;
                Error::execution(format!("output '{}' needs input '{input}', which was left out", output.name))
            })
        };
        outputs.iter().zip(wanted(&self.signature, outputs)).map(answer).collect()
    }

    fn interrupt(&self) -> Option<Arc<dyn Interrupt>> {
        Some(Arc::clone(&self.bell) as Arc<dyn Interrupt>)
    }
}

impl Bell {
    /// Blocks this thread for `duration`, asleep for the bulk, awake for the last microseconds; gives whether nobody rang.
    fn wait(&self, duration: Duration) -> bool {
        if duration.is_zero() {
            return true;
        }
        let start = Instant::now();
        let mut rung = self.rung.lock().unwrap_or_else(PoisonError::into_inner);
        // A ring from before this execution was not meant for it.
        *rung = false;
        if let Some(bulk) = duration.checked_sub(SPIN) {
            let outcome = self.change.wait_timeout_while(rung, bulk, |rung| !*rung);
            if *outcome.unwrap_or_else(PoisonError::into_inner).0 {
                return false;
            }
        }
        while start.elapsed() < duration {
            std::hint::spin_loop();
        }
        true
    }
}
