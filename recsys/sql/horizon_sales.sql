-- One row per sale that is open at any instant of [:as_of, :until), both in microseconds since 1970 UTC.
with horizon_sales as (
    select sale_id
    from {sales}
    where opens_at < timestamp_micros(:until) and closes_at > timestamp_micros(:as_of)
)
select * from horizon_sales
