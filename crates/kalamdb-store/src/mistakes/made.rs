//! All mistakes of this crate: which hazard each runs into, by the number that the design gives it (0: the invariant and what
//! follows from it), and the tests that have to fail on it. Hazards 5 and 6 are mostly those of the crate above. Of hazard 9, schema
//! versions after an ALTER, there is here what holds before there is an ALTER: a writer planned with another version conflicts.

kalamdb_histories::mistakes! {
    /// A flush does not take along that rows were removed while it ran.
    FlushesForgetRemovals of 1:
        "hazards_of_movers::hazard_13_rows_changed_while_they_are_flushed_stay_changed",
        "hazards_of_publications::hazard_13_rows_changed_at_any_moment_of_a_small_flush_stay_changed",
        "hazards_of_tables::a_table_with_a_key_of_one_column_goes_through_everything";
    /// A compaction does not.
    CompactionsForgetRemovals of 1:
        "hazards_of_movers::hazard_13_rows_changed_while_they_are_merged_stay_changed",
        "hazards_of_publications::hazard_13_rows_changed_at_any_moment_of_a_compaction_stay_changed",
        "hazards_of_tables::rows_without_a_key_keep_their_ids_through_everything";
    /// A compaction writes rows that were deleted before it began.
    CompactionsKeepTheDead of 1:
        "hazards_of_movers::hazard_1_a_deletion_never_comes_back";
    /// The committer does not write the bits of deleted rows.
    DeadRowsAreNotMarked of 1:
        "hazards_of_movers::hazard_1_a_deletion_never_comes_back",
        "hazards_of_reads::hazard_1_dead_rows_are_shown_by_no_way_of_reading";
    /// The committer does not tell movers of removals.
    RemovalsAreNotHeard of 1:
        "hazards_of_movers::hazard_13_rows_changed_while_they_are_flushed_stay_changed",
        "hazards_of_movers::hazard_13_rows_changed_while_they_are_merged_stay_changed";
    /// Nor of rows that a load replaces.
    ReplacedRowsAreNotHeard of 1:
        "hazards_of_publications::hazard_1_rows_that_a_load_replaces_while_they_are_moved_stay_replaced";
    /// A scan shows deleted rows.
    ScansShowTheDead of 1:
        "hazards_of_reads::hazard_1_dead_rows_are_shown_by_no_way_of_reading";
    /// A look-up finds them.
    LookUpsFindTheDead of 1:
        "hazards_of_reads::hazard_1_dead_rows_are_shown_by_no_way_of_reading";
    /// A point read stops at one.
    PointReadsStopAtTheDead of 1:
        "hazards_of_reads::hazard_1_a_live_row_is_found_behind_a_dead_one_of_a_later_run";

    /// A flush knows rows by the first column of their key.
    FlushesTellRowsByOneColumn of 2:
        "hazards_of_tables::hazard_2_rows_that_share_the_first_column_of_a_key_stay_apart";
    /// A load does.
    LoadsTellRowsByOneColumn of 2:
        "hazards_of_tables::hazard_2_rows_that_share_the_first_column_of_a_key_stay_apart";

    /// Scans and counts end where that should be enough.
    ScansStopAtACap of 3:
        "hazards_of_limits::hazard_3_no_scan_and_no_count_stops_before_the_end";
    /// Deleted rows count to a LIMIT.
    DeadRowsCountToTheLimit of 3:
        "hazards_of_limits::a_limit_and_a_range_read_no_more_than_they_need",
        "hazards_of_reads::hazard_1_dead_rows_are_shown_by_no_way_of_reading";

    /// Hot rows that do not decode are passed over.
    MalformedRowsAreSkipped of 4:
        "hazards_of_reads::hazard_4_a_malformed_row_is_named_by_whoever_meets_it",
        "decode::tests::corrupt_rows_are_named_and_never_skipped";
    /// Bytes of a segment are taken as they come.
    ChecksumsAreNotCompared of 4:
        "segment::tests::damage::every_flipped_byte_is_found";

    /// A hot row is as old as the last that came.
    TheLastRowSaysHowOldTheyAre of 5:
        "hazards_of_movers::hazard_5_hot_rows_are_as_old_as_the_first_of_them";

    /// Rows past their expiry are shown.
    ExpiredRowsAreShown of 6:
        "hazards_of_streams::hazard_6_an_expired_row_is_not_found_not_scanned_and_not_counted_to_a_limit";
    /// Buckets of rows that have all expired stay.
    OldBucketsStay of 6:
        "hazards_of_streams::hazard_6_a_bucket_goes_when_its_last_row_has_expired_and_no_earlier";
    /// Buckets go while rows of them live.
    LiveBucketsGo of 6:
        "hazards_of_streams::hazard_6_a_bucket_goes_when_its_last_row_has_expired_and_no_earlier";

    /// Commits are written and not synced.
    CommitsAreNotSynced of 7:
        "hazards_of_syncs::hazard_7_acknowledged_rows_are_in_a_copy_of_the_files";
    /// A log that ends in half a record is taken for a damaged one.
    TornLogsAreRefused of 7:
        "hazards_of_syncs::hazard_7_a_torn_log_loses_nothing_that_was_acknowledged";
    /// One with something broken in the middle is taken for one that ends there.
    DamagedLogsAreTakenForTorn of 7:
        "hazards_of_syncs::hazard_7_damage_in_the_middle_of_a_log_is_no_torn_end";
    /// One of whose last writes, none of which was synced, some are whole is taken for a damaged one.
    TornLogsAreTakenForDamaged of 7:
        "hazards_of_syncs::hazard_7_writes_that_were_not_synced_may_be_lost_one_without_the_other";
    /// Whoever is in a group hears that it is written, whether or not it is.
    FailedWritesAreAcknowledged of 7:
        "hazards_of_syncs::hazard_19_a_failed_sync_leaves_the_outcome_unknown_and_nothing_visible";

    /// A scan with a LIMIT reads segments as one without.
    LimitsReadEverything of 8:
        "hazards_of_limits::a_limit_and_a_range_read_no_more_than_they_need",
        "hazards_of_limits::hazard_8_the_first_and_the_last_row_are_read_alone";
    /// A scan asks no bounds of columns.
    NothingIsPruned of 8:
        "hazards_of_limits::hazard_8_what_bounds_rule_out_is_not_read";
    /// A scan without columns reads one nevertheless.
    CountsReadColumns of 8:
        "hazards_of_limits::hazard_8_a_count_reads_no_column";

    /// Writers planned with another schema pass.
    SchemaVersionsAreNotCompared of 9:
        "hazards::hazard_9_a_schema_change_conflicts_with_writers_planned_before_it";

    /// Writes go to the oldest epoch, sealed or not.
    WritesGoToTheSealedEpoch of 10:
        "hazards_of_movers::hazard_10_a_write_planned_before_a_seal_lands_after_it",
        "hazards_of_publications::hazard_13_rows_changed_at_any_moment_of_a_small_flush_stay_changed",
        "hazards_of_publications::hazard_13_rows_changed_at_any_moment_of_a_large_flush_stay_changed";

    /// What was committed before a seal is forgotten at it.
    SealsForgetRecentCommits of 11:
        "hazards_of_movers::hazard_11_two_inserts_of_one_key_on_both_sides_of_a_seal";
    /// Keys to insert are not compared with what was committed lately.
    PutsAreNotCompared of 11:
        "hazards_of_movers::hazard_11_two_inserts_of_one_key_on_both_sides_of_a_seal",
        "hazards_of_commits::hazard_11_two_inserts_of_one_key_in_one_group",
        "hazards::two_writers_of_one_key_from_one_state_conflict";
    /// Requests of a group are compared with what was committed before it alone.
    GroupsDoNotSeeThemselves of 11:
        "hazards_of_commits::hazard_11_two_inserts_of_one_key_in_one_group";
    /// A request older than what the committer remembers is taken for one that meets nobody.
    ForgottenCommitsAreTakenForNone of 11:
        "hazards::a_request_older_than_the_committers_memory_is_stale";
    /// A look-up does not look into the sealed epoch.
    LookUpsForgetTheSealedEpoch of 11:
        "hazards_of_publications::hazard_13_rows_changed_at_any_moment_of_a_small_flush_stay_changed";

    /// Rows to remove are not compared with what was committed lately, nor with the bits of those that are gone.
    RemovalsAreNotCompared of 12:
        "hazards_of_commits::hazard_12_one_row_deleted_twice_is_deleted_once",
        "hazards_of_movers::hazard_12_one_cold_row_deleted_and_updated_from_two_snapshots";
    /// Each request of a group begins with the bits before the group.
    GroupsForgetTheirBits of 12:
        "hazards_of_commits::deletions_of_one_chunk_in_one_group_all_count";

    /// A large change removes cold rows that are gone already.
    LoadsRemoveWhatIsGone of 12:
        "hazards_of_changes::hazard_12_a_small_change_of_a_row_at_any_moment_of_a_large_one";
    /// It removes whatever is at the keys of its rows.
    LoadsRemoveWhateverIsThere of 12:
        "hazards_of_changes::hazard_12_a_small_change_of_a_row_at_any_moment_of_a_large_one",
        "hazards_of_look_ups::hazard_12_what_others_publish_while_a_large_change_looks_its_rows_up";
    /// It does not mind who changes its rows after it has looked.
    LoadsForgetWhoTouchedTheirRows of 12:
        "hazards_of_changes::hazard_12_a_small_change_of_a_row_at_any_moment_of_a_large_one";
    /// Nor which of them another load removes.
    LoadsForgetWhoElseLoads of 12:
        "hazards_of_look_ups::hazard_12_what_others_publish_while_a_large_change_looks_its_rows_up";

    /// Rows are removed where they were found, wherever they are now.
    MovedRowsAreNotLookedUpAgain of 13:
        "hazards_of_movers::hazard_13_a_row_that_moved_is_to_be_looked_up_again";
    /// A flush hears of removals from a moment after its state on.
    FlushesWatchTooLate of 13:
        "hazards_of_publications::hazard_13_rows_changed_at_any_moment_of_a_small_flush_stay_changed",
        "hazards_of_publications::hazard_13_rows_changed_at_any_moment_of_a_large_flush_stay_changed";
    /// So does a compaction.
    CompactionsWatchTooLate of 13:
        "hazards_of_publications::hazard_13_rows_changed_at_any_moment_of_a_compaction_stay_changed";
    /// Which row of which new segment a moved row is, is counted from the first of them.
    RowsAreCountedFromTheFirstSegment of 13:
        "hazards_of_publications::hazard_13_rows_changed_at_any_moment_of_a_compaction_into_several_segments_stay_changed";
    /// The committer does not settle what happened after the last look.
    TheLastNewsAreNotSettled of 13:
        "hazards_of_publications::hazard_13_rows_changed_at_any_moment_of_a_small_flush_stay_changed",
        "hazards_of_publications::hazard_13_rows_changed_at_any_moment_of_a_compaction_stay_changed",
        "hazards_of_loads::hazard_17_a_row_inserted_between_a_loads_check_and_its_publication";
    /// A watch that holds no more tells what it has.
    WatchesOverflowUnnoticed of 13:
        "hazards_of_loads::hazard_17_more_changes_than_a_watch_holds_fail_the_load",
        "hazards_of_look_ups::hazard_17_more_changes_than_a_watch_holds_have_a_load_look_again";
    /// Movers hear of as many removals as loads.
    MoversHearOnlySoMuch of 13:
        "hazards_of_publications::hazard_13_a_mover_follows_however_many_rows_are_removed_meanwhile";
    /// Rows that moved since a large change found them count as changed.
    MovedRowsConflictWithLoads of 13:
        "hazards_of_changes::hazard_13_rows_that_moved_since_a_large_change_found_them_are_found_again";
    /// Rows that moved since a load looked them up are taken to be where they were.
    LoadsForgetWhatMoved of 13:
        "hazards_of_look_ups::hazard_17_what_others_publish_while_a_load_looks_its_keys_up",
        "hazards_of_look_ups::hazard_12_what_others_publish_while_a_large_change_looks_its_rows_up";
    /// Removals delete from the current epoch, wherever the row is.
    RemovalsGoToTheCurrentEpoch of 13:
        "hazards_of_publications::hazard_13_rows_changed_at_any_moment_of_a_small_flush_stay_changed";

    /// A state shows the tables of the one before.
    VersionsLagBehind of 14:
        "hazards::hazard_14_snapshot_versions_and_catalog_are_of_one_moment";
    /// Readers take hot rows as they are now.
    ReadersTakeTheNewestRows of 14:
        "hazards::hazard_14_sums_over_two_tables_are_whole_under_writers";
    /// Readers take the bits of deleted rows as they are now.
    ReadersTakeTheNewestBits of 14:
        "hazards_of_reads::hazard_14_an_old_state_shows_rows_that_were_deleted_since";
    /// Replaced files are erased at once.
    FilesGoWithTheirEntries of 14:
        "hazards_of_movers::hazard_14_an_old_state_keeps_its_rows_and_its_files";
    /// Replaced files are never erased.
    ReplacedFilesStay of 14:
        "hazards_of_movers::hazard_14_an_old_state_keeps_its_rows_and_its_files";

    /// A publication makes the table that it is for.
    PublicationsReviveStores of 15:
        "hazards::hazard_15_a_load_in_flight_over_a_truncate_and_recreate",
        "hazards_of_loads::hazard_15_a_truncate_between_a_loads_check_and_its_publication",
        "hazards_of_movers::hazard_15_a_truncate_during_a_flush_or_a_compaction_wins";
    /// The files of a retired table stay.
    FilesOfRetiredStoresStay of 15:
        "hazards_of_movers::hazard_15_a_truncate_during_a_flush_or_a_compaction_wins";
    /// Its hot rows do.
    RowsOfRetiredStoresStay of 15:
        "hazards::hazard_15_a_writer_in_flight_over_a_truncate_and_recreate";
    /// Ids are given out again after a restart.
    CountersStartAgain of 15:
        "hazards::counters_never_repeat";

    /// A seal is not written down.
    SealsAreNotWritten of 16:
        "hazards_of_publications::hazard_16_writes_on_both_sides_of_a_seal_survive_a_crash";
    /// Start-up knows the current epoch alone.
    SealedEpochsAreForgotten of 16:
        "hazards_of_publications::hazard_16_writes_on_both_sides_of_a_seal_survive_a_crash",
        "hazards_of_restarts::hazard_16_a_restart_between_seal_and_publish_loses_and_doubles_nothing";
    /// An epoch that was flushed stays in the table.
    FlushedEpochsStayListed of 16:
        "hazards_of_restarts::hazard_16_a_restart_between_seal_and_publish_loses_and_doubles_nothing";

    /// Loads hear of nothing that is inserted while they run.
    InsertionsAreNotHeard of 17:
        "hazards_of_loads::hazard_17_a_row_inserted_between_a_loads_check_and_its_publication",
        "hazards_of_loads::hazard_17_a_key_inserted_at_any_moment_of_a_load_is_a_duplicate";
    /// A load hears of what happens from a moment after its state on.
    LoadsWatchTooLate of 17:
        "hazards_of_loads::hazard_17_what_others_do_at_any_moment_of_a_load_is_met",
        "hazards_of_loads::hazard_17_a_key_inserted_at_any_moment_of_a_load_is_a_duplicate";
    /// It looks at a state, and then hears of what that does not show.
    LoadsLookBeforeTheyListen of 17:
        "hazards_of_loads::hazard_17_what_others_do_at_any_moment_of_a_load_is_met",
        "hazards_of_loads::hazard_17_a_key_inserted_at_any_moment_of_a_load_is_a_duplicate";
    /// Loads hear nothing of each other.
    LoadsAreNotHeard of 17:
        "hazards_of_look_ups::hazard_17_what_others_publish_while_a_load_looks_its_keys_up";
    /// What another load brought is looked for in its own segments, though they were merged.
    LoadsForgetMergedLoads of 17:
        "hazards_of_look_ups::hazard_17_what_others_publish_while_a_load_looks_its_keys_up";
    /// A key that was dropped for a row that another load removes stays dropped.
    LoadsForgetWhatOthersRemove of 17:
        "hazards_of_look_ups::hazard_17_what_others_publish_while_a_load_looks_its_keys_up";
    /// Watches hear of a commit before it is visible.
    WatchesAreToldTooEarly of 17:
        "hazards_of_loads::hazard_17_a_commit_is_visible_before_a_load_hears_of_it";
    /// A load does not look for its keys in the table.
    LoadsDoNotLookUp of 17:
        "hazards_of_loads::a_load_with_a_duplicate_is_refused_whole_and_leaves_no_file";
    /// It looks for them in the current epoch alone.
    LoadsForgetTheSealedEpoch of 17:
        "hazards_of_loads::a_load_meets_keys_in_a_sealed_epoch";
    /// A key that a load found is taken for found although it was removed since.
    ResolutionsAreFinal of 17:
        "hazards_of_loads::hazard_17_what_others_do_at_any_moment_of_a_load_is_met";
    /// What stopped a publication is forgotten with it.
    NewsAreSettledOnce of 17:
        "hazards_of_loads::hazard_17_a_key_inserted_at_any_moment_of_a_load_is_a_duplicate";
    /// Others publish between a load's look-up and its publication.
    LoadsGiveTheGateBack of 17:
        "hazards_of_loads::hazard_17_rows_stay_where_a_load_found_them_until_it_is_published";
    /// A key that was absent before a load is taken for absent after it.
    LoadsInsertNothing of 17:
        "hazards_of_loads::hazard_17_a_row_inserted_from_a_state_before_a_publication";
    /// A row found before a load is taken for there after it.
    LoadsReplaceNothing of 17:
        "hazards_of_loads::hazard_17_a_row_found_before_a_load_replaced_it_is_to_be_looked_up_again",
        "hazards_of_changes::hazard_12_a_small_change_planned_before_a_large_one_was_published";

    /// Rows of a scope that is gone are shown.
    RetiredScopesAreShown of 18:
        "hazards::hazard_18_a_user_dropped_and_made_again_sees_nothing_old",
        "hazards_of_commits::hazard_18_rows_of_a_retired_scope_are_shown_to_nobody_and_go";
    /// Rows are written for it.
    RetiredScopesTakeWrites of 18:
        "hazards::hazard_18_a_user_dropped_and_made_again_sees_nothing_old";
    /// Loads for it are published.
    LoadsOfRetiredScopesArePublished of 18:
        "hazards::hazard_18_a_user_dropped_and_made_again_sees_nothing_old";
    /// Its hot rows are never erased.
    RowsOfRetiredScopesStay of 18:
        "hazards_of_commits::hazard_18_rows_of_a_retired_scope_are_shown_to_nobody_and_go";
    /// After a restart it is a scope like any other.
    RetiredScopesAreForgotten of 18:
        "hazards_of_commits::hazard_18_rows_of_a_retired_scope_are_shown_to_nobody_and_go";
    /// A flush takes its rows along.
    FlushesKeepRetiredScopes of 18:
        "hazards_of_commits::hazard_18_a_flush_leaves_rows_of_a_retired_scope_behind";
    /// A compaction does.
    CompactionsKeepRetiredScopes of 18:
        "hazards_of_commits::hazard_18_rows_of_a_retired_scope_are_shown_to_nobody_and_go",
        "hazards_of_commits::hazard_18_a_scope_retired_at_any_moment_of_a_move";
    /// Its rows in segments stay until something else rewrites them.
    RetiredRowsAreNotWorthACompaction of 18:
        "hazards_of_commits::hazard_18_rows_of_a_retired_scope_leave_the_segments_by_themselves",
        "hazards_of_commits::hazard_18_what_a_mover_still_took_along_goes_with_the_next_compaction";

    /// What failed to be written is shown.
    FailedWritesAreShown of 19:
        "hazards_of_syncs::hazard_19_a_failed_sync_leaves_the_outcome_unknown_and_nothing_visible";
    /// Others are in conflict with it.
    FailedWritesAreRemembered of 19:
        "hazards_of_syncs::hazard_19_a_failed_sync_leaves_the_outcome_unknown_and_nothing_visible";
    /// Its numbers are given to others.
    NumbersOfFailedWritesAreUsedAgain of 19:
        "hazards_of_syncs::hazard_19_a_failed_sync_leaves_the_outcome_unknown_and_nothing_visible";
    /// After it, writes are tried as if nothing had happened.
    WritesGoOnAfterAFailedSync of 19:
        "hazards_of_syncs::hazard_19_a_failed_sync_leaves_the_outcome_unknown_and_nothing_visible";
    /// Nobody hears that writes are refused until the store is opened anew.
    FailedWritesAreNotNoted of 19:
        "failures::refused::a_store_whose_files_failed_refuses_writes_until_it_is_opened_anew",
        "failures::refused::a_write_that_fails_once_asks_for_no_opening";
    /// Files are erased whose publication may be in the log.
    FilesOfUnknownPublicationsGo of 19:
        "hazards_of_syncs::hazard_19_a_load_whose_publication_is_unknown_is_not_erased",
        "hazards_of_publications::hazard_19_a_mover_whose_publication_fails_moves_nothing_twice";
    /// Files stay whose publication was refused.
    FilesOfRefusedPublicationsStay of 19:
        "hazards_of_loads::the_files_of_a_load_that_is_given_up_or_refused_go",
        "hazards_of_publications::hazard_19_a_mover_whose_publication_fails_moves_nothing_twice";

    /// Files are published that are not synced.
    FilesAreNotSynced of 20:
        "hazards_of_publications::hazard_20_after_a_power_failure_every_published_file_is_there";
    /// Their directories are not.
    DirectoriesAreNotSynced of 20:
        "hazards_of_publications::hazard_20_after_a_power_failure_every_published_file_is_there";
    /// Those above them are made and not synced, when a database or a storage is new.
    NewDirectoriesAreNotSynced of 20:
        "hazards_of_publications::hazard_20_a_new_database_is_there_after_a_power_failure";
    /// Files come and go with commits that are not synced.
    FilesMoveUnsynced of 20:
        "hazards_of_publications::hazard_20_files_come_and_go_synced_even_if_commits_are_not";
    /// Files are written of which no record says so.
    FilesAreNotAnnounced of 20:
        "hazards_of_restarts::hazard_16_a_restart_between_seal_and_publish_loses_and_doubles_nothing",
        "hazards_of_loads::hazard_20_a_load_that_was_not_published_is_gone_after_a_crash",
        "hazards_of_publications::hazard_20_after_a_power_failure_every_published_file_is_there";
    /// The record is deleted when the file is complete, and not when it is published.
    AnnouncementsAreTakenBackEarly of 20:
        "hazards_of_restarts::hazard_16_a_restart_between_seal_and_publish_loses_and_doubles_nothing",
        "hazards_of_loads::hazard_20_a_load_that_was_not_published_is_gone_after_a_crash";
    /// The record outlives the publication.
    PublishedFilesStayDoomed of 20:
        "hazards_of_publications::hazard_16_a_restart_erases_replaced_files_and_no_others";
    /// Replaced files have no record.
    ReplacedFilesAreNotDoomed of 20:
        "hazards_of_publications::hazard_16_a_restart_erases_replaced_files_and_no_others";
    /// Files of what was given up stay.
    UnpublishedFilesStay of 20:
        "hazards_of_loads::the_files_of_a_load_that_is_given_up_or_refused_go",
        "hazards_of_loads::a_load_with_a_duplicate_is_refused_whole_and_leaves_no_file";
    /// Where another storage was is forgotten with it, and with that the files that are left to erase there.
    StoragesAreForgotten of 20:
        "hazards_of_restarts::hazard_16_what_a_crash_left_in_another_storage_goes_although_nobody_adds_it";
    /// Whatever is at the place of a storage is taken for it.
    StoragesAreNotRecognised of 20:
        "hazards_of_storages::hazard_20_nothing_is_written_or_erased_where_a_storage_is_not",
        "hazards_of_storages::a_table_whose_storage_is_away_at_the_start_is_there_when_it_is_back";
    /// What is left to erase in a storage is forgotten if the storage is away.
    FilesInStoragesThatWereAwayStay of 16:
        "hazards_of_restarts::hazard_16_what_a_crash_left_in_a_storage_that_was_away_goes_when_it_is_back",
        "hazards_of_storages::a_file_that_could_not_be_erased_is_when_its_storage_is_back";
    /// A storage that is away at the start is for as long as the process runs.
    StoragesThatWereAwayStayAway of 20:
        "hazards_of_storages::a_storage_that_was_away_at_the_start_is_taken_when_it_is_back",
        "hazards_of_storages::a_storage_that_another_process_has_is_taken_when_it_is_given_up";
    /// Segments in a storage that was away count as damaged when it is back.
    SegmentsThatWereAwayAreDamaged of 20:
        "hazards_of_storages::rows_of_a_storage_that_was_away_at_the_start_are_read_when_it_is_back_and_missing_ones_missed";
    /// So is what is at the place of one that was never marked.
    UnmarkedStoragesAreTakenAsTheyAre of 20:
        "hazards_of_storages::a_storage_from_before_there_were_marks_is_marked_where_its_files_are";
    /// Damage that a reader met is forgotten.
    DamageIsForgotten of 20:
        "hazards_of_files::damage_that_a_read_meets_refuses_the_table_until_a_check_finds_it_mended";
    /// It is known until the next start.
    DamageIsNotKept of 20:
        "hazards_of_files::damage_that_was_met_is_known_after_restarts_until_a_check_finds_it_mended";
    /// Whoever began to read before a file was mended has it refused again.
    OldReadersNoteDamage of 20:
        "hazards_of_files::what_a_reader_met_before_a_file_was_mended_is_not_held_against_it";
    /// Files that are known to be damaged are compacted.
    DamagedFilesAreCompacted of 20:
        "hazards_of_hot_files::damage_of_one_tables_hot_rows_refuses_that_table_alone",
        "hazards_of_hot_files::damage_that_a_compaction_meets_stops_no_write_after_an_opening";
    /// Damage that a read of hot rows met is forgotten.
    DamageOfHotRowsIsForgotten of 20:
        "hazards_of_hot_files::damage_of_one_tables_hot_rows_refuses_that_table_alone";
    /// A directory that does not say its format is taken for a new one.
    UnmarkedDirectoriesAreTaken of 20:
        "hazards::a_directory_with_something_in_it_that_does_not_say_its_format_is_refused";
    /// What RocksDB begins anew is taken for a new database, whatever was there.
    LostRowsAreANewDatabase of 20:
        "hazards::hazard_20_a_database_whose_rows_are_away_is_no_new_one";
    /// Start-up does not look for the files that the manifest names.
    FilesAreNotLookedAt of 20:
        "hazards_of_files::a_table_with_a_missing_file_is_refused_even_where_the_file_is_not_needed";

    /// `_updated` is the time handed in, whatever it was before.
    UpdatedFollowsTheClock of 0:
        "hazards::updated_goes_up_with_each_commit_whatever_the_clock_does";
    /// What it was before is forgotten at a restart.
    UpdatedBeginsAnew of 0:
        "hazards::updated_goes_up_with_each_commit_whatever_the_clock_does";
    /// What comes is written before what goes is deleted.
    RemovalsFollowPuts of 0:
        "hazards::removals_precede_puts_and_a_key_may_be_in_both";
    /// Writers that count the rows of a scope do not meet each other.
    ExclusiveClaimsAreNotCompared of 0:
        "hazards::exclusive_claims_of_one_scope_exclude_each_other";
    /// Waiting for a file counts as an operation of the task that waits.
    WaitingIsChargedToTheTask of 0:
        "files::tests::a_task_that_has_spent_its_budget_waits_for_files_as_any_other";
    /// A default storage that cannot be used at the start stops the start.
    DefaultStoragesMustWork of 0:
        "hazards_of_storages::a_storage_whose_mark_cannot_be_read_at_the_start_has_its_tables_refused_and_no_others";
    /// Merges take so many rows at once, however long they are.
    MergesCountRowsAlone of 0:
        "hazards_of_sizes::long_rows_are_merged_in_batches_of_bounded_bytes";
    /// Merges take all runs at once.
    MergesTakeAllRuns of 0:
        "hazards_of_sizes::many_runs_are_merged_in_several_passes";
    /// A batch counts as large as the buffers that it is a part of.
    SlicesCountAsTheirBuffers of 0:
        "hazards_of_sizes::rows_of_a_load_are_counted_and_not_the_buffers_that_they_are_parts_of";
    /// Flushed rows are not deleted where they were.
    FlushedRowsStay of 0:
        "hazards_of_publications::hazard_13_rows_changed_at_any_moment_of_a_small_flush_stay_changed",
        "hazards_of_publications::hazard_13_rows_changed_at_any_moment_of_a_large_flush_stay_changed";
    /// Nothing is published while a load looks its keys up, so that writers at the hot limit wait for it.
    LoadsLookUpBehindTheGate of 0:
        "hazards_of_look_ups::nobody_waits_for_a_load_that_looks_its_keys_up";
    /// Flushes and compactions of a table exclude each other.
    FlushesWaitForCompactions of 0:
        "hazards_of_publications::a_flush_does_not_wait_for_a_compaction_nor_a_compaction_for_a_flush";
    /// Rows that a flush is moving are not counted as hot.
    SealedRowsAreNotCounted of 0:
        "hazards_of_movers::the_count_of_hot_rows_follows_what_happens";
    /// Rows that one has moved are, for ever.
    FlushedRowsAreCounted of 0:
        "hazards_of_movers::the_count_of_hot_rows_follows_what_happens";
    /// The range of rows that a large flush deletes reaches into the next epoch.
    LargeFlushesDeleteTheNextEpoch of 0:
        "hazards_of_publications::hazard_13_rows_changed_at_any_moment_of_a_large_flush_stay_changed";
    /// Merged segments stay in the table.
    MergedSegmentsStayListed of 0:
        "hazards_of_publications::hazard_13_rows_changed_at_any_moment_of_a_compaction_stay_changed";
    /// A publication can be repeated.
    SegmentsArePublishedTwice of 0:
        "hazards_of_publications::a_publication_is_published_once";
    /// Cold rows that a load replaces stay.
    ReplacedColdRowsStay of 0:
        "hazards_of_loads::hazard_17_what_others_do_at_any_moment_of_a_load_is_met";
    /// Hot ones do.
    ReplacedHotRowsStay of 0:
        "hazards_of_loads::hazard_17_what_others_do_at_any_moment_of_a_load_is_met";
    /// A row that a commit deleted and a load replaced counts twice.
    DeadRowsAreCountedTwice of 0:
        "hazards_of_loads::hazard_17_what_others_do_at_any_moment_of_a_load_is_met";
    /// The count of deleted rows begins anew in every group.
    DeadRowsAreCountedAnew of 0:
        "hazards_of_commits::deletions_of_one_chunk_in_one_group_all_count";
    /// What a publication removes is told to whoever publishes it.
    PublicationsTellThemselves of 0:
        "hazards_of_publications::hazard_13_a_mover_follows_however_many_rows_are_removed_meanwhile";
    /// A large change gives rows the keys of rows that stay.
    LoadsTakeLiveKeys of 0:
        "hazards_of_changes::keys_of_a_large_change_may_shift_over_each_other_but_not_onto_rows_that_stay";
    /// It takes hot rows that it removes for rows that stay.
    LoadsForgetTheirHotRows of 0:
        "hazards_of_changes::keys_of_a_large_change_may_shift_over_each_other_but_not_onto_rows_that_stay";
    /// Or cold ones.
    LoadsForgetTheirColdRows of 0:
        "hazards_of_changes::keys_of_a_large_change_may_shift_over_each_other_but_not_onto_rows_that_stay";
    /// Loads go on although they are told to give up.
    LoadsAreNotStopped of 0:
        "hazards_of_loads::a_load_that_is_to_give_up_stops_wherever_it_is_and_leaves_nothing";
    /// Loaded rows have numbers that later rows get too.
    LoadedRowsTakeNoNumbers of 0:
        "hazards_of_loads::loaded_rows_take_numbers_that_nobody_else_has";
    /// Loads keep rows of one key.
    LoadsKeepEqualKeys of 0:
        "hazards_of_loads::loads_in_any_order_with_duplicates_inside_and_against_the_table";
    /// Those that are merged in two batches, at least.
    BatchesAreComparedAlone of 0:
        "hazards_of_loads::rows_of_one_key_that_are_merged_in_two_batches_are_one_row";
    /// All segments are one run, although their keys overlap.
    RunsAreMixedUp of 0:
        "hazards_of_reads::keys_are_found_in_whichever_run_has_them";
    /// Rows without a key get another id when they are flushed.
    FlushedRowsGetNewIds of 0:
        "hazards_of_tables::rows_without_a_key_keep_their_ids_through_everything";
    /// A segment is read as if all of it were of one user.
    SegmentsAreOfOneUser of 0:
        "hazards_of_reads::nobody_reads_or_counts_rows_of_another_user",
        "hazards_of_tables::users_with_the_same_keys_go_through_everything_side_by_side";
    /// A scan asks the bounds of pages that have rows of others as well.
    BoundsTellOfOthers of 0:
        "hazards_of_limits::what_others_store_does_not_show_in_what_a_scan_looks_at";
    /// A scan in key order takes runs for disjoint.
    OverlapsAreReadApart of 0:
        "hazards_of_reads::rows_in_key_order_whichever_run_has_them",
        "hazards_of_tables::a_table_with_a_key_of_one_column_goes_through_everything";
    /// Every part of a scan has the hot rows.
    PartsShareTheHotRows of 0:
        "hazards_of_movers::parts_of_a_scan_are_disjoint_and_together_all",
        "hazards_of_reads::every_row_is_in_one_part_of_a_scan_however_many_there_are";

    /// What a reader pins stays until it is done, if ever.
    OldSnapshotsStay of 0:
        "hazards_of_old_snapshots::what_a_reader_pins_goes_when_it_is_too_old_although_it_never_reads_on",
        "hazards_of_old_snapshots::who_reads_at_that_moment_comes_to_the_end_of_the_batch";
    /// What an iterator of RocksDB pins does.
    IteratorsStay of 0:
        "hazards_of_old_snapshots::what_a_reader_pins_goes_when_it_is_too_old_although_it_never_reads_on";
    /// Flushes, compactions and loads are ended as readers are.
    TheDatabasesWorkIsEnded of 0:
        "hazards_of_old_snapshots::the_databases_own_work_is_not_ended";
    /// A segment that a large change follows goes with the state in which the change found it.
    SegmentsThatAreHeldAloneGoAtOnce of 0:
        "hazards_of_old_snapshots::a_segment_that_is_held_alone_has_its_time_too";
    /// A file that was erased under a reader counts as damaged.
    FilesThatWereLetGoAreDamaged of 0:
        "hazards_of_old_snapshots::a_segment_that_is_held_alone_has_its_time_too";

    /// An empty directory is removed although a file is about to be put into it.
    DirectoriesGoUnderNewFiles of 20:
        "files::tests::a_directory_that_is_made_for_a_file_stays_although_it_is_empty";
    /// Two processes use one storage at once.
    StoragesAreSharedByProcesses of 20:
        "hazards_of_copies::two_processes_do_not_use_one_storage";
    /// A storage whose disk is full is not opened, even to erase what would give it room.
    ErasingNeedsRoom of 20:
        "failures::disk::what_is_to_be_erased_gives_a_full_storage_room";
    /// Or one after the other, each with its own idea of what is in it.
    CopiesShareTheirStorages of 20:
        "hazards_of_copies::a_copy_of_a_data_directory_leaves_alone_what_another_one_used_since";

    /// A damaged file of RocksDB stays when its rows are given up.
    DamagedFilesStay of 0:
        "hazards_of_hot_files::a_damaged_file_whose_rows_were_given_up_is_left_behind_by_the_next_start";
    /// What was written in its place is taken without reading it.
    RebuiltRowsAreNotRead of 0:
        "hazards_of_hot_files::what_was_written_and_is_damaged_too_takes_no_rows_place";
}
