//! Names that Microsoft spells in another case are the same.

use super::*;

/// Regression: a control whose ID was spelled in another case was removed and added.
#[test]
fn an_id_in_another_case_is_one_control() {
    let catalog = || vec![slot("AdminMFAV2", 8.0, vec![])];
    let of = |id: &str, score: f64| facts(id, score, score * 12.5);
    let case = |before, after| Case::new(before, after).catalogs(catalog(), catalog()).lines();

    let [before, after] = [of("AdminMFAV2", 8.0), of("adminMFAV2", 0.0)];
    assert_eq!(case(vec![before.clone()], vec![after]), ["regressed adminMFAV2 tenant -8"]);
    assert!(case(vec![before], vec![of("ADMINMFAV2", 8.0)]).is_empty());
}

#[test]
fn a_state_in_another_case_is_known() {
    let time = "2026-03-02T10:00:00Z";
    let of = |state: &str, by: &str| vec![slot("A", 8.0, vec![decided(state, by, time)])];
    let lines = |before, after| one((8.0, 100.0), (8.0, 100.0)).catalogs(before, after).lines();
    assert!(lines(of("ThirdParty", "anna"), of("thirdParty", "Anna")).is_empty());
    assert_eq!(lines(of("ThirdParty", "anna"), of("ignored", "anna")).len(), 1);
}
