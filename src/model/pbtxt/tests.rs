use proptest::prelude::*;

use super::*;

fn values(text: &str) -> Vec<(String, Value)> {
    let message = parse(text).unwrap_or_else(|error| panic!("{text}: line {}: {}", error.line, error.message));
    message.fields.into_iter().map(|field| (field.name, field.value)).collect()
}

fn value(text: &str) -> Value {
    let mut values = values(&format!("x: {text}"));
    assert_eq!(values.len(), 1, "{text}");
    values.remove(0).1
}

fn error(text: &str) -> String {
    let error = parse(text).expect_err(text);
    format!("{}: {}", error.line, error.message)
}

fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

#[test]
fn numbers_have_every_form_of_the_format() {
    for (written, expected) in [
        ("0", 0),
        ("42", 42),
        ("-1", -1),
        ("- 1", -1),
        ("0x1F", 31),
        ("-0x10", -16),
        ("017", 15),
        ("18446744073709551615", u64::MAX.into()),
        ("-9223372036854775808", i64::MIN.into()),
    ] {
        assert_eq!(value(written), Value::Integer(expected), "{written}");
    }
    for (written, expected) in [
        ("1.5", 1.5),
        ("-.5", -0.5),
        ("1.", 1.0),
        ("2f", 2.0),
        ("2.5F", 2.5),
        ("1e3", 1000.0),
        ("1E-2", 0.01),
        ("1e+2", 100.0),
        ("-inf", f64::NEG_INFINITY),
        ("99999999999999999999", 1e20),
    ] {
        assert_eq!(value(written), Value::Float(expected), "{written}");
    }
    for wrong in ["08", "1x", "0x", "1.2.3", "1e", "--1", "-x", "0xfffffffffffffffff"] {
        assert!(parse(&format!("x: {wrong}")).is_err(), "{wrong}");
    }
}

#[test]
fn strings_have_both_quotes_escapes_and_are_joined() {
    assert_eq!(value(r#""it's""#), text("it's"));
    assert_eq!(value(r#"'say "hi"'"#), text("say \"hi\""));
    assert_eq!(value("\"a\" 'b'\n# between\n\"c\""), text("abc"));
    assert_eq!(value(r#""\a\b\f\n\r\t\v\?\\\'\"""#), text("\x07\x08\x0c\n\r\t\x0b?\\'\""));
    assert_eq!(value(r#""\101\x42\103d\x4""#), text("ABCd\x04"));
    assert_eq!(value(r#""\u00e4\U0001F600 ä""#), text("ä😀 ä"));
    assert_eq!(value(r#""\303\244""#), text("ä"));
    for wrong in [r#""open"#, "\"line\nbreak\"", r#""\q""#, r#""\x""#, r#""\u12""#, r#""\ud800""#, r#""\377""#, "\"\\"]
    {
        assert!(parse(&format!("x: {wrong}")).is_err(), "{wrong}");
    }
}

#[test]
fn messages_lists_and_separators_may_be_written_in_several_ways() {
    let tree = |text| {
        let mut tree = parse(text).unwrap();
        without_lines(&mut tree);
        tree
    };
    let expected = tree("a { x: 1 } a { x: 2 } b: 3 b: 4");
    for same in [
        "a: { x: 1 }, a: { x: 2 }; b: 3, b: 4,",
        "a < x: 1; > a: < x: 2 > b: [3, 4]",
        "a [ { x: 1 }, { x: 2 } ] b: [3] b: 4",
        "a: [{x:1},<x:2>],b:3;b:[4],c:[]",
        "a{x:1}#it\na{x:2}b:3 b:4# the end",
    ] {
        assert_eq!(tree(same), expected, "{same}");
    }
}

#[test]
fn words_stand_for_enums_and_booleans_and_extensions_are_read() {
    assert_eq!(value("TYPE_FP32"), Value::Word("TYPE_FP32".into()));
    assert_eq!(value("true"), Value::Word("true".into()));
    assert_eq!(values("[type.googleapis.com/a.B] { x: 1 }")[0].0, "[type.googleapis.com/a.B]");
}

#[test]
fn every_value_has_its_line() {
    let message = parse("\na: 1\nb {\n  c: 2\n}\nd: [\n3,\n4 ]\r\ne: 'x'\n 'y'").unwrap();
    let lines: Vec<_> = message.fields.iter().map(|field| (field.name.as_str(), field.line)).collect();
    assert_eq!(lines, [("a", 2), ("b", 3), ("d", 7), ("d", 8), ("e", 9)]);
}

#[test]
fn a_syntax_error_names_its_line_and_what_would_be_right() {
    assert_eq!(error("a: 1\n}"), "2: expected a field's name, got '}'");
    assert_eq!(error("a {\n b: 1\n\n"), "4: expected '}' for the message that line 1 opens, got the end");
    assert_eq!(error("a {\n b: 1 >"), "2: expected a field's name, got '>'");
    assert_eq!(error("a 1"), "1: expected ':' or '{' after 'a', got the number 1");
    assert_eq!(error("a:\n"), "2: expected a value, got the end");
    assert_eq!(error("a: [1 2]"), "1: expected ',' or ']' in the list 'a', got the number 2");
    assert_eq!(error("a: [1,]"), "1: expected a value, got ']'");
    assert_eq!(error("{\"name\": 1}"), "1: expected a field's name, got '{'");
    assert_eq!(error("a: 'x"), "1: the string lacks its closing '");
}

#[test]
fn nesting_is_bounded_before_the_stack_is() {
    assert!(parse(&format!("{}{}", "a{".repeat(DEPTH_MAX), "}".repeat(DEPTH_MAX))).is_ok());
    let error = error(&"a:[{".repeat(200_000));
    assert!(error.contains("nested deeper"), "{error}");
}

/// How a tree may be written: one of the ways for each choice that the format leaves.
fn print(message: &Message, style: usize, out: &mut String) {
    for (i, field) in message.fields.iter().enumerate() {
        let style = style.wrapping_add(i);
        let separator = [" ", "\n", ", ", ";\t", " # why\n"][style % 5];
        let in_list = style.is_multiple_of(3);
        out.push_str(&field.name);
        match (&field.value, in_list) {
            (Value::Message(_), false) if style.is_multiple_of(2) => out.push(' '),
            (_, true) => out.push_str(": ["),
            _ => out.push_str(": "),
        }
        match &field.value {
            Value::Integer(number) => out.push_str(&number.to_string()),
            Value::Float(number) => out.push_str(&format!("{number:e}")),
            Value::Word(word) => out.push_str(word),
            Value::Json(_) => unreachable!("the text format has none"),
            Value::Text(text) if style.is_multiple_of(2) => {
                let escaped: Vec<_> = text.bytes().map(|byte| format!("\\{byte:03o}")).collect();
                out.push_str(&format!("'{}'", escaped.concat()));
            }
            Value::Text(text) => {
                out.push('"');
                for character in text.chars() {
                    match character {
                        '"' | '\\' => out.extend(['\\', character]),
                        '\n' => out.push_str("\\n"),
                        other => out.push(other),
                    }
                }
                out.push('"');
            }
            Value::Message(nested) => {
                let (open, close) = if style.is_multiple_of(2) { ("{\n", "}") } else { ("<", ">") };
                out.push_str(open);
                print(nested, style, out);
                out.push_str(close);
            }
        }
        out.push_str(if in_list { "]" } else { "" });
        out.push_str(separator);
    }
}

/// Lines depend on how a tree is written; everything else must not.
fn without_lines(message: &mut Message) {
    for field in &mut message.fields {
        field.line = 0;
        if let Value::Message(nested) = &mut field.value {
            without_lines(nested);
        }
    }
}

fn messages() -> impl Strategy<Value = Message> {
    let leaf = prop_oneof![
        (i128::from(i64::MIN)..=i128::from(u64::MAX)).prop_map(Value::Integer),
        prop::num::f64::NORMAL.prop_map(Value::Float),
        any::<String>().prop_map(Value::Text),
        "[a-zA-Z_][a-zA-Z0-9_]{0,8}".prop_map(Value::Word),
    ];
    let message = |value: BoxedStrategy<Value>| {
        let field = ("[a-z_][a-z0-9_]{0,8}", value).prop_map(|(name, value)| Field { name, line: 0, value });
        prop::collection::vec(field, 0..5).prop_map(|fields| Message { fields })
    };
    let values = leaf.prop_recursive(4, 40, 5, move |inner| message(inner).prop_map(Value::Message));
    message(values.boxed())
}

proptest! {
    #[test]
    fn a_tree_survives_being_written_and_read(tree in messages(), style in 0_usize..30) {
        let mut written = String::new();
        print(&tree, style, &mut written);
        let mut read = parse(&written).map_err(|error| TestCaseError::fail(format!("{error:?} in {written}")))?;
        without_lines(&mut read);
        prop_assert_eq!(read, tree);
    }

    #[test]
    fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = parse(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn no_soup_of_tokens_makes_the_reader_panic(tokens in prop::collection::vec(
        prop::sample::select(vec![
            "a", "{", "}", "<", ">", "[", "]", ":", ",", ";", "-", ".", "/", "1", "0x", "07", "1.5e", "e+", "inf", "\"", "'",
            "\\", "\\u12", "\\x", "\\9", "#", "\n", " ", "ä", "\u{0}",
        ]),
        0..60,
    )) {
        let _ = parse(&tokens.concat());
    }
}
