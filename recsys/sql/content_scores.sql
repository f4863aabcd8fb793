-- One row per (user_id, sale_id) with a feature in common: the cosine of their profiles, in (0, 1].
with target_profiles as (
    select profiles.*
    from {sale_profiles} as profiles
    left semi join {targets} as targets on profiles.sale_id = targets.sale_id
), user_directions as (
    select user_id, feature, value / sqrt(sum(value * value) over (partition by user_id)) as value from {user_profiles}
), content_scores as (
    select user_id, sale_id, sum(users.value * sales.value) as score
    from user_directions as users
    inner join target_profiles as sales using (feature)
    group by all
)
select * from content_scores
