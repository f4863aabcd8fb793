-- One row per (target_id, source_id): the similarity of two sales by the users who looked at both, above 0.
-- similarity = users of both / (users of the source ^ :source_power * users of the target ^ :target_power
--     * mean users of a sale ^ (1 - :source_power - :target_power) + :shrinkage).
-- At most :neighbours sources per target, the most similar ones, ties by sale_id.
with seen as (
    select distinct user_id, sale_id from {known_events}
), sale_users as (
    select sale_id, count(*) as users from seen group by all
), seen_targets as (
    select seen.* from seen left semi join {targets} as targets on seen.sale_id = targets.sale_id
), pairs as (
    select target.sale_id as target_id, source.sale_id as source_id, count(*) as users
    from seen_targets as target
    inner join seen as source on source.user_id = target.user_id and source.sale_id != target.sale_id
    group by all
), mean_users as (
    select avg(users) as users from sale_users
), similarities as (
    select
        target_id,
        source_id,
        pairs.users / (
            power(source.users, :source_power) * power(target.users, :target_power)
            * power(mean_users.users, 1 - :source_power - :target_power) + :shrinkage
        ) as similarity
    from pairs
    cross join mean_users
    inner join sale_users as target on target.sale_id = target_id
    inner join sale_users as source on source.sale_id = source_id
), ranked as (
    select *, row_number() over (partition by target_id order by similarity desc, source_id) as neighbour
    from similarities
), sale_similarities as (
    select target_id, source_id, similarity from ranked where neighbour <= :neighbours
)
select * from sale_similarities
