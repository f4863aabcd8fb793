-- One row per (user_id, sale_id) with a score above 0: the sum over the user's sales of weight times similarity to this
-- sale.
with collaborative_scores as (
    select user_id, target_id as sale_id, sum(weight * similarity) as score
    from {user_weights}
    inner join {sale_similarities} on sale_id = source_id
    group by all
)
select * from collaborative_scores
