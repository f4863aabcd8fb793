-- One row per (sale_id, month) with a visit or a sale-day, for sales with tagged photos: their part in attractiveness.
-- Days run from midnight to midnight UTC and are numbered since 1970; month is 'YYYY-MM' of the day.
-- visits: the sale's visits on days d of the month. sale_days: the number of days d of the month such that the sale was
-- open at any instant of the day before, [d - 1, d). Both include only days d of [:first, :until), microseconds since
-- 1970 UTC, with a visit of a tagged sale and with a tagged sale open on the day before: other days have no share.
with tagged_sales as (
    select
        sales.sale_id,
        greatest(unix_micros(sales.opens_at) div 86400000000 + 1, :first div 86400000000) as first_day,
        least((unix_micros(sales.closes_at) - 1) div 86400000000 + 1, :until div 86400000000 - 1) as last_day,
        coalesce(nullif(sales.attributes['country'], ''), '(none)') as country,
        coalesce(nullif(sales.attributes['category'], ''), '(none)') as category
    from {sales} as sales
    left semi join {sale_features} as features on features.sale_id = sales.sale_id
), daily_offers as (
    select sale_id, explode(sequence(first_day, last_day)) as day, 0 as visits, 1 as sale_days
    from tagged_sales
    where first_day <= last_day
), daily_visits as (
    select events.sale_id, unix_micros(events.occurred_at) div 86400000000 as day, count(*) as visits, 0 as sale_days
    from {events} as events
    left semi join tagged_sales on tagged_sales.sale_id = events.sale_id
    where events.kind = 'visit'
        and events.occurred_at >= timestamp_micros(:first)
        and events.occurred_at < timestamp_micros(:until)
    group by all
), daily_counts as (
    select * from daily_visits union all select * from daily_offers
), counts_with_days as (
    select
        *,
        sum(visits) over (partition by day) as visits_of_day,
        sum(sale_days) over (partition by day) as sales_before_day
    from daily_counts
), monthly_counts as (
    select
        sale_id,
        date_format(date_from_unix_date(int(day)), 'yyyy-MM') as month,
        sum(visits) as visits,
        sum(sale_days) as sale_days
    from counts_with_days
    where visits_of_day > 0 and sales_before_day > 0
    group by all
), sale_months as (
    select sale_id, month, country, category, visits, sale_days
    from monthly_counts
    inner join tagged_sales using (sale_id)
)
select * from sale_months
