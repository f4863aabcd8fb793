-- One row per (user_id, day) on which an event of the user became known, day in UTC: the growth of the user's columns.
with valued as (
    select
        user_id,
        date_from_unix_date(int(known_at div 86400000000)) as day,
        kind = 'visit' and not is_past as is_visit,
        kind = 'purchase' and not is_past as is_purchase,
        kind = 'visit' and is_past as was_visit,
        kind = 'purchase' and is_past as was_purchase,
        token is not null as is_attributed,
        coalesce(revenue, 0) as revenue
    from {outcomes}
), experiment_outcome_days as (
    select
        user_id,
        day,
        double(count_if(is_visit)) as visits,
        double(count_if(is_purchase)) as purchases,
        sum(if(is_purchase, revenue, 0)) as revenue,
        double(count_if(is_visit and is_attributed)) as attributed_visits,
        double(count_if(is_purchase and is_attributed)) as attributed_purchases,
        sum(if(is_purchase and is_attributed, revenue, 0)) as attributed_revenue,
        double(count_if(was_visit)) as pre_visits,
        double(count_if(was_purchase)) as pre_purchases,
        sum(if(was_purchase, revenue, 0)) as pre_revenue
    from valued
    group by all
)
select * from experiment_outcome_days
