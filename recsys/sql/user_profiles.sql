-- One row per (user_id, feature): the profile of a user, the weighted sum of the profiles of their sales.
with user_profiles as (
    select user_id, feature, sum(weight * value) as value
    from {user_weights}
    inner join {sale_profiles} using (sale_id)
    group by all
)
select * from user_profiles
