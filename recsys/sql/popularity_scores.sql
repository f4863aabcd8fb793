-- One row per sale of the targets: its smoothed rate of events, relative to the shop's mean rate.
-- A rate is events per day open, both with exponential decay: their weight halves every :half_life_days before :as_of.
-- Events are those while the sale is open; a user's events of a sale on one day (UTC) count once, as the last purchase, or
-- as the last visit of a day without a purchase. A visit weighs 1 and a purchase :purchase_weight.
-- Shrinkage: :prior_days at the rate expected from its features are added to a sale, and :prior_days at the shop's rate
-- to a feature.
with ages as (
    select
        sale_id,
        greatest(:as_of - unix_micros(opens_at), 0) / 86400e6 as opened,
        greatest(:as_of - unix_micros(closes_at), 0) / 86400e6 as closed
    from {sales}
), days_open as (
    select
        sale_id,
        :half_life_days / ln(2) * (power(2, -closed / :half_life_days) - power(2, -opened / :half_life_days)) as days
    from ages
), counted_events as (
    select
        sale_id,
        max(struct(kind = 'purchase' as is_purchase, occurred_at)) as event
    from {known_events}
    inner join {sales} using (sale_id)
    where occurred_at >= opens_at and occurred_at < closes_at
    group by user_id, sale_id, date(occurred_at)
), sale_events as (
    select
        sale_id,
        sum(
            if(event.is_purchase, :purchase_weight, 1)
                * power(2, (unix_micros(event.occurred_at) - :as_of) / (:half_life_days * 86400e6))
        ) as events
    from counted_events
    group by all
), sales as (
    select sale_id, days, coalesce(events, 0) as events from days_open left join sale_events using (sale_id)
), shop as (
    select (sum(events) + 1e-9) / (sum(days) + :prior_days) as rate from sales
), features as (
    select feature, (sum(events / rate) + :prior_days) / (sum(days) + :prior_days) as times_usual
    from {sale_features}
    inner join sales using (sale_id)
    cross join shop
    group by all
), expected as (
    select sale_id, exp(avg(ln(times_usual))) as times_usual
    from {sale_features}
    inner join features using (feature)
    group by all
), popularity_scores as (
    select
        sales.sale_id,
        (events / rate + :prior_days * coalesce(expected.times_usual, 1)) / (days + :prior_days) as score
    from {targets} as targets
    inner join sales on sales.sale_id = targets.sale_id
    left join expected on expected.sale_id = targets.sale_id
    cross join shop
)
select * from popularity_scores
