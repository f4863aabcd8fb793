-- One row per page of a surface served in [:start, :as_of), microseconds since 1970 UTC, with the columns of
-- experiment_pages: variant `holdout` for the users of one holdout, `outside` for all others. Not analysed are anonymous
-- visitors, pages with an override or the kill switch, and users of the :earlier holdouts (keys, separated by commas),
-- who never reach this one.
with surface_pages as (
    select *, unix_micros(exposed_at) as shown_at
    from {exposures}
    where surface = :surface
        and exposed_at >= timestamp_micros(:start)
        and exposed_at < timestamp_micros(:as_of)
    distribute by user_id
), numbered as (
    select *, row_number() over (partition by user_id, request_id order by shown_at) as copy
    from surface_pages
), holdout_pages as (
    select
        user_id,
        request_id,
        shown_at,
        if(reason = 'holdout' and experiment = :holdout, 'holdout', 'outside') as variant,
        reason,
        user_id != ''
            and coalesce(reason not in ('override', 'kill'), true)
            and not coalesce(reason = 'holdout' and find_in_set(experiment, :earlier) > 0, false) as is_analysed,
        coalesce(reason = 'fallback' or fallback_level != 'none', false) as fell_back,
        false as differed,
        configuration_sha,
        model_version,
        attributes,
        cast(null as array<string>) as sale_ids,
        cast(null as array<string>) as teams
    from numbered
    where copy = 1
)
select * from holdout_pages
