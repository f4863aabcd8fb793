-- One row per page of one phase of an experiment (event_id), served in [:start, :as_of), microseconds since 1970 UTC.
-- A page that was delivered twice, more than a day apart, is in the log twice: the first copy counts. Within a phase,
-- user and request identify the event.
with phase_pages as (
    select *, unix_micros(exposed_at) as shown_at
    from {exposures}
    where experiment = :experiment
        and phase = :phase
        and exposed_at >= timestamp_micros(:start)
        and exposed_at < timestamp_micros(:as_of)
    distribute by user_id
), numbered as (
    select *, row_number() over (partition by user_id, request_id order by shown_at) as copy
    from phase_pages
), experiment_pages as (
    select
        user_id,
        request_id,
        shown_at,
        variant,
        reason,
        coalesce(reason in ('assigned', 'fallback') and variant is not null and user_id != '', false) as is_analysed,
        coalesce(reason = 'fallback' or fallback_level != 'none', false) as fell_back,
        coalesce(overlap_at_10 < 1, false) as differed,
        configuration_sha,
        model_version,
        attributes,
        if(:is_interleaved, sale_ids, null) as sale_ids,  -- null, so that Spark does not read the column
        if(:is_interleaved, teams, null) as teams
    from numbered
    where copy = 1
)
select * from experiment_pages
