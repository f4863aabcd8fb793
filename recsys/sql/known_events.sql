-- One row per event that is known at :as_of, at most the latest :max_events per user of the last :days.
-- An event is known if it occurred and was recorded strictly before :as_of (microseconds since 1970 UTC).
with known as (
    select *
    from {events}
    where occurred_at >= timestamp_micros(:as_of) - make_dt_interval(:days)
        and occurred_at < timestamp_micros(:as_of)
        and recorded_at < timestamp_micros(:as_of)
), numbered as (
    select *, row_number() over (
        partition by user_id
        order by occurred_at desc, sale_id desc, kind = 'purchase' desc, recorded_at desc
    ) as events_back
    from known
), known_events as (
    select user_id, sale_id, kind, occurred_at from numbered where events_back <= :max_events
)
select * from known_events
