-- One row per (user_id, sale_id): the weight of a sale in a user's history, above 0.
-- A visit weighs 1 and a purchase :purchase_weight, both halved every :half_life_days; the weights of events add up.
with event_weights as (
    select
        user_id,
        sale_id,
        if(kind = 'purchase', :purchase_weight, 1)
            * power(2, (unix_micros(occurred_at) - :as_of) / (:half_life_days * 86400e6)) as weight
    from {known_events}
), user_weights as (
    select user_id, sale_id, sum(weight) as weight from event_weights group by all having sum(weight) > 0
)
select * from user_weights
