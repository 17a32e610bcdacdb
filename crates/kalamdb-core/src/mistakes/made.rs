//! All mistakes of this crate: which hazard each runs into, by the number that the design gives it (0: an invariant, or what
//! follows from one), and the tests that have to fail on it.

kalamdb_histories::mistakes! {
    /// FLUSH_POLICY is parsed and not kept.
    FlushPoliciesAreNotKept of 5:
        "scenarios::flushes::hazard_5_the_schedule_flushes_by_rows_and_by_age";
    /// The schedule does not look at the age of rows.
    IntervalsAreIgnored of 5:
        "scheduler::tests::hazard_5_a_flush_is_due_by_rows_by_age_or_by_size_whichever_comes_first",
        "scenarios::flushes::hazard_5_the_schedule_flushes_by_rows_and_by_age";
    /// Nor at their number.
    RowPoliciesAreIgnored of 5:
        "scheduler::tests::hazard_5_a_flush_is_due_by_rows_by_age_or_by_size_whichever_comes_first",
        "scenarios::flushes::hazard_5_the_schedule_flushes_by_rows_and_by_age";
    /// Nor at policies of USER tables.
    PoliciesOfUserTablesAreIgnored of 5:
        "scenarios::flushes::hazard_5_the_schedule_flushes_by_rows_and_by_age";
    /// Nor at the hot limit.
    TheHotLimitIsIgnored of 5:
        "scheduler::tests::hazard_5_a_flush_is_due_by_rows_by_age_or_by_size_whichever_comes_first",
        "scenarios::flushes::half_of_the_hot_limit_is_due";

    /// Buckets of a STREAM table are never erased.
    BucketsStay of 6:
        "scenarios::streams::hazard_6_buckets_are_erased_whole_when_their_last_row_has_expired";
    /// They are as soon as they are full.
    BucketsGoBeforeTheirRows of 6:
        "scenarios::streams::hazard_6_buckets_are_erased_whole_when_their_last_row_has_expired";
    /// An UPDATE gives a row another life.
    UpdatesRenewTheExpiry of 6:
        "scenarios::streams::hazard_6_a_stream_row_is_gone_at_its_expiry_to_the_microsecond";
    /// A row comes back when the clock is set back.
    TimeGoesBack of 6:
        "scenarios::streams::hazard_6_a_stream_row_is_gone_at_its_expiry_to_the_microsecond";
    /// The key of an expired row is taken until it is erased.
    ExpiredRowsKeepTheirKeys of 6:
        "scenarios::streams::hazard_6_a_stream_row_is_gone_at_its_expiry_to_the_microsecond";
    /// For an UPDATE, too.
    ExpiredRowsKeepTheirKeysFromUpdates of 6:
        "scenarios::streams::hazard_6_a_stream_row_is_gone_at_its_expiry_to_the_microsecond";
    /// `MAX_ROWS` is parsed and not obeyed.
    MaxRowsIsIgnored of 6:
        "scenarios::streams::hazard_6_max_rows_keeps_each_users_newest",
        "scenarios::streams::concurrent_writers_of_one_user_keep_max_rows_exactly";
    /// It takes the newest rows.
    MaxRowsTakesTheNewest of 6:
        "scenarios::streams::hazard_6_max_rows_keeps_each_users_newest";
    /// It takes rows of before alone, however many a statement brings.
    OneStatementBringsMoreThanMaxRows of 6:
        "scenarios::streams::hazard_6_max_rows_keeps_each_users_newest";
    /// Two inserts of one user trim the same rows.
    InsertsDoNotClaimTheirUser of 6:
        "scenarios::streams::hazard_6_two_inserts_that_trim_the_rows_of_one_user_meet";
    /// DROP NAMESPACE takes the tables along, unasked.
    NamespacesGoWithTheirTables of 6:
        "scenarios::definition::hazard_6_a_namespace_with_tables_is_dropped_by_cascade_alone";
    /// DROP STORAGE leaves tables without a place.
    StoragesGoFromUnderTheirTables of 6:
        "scenarios::storages::hazard_6_a_storage_is_not_dropped_while_a_table_uses_it";

    /// A row of a live key is replaced and not refused.
    LiveKeysAreFree of 0:
        "scenarios::rows::a_duplicate_key_changes_nothing_and_is_named",
        "scenarios::streams::hazard_6_buckets_are_erased_whole_when_their_last_row_has_expired";
    /// An UPDATE gives a row the key of another one.
    UpdatesTakeLiveKeys of 0:
        "scenarios::rows::updates_and_deletes_of_rows_with_a_key";
    /// A table some of whose rows cannot be read is served.
    DamagedTablesAreServed of 0:
        "scenarios::flushes::a_table_with_a_damaged_segment_is_refused_by_whatever_met_the_damage";
    /// The schedule flushes it again and again.
    DamagedTablesAreScheduled of 0:
        "scenarios::flushes::a_table_with_a_damaged_segment_is_refused_by_whatever_met_the_damage";
    /// A storage is made in another one.
    StoragesOverlap of 0:
        "scenarios::storages::a_directory_is_one_storages_and_a_number_is_given_once";
    /// A wall clock that is set makes what is read old.
    AgesFollowTheWallClock of 0:
        "scenarios::maintenance::what_reads_an_old_state_for_too_long_by_no_wall_clock_is_told_to_run_again";
    /// Whether a view reads itself is looked at before the catalog is the caller's alone.
    ViewsReadThemselves of 0:
        "scenarios::views::views_that_were_planned_beside_each_other_do_not_come_to_read_each_other";
    /// Identifiers are given that a start after a crash may give again.
    IdentifiersAreGivenBeforeTheirMark of 0:
        "time_mark::tests::identifiers_are_before_the_mark_when_they_are_given";
    /// The time mark is written like a change of the catalog, in its turn.
    TheTimeMarkWaitsForDefinitions of 0:
        "time_mark::tests::the_mark_does_not_wait_for_a_change_of_the_catalog";
}
