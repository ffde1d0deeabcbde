//! Tests of the CSV file with tenants.

use super::*;
use crate::config::keys::TENANTS_FILE;

#[test]
fn the_description_names_every_column() {
    let doc = TENANTS_FILE.define().doc;
    for column in key_columns().map(|key| key.name).chain(["label.NAME"]) {
        assert!(doc.contains(&format!("`{column}`")), "{column}");
    }
}

/// Regression: the lines of a file with the line ends CR were not counted.
#[test]
fn cells_have_their_line_and_column() {
    for (text, expected) in [
        ("a,b\nc, d", vec![vec![(1, 1), (1, 3)], vec![(2, 1), (2, 4)]]),
        ("\r\n\r\nä,b\r\n", vec![vec![(3, 1), (3, 3)]]),
        ("\"x, \"\"y\"\"\",z\n", vec![vec![(1, 1), (1, 12)]]),
        ("\"1\n2\",z\nq", vec![vec![(1, 1), (2, 4)], vec![(3, 1)]]),
        ("\"1\r\n2\",z\r\nq", vec![vec![(1, 1), (2, 4)], vec![(3, 1)]]),
        ("a,b\rc,d\r", vec![vec![(1, 1), (1, 3)], vec![(2, 1), (2, 3)]]),
        ("a;b,c\n1;2;3", vec![vec![(1, 1), (1, 5)], vec![(2, 1)]]),
        ("a;b;c\n1;2,5;3", vec![vec![(1, 1), (1, 3), (1, 5)], vec![(2, 1), (2, 3), (2, 7)]]),
        ("a\tb\n\n1\t2", vec![vec![(1, 1), (1, 3)], vec![(3, 1), (3, 3)]]),
        ("sep=;\r\na;b\r\n1;2", vec![vec![(2, 1), (2, 3)], vec![(3, 1), (3, 3)]]),
        ("\"sep=\t\"\na\tb", vec![vec![(2, 1), (2, 3)]]),
        ("sep=,\na", vec![vec![(2, 1)]]),
        ("", vec![]),
    ] {
        let (separator, rows) = Separator::detect(text);
        let rows = Locations::of(rows, separator);
        let found: Vec<Vec<(usize, usize)>> =
            rows.map(|row| row.into_iter().map(|at| (at.line, at.column)).collect()).collect();
        assert_eq!(found, expected, "{text:?}");

        // The parser finds the same cells.
        let Cells { header, rows, .. } = read("t.csv", text).unwrap();
        let parsed = std::iter::once(header).chain(rows).map(|row| row.len());
        let lengths: Vec<usize> = expected.iter().map(Vec::len).collect();
        assert_eq!(parsed.filter(|length| *length > 0).collect::<Vec<_>>(), lengths, "{text:?}");
    }
}

#[test]
fn generated_text_is_toml_with_locations() {
    let text =
        "\u{feff}name,label.a b,id,initial_backfill_days\n\"o \"\"x\"\"\",v,t.example,7\n,,,\n";
    let source = parse("t.csv", text).unwrap();
    let table: toml::Table = source.text().parse().unwrap();
    let tenant = &table["tenants"][0];
    assert_eq!(tenant["name"].as_str(), Some("o \"x\""));
    assert_eq!(tenant["labels"]["a b"].as_str(), Some("v"));
    assert_eq!(tenant["initial_backfill_days"].as_integer(), Some(7));

    for (value, column) in [("t.example", 13), ("{", 1), ("7,", 23), ("a b", 11)] {
        let at = source.text().find(value).unwrap();
        assert_eq!(source.location(at), Location { line: 2, column }, "{value}");
    }
}

/// Regression: a row of separators, which spreadsheets write, was reported as a tenant.
#[test]
fn rows_without_values_are_ignored() {
    for text in [
        "name,id\n,\n\n,\r\n",
        "name,id\n , \n",
        "name,id",
        ",,\nname,id,,\n,,,,,\n\"\",\"\"\n",
        "name;id;\r;;\r",
    ] {
        assert_eq!(parse("t.csv", text).unwrap().text(), "tenants = [\n]\n", "{text:?}");
    }
}

/// Regression: a duplicate column was reported at the first row, as a duplicate key.
#[test]
fn duplicate_columns_are_faults_of_the_header() {
    let error = parse("t.csv", "name,id,name\na,a.example,b\n").err().unwrap();
    let faults: Vec<String> = error.0.iter().map(ToString::to_string).collect();
    assert_eq!(faults, ["t.csv:1:9: duplicate column `name`: it is also at column 1"]);
}

#[test]
fn faults_of_the_table_are_reported_together() {
    let error = parse("t.csv", "name,idd,x\na,b\nc,d,e,f\n").err().unwrap();
    let faults: Vec<String> = error.0.iter().map(ToString::to_string).collect();
    assert_eq!(
        faults,
        [
            "t.csv:1:6: unknown column `idd`",
            "t.csv:1:10: unknown column `x`",
            "t.csv:2:1: the row and the header have different numbers of fields: 2 and 3",
            "t.csv:3:1: the row and the header have different numbers of fields: 4 and 3",
        ]
    );
}

/// Regression: files that spreadsheets write in other countries, with an empty column at the end or
/// with a line that names the separator, were rejected, and the message named another cause.
#[test]
fn files_of_spreadsheets_are_read() {
    for text in [
        "\u{feff}name;id;credential\r\na;a.example;app\r\n",
        "sep=;\r\nname;id;credential\r\na;a.example;app\r\n",
        "sep=,\nname,id,credential\na,a.example,app\n",
        "name\tid\tcredential\na\ta.example\tapp\n",
        "name,id,credential,,\na,a.example,app,,,,\n",
        "name,id,credential\ra,a.example,app\r",
    ] {
        let source = parse("t.csv", text).unwrap();
        let table: toml::Table = source.text().parse().unwrap();
        let tenant = &table["tenants"][0];
        for (key, value) in [("name", "a"), ("id", "a.example"), ("credential", "app")] {
            assert_eq!(tenant[key].as_str(), Some(value), "{text:?}");
        }
    }
}

/// Regression: the character that ends a file in DOS was reported as a row with too few fields.
#[test]
fn the_dos_end_of_file_is_ignored() {
    let complete = parse("t.csv", "name,id\r\na,a.example\r\n").unwrap();
    for end in ["\u{1a}", "\u{1a}\u{1a}", "\u{1a}\r\n", "\r\n\u{1a}"] {
        let text = format!("name,id\r\na,a.example\r\n{end}");
        assert_eq!(parse("t.csv", &text).unwrap().text(), complete.text(), "{end:?}");
    }
    let text = "name,id\na,a.example\u{1a}";
    assert_eq!(parse("t.csv", text).unwrap().text(), complete.text());
}

/// Regression: these faults were reported at another place, or as another number of fields.
#[test]
fn faults_of_the_form_name_their_cause() {
    let some = [
        (
            "name,id\n\"a,a.example\nb,b.example\n",
            "t.csv:2:1: the quotation mark at the beginning of this value is not closed",
            "add the quotation mark",
        ),
        ("name,,id\na,,a.example\n", "t.csv:1:6: a column has no name", "name the column"),
        ("Name,id\na,a.example\n", "t.csv:1:1: unknown column `Name`", "use `name`"),
        (
            "name,id\n \"a, b\",a.example\n",
            "t.csv:2:2: the row and the header have different numbers of fields: 3 and 2",
            "remove the space before the quotation mark",
        ),
    ];

    let others = [
        (
            "name;id\na;b;a.example\n",
            "t.csv:2:1: the row and the header have different numbers of fields: 3 and 2",
            "put a value that contains a semicolon in quotation marks",
        ),
        (
            "name,id\na\n",
            "t.csv:2:1: the row and the header have different numbers of fields: 1 and 2",
            "add the missing fields",
        ),
        (
            "name,id\n# a comment\n",
            "t.csv:2:1: the row and the header have different numbers of fields: 1 and 2",
            "remove the row",
        ),
    ];

    let invisible = [
        (
            "name,id\na,a.example\n\0\n",
            "t.csv:3:1: the row contains only the invisible character U+0000",
            "delete the row",
        ),
        (
            "name,id\n\u{1a}\na,a.example\n",
            "t.csv:2:1: the row contains only the invisible character U+001A",
            "delete the row",
        ),
        (
            "name,id\n\u{200b},\n",
            "t.csv:2:1: the row contains only the invisible character U+200B",
            "delete the row",
        ),
    ];

    for (text, message, hint) in some.into_iter().chain(others).chain(invisible) {
        let error = parse("t.csv", text).err().unwrap();
        assert_eq!(error.0[0].to_string(), message, "{text:?}");
        assert!(error.0[0].hint.as_ref().unwrap().contains(hint), "{:?}", error.0);
    }
}
