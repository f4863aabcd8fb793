-- One row per event of the shop that occurred in [:since, :as_of) and was recorded before :as_of, microseconds since
-- 1970 UTC. Only the shop's table of events decides what happened; an event recorded by the service adds its token to
-- the same event of the shop.
-- Two events of the same user, sale and kind are the same event if the later one follows within a second: the website
-- and the shop's own table record the same purchase with different clocks.
with all_events as (
    select user_id, sale_id, kind, occurred_at, recorded_at, revenue, null as token, true as is_of_shop
    from {events}
    union all
    select user_id, sale_id, kind, occurred_at, recorded_at, revenue, nullif(attribution_token, '') as token, false
    from {recorded_events}
    where day >= date_from_unix_date(int(:since div 86400000000))
), known as (
    select
        user_id,
        sale_id,
        kind,
        unix_micros(occurred_at) as occurred_at,
        unix_micros(recorded_at) as recorded_at,
        revenue,
        token,
        is_of_shop
    from all_events
    where occurred_at >= timestamp_micros(:since)
        and occurred_at < timestamp_micros(:as_of)
        and recorded_at < timestamp_micros(:as_of)
    distribute by user_id
), beside_copies as (
    select
        user_id,
        sale_id,
        kind,
        occurred_at,
        lag(occurred_at) over in_time as last_at,
        min(if(is_of_shop, recorded_at, null)) over copies as recorded_at,
        max(if(is_of_shop, revenue, null)) over copies as revenue,  -- what the website records may be forged
        max(token) over copies as token,
        max(is_of_shop) over copies as is_of_shop
    from known
    window
        in_time as (partition by user_id, sale_id, kind order by occurred_at),
        copies as (
            partition by user_id, sale_id, kind order by occurred_at range between current row and 1000000 following
        )
), experiment_events as (
    select user_id, sale_id, kind, occurred_at, recorded_at, revenue, token
    from beside_copies
    where is_of_shop and (last_at is null or occurred_at - last_at > 1000000)
)
select * from experiment_events
