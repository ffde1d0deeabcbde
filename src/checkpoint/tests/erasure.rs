//! What an erasure removes and counts, also of tenants and profiles that only a part of the
//! checkpoint knows.

use super::*;

const NOW: UnixMillis = UnixMillis::new(1_795_341_600_000);

/// Commits a catalog with one profile.
fn commit_catalog(checkpoint: &Checkpoint, tenant: TenantId, shared: &str) {
    let catalog = vec![CatalogMember { shared, decisions: "" }];
    let _ = checkpoint.commit_poll(tenant, &PollCommit { catalog, ..empty_commit() }).unwrap();
}

/// The receipt of an erasure.
fn forget(checkpoint: &Checkpoint, tenant: TenantId) -> ErasureReceipt {
    checkpoint.forget(tenant, NOW).unwrap().unwrap()
}

/// Regression: the receipt also counted the row that reserves the ID of a profile that had been
/// erased before.
#[test]
fn a_receipt_counts_only_profiles_with_content() {
    let (_directory, checkpoint) = new_checkpoint();
    for (tenant, shared) in [(tenant(), r#"{"id":"A"}"#), (other_tenant(), r#"{"id":"B"}"#)] {
        commit_catalog(&checkpoint, tenant, shared);
        let receipt = forget(&checkpoint, tenant);
        assert_eq!((receipt.profiles, receipt.catalogs), (1, 1), "{shared}");
        assert_eq!(checkpoint.verify().unwrap().findings, [], "{shared}");
    }
    assert_eq!(query_number(&checkpoint, "SELECT count(*) FROM profile"), 1, "the reserved row");
}

/// A part of the checkpoint that names a tenant without a row.
type Trace = fn(&Checkpoint);

/// Regression: a tenant that was resolved, or whose first poll had begun, was not erased, because
/// it had no row yet.
#[test]
fn a_tenant_without_a_row_is_erased() {
    let traces: [Trace; 3] = [
        |checkpoint| checkpoint.begin_poll(tenant(), NOW).unwrap(),
        |checkpoint| checkpoint.store_resolved_domain("a.example", tenant()).unwrap(),
        |checkpoint| {
            checkpoint.begin_poll(tenant(), NOW).unwrap();
            checkpoint.store_resolved_domain("a.example", tenant()).unwrap();
        },
    ];
    for (number, trace) in traces.into_iter().enumerate() {
        let (_directory, checkpoint) = new_checkpoint();
        checkpoint.begin_poll(other_tenant(), NOW).unwrap();
        checkpoint.store_resolved_domain("b.example", other_tenant()).unwrap();
        trace(&checkpoint);

        let receipt = forget(&checkpoint, tenant());
        assert_eq!(receipt.tenant, tenant(), "{number}");
        assert_eq!((receipt.snapshots, receipt.erased_at), (0, NOW), "{number}");
        assert_eq!(checkpoint.running_polls().unwrap(), [other_tenant()], "{number}");
        assert_eq!(checkpoint.tenant_of_domain("a.example").unwrap(), None, "{number}");
        let kept = checkpoint.tenant_of_domain("b.example").unwrap();
        assert_eq!(kept, Some(other_tenant()), "{number}");
        assert_eq!(checkpoint.forget(tenant(), NOW).unwrap(), None, "{number}");
    }
}

/// Regression: after the loss of the database, the cursors of a tenant that was not polled again
/// stayed in the second cursor file.
#[test]
fn cursors_of_a_lost_database_are_erased() {
    let directory = tempfile::tempdir().unwrap();
    {
        let checkpoint = Checkpoint::open(directory.path()).unwrap();
        commit_day(&checkpoint, "2026-11-20", 1, 1);
        register(&checkpoint, "s");
        checkpoint.write_cursor_file().unwrap();
    }

    let rebuilt = lose_database(directory.path());
    forget(&rebuilt, tenant());
    let file = fs_err::read_to_string(directory.path().join("cursors.json")).unwrap();
    assert!(!file.contains(&tenant().to_string()), "{file}");
    assert_eq!(rebuilt.forget(tenant(), NOW).unwrap(), None);
}
