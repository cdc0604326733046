use proptest::prelude::*;
use serde_json::json;

use super::*;

/// What a path gives; `null` beside `None` where there is nothing.
fn at(json: &Value, path: &str) -> Option<Value> {
    let condition = Condition::parse(path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let found = get(Cow::Borrowed(json), &condition.0).map(Cow::into_owned);
    assert_eq!(condition.holds(json), found.is_some());
    found
}

/// The document of GJSON's own description of its syntax.
fn tom() -> Value {
    json!({
        "name": {"first": "Tom", "last": "Anderson"}, "age": 37, "children": ["Sara", "Alex", "Jack"],
        "fav.movie": "Deer Hunter",
        "friends": [
            {"first": "Dale", "last": "Murphy", "age": 44, "nets": ["ig", "fb", "tw"]},
            {"first": "Roger", "last": "Craig", "age": 68, "nets": ["fb", "tw"]},
            {"first": "Jane", "last": "Murphy", "age": 47, "nets": ["ig", "tw"]},
        ],
        "nothing": null,
    })
}

#[test]
fn paths_give_what_gjson_says_they_give() {
    let cases = [
        ("name.last", json!("Anderson")),
        ("children.1", json!("Alex")),
        ("friends.1.first", json!("Roger")),
        ("child*.2", json!("Jack")),
        ("c?ildren.0", json!("Sara")),
        (r"fav\.movie", json!("Deer Hunter")),
        ("friends.#", json!(3)),
        ("friends.#.age", json!([44, 68, 47])),
        (r#"friends.#(last=="Murphy").first"#, json!("Dale")),
        (r#"friends.#(last=="Murphy")#.first"#, json!(["Dale", "Jane"])),
        ("friends.#(age>45)#.last", json!(["Craig", "Murphy"])),
        (r#"friends.#(first%"D*").last"#, json!("Murphy")),
        (r#"friends.#(first!%"D*").last"#, json!("Craig")),
        (r#"children.#(!%"*a*")"#, json!("Alex")),
        (r#"children.#(%"*a*")#"#, json!(["Sara", "Jack"])),
        (r#"friends.#(nets.#(=="fb"))#.first"#, json!(["Dale", "Roger"])),
        ("friends|0|first", json!("Dale")),
        ("friends|#", json!(3)),
        (r#"friends.#(last="Murphy")#.0"#, json!([])),
        (r#"friends.#(last="Murphy")#|0.first"#, json!("Dale")),
        (r#"friends.#(last="Murphy")#.#"#, json!([])),
        (r#"friends.#(last="Murphy")#|#"#, json!(2)),
        ("@this.age", json!(37)),
        ("friends.@this.#", json!(3)),
        ("[age,name.first,missing]", json!([37, "Tom"])),
        ("nothing", Value::Null),
    ];
    for (path, wanted) in cases {
        assert_eq!(at(&tom(), path), Some(wanted), "{path}");
    }
    for path in [
        "missing",
        "name.0",
        "children.3",
        "children.first",
        r#"friends.#(last="Murphy")#|first"#,
        "age.x",
        "friends.#(age>100)",
    ] {
        assert_eq!(at(&tom(), path), None, "{path}");
    }
}

#[test]
fn a_tilde_asks_for_truth_and_presence() {
    let values = json!({"vals": [
        {"a": 1, "b": "data"}, {"a": 2, "b": true}, {"a": 3, "b": false}, {"a": 4, "b": "0"}, {"a": 5, "b": 0},
        {"a": 6, "b": "1"}, {"a": 7, "b": 1}, {"a": 8, "b": "true"}, {"a": 9, "b": false}, {"a": 10, "b": null}, {"a": 11},
    ]});
    let cases = [
        ("vals.#(b==~true)#.a", json!([2, 6, 7, 8])),
        ("vals.#(b==~false)#.a", json!([3, 4, 5, 9, 10, 11])),
        ("vals.#(b==~null)#.a", json!([10, 11])),
        ("vals.#(b==~*)#.a", json!([1, 2, 3, 4, 5, 6, 7, 8, 9, 10])),
        ("vals.#(b!=~*)#.a", json!([11])),
    ];
    for (path, wanted) in cases {
        assert_eq!(at(&values, path), Some(wanted), "{path}");
    }
}

#[test]
fn the_conditions_of_kserves_samples_hold_where_they_do_there() {
    let holds = |path: &str, json: Value| Condition::parse(path).unwrap().holds(&json);
    assert!(holds("[@this].#(source==client)", json!({"source": "client"})));
    assert!(!holds("[@this].#(source==client)", json!({"source": "server"})));
    assert!(holds("instances.#(intval>10)", json!({"instances": [{"intval": 2}, {"intval": 35}]})));
    assert!(!holds("instances.#(intval>10)", json!({"instances": [{"intval": 10}]})));
    assert!(holds("instances.#(strval%*red-server*)", json!({"instances": [{"strval": "a-red-server-1"}]})));
    assert!(holds(r#"predictions.#(label=="dog")"#, json!({"predictions": [{"label": "dog"}]})));
    assert!(!holds(r#"predictions.#(label=="dog")"#, json!({"predictions": "dog"})));
    assert!(holds("[@this].#(decision_picker==ERROR)", json!({"decision_picker": "ERROR", "key1": {"name": "abc"}})));
}

#[test]
fn what_is_not_understood_is_refused_with_what_it_is() {
    let refused = |path: &str| Condition::parse(path).unwrap_err();
    assert!(refused("{ .input.userId == 1 }").contains("{...}"));
    assert!(refused("a.@reverse").contains("@reverse"));
    assert!(refused("a.#(b==1").contains("not closed"));
    assert!(refused("[a").contains("not closed"));
    assert!(refused("a..b").contains("empty"));
    assert!(refused("").contains("empty"));
    assert!(refused("!true").contains("literals"));
    assert!(refused("[a]b").contains("'b'"));
    assert!(refused(r#"#(a=="\x")"#).contains("no JSON string"));
    assert!(refused(&"a".repeat(2000)).contains("1024"));
    assert!(refused(&"[".repeat(100)).contains("deeper"));
}

proptest! {
    #[test]
    fn no_text_makes_reading_or_evaluating_panic(path in r#"[a-c0-2.|#()\[\]{}@!=<>%~*?\\" ,]{0,30}"#, other in ".{0,40}") {
        let json = json!({"a": [1, "x", {"b": [true, null]}], "b": {"c": "abc", "0": [[]]}});
        for text in [path, other] {
            if let Ok(condition) = Condition::parse(&text) {
                let _either = condition.holds(&json);
            }
        }
    }

    #[test]
    fn a_plain_path_finds_what_was_put_there(keys in prop::collection::vec("[a-z]{1,5}", 1..6), value in any::<i32>()) {
        let json = keys.iter().rev().fold(json!(value), |inner, key| json!({ key: inner }));
        prop_assert_eq!(at(&json, &keys.join(".")), Some(json!(value)));
        prop_assert_eq!(at(&json, &format!("{}.more", keys.join("."))), None);
    }
}
