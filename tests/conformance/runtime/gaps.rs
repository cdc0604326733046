//! What an engine is known not to do. An entry here is a promise to look again: when it starts to pass, the suite fails
//! until the entry is gone.

/// A case or signature that an engine does not pass, and why.
pub(crate) struct Gap {
    pub(crate) engine: &'static str,
    /// The case's name, or a fixture's for its signature.
    pub(crate) of: &'static str,
    pub(crate) reason: &'static str,
}

const fn gap(engine: &'static str, of: &'static str, reason: &'static str) -> Gap {
    Gap { engine, of, reason }
}

/// Cases that do not have their expected outcome.
pub(crate) const CASES: &[Gap] = &[
    gap("tract", "identity_bf16", NO_BF16),
    gap("tract", "identity_bf16: zero rows", NO_BF16),
    gap("tract", "identity_bf16: zero columns", NO_BF16),
    gap("tract", "identity_bytes: not UTF-8", "tract's strings are Rust strings"),
    gap("tract", "unknown_rank", NO_RUNTIME_RANK),
    gap("tract", "unknown_rank: impossible shape", NO_RUNTIME_RANK),
    gap("tract", "optional_tensor", NO_OPTIONALS),
    gap("tract", "sequence_input", NO_SEQUENCES),
    gap("tract", "sequence_input: none", NO_SEQUENCES),
    gap("tract", "sequence_input: a scalar", NO_SEQUENCES),
    gap("tract", "sequence_output", NO_SEQUENCES),
    gap("tract", "sequence_output: of several shapes", NO_SEQUENCES),
    gap("tract", "float8_input", NO_FLOAT8),
    gap("tract", "sum_sequence: empty sequence", "tract divides by the length of what it sums"),
];

/// Signatures that are not what the file states.
pub(crate) const SIGNATURES: &[Gap] = &[
    gap("tract", "identity_bf16", NO_BF16),
    gap("tract", "unknown_rank", NO_RUNTIME_RANK),
    gap("tract", "optional_tensor", NO_OPTIONALS),
    gap("tract", "sequence_input", NO_SEQUENCES),
    gap("tract", "sequence_output", NO_SEQUENCES),
    gap("tract", "float8_input", NO_FLOAT8),
    gap("tract", "optional_target_shape", "tract has to know the target to compile, so the default is all there is"),
];

const NO_BF16: &str = "tract has no BF16 type";
const NO_FLOAT8: &str = "tract has no 8-bit floats";
const NO_SEQUENCES: &str = "tract has no sequences";
const NO_OPTIONALS: &str = "tract has no optional types";
const NO_RUNTIME_RANK: &str = "tract has to know ranks before it runs";

/// Compares what failed with what is known to fail; panics with every difference.
pub(crate) fn settle(engine: &str, known: &[Gap], outcomes: Vec<(String, Result<(), String>)>) {
    let mut faults = Vec::new();
    for gap in known.iter().filter(|gap| gap.engine == engine) {
        match outcomes.iter().find(|(name, _)| name == gap.of) {
            None => faults.push(format!("{}: a gap of something that was not run", gap.of)),
            Some((_, Ok(()))) => faults.push(format!("{}: passes, so it is no gap ({})", gap.of, gap.reason)),
            Some((_, Err(_))) => {}
        }
    }
    for (name, outcome) in outcomes {
        if let Err(fault) = outcome
            && !known.iter().any(|gap| gap.engine == engine && gap.of == name)
        {
            faults.push(format!("{name}: {fault}"));
        }
    }
    assert!(faults.is_empty(), "{engine}:\n  {}", faults.join("\n  "));
}
