use std::num::NonZeroU16;

use super::*;
use crate::error::Kind;

fn with_levels(levels: u16, default: Option<u16>) -> ModelSettings {
    let (levels, default) = (NonZeroU16::new(levels), default.and_then(NonZeroU16::new));
    ModelSettings { priority_levels: levels, default_priority_level: default, ..ModelSettings::default() }
}

#[test]
fn a_priority_is_a_level_of_the_model_its_default_or_low() {
    let levels = with_levels(3, Some(2));
    let of = |settings: &ModelSettings, value| priority(settings, Some(&value)).unwrap();
    assert_eq!(priority(&levels, None).unwrap(), Priority::level(2));
    assert_eq!(of(&levels, ParameterValue::Uint64(0)), Priority::level(2));
    assert_eq!(of(&levels, ParameterValue::Int64(1)), Priority::level(1));
    assert_eq!(of(&levels, ParameterValue::String("3".into())), Priority::level(3));
    assert_eq!(of(&levels, ParameterValue::String("low".into())), Priority::LOW);
    assert_eq!(priority(&with_levels(3, None), None).unwrap(), Priority::level(3));
    let plain = ModelSettings::default();
    assert_eq!(priority(&plain, None).unwrap(), Priority::NORMAL);
    assert_eq!(of(&plain, ParameterValue::Int64(7)), Priority::NORMAL);
}

#[test]
fn a_priority_that_there_is_not_is_refused_with_the_range() {
    let levels = with_levels(3, None);
    for value in [
        ParameterValue::Int64(4),
        ParameterValue::Int64(-1),
        ParameterValue::Double(1.0),
        ParameterValue::Bool(true),
        ParameterValue::String("high".into()),
        ParameterValue::Uint64(u64::MAX),
    ] {
        let error = priority(&levels, Some(&value)).unwrap_err();
        assert_eq!(error.kind(), Kind::InvalidRequest);
        assert!(error.message().contains("1 (first) to 3 (last)"), "{error}");
    }
    let error = priority(&ModelSettings::default(), Some(&ParameterValue::Int64(-1))).unwrap_err();
    assert!(error.message().contains("no priority_levels"), "{error}");
}
