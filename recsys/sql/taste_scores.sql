-- One row per (user_id, sale_id), for each target and user with an event: how much more than all users the user looks
-- at sales with the features of this sale; 0 for a sale without features. value is 1 for an attribute or a word.
with totals as (
    select user_id, sum(weight) as weight from {user_weights} group by all
), seen as (
    select user_id, feature, sum(weight * value) as seen
    from {user_weights}
    inner join {sale_features} using (sale_id)
    group by all
), shares as (
    select feature, sum(seen) / (select sum(weight) from totals) as share from seen group by all
), target_features as (
    select targets.sale_id, features.feature, coalesce(features.value, 0) as value
    from {targets} as targets
    left join {sale_features} as features on features.sale_id = targets.sale_id
), taste_scores as (
    select
        totals.user_id,
        target_features.sale_id,
        sum(
            target_features.value * ln(
                (coalesce(seen.seen, 0) + :prior_events)
                / (totals.weight * coalesce(shares.share, 0) + :prior_events)
            )
        ) as score
    from totals
    cross join target_features
    left join shares on shares.feature = target_features.feature
    left join seen on seen.user_id = totals.user_id and seen.feature = target_features.feature
    group by all
)
select * from taste_scores
